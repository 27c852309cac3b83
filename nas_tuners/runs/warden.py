"""End the processes of trials: those that an environment entry marks, and all that they have started.

Run as a script, beside a run: it does so when its standard input ends, which is when the run ends, however that ends.
It imports nothing but Python's own, and little of that.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

_PATIENCE = 1000  # milliseconds for a killed process to be gone


def find_marked(mark: str) -> list[int]:
    """Return the processes that have an entry which begins like this in their environment; a ``\\0`` ends one."""
    begin, found = b"\0" + os.fsencode(mark), []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:  # gone, or another user's
            if begin in b"\0" + file.read() + b"\0" and int(name) != os.getpid():
                found.append(int(name))
    return found


def end_marked(mark: str) -> int:
    """Kill the processes that have such an entry, until there is none. Returns: how many there were."""
    ended, empty = set[int](), 0
    while empty < 2:  # one that was just being started had no environment yet
        found = find_marked(mark)
        empty = 0 if found else empty + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                _end(pid)
        ended.update(found)
    return len(ended)


def _end(pid: int) -> None:
    sentinel = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(sentinel, signal.SIGKILL)
        gone = select.poll()
        gone.register(sentinel, select.POLLIN)
        gone.poll(_PATIENCE)
    finally:
        os.close(sentinel)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_marked(sys.argv[1])
