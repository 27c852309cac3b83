"""Convert a plain model into a supernet."""
