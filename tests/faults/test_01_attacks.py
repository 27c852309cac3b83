"""Once: files that are merely looked at named what was opened, imported or run, or had no end."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from nas_tuners.hosts.nni.failures import describe_experiment_failures
from nas_tuners.hosts.nni.tuner import SearchTuner
from nas_tuners.runs.run import Run
from nas_tuners.search.random import RandomSearch
from search_spaces import Space
from search_spaces.domains import ChoiceDomain
from search_spaces.nested import Nesting
from tests.nas_tuners.nas import Nas

SPACE = {"a": {"_type": "layer_choice", "_value": ["x", "y"]}}
ENDLESS = "with recursive t(n) as (select 1 union all select n + 1 from t)"
SECONDS = 60  # that nothing of these takes; before, they took for ever


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


def run_apart(folder: Path, code: str) -> str:
    """Run code in a process of its own, which is killed if it has no end. Returns: what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.stdout


def make_database(folder: Path, *rows: tuple[object, object]) -> None:
    (folder / "db").mkdir()
    connection = sqlite3.connect(folder / "db" / "nni.sqlite")
    if rows:
        connection.execute("create table TrialJobEvent (trialJobId, event, logPath)")
        connection.executemany("insert into TrialJobEvent values (?, 'FAILED', ?)", rows)
    else:
        rest = f"{ENDLESS} select n, 'FAILED', '.', n from t"
        connection.execute(f"create view TrialJobEvent(trialJobId, event, logPath, rowid) as {rest}")
    connection.commit()
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["a table without an end", "a database that is a pipe", "a log that is a pipe"])
def test_the_files_of_an_experiment_have_an_end(tmp_path: Path, what: str) -> None:
    if what == "a table without an end":
        make_database(tmp_path)
    else:
        path = tmp_path / ("log/dispatcher.log" if "log" in what else "db/nni.sqlite")
        path.parent.mkdir()
        os.mkfifo(path)
    code = "from pathlib import Path; from nas_tuners.hosts.nni.failures import describe_experiment_failures as d"
    assert run_apart(tmp_path, f"{code}\nprint(d(Path.cwd()))") == "[]\n"


def test_a_trial_whose_name_is_a_pattern_of_paths(tmp_path: Path) -> None:
    """``**`` had the whole disk searched, or was an error of its own."""
    (tmp_path / "environments" / "e" / "trials").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "trial.stderr").write_text("told")
    names = ["../../../secret", "../../../**/secret", "a**b", "", "*"]
    make_database(tmp_path, *((name, ".") for name in names), ("fine", 5), ("abcde", None))
    assert describe_experiment_failures(tmp_path) == [
        "failed: trial abcde: its stderr is on the machine that ran it",
    ]


def write_config(folder: Path, **more: object) -> None:
    config = {
        "trialCommand": "python3 trial.py",
        "trialConcurrency": 1,
        "maxTrialNumber": 2,
        "tuner": {"className": "nas_tuners.RandomTuner", "codeDirectory": "."},
        "trainingService": {"platform": "local"},
        "searchSpace": SPACE,
    }
    (folder / "config.yml").write_text(yaml.safe_dump(config | more))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["search_space_file", "SEARCHSPACEFILE", "searchspacefile_"])
def test_nothing_is_read_under_another_spelling(tmp_path: Path, name: str) -> None:
    """NNI takes names in any case: a space beside the one that was checked was opened, and a device has no end."""
    os.mkfifo(tmp_path / "pipe")
    write_config(tmp_path, **{name: "pipe"})
    said = run_apart(tmp_path, "from nas_tuners.cli import main; main(['check', 'config.yml'])")
    assert "wanted exactly one of searchSpaceFile and searchSpace" in said


def test_other_spellings_are_checked_like_ours(nas: Nas, tmp_path: Path) -> None:
    write_config(tmp_path, max_trial_number=0)
    assert "maxTrialNumber is 0" in nas("check", "config.yml", cwd=tmp_path, code=1)


def test_a_long_text_that_is_no_json_is_refused_at_once(nas: Nas, tmp_path: Path) -> None:
    """It was read as JSON5, and as YAML, which take minutes."""
    (tmp_path / "space.json").write_text("[" + "1," * 2_000_000 + "]")
    assert "is neither JSON nor JSON5: Expecting value" in nas("check", "space.json", cwd=tmp_path, code=1)


def test_a_nested_space_of_some_megabytes_is_read_in_seconds() -> None:
    """Each key was compared with each option of all others: that took a minute."""
    options, inner = range(20), ChoiceDomain((1, 2))
    outer = ChoiceDomain(tuple({"_name": f"n{i}"} for i in options))
    domains = {f"k{i}": outer for i in range(200)}
    domains |= {f"k{i}/n{j}/x{m}": inner for i in range(200) for j in options for m in range(20)}
    began = time.process_time()
    nesting = Nesting(domains)
    assert time.process_time() - began < 5
    assert nesting.nest({"k7": {"_name": "n3"}, "k7/n3/x5": 2}) == {"k7": {"_name": "n3", "x5": 2}}


def test_our_tuners_find_no_modules_in_the_code_directory(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(tmp_path)
    seen: list[str] = []
    update = SearchTuner.update_search_space

    def look(tuner: SearchTuner, space: dict) -> None:
        seen.extend(sys.path)
        update(tuner, space)

    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    monkeypatch.setattr(SearchTuner, "update_search_space", look)
    nas("check", "config.yml", cwd=tmp_path)
    assert seen and str(tmp_path) not in seen


@pytest.mark.slow
def test_names_in_a_picture_are_no_formulas(tmp_path: Path) -> None:
    """What stands in a journal was read as mathematics, by TeX itself if a file in the current folder said so."""
    names = ["$\\unknown$", "$\\frac{"]
    space = Space.from_json({"$\\frac{a$": {"_type": "layer_choice", "_value": names}})
    run = Run.start(RandomSearch(0), space, path=tmp_path / "run" / "journal.jsonl")
    for uid in [proposal.uid for proposal in run.ask(2)]:
        run.tell(uid, 0.5)
    run.close()
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nno.such.setting: 1\n")
    said = run_apart(tmp_path, "from nas_tuners.cli import main; main(['show', 'run', '--plot', 'a.svg'])")
    assert said == "a.svg\n" and (tmp_path / "a.svg").stat().st_size


def test_what_a_file_says_gives_no_orders_to_the_terminal(nas: Nas, tmp_path: Path) -> None:
    space = Space.from_json({"a": {"_type": "layer_choice", "_value": ["x\x1b]0;owned\x07", "y"]}})
    run = Run.start(RandomSearch(), space, path=tmp_path / "journal.jsonl")
    one, other = run.ask(2)
    run.tell(one.uid, 1.0)
    run.fail(other.uid, "bad \x1b[2J")
    run.close()
    said = nas("show", "journal.jsonl", cwd=tmp_path)
    assert "\x1b" not in said and "\x07" not in said
    assert "bad \\x1b[2J" in said
