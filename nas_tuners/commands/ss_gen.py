"""``nas ss-gen``: run a trial script dry and keep the search space of its models and hyper-parameters."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from argparse import Namespace
from pathlib import Path

from nas_tuners.commands import CommandError
from nas_tuners.show.text import describe_space
from search_spaces import Space
from search_spaces.emitting import added_by_hand, space_before, write_space


def execute(options: Namespace) -> int:
    """Run a command in a folder, write the space that it emits, and print its size.

    Hyper-parameters that an earlier file has and the trial does not declare were added by hand: they are kept.

    Differs from ``nnictl ss_gen``: no shell; a trial that fails or emits nothing is an error, and so is an invalid
    space, or an output that exists and is no search space; then the output is as it was.
    """
    output = options.output.absolute()
    before = space_before(output)
    if not options.directory.is_dir():
        raise CommandError(f"{options.directory} is not a folder: give the trial's with -d.")
    emitted = _run_dry(options.command, options.directory)
    entries, said = _merge(before, emitted) if before else (emitted.to_json(), [])
    if before and not _is_plain_json(output):
        said.append("its comments are gone: the file is plain JSON now")
    space = write_space(output, entries)
    print("\n".join([f"{options.output}: {describe_space(space)}", *(f"{options.output}: {line}" for line in said)]))
    return 0


def _run_dry(command: list[str], folder: Path) -> Space:
    """Return the space that a command emits in a dry run."""
    shown = " ".join(command)
    with tempfile.TemporaryDirectory() as scratch:
        emitted = Path(scratch) / "search_space.json"
        env = {name: value for name, value in os.environ.items() if name != "NNI_PLATFORM"}
        env["NNI_GEN_SEARCH_SPACE"] = str(emitted)
        try:
            done = subprocess.run(command, cwd=folder, env=env, check=False)
        except OSError as error:
            raise CommandError(f"cannot run {shown}: {error.strerror}.") from None
        if done.returncode:
            raise CommandError(f"{shown} exited with {done.returncode}: no search space was written.")
        if not emitted.exists():
            raise CommandError(
                f"{shown} emitted no search space: it has to call mutators.get_and_apply_next_architecture(model), or "
                "mutators.hyperparameter."
            )
        return Space.load(emitted)


def _merge(before: Space, emitted: Space) -> tuple[dict[str, object], list[str]]:
    """Return what the trial emits and what was added by hand, and a line for each kind of difference."""
    earlier, now = before.to_json(), emitted.to_json()
    kept = added_by_hand(before, now)
    now |= kept
    differences = {
        "kept from before, as the trial does not declare it": list(kept),
        "changed, as the trial says otherwise": [key for key in earlier if key in now and earlier[key] != now[key]],
        "dropped, as no model has it any more": [key for key in earlier if key not in now],
    }
    return now, [f"{what}: {', '.join(keys)}" for what, keys in differences.items() if keys]


def _is_plain_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True
