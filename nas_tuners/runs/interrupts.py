"""Let SIGTERM and SIGHUP end a command as Ctrl-C does: what is open is closed, and how to go on is said."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Received:
    """The signal that ended a command, if one did."""

    number = signal.SIGINT

    @property
    def exit_code(self) -> int:
        """Return 128 + the signal's number, as a shell has it."""
        return 128 + self.number


@contextmanager
def raising_interrupts() -> Iterator[Received]:
    """Raise KeyboardInterrupt when SIGTERM or SIGHUP comes, unless that is ignored, as under nohup."""
    received = Received()

    def interrupt(number: int, _: FrameType | None) -> None:
        received.number = signal.Signals(number)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()  # others may not set handlers
    before = {number: signal.getsignal(number) for number in _ENDING if main}
    before = {number: handler for number, handler in before.items() if handler == signal.SIG_DFL}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
