"""Fault 44: lines that lost their ETA, pictures that lost options, lists that lost rows, a loop that said nothing."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest

from nas_tuners.runs.run import Run, load
from nas_tuners.sanas import SANAS
from nas_tuners.search import RandomSearch
from nas_tuners.show.plots import plot
from search_spaces import Space
from search_spaces.progress import Progress, progress_line
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES, layer

NOTE = "best 0.9134 (macs 3.221e+08, params 3.4e+06)  phase 5/7, kernel_size 1  pending 4  failed 12  infeasible 30771"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 200])
@pytest.mark.parametrize("unit", ["trials", "sub-networks"])
def test_a_progress_line_fits_with_its_time_left(columns: int, unit: str) -> None:
    line = progress_line(170, 1000, unit, 40_000.0, 100, NOTE, columns)
    assert len(line) <= columns
    assert "170/1000" in line
    assert "ETA 92:13:20" in line or columns == 30
    kept = line.removesuffix("...").rstrip().split("  ")
    assert all(part in f"{progress_line(170, 1000, unit, 40_000.0, 100)}  {NOTE}" for part in kept)
    if columns == 80:
        assert "best 0.91" in line
    if columns == 200:
        assert line.endswith(NOTE)


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_log_and_a_terminal_have_lines_of_80_columns(
    stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    clock, written = Clock(), stream()
    with Progress(1000, "sub-networks", "measuring", stream=written, clock=clock) as progress:
        progress.note = NOTE
        for _ in range(30):
            clock.now += 400.0
            progress.step()
    lines = re.split(r"[\r\n]+", written.getvalue().replace("\x1b[K", "").strip())
    assert len(lines) > 5
    assert all(len(line) <= 80 and "ETA" in line for line in lines[1:])
    assert all("best 0.9" in line for line in lines[1:])


def test_show_says_how_many_rows_it_leaves_out(nas: Nas, tmp_path: Path) -> None:
    run = Run.start(RandomSearch(), Space.from_json(SPACES["20 x 4"]), path=tmp_path / "journal.jsonl")
    for proposal in run.ask(12):
        run.tell(proposal.uid, float(proposal.uid))
    said = nas("show", ".", cwd=tmp_path)
    assert len(re.findall(r"^ +\d+ +\d+ ", said, re.MULTILINE)) == 10
    assert "2 more (nas show --json lists all)" in said
    run.close()


@pytest.mark.slow
def test_a_picture_names_every_option_also_those_that_died_out(tmp_path: Path) -> None:
    import matplotlib

    names = {
        "alive": layer("kept", "lost early"),
        "many": layer(*(f"option {i}" for i in range(12))),
        "two": layer("p", "q"),
    }
    run = Run.start(RandomSearch(), Space.from_json(names), path=tmp_path / "journal.jsonl")
    every = [(0 if at > 5 else 1, at % 12, at % 2) for at in range(24)]
    for at, tokens in enumerate(every):
        run.tell(run.suggest(tokens).uid, float(at)) if not run.search.known(tokens) else None
    run.close()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        text = plot(*load(tmp_path / "journal.jsonl"), tmp_path / "run.svg").read_text()
    for name in ("kept", "lost early", "p", "q", "5 others"):
        assert f">{name}</text>" in text
    assert sum(f">option {i}</text>" in text for i in range(12)) == 7


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for SANAS: seconds pass when a test says so."""
    clock = Clock()
    monkeypatch.setattr("nas_tuners.sanas.sanas.Progress", lambda *given, **more: Progress(*given, **more, clock=clock))
    return clock


NET: Any = ("MobileNetV2BlockSpace", {"input_size": 32, "output_size": 8, "block_num": 2})


def test_the_loop_of_sanas_shows_how_far_it_is(slow_clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with SANAS([NET], search_steps=6, save_checkpoint=None) as sanas:
        for step, _ in enumerate(sanas):
            slow_clock.now += 60.0
            sanas.reward(step / 10)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "[#---------] 1/6 steps  ETA 5:00  60.0 s each  best 0"
    assert said[-1] == "[##########] 6/6 steps  60.0 s each  best 0.5"
    assert len(said) == 6


def test_a_short_loop_of_sanas_and_a_quiet_one_say_nothing(
    slow_clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds, progress in ((0.1, True), (60.0, False)):
        with SANAS([NET], search_steps=3, save_checkpoint=None, progress=progress) as sanas:
            for _ in sanas:
                slow_clock.now += seconds
                sanas.reward(1.0)
    assert capsys.readouterr().err == ""
