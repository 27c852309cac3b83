"""``nas ss-gen``: run a trial script dry and keep the search space of its model."""

from __future__ import annotations

import os
import subprocess
import tempfile
from argparse import Namespace
from pathlib import Path

from nas_tuners.commands import CommandError
from nas_tuners.show.text import describe_space
from search_spaces import Space
from search_spaces.files import write_atomically


def execute(options: Namespace) -> int:
    """Run a command in a folder, write the space that it emits, and print its size.

    Differs from ``nnictl ss_gen``: no shell; a trial that fails or emits nothing is an error, and so is an invalid
    space; then there is no output file, even if there was one before.
    """
    output, shown = options.output.absolute(), " ".join(options.command)
    output.unlink(missing_ok=True)
    if not options.directory.is_dir():
        raise CommandError(f"{options.directory} is not a folder: give the trial's with -d.")
    with tempfile.TemporaryDirectory() as scratch:
        emitted = Path(scratch) / "search_space.json"
        env = {name: value for name, value in os.environ.items() if name != "NNI_PLATFORM"}
        env["NNI_GEN_SEARCH_SPACE"] = str(emitted)
        try:
            done = subprocess.run(options.command, cwd=options.directory, env=env, check=False)
        except OSError as error:
            raise CommandError(f"cannot run {shown}: {error.strerror}.") from None
        if done.returncode:
            raise CommandError(f"{shown} exited with {done.returncode}: no search space was written.")
        if not emitted.exists():
            raise CommandError(
                f"{shown} emitted no search space: it has to call mutators.get_and_apply_next_architecture(model)."
            )
        space = Space.load(emitted)
        write_atomically(output, emitted.read_bytes())
    print(f"{options.output}: {describe_space(space)}")
    return 0
