"""Speak NNI's protocol of local trials: parameters in a file, metrics in another. A trial's script sees plain NNI.

Source: nni.runtime.trial_command_channel.local_legacy of NNI 3.0, which a trial uses where no manager's address is
given. Differs: the file of the metrics is a named pipe, so that a report wakes up whoever waits for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARAMETERS, METRICS = "parameter.cfg", ".nni/metrics"  # in a trial's folder
_BEGIN, _HEADER = b"ME", 8  # a record: ME, its length in six digits, a line of JSON
_NOT_OURS = ("NNI_TRIAL_COMMAND_CHANNEL", "NNI_GEN_SEARCH_SPACE", "MULTI_PHASE", "REUSE_MODE")  # lead elsewhere


class ProtocolError(ValueError):
    """What a trial has written is no report."""


@dataclass(frozen=True)
class Report:
    """A result that a trial has reported: the final one, or one on the way, by its number from 0. ``text``: as JSON."""

    final: bool
    sequence: int
    value: Any
    text: str


def name_job(run: str, uid: int) -> str:
    """Return what NNI's side of a trial is to call it."""
    return f"{run}-{uid}"


def make_environment(folder: Path, run: str, uid: int, code: str, gpus: str | None) -> dict[str, str]:
    """Return the environment of a trial: that of this process, and what NNI says in it."""
    own = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    own |= {
        "NNI_PLATFORM": "local",
        "NNI_EXP_ID": run,
        "NNI_TRIAL_JOB_ID": name_job(run, uid),
        "NNI_TRIAL_SEQ_ID": str(uid),
    }
    own |= {"NNI_SYS_DIR": str(folder), "NNI_OUTPUT_DIR": str(folder), "NNI_CODE_DIR": code}
    return own if gpus is None else own | {"CUDA_VISIBLE_DEVICES": gpus}


def write_parameters(folder: Path, uid: int, parameters: Mapping[str, Any]) -> None:
    """Write the parameters of a trial into its folder, where NNI's side of the trial reads them."""
    record = {"parameter_id": uid, "parameter_source": "algorithm", "parameters": parameters, "parameter_index": 0}
    (folder / PARAMETERS).write_text(json.dumps(record), encoding="utf-8")


class Reader:
    """Reads reports from what a trial writes, however that is cut into pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[Report]:
        """Yield the reports that are complete now. Raises ProtocolError at what is none."""
        self._rest += piece
        while len(self._rest) >= _HEADER:
            length = self._rest[len(_BEGIN) : _HEADER]
            if not (self._rest.startswith(_BEGIN) and length.isdigit()):
                raise ProtocolError(f"its metrics cannot be read, at {self._rest[:40]!r}: wanted what NNI writes")
            end = _HEADER + int(length)
            if len(self._rest) < end:
                return
            line, self._rest = self._rest[_HEADER:end], self._rest[end:]
            yield from _read_record(line)


def _read_record(line: bytes) -> Iterator[Report]:
    try:
        record = json.loads(line)
        if record["type"] in ("FINAL", "PERIODICAL"):
            final, sequence, value = record["type"] == "FINAL", int(record["sequence"]), json.loads(record["value"])
            yield Report(final, sequence, value, json.dumps({"final": final, "sequence": sequence, "value": value}))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"its metrics cannot be read, at {line[:40]!r}: {error}") from None
