"""``nas check``: list everything that is wrong with a space file or an experiment's configuration, before it starts."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml

from nas_tuners.commands import CommandError
from nas_tuners.commands.checks.secrets import EXPOSED, find_secrets
from nas_tuners.commands.checks.spaces import is_space, load_space
from nas_tuners.show.text import describe_space
from search_spaces.yaml_text import load_yaml


def execute(options: Namespace) -> int:
    """Check a file, and print what it describes. Raises an error that lists all that is wrong."""
    path = options.file
    config = read_config(path) if path.suffix.lower() in (".yml", ".yaml") else None
    if config is None or is_space(config):
        print(f"{path} is fine: {describe_space(load_space(path))}")
        return 0
    from nas_tuners.commands.checks.configuration import check_config  # a space is checked without NNI

    said, doubts = check_config(path, config, options.trust_code, f"{options.typed} --trust-code")
    print(f"{path} {'can be run' if doubts else 'is fine'}: {said}")
    for note in EXPOSED:
        print(f"note: {note}")
    doubts += [f"{place} stands there too, and in NNI's web page: use sshKeyFile." for place in find_secrets(config)]
    for doubt in doubts:
        sys.stderr.write(f"nas: warning: {doubt}\n")
    return 0


def read_config(path: Path) -> dict[str, Any]:
    """Read a file of YAML that holds a mapping, as it stands. Raises CommandError."""
    try:
        config = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:  # yaml
        raise CommandError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise CommandError(
            f"{path} is not an experiment's configuration: wanted a mapping with trialCommand, tuner ..."
        )
    return config
