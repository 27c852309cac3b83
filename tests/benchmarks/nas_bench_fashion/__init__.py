"""A table of truth: networks of one space, each trained twice on real images; and what is measured against it."""
