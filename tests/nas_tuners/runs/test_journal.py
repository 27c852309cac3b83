"""The journal: nothing is lost when the process is killed at any event, and nothing wrong is read."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nas_tuners.runs.journal import Journal, JournalError, read
from nas_tuners.runs.run import Run, load
from nas_tuners.search import Annealing, RandomSearch, Search
from search_spaces import Space
from tests.spaces import SPACES, layer

WIDE = Space.from_json(SPACES["20 x 4"])
EVENTS = 60


def score(tokens: tuple[int, ...]) -> float:
    return float(sum((i + 1) * token for i, token in enumerate(tokens)) % 17)


def drive(run: Run, trials: int) -> None:
    """Evaluate until there are so many results, what is pending first: as a user's own loop would."""
    while run.search.counts.told < trials:
        for proposal in run.search.pending or run.ask():
            run.tell(proposal.uid, {"default": score(proposal.tokens), "macs": 7})


def start(path: Path | None) -> Run:
    return Run.start(Annealing(init_temperature=3.0, seed=7), WIDE, path=path)


class DiesAt(Journal):
    """Is killed with SIGKILL right after its n-th event, or in the middle of writing that."""

    n, torn = 0, False

    def append(self, event: dict[str, Any]) -> None:
        DiesAt.n -= 1
        if DiesAt.n == 0 and DiesAt.torn:
            os.write(self._fd, json.dumps(event).encode()[:25])
            os.kill(os.getpid(), signal.SIGKILL)
        super().append(event)
        if DiesAt.n == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("torn", [False, True], ids=["after an event", "within a line"])
def test_killed_at_every_single_event_and_resumed_equals_unbroken(tmp_path: Path, torn: bool) -> None:
    unbroken = start(None)
    drive(unbroken, EVENTS // 2)
    for event in range(1, EVENTS + 1):
        path = tmp_path / f"{event}.jsonl"
        pid = os.fork()
        if pid == 0:  # the child never returns
            try:
                run = start(path)
                DiesAt.n, DiesAt.torn = event, torn
                assert run._journal is not None
                run._journal.__class__ = DiesAt
                drive(run, EVENTS // 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        resumed = resume(path, warned=torn)
        assert resumed.search.counts.asked + resumed.search.counts.told == event - torn
        drive(resumed, EVENTS // 2)
        assert resumed.search.trials == unbroken.search.trials
        assert resumed.search.best == unbroken.search.best
        resumed.close()


def resume(path: Path, warned: bool = False, search: Search | None = None) -> Run:
    search = search or Annealing(init_temperature=3.0, seed=7)
    if not warned:
        return Run.resume(search, path)
    with pytest.warns(RuntimeWarning, match="the last line was cut short"):
        return Run.resume(search, path)


def test_an_event_is_on_the_disk_before_it_takes_effect(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    run = start(path)
    (proposal,) = run.ask()
    assert read(path)[0][-1] == {"event": "ask", "uid": 0, "tokens": [list(proposal.tokens)]}
    run.tell(proposal.uid, {"default": 1.5, "loss": float("nan")}, job="x1")
    assert read(path)[0][-1] == {"event": "tell", "uid": 0, "metrics": {"default": 1.5, "loss": "nan"}, "job": "x1"}
    assert all(json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines())


def test_the_header_says_all_that_a_resume_needs(tmp_path: Path) -> None:
    start(tmp_path / "journal.jsonl")
    header = read(tmp_path / "journal.jsonl")[0][0]
    assert header["digest"] == WIDE.digest == Space.from_json(header["space"]).digest
    assert header["search"]["name"] == "Annealing"
    expected = {"init_temperature": 3.0, "reduce_rate": 0.85, "init_choices": None, "seed": 7}
    assert header["search"]["arguments"].items() >= expected.items()


def written(tmp_path: Path) -> tuple[Path, list[str]]:
    path = tmp_path / "journal.jsonl"
    run = start(path)
    drive(run, 5)
    run.close()
    return path, path.read_text().splitlines(keepends=True)


def _asking(token: object) -> str:
    """Return the line of an ask for an architecture that begins with ``token``."""
    return json.dumps({"event": "ask", "uid": 1, "tokens": [[token] + [0] * 19]}) + "\n"


@pytest.mark.parametrize(
    ("line", "text", "said"),
    [
        (3, "{not json\n", "line 4 is damaged"),
        (3, "[]\n", "line 4 is damaged"),
        (3, "\n", "line 4 is damaged"),
        (3, '{"event": "fail", "uid": 0, "reason": NaN, "learn": true}\n', "line 4 is damaged"),
        (3, '{"event": "tell", "uid": 0, "metrics": {"default": 1e999}}\n', "line 4 is damaged"),
        (3, '{"event": "party"}\n', "line 4 does not fit what is before it: unknown event 'party'"),
        (3, '{"event": "tell", "uid": 99, "metrics": {"default": 1}}\n', "line 4 does not fit .* uid 99"),
        (3, '{"event": "tell", "uid": 0}\n', "line 4 does not fit .*'metrics'"),
        (3, '{"event": "ask", "uid": 1, "tokens": [[9]]}\n', r"line 4 does not fit .* tokens \(9,\)"),
        (3, _asking(0.5), r"line 4 does not fit .* tokens \(0.5, 0,"),
        (3, _asking(True), r"line 4 does not fit .* tokens \(True, 0,"),
        (0, '{"event": "tell"}\n', "line 1: wanted the header"),
        (0, '{"event": "header", "format": 99}\n', "line 1: wanted the header of a journal of format 1"),
        (0, '{"event": "header", "format": 1}\n', "line 1: the header does not fit"),
        (0, '{"event": "header", "format": 1, "optimize_mode": "x", "space": {}}\n', "line 1: the header does not fit"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: int, text: str, said: str) -> None:
    path, lines = written(tmp_path)
    lines[line] = text
    path.write_text("".join(lines))
    with pytest.raises(JournalError, match=said):
        resume(path)
    with pytest.raises(JournalError, match=said):
        load(path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path, lines = written(tmp_path)
    path.write_bytes(b"".join(line.encode() for line in lines[:3]) + b"\x00\xff\n" + lines[3].encode())
    with pytest.raises(JournalError, match="line 4 is damaged"):
        load(path)


def test_a_missing_an_empty_and_an_existing_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file"):
        resume(tmp_path / "nope.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(JournalError, match="nothing to resume"):
        resume(tmp_path / "empty.jsonl")
    path, _ = written(tmp_path)
    with pytest.raises(JournalError, match="exists: resume it"):
        start(path)


def test_a_journal_killed_within_its_header_can_be_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event": "head')
    with pytest.warns(RuntimeWarning, match="cut short"), pytest.raises(JournalError, match="nothing to resume"):
        Run.resume(RandomSearch(), path)
    path.write_text('{"event": "head')
    run = start(path)
    drive(run, 3)
    run.close()
    assert resume(path).search.counts.told == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(JournalError, match=r"cannot open the journal .*Permission denied"):
        start(tmp_path / "journal.jsonl")


def test_a_folder_that_cannot_be_is_named() -> None:
    with pytest.raises(JournalError, match=r"cannot open the journal /proc/nas/journal\.jsonl"):
        start(Path("/proc/nas/journal.jsonl"))


def test_two_processes_do_not_share_a_journal(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    run = resume(path)
    code = (
        "import sys; from nas_tuners.runs.run import Run; from nas_tuners.search import Annealing\n"
        "try: Run.resume(Annealing(3.0, seed=7), sys.argv[1])\n"
        "except RuntimeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "is in use by another process" in done.stdout
    run.close()
    resume(path).close()


def test_a_full_disk_loses_nothing_and_says_so(tmp_path: Path) -> None:
    """A limit on the file's size makes the kernel itself cut a line short."""
    path, lines = written(tmp_path)
    run = resume(path)
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(JournalError, match="cannot write to the journal"):
            run.ask()
        with pytest.raises(JournalError, match="this run has ended"):
            run.ask()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run.close()
    assert path.read_text() == "".join(lines)
    again, unbroken = resume(path), start(None)
    drive(again, 10)
    drive(unbroken, 10)
    assert again.search.trials == unbroken.search.trials


def test_a_result_that_cannot_be_written_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(tmp_path / "journal.jsonl")
    (proposal,) = run.ask()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JournalError, match="No space left on device"):
        run.tell(proposal.uid, 1.0)
    assert run.search.counts.told == 0
    assert '"tell"' not in (tmp_path / "journal.jsonl").read_text()


def test_another_algorithm_on_the_same_journal_keeps_what_was_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = written(tmp_path)
    run = resume(path, search=RandomSearch(seed=1))
    assert run.search.counts.told == 5
    assert "RandomSearch proposes something else than its journal says" in caplog.text


def test_a_reader_needs_no_lock_and_no_algorithm(tmp_path: Path) -> None:
    run = start(tmp_path / "journal.jsonl")
    drive(run, 5)
    read_back, header = load(tmp_path / "journal.jsonl")
    assert read_back.search.best == run.search.best
    assert read_back.search.trials == run.search.trials
    assert header["search"]["arguments"]["seed"] == 7


def test_a_changed_space_keeps_what_fits_by_name(tmp_path: Path) -> None:
    old = Space.from_json({"a": layer("x", "y", "z"), "b": layer("p", "q")})
    new = Space.from_json({"a": layer("w", "z", "x"), "b": layer("p", "q")})
    run = Run.start(RandomSearch(seed=1), old, path=tmp_path / "journal.jsonl")
    for proposal in run.ask(6):
        if proposal.uid != 2:
            run.tell(proposal.uid, float(proposal.uid))
    of_y = [p.uid for p in run.search.trials.values() if p.tokens[0] == 1]
    assert run.change_space(new) == len(of_y) == 2

    for moved in (run, load(tmp_path / "journal.jsonl")[0]):
        assert [t.uid for t in moved.search.trials.values() if t.state == "dropped"] == of_y
        for trial in moved.search.trials.values():
            if trial.state != "dropped":
                before = old.decode(next(t for t in _tokens(tmp_path, trial.uid)))
                assert new.decode(trial.tokens)["a"]["_value"] == before["a"]["_value"]
                assert trial.metrics == ({"default": float(trial.uid)} if trial.uid != 2 else None)
    run.close()
    resumed = Run.resume(RandomSearch(seed=1), tmp_path / "journal.jsonl")
    assert resumed.search.trials == run.search.trials
    assert {p.tokens for p in resumed.ask(10)} == {(0, 0), (0, 1)}
    assert not resumed.tell(of_y[0], 9.0)


def _tokens(tmp_path: Path, uid: int) -> list[tuple[int, ...]]:
    ask = next(event for event in read(tmp_path / "journal.jsonl")[0] if event["event"] == "ask")
    return [tuple(ask["tokens"][uid])]
