"""Damage files as disks, editors and other programs do: bytes, JSON nodes, JSON texts."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from typing import Any

_DEEP: Any = []
for _ in range(200):
    _DEEP = [_DEEP]
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**400), 0.5, -0.0, 1e308, 5e-324),
    *(float("nan"), float("inf"), float("-inf"), "", "0", "_x", "a" * 3000, "\x00", "\ud800", "é", "a.b", "../x"),
    *([], {}, [[]], [None], ["a", "a"], {"": 0}, {"_type": "choice"}, [0, 1], ["x"] * 300, list(range(50)), _DEEP),
)
_TEXTS = (
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"-",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"\xff\xfe",
    b"\x00",
    b"\xef\xbb\xbf",
    b"null",
)
_TEXTS += (b"\n", b"\r\n", b'"', b"{}", b"[]", b",", b"0x10", b"&a [*a]", b"!!python/name:os.system", b"# ")


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return ``content`` with one to three mutations."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(_MUTATIONS)(content, rng)
    return content


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 30))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randint(0, len(content)) for _ in range(2))
    return rng.choice((content[:end], content[start:], content[:start] + content[end:]))


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randint(0, len(content)) for _ in range(2))
    return content[:end] + content[start:]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(content))
    return content[:at] + rng.choice(_TEXTS) + content[at + rng.choice((0, 0, 1, 8)) :]


def _move_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    at = rng.randrange(len(lines)) if lines else 0
    moved = lines[at : at + 1]
    rest = lines if rng.random() < 0.4 else lines[:at] + lines[at + 1 :]
    to = rng.randint(0, len(rest))
    return b"".join(rest[:to] + moved * rng.choice((0, 1, 1, 2)) + rest[to:])


def _change_node(content: bytes, rng: random.Random) -> bytes:
    """Change a node of the JSON, in one line where each is JSON by itself."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.dumps(_changed(json.loads(content), rng)).encode()
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    with contextlib.suppress(ValueError, RecursionError):
        lines[at] = json.dumps(_changed(json.loads(lines[at]), rng)).encode()
        return b"\n".join(lines)
    return _change_scalar(content, rng)


def _changed(tree: Any, rng: random.Random) -> Any:
    places = list(_places(tree))
    if not places or rng.random() < 0.02:
        return rng.choice(_VALUES)
    parent, key = rng.choice(places)
    other, from_key = rng.choice(places)
    action = rng.randrange(6)
    if action == 0:
        del parent[key]
    elif action == 1:
        parent[key] = other[from_key]
        with contextlib.suppress(ValueError, RecursionError):
            json.dumps(tree)
            return tree
        parent[key] = None
    elif action == 2 and isinstance(parent, dict):
        parent[str(rng.choice(("x", "", "_", "seed", "workers", 3)))] = parent.pop(key)
    elif action == 3:
        parent[key] = [parent[key]]
    else:
        parent[key] = rng.choice(_VALUES)
    return tree


def _places(tree: Any) -> Any:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield tree, key
        yield from _places(value)


def _change_scalar(content: bytes, rng: random.Random) -> bytes:
    """Replace a word, such as a number or a name, by something else."""
    words = content.split(b" ")
    words[rng.randrange(len(words))] = rng.choice((*_TEXTS, rng.choice(words)))
    return b" ".join(words)


def _write_key_twice(content: bytes, rng: random.Random) -> bytes:
    at = content.find(b"{", rng.randint(0, len(content)))
    end = content.find(b",", at)
    return content if min(at, end) < 0 else content[: end + 1] + content[at + 1 : end + 1] + content[end + 1 :]


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _cut, _repeat, _insert, _move_lines, _change_scalar, _write_key_twice),
    *([_change_node] * 5),
)
