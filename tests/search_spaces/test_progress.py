"""The progress line: what it says, how often, and where."""

from __future__ import annotations

import io
import threading
import time

import pytest

from search_spaces.progress import Progress, progress_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("seconds", "rate"), [(0.5, "40/s"), (10.0, "2.0/s"), (20.0, "1.0/s"), (50.0, "2.5 s each"), (0.0, None)]
)
def test_rate(seconds: float, rate: str | None) -> None:
    line = progress_line(20, 20, "steps", seconds, 20)
    assert line == "[##########] 20/20 steps" + (f"  {rate}" if rate else "")


def test_time_left_is_computed_from_the_steps_of_this_process() -> None:
    assert "ETA 0:10" in progress_line(90, 100, "steps", 10.0, 10)
    assert "ETA 2:46:40" in progress_line(0 + 1, 1001, "steps", 10.0, 1)
    assert "ETA" not in progress_line(90, 100, "steps", 10.0, 0)
    assert "ETA" not in progress_line(101, 100, "steps", 10.0, 50)


def test_a_log_gets_a_line_every_five_seconds_then_fewer_and_the_last() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(100_000, stream=stream, clock=clock) as progress:
        for _ in range(100_000):
            clock.now += 0.125
            progress.step()
    lines = lines_of(stream)
    assert lines[-1].startswith("[##########] 100000/100000 steps")
    assert lines[1].startswith("[----------] 41/100000 steps  ETA 3:28:14  8.0/s")
    assert 200 < len(lines) < 300  # of 12,500 seconds: 50 in the first 250, then each 2 % later
    assert all(len(line) <= 80 for line in lines)


def test_a_terminal_has_one_line_that_is_rewritten_at_most_five_times_a_second() -> None:
    clock, stream = Clock(), Terminal()
    with Progress(1000, "nets", "measuring", stream=stream, clock=clock) as progress:
        for _ in range(1000):
            clock.now += 0.01
            progress.note = f"best {clock.now:.2f} " + "x" * 200
            progress.step()
    text = stream.getvalue()
    assert text.count("\n") == 1 and text.endswith("\x1b[K\n")
    shown = text.split("\r")[1:]
    assert 45 <= len(shown) <= 52
    assert shown[-1].startswith("measuring [##########] 1000/1000 nets  100/s  best 10.00")
    assert all(len(line.removesuffix("\n").removesuffix("\x1b[K")) <= 80 for line in shown)


def test_a_note_that_is_a_function_is_called_for_lines_only() -> None:
    clock, stream = Clock(), io.StringIO()
    calls: list[int] = []

    def note() -> str:
        calls.append(progress.done)
        return f"step {progress.done}"

    with Progress(100, stream=stream, clock=clock) as progress:
        progress.note = note
        for _ in range(100):
            clock.now += 0.125
            progress.step()
    assert calls == [1, 41, 81, 100]
    assert [line.split()[-1] for line in lines_of(stream)] == ["1", "41", "81", "100"]


def test_short_tasks_are_quiet_and_long_ones_are_not() -> None:
    for seconds, shown in ((4.0, False), (6.0, True)):
        clock, stream = Clock(), io.StringIO()
        with Progress(None, stream=stream, clock=clock, quiet=5.0) as progress:
            clock.now += seconds
            progress.at(1, 3)
        assert bool(stream.getvalue()) is shown


def test_nothing_is_shown_if_so_wanted() -> None:
    stream = Terminal()
    with Progress(3, stream=stream, show=False) as progress:
        progress.step()
    assert stream.getvalue() == ""


def test_time_goes_on_while_a_step_takes_minutes() -> None:
    class Log(io.StringIO):
        def write(self, text: str) -> int:
            enough.release()
            return super().write(text)

    stream, enough = Log(), threading.Semaphore(0)
    with Progress(4, done=1, every=0.01, stream=stream) as progress:
        progress.step()
        assert all(enough.acquire(timeout=30) for _ in range(3))
    assert len(set(lines_of(stream))) >= 3


def test_a_stream_that_is_gone_does_not_end_the_task() -> None:
    stream = Terminal()
    with Progress(2, stream=stream) as progress:
        stream.close()
        progress.step()


@pytest.mark.slow  # not that it is: it is timed, and wants the machine for itself
def test_an_update_costs_next_to_nothing() -> None:
    progress = Progress(10**9, stream=io.StringIO())
    progress.step()
    started = time.perf_counter()
    for _ in range(100_000):
        progress.step()
    assert time.perf_counter() - started < 0.2
