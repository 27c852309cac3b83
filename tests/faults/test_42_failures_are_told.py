"""Fault 42: why a tuner or a trial failed stood in NNI's own files, which nothing named."""

from __future__ import annotations

import json
import sqlite3
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from nas_tuners.hosts.nni import resume
from nas_tuners.hosts.nni.failures import find_tuner_failure, read_exception
from nas_tuners.hosts.nni.launch import LaunchError
from nas_tuners.hosts.nni.manager import ManagerError
from nas_tuners.runs.run import Run
from nas_tuners.search import RandomSearch
from search_spaces import Space
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES

STAMP = "[2026-11-28 17:39:12]"
STARTED = f"{STAMP} INFO (nni.runtime.msg_dispatcher_base/MainThread) Dispatcher started\n"
SURVIVED = f"""{STAMP} ERROR (nas_tuners/Thread-1 (command_queue_worker)) the search goes on without uid 3.
Traceback (most recent call last):
  File "/home/me/own.py", line 3, in _learn
    raise KeyError("a survived one")
KeyError: 'a survived one'
"""
FAILED = f"""{STAMP} ERROR (nni.runtime.msg_dispatcher_base/Thread-1 (command_queue_worker)) _propose(1) failed
Traceback (most recent call last):
  File "/home/me/nas_tuners/search/base.py", line 240, in _propose_feasible
    kept, infeasible = self._remaining.read(self._propose(n))
                                            ^^^^^^^^^^^^^^^^
  File "/home/me/own.py", line 7, in _propose
    raise ZeroDivisionError("a bug of the user's own")
ZeroDivisionError: a bug of the user's own

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/nni/runtime/msg_dispatcher_base.py", line 97, in command_queue_worker
    self.process_command(command, data)
  File "/home/me/nas_tuners/search/base.py", line 247, in _propose_feasible
    raise SearchError("Buggy._propose(1) failed") from error
nas_tuners.search.records.SearchError: Buggy._propose(1) failed:
  first problem
{STAMP} INFO (nni.runtime.msg_dispatcher_base/MainThread) Dispatcher exiting...
"""
RETRIED = f"""{STAMP} ERROR (nni.runtime.command_channel.websocket.channel/MainThread) Failed to receive command.
Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/nni/runtime/command_channel/websocket/connection.py", line 103, in receive
    msg = _wait(self._ws.recv())
  File "/venv/lib/python3.11/site-packages/websockets/asyncio/connection.py", line 323, in recv
    raise self.protocol.close_exc from self.recv_exc
websockets.exceptions.ConnectionClosedError: received 4001 (private use) new epoch start
"""
LOST = RETRIED.replace("nni.runtime.command_channel.websocket.channel", "nni.main")
WHY = "SearchError: Buggy._propose(1) failed:; first problem"
WHERE = '/home/me/own.py, line 7, in _propose: raise ZeroDivisionError("a bug of the user\'s own")'
STDERR = """a warning
Traceback (most recent call last):
  File "/home/me/trial.py", line 2, in <module>
    import torchvision
ModuleNotFoundError: No module named 'torchvision'
"""


class Recorded:
    """The folder of an experiment, as NNI leaves it, in a user's home."""

    def __init__(self, home: Path, port: int = 1) -> None:
        self.home, self.folder = home, home / "nni-experiments" / "abcd1234"
        for name in ("log", "db", "checkpoint"):
            (self.folder / name).mkdir(parents=True)
        entry = {"id": "abcd1234", "port": port, "startTime": 1, "status": "ERROR", "logDir": str(self.folder.parent)}
        (self.folder.parent / ".experiment").write_text(json.dumps({"abcd1234": entry}))
        with sqlite3.connect(self.folder / "db" / "nni.sqlite") as connection:
            columns = "timestamp integer, trialJobId text, event text, data text, logPath text, sequenceId integer"
            connection.execute(f"create table TrialJobEvent ({columns})")
        connection.close()

    @property
    def log(self) -> Path:
        return self.folder / "log" / "dispatcher.log"

    def fail_trial(self, name: str, stderr: str | None, file: str) -> None:
        """Record a trial that NNI counts as failed, with its stderr in ``file``; None: it ran elsewhere."""
        with sqlite3.connect(self.folder / "db" / "nni.sqlite") as connection:
            connection.execute("insert into TrialJobEvent values (0, ?, 'RUNNING', null, null, 0)", [name])
            connection.execute("insert into TrialJobEvent values (0, ?, 'FAILED', null, null, 0)", [name])
        connection.close()
        if stderr is not None:
            (self.folder / file).parent.mkdir(parents=True)
            (self.folder / file).write_text(stderr)

    def start_run(self, reasons: dict[int, str], asked: int = 4) -> None:
        run = Run.start(
            RandomSearch(), Space.from_json(SPACES["one key"]), path=self.folder / "checkpoint/journal.jsonl"
        )
        run.ask(asked)
        for uid, reason in reasons.items():
            run.fail(uid, reason)
        run.close()


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Recorded(tmp_path)


def test_show_tells_the_exception_of_a_failed_tuner_its_place_and_its_log(nas: Nas, recorded: Recorded) -> None:
    recorded.start_run({})
    recorded.log.write_text(STARTED + SURVIVED + FAILED)
    said = nas("show", "abcd1234", cwd=recorded.home)
    assert f"the tuner failed: {WHY}\n  at {WHERE}\n  log: {recorded.log}" in said
    assert said == nas("show", str(recorded.folder), cwd=recorded.home)


def test_a_tuner_that_failed_before_its_journal_began_is_told_of_too(nas: Nas, recorded: Recorded) -> None:
    main = FAILED.replace("nni.runtime.msg_dispatcher_base/Thread-1 (command_queue_worker)", "nni.main/MainThread")
    recorded.log.write_text(main)
    said = nas("show", "latest", cwd=recorded.home, code=1)
    assert f"the tuner failed: {WHY}\n  at {WHERE}\n  log: {recorded.log}" in said
    assert "one of our tuners?" not in said


@pytest.mark.parametrize("after", [RETRIED, LOST, RETRIED + LOST])
def test_a_connection_that_is_lost_after_a_failure_does_not_hide_it(recorded: Recorded, after: str) -> None:
    recorded.log.write_text(STARTED + FAILED + after)
    failure = find_tuner_failure(recorded.log)
    assert failure is not None and (failure.error, failure.place) == (WHY, WHERE)


def test_a_connection_that_is_lost_for_good_is_told(recorded: Recorded) -> None:
    recorded.log.write_text(STARTED + LOST)
    failure = find_tuner_failure(recorded.log)
    assert failure is not None and failure.error.startswith("ConnectionClosedError: received 4001")


SURVIVALS = {"survived": STARTED + SURVIVED, "tried again": STARTED + RETRIED, "resumed": FAILED + STARTED, "empty": ""}


@pytest.mark.parametrize("log", SURVIVALS.values(), ids=SURVIVALS.keys())
def test_what_a_tuner_survived_is_not_told_as_its_failure(recorded: Recorded, log: str) -> None:
    recorded.log.write_text(log)
    assert find_tuner_failure(recorded.log) is None


def test_trials_that_could_not_speak_for_themselves_are_explained_by_their_stderr(nas: Nas, recorded: Recorded) -> None:
    recorded.start_run(
        {0: "its trial ended without a result", 1: "its trial ended without a result", 2: "OSError: full"}
    )
    recorded.fail_trial("AAAAA", STDERR, "environments/local-env/trials/AAAAA/trial.stderr")
    recorded.fail_trial("BBBBB", STDERR, "trials/BBBBB/stderr")
    recorded.fail_trial(
        "CCCCC", "python3: can't open file 'trail.py'\n\n", "environments/local-env/trials/CCCCC/trial.stderr"
    )
    recorded.fail_trial("DDDDD", "\n", "environments/local-env/trials/DDDDD/trial.stderr")
    recorded.fail_trial("EEEEE", None, "")
    told = STDERR.replace("ModuleNotFoundError: No module named 'torchvision'", "OSError: full")
    recorded.fail_trial("FFFFF", told, "environments/local-env/trials/FFFFF/trial.stderr")
    said = nas("show", "abcd1234", cwd=recorded.home)
    assert "failed: uid 0, 1: its trial ended without a result\nfailed: uid 2: OSError: full" in said
    assert "failed: trial AAAAA, BBBBB: ModuleNotFoundError: No module named 'torchvision'" in said
    assert f"log: {recorded.folder / 'trials/BBBBB/stderr'}" in said
    assert "failed: trial CCCCC: python3: can't open file 'trail.py'" in said
    assert "failed: trial DDDDD: ended without a word on stderr" in said
    assert "failed: trial EEEEE: its stderr is on the machine that ran it" in said
    assert "FFFFF" not in said, "its reason stands in the journal"


def test_a_run_whose_trials_all_failed_says_so_and_why(nas: Nas, tmp_path: Path) -> None:
    run = Run.start(RandomSearch(), Space.from_json(SPACES["20 x 4"]), path=tmp_path / "journal.jsonl")
    for proposal in run.ask(14):
        run.fail(proposal.uid, "OSError: full" if proposal.uid % 7 else "MemoryError")
    run.close()
    said = nas("show", ".", cwd=tmp_path)
    assert "no result: all 14 trials failed" in said
    assert "failed: uid 0, 7: MemoryError\n" in said
    assert "failed: uid 1, 2, 3, 4, 5, 6, 8, 9, 10, 11 and 2 more: OSError: full" in said
    assert "all 14 trials failed; nothing to export" in nas("export", ".", "-o", "best", cwd=tmp_path, code=1)


class Stalled(BaseHTTPRequestHandler):
    """NNI's manager beside a foreign tuner that has died: it calls the experiment running, for ever (here 20 times)."""

    asked = 0

    def do_GET(self) -> None:
        Stalled.asked += 1
        status = "RUNNING" if Stalled.asked < 20 else "DONE"
        answer: dict[str, Any] = {"status": status, "errors": []} if "status" in self.path else {"params": {}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_watch_ends_with_the_tuner_and_tells_why(nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with HTTPServer(("127.0.0.1", 0), Stalled) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        recorded = Recorded(tmp_path, server.server_port)
        recorded.start_run({2: "OSError: full"})
        recorded.log.write_text(STARTED + FAILED)
        said = nas("show", "--watch", "abcd1234", cwd=tmp_path, code=1)
        server.shutdown()
    assert "failed: uid 2: OSError: full" in said
    assert f"the tuner failed: {WHY}\n  at {WHERE}\n  log: {recorded.log}" in said
    assert f"the experiment is ERROR; its logs: {recorded.folder / 'log'}" in said


def test_a_resume_that_fails_names_the_reason_or_at_least_the_log(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LaunchError("it is not there")

    entry = json.loads((recorded.folder.parent / ".experiment").read_text())
    entry["abcd1234"]["status"] = "STOPPED"
    (recorded.folder.parent / ".experiment").write_text(json.dumps(entry))
    with pytest.raises(ManagerError, match=f"no such table: ExperimentProfile\nlog: {recorded.log}"):
        resume.resume_experiment("abcd1234")
    monkeypatch.setattr(resume, "read_config", lambda _: {})
    monkeypatch.setattr(resume, "Launched", refuse)
    with pytest.raises(ManagerError, match=r"NNI cannot resume abcd1234: it is not there"):
        resume.resume_experiment("abcd1234")


SYNTAX = """Traceback (most recent call last):
  File "a.py", line 1
    def (
        ^
SyntaxError: no
"""


@pytest.mark.parametrize(
    ("text", "error", "place"),
    [
        (SYNTAX, "SyntaxError: no", "a.py, line 1: def ("),
        (STDERR + SYNTAX, "SyntaxError: no", "a.py, line 1: def ("),
    ],
    ids=["syntax", "the last of two"],
)
def test_the_last_exception_of_a_text_is_read(text: str, error: str, place: str) -> None:
    raised = read_exception(text)
    assert raised is not None
    assert (raised.error, raised.place) == (error, place)
    assert read_exception("no exception at all") is None
