"""The search side: searches, and the tuners that run them under NNI. Names load on first use."""
