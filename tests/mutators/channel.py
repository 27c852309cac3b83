"""What stands for NNI's manager: hands out the parameters of a file, and writes down what it is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nni.runtime.trial_command_channel import TrialCommandChannel


class Recorder(TrialCommandChannel):
    def __init__(self) -> None:
        self.folder = Path(os.environ["RECORDER_FOLDER"])

    def receive_parameter(self) -> Any:
        self._write(type="ask")
        parameters = json.loads((self.folder / "parameters.json").read_text())
        return None if parameters is None else {"parameter_id": 5, "parameters": parameters}

    def send_metric(self, type: str, parameter_id: int | None, trial_job_id: str, sequence: int, value: Any) -> None:
        if os.environ.get("BROKEN") == type:
            raise ConnectionError("the manager is gone")
        self._write(type=type, parameter_id=parameter_id, sequence=sequence, value=value)

    def _write(self, **event: Any) -> None:
        with open(self.folder / "channel.jsonl", "a") as file:
            file.write(json.dumps(event) + "\n")
