"""Holds for all tests."""

import signal

# A shell lets what it starts in the background ignore Ctrl-C, and whatever that starts inherits it: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
