"""The one rule on code that files name: a file never decides what is imported or called.

What it names is used only if the caller names it too, if it is one of our nets, if the file is a journal that bears
this user's own signature, or if the caller says ``trust_code``.

Signatures are made as Jupyter's are of its notebooks (nbformat.sign): HMAC-SHA256 with a random key in the user's own
configuration folder. Differs: the signature stands in the header itself, and covers all else in it, in its order.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from search_spaces.files import create_private, read_private

SIGNATURE = "signature"
_ABOUT = b"header of a journal, 1\n"  # so that the key may sign other kinds of things one day
_KEY_BYTES = 32


class TrustError(ValueError):
    """A file names code, and nobody but the file says that it may run.

    Args:
        file: the file.
        named: what it names, and why that is not trusted.
        ways: what to type instead by whoever vouches for it.
    """

    def __init__(self, file: str | os.PathLike[str], named: str, ways: Sequence[str]) -> None:
        self.file, self.named = file, named
        lines = [f"{file} names {named}. If you know where it comes from, go on with:", *ways]
        super().__init__("\n  ".join(lines))


def require_trust(trusted: bool, file: str | os.PathLike[str], named: str, *ways: str) -> None:
    """Raise a TrustError that tells the ways, unless somebody vouches for what a file names."""
    if not trusted:
        raise TrustError(file, named, ways)


def key_file() -> Path:
    """Return where this user's key is kept. Raises OSError if the user has no home."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        base = Path(folder) if os.path.isabs(folder) else Path.home() / ".config"
    except RuntimeError as error:
        raise OSError(str(error)) from None
    return base / "nas-tuners" / "journal.key"


def signed(header: Mapping[str, object]) -> dict[str, object]:
    """Return a header, plain JSON, with this user's signature; with a warning and without one if there is no key."""
    try:
        path = key_file()
        create_private(path, secrets.token_bytes(_KEY_BYTES))
        return {**header, SIGNATURE: _sign(header, _read_key(path))}
    except OSError as error:
        warnings.warn(
            f"the journal is not signed, so that nas resume will ask for --trust-code: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return dict(header)


def is_signed(header: Mapping[str, object]) -> bool:
    """Return whether a header is as this user has signed it."""
    signature = header.get(SIGNATURE)
    if not isinstance(signature, str):
        return False
    try:
        key = _read_key(key_file())
    except FileNotFoundError:
        return False
    except OSError as error:
        warnings.warn(f"no signature counts: {error}", RuntimeWarning, stacklevel=2)
        return False
    rest = {name: value for name, value in header.items() if name != SIGNATURE}
    try:
        return hmac.compare_digest(_sign(rest, key).encode(), signature.encode("utf-8", "replace"))
    except RecursionError:  # as deep as no header of ours is
        return False


def _sign(header: Mapping[str, object], key: bytes) -> str:
    return hmac.new(key, _ABOUT + json.dumps(header).encode(), hashlib.sha256).hexdigest()


def _read_key(path: Path) -> bytes:
    key = read_private(path, 2 * _KEY_BYTES)
    if len(key) != _KEY_BYTES:
        raise OSError(f"{path} holds {len(key)} bytes, wanted a key of {_KEY_BYTES}: delete it")
    return key
