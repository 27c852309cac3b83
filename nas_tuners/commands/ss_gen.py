"""``nas ss-gen``: run a trial script dry and keep the search space of its model."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nas_tuners.commands import CommandError
from search_spaces import Space
from search_spaces.files import write_atomically


def ss_gen(command: Sequence[str], directory: Path, output: Path) -> Space:
    """Run ``command`` in ``directory`` and write the space that it emits to ``output``.

    Differs from ``nnictl ss_gen``: no shell; a trial that fails or emits nothing is an error, an invalid space too,
    and whatever ``output`` held before is gone then.

    Raises:
        CommandError: the command fails or emits nothing.
        SpaceError: what it emits is not a valid search space.
    """
    output = output.absolute()
    output.unlink(missing_ok=True)
    if not directory.is_dir():
        raise CommandError(f"{directory} is no folder: give the trial's with -d.")
    shown = " ".join(command)
    with tempfile.TemporaryDirectory() as scratch:
        emitted = Path(scratch) / "search_space.json"
        env = {name: value for name, value in os.environ.items() if name != "NNI_PLATFORM"}
        try:
            done = subprocess.run(
                command, cwd=directory, env={**env, "NNI_GEN_SEARCH_SPACE": str(emitted)}, check=False
            )
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
    return space
