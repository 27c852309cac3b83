"""Ports for servers that tests start, none of them given twice, whatever else runs on this machine."""

from __future__ import annotations

import random
import socket

_FIRST, _LAST = 10_000, 32_000  # below those that the system gives to outgoing connections
_guards: list[socket.socket] = []


def free_port() -> int:
    """Return a port that is free, and the one after it free as well.

    Nobody else who asks here gets them before this process ends, in other processes neither: the port after them
    stays bound as a guard. A socket that is bound, asked for its port and closed leaves that to whoever binds next.
    """
    for port in random.SystemRandom().sample(range(_FIRST, _LAST, 3), 1000):
        guard = socket.socket()
        try:
            guard.bind(("", port + 2))
            for wanted in (port, port + 1):
                with socket.socket() as probe:
                    probe.bind(("", wanted))
        except OSError:
            guard.close()
            continue
        _guards.append(guard)
        return port
    raise RuntimeError(f"no two free ports between {_FIRST} and {_LAST}")
