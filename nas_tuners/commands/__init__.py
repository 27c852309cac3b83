"""What ``nas`` can do: one command a file, each a function that returns or prints its result."""


class CommandError(RuntimeError):
    """A command cannot do what it was asked for; the message says why, and what to do."""
