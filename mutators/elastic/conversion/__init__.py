"""From a plain model to a supernet."""
