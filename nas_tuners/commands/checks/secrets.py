"""Say who can reach an experiment and read its configuration, since NNI does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_SECRETS = ("password", "passphrase", "token", "secret", "accountkey")
EXPOSED = (
    "while it runs, NNI's web page and interface answer on every network of this machine, without a password: whoever "
    "reaches the port (8080, or nnictl's --port) can read and change the experiment, and so run commands. Close it "
    "to others.",
    "the whole configuration stands in the command line of the tuner's process, which every user of this machine sees.",
)


def find_secrets(value: object, path: str = "") -> Iterator[str]:
    """Yield the places of secrets in a configuration.

    >>> [*find_secrets({"trainingService": {"machineList": [{"user": "me", "password": "x"}]}})]
    ['trainingService.machineList[0].password']
    """
    if isinstance(value, Mapping):
        for name, entry in value.items():
            here = f"{path}.{name}" if path else str(name)
            if isinstance(entry, str) and any(secret in str(name).lower() for secret in _SECRETS):
                yield here
            yield from find_secrets(entry, here)
    elif isinstance(value, list):
        for at, entry in enumerate(value):
            yield from find_secrets(entry, f"{path}[{at}]")
