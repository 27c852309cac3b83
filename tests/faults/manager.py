"""What stands for NNI's manager in tests of a tuner: trial jobs and their metrics, by its REST interface."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest


class FakeManager:
    """Jobs and metrics as NNI tells of them. What a job was meant to run and what it ran may differ, as with NNI."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.metrics: dict[str, list[dict[str, Any]]] = {}

    def add(
        self,
        job: str,
        status: str,
        meant: tuple[int, Any],
        ran: int,
        between: Sequence[Any] = (),
        final: Any = None,
    ) -> None:
        """Add a job. ``meant``: parameter id and parameters; ``ran``: the parameter id of what it really ran."""
        rows = [("PERIODICAL", number, value) for number, value in enumerate(between)]
        rows += [] if final is None else [("FINAL", 0, final)]
        self.metrics[job] = [
            {
                "trialJobId": job,
                "parameterId": str(ran),
                "type": kind,
                "sequence": number,
                "data": json.dumps(json.dumps(value)),
            }
            for kind, number, value in rows
        ]
        packed = json.dumps({"parameter_id": meant[0], "parameters": meant[1]})
        entry: dict[str, Any] = {"trialJobId": job, "status": status, "hyperParameters": [packed]}
        if status == "SUCCEEDED" and final is not None:
            entry["finalMetricData"] = [self.metrics[job][-1]]
        self.jobs.append(entry)

    def answer(self, path: str) -> Any:
        name = path.rpartition("/")[2]
        return self.metrics.get(name, []) if "metric-data" in path else self.jobs


@contextmanager
def fake_manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManager]:
    """Serve a manager, and let tuners find it as they do under NNI."""
    fake = FakeManager()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(fake.answer(self.path)).encode())

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("NNI_TUNER_COMMAND_CHANNEL", f"ws://localhost:{server.server_port}/tuner")
        yield fake
        server.shutdown()
        thread.join()
