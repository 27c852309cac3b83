"""What ``nas check`` looks at in an experiment's configuration, a part a file. Each check returns its problems."""
