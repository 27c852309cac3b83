"""Write tensors and plain data to one file, with a checksum, and read them back, or say that the file is damaged.

The file is torch's own, a zip file, which ``torch.load`` reads too. The checksum is in the zip's comment, which torch
leaves empty; without one, as in files of ``torch.save`` itself and of earlier versions, damage may go unnoticed.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mutators.weights import load_plain
from search_spaces.files import read_file, write_atomically

_END = b"PK\x05\x06"  # of a zip file, 22 bytes that end with the length of the comment


class DamageError(ValueError):
    """A file does not hold what was written to it, or no tensors and plain data at all."""


def to_bytes(content: Mapping[str, object]) -> bytes:
    """Serialise tensors and plain data by name, with a checksum."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    plain = buffer.getvalue()
    return plain[:-2] + _comment(plain)


def _comment(plain: bytes) -> bytes:
    """Return what stands at the end of a zip file instead of the length 0, in two bytes, of its comment."""
    comment = b"sha256:" + hashlib.sha256(plain).hexdigest().encode()
    return len(comment).to_bytes(2, "little") + comment


def from_bytes(data: bytes, name: object) -> dict[str, object]:
    """Read the content of :func:`to_bytes` to the CPU; nothing but tensors and plain data.

    ``name`` is for messages. Raises DamageError; warns if there is no checksum.
    """
    rest = data[: -len(_comment(b""))]
    unsure = data[-22:].startswith(_END) and data.endswith(b"\0\0")
    if not unsure and data != rest + _comment(rest + b"\0\0"):
        raise DamageError(f"{name} is damaged, cut short, or no file of tensors: its checksum is not that of the rest.")
    try:
        content = load_plain(io.BytesIO(data))
    except Exception as error:  # unpickling, zip and torch each have their own
        raise DamageError(f"{name} is no file of tensors and plain data: {type(error).__name__}.") from error
    if not isinstance(content, dict):
        raise DamageError(f"{name} holds a {type(content).__name__}, wanted tensors and plain data by name.")
    if unsure:
        warnings.warn(f"{name} has no checksum, so that damage may go unnoticed.", RuntimeWarning, stacklevel=2)
    return content


def write(path: Path, content: Mapping[str, object]) -> None:
    """Write tensors and plain data by name as one file, atomically. Raises OSError; the old file is as it was then."""
    write_atomically(path, to_bytes(content))


def read(path: Path) -> dict[str, Any]:
    """Return what :func:`write` was given, tensors on the CPU.

    Raises FileNotFoundError or another OSError if it cannot be read, DamageError if it is something else; warns if
    there is no checksum.
    """
    return from_bytes(read_file(path), path)
