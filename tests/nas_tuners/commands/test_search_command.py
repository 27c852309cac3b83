"""``nas search`` and its resume: what they print, keep, and refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nas_tuners.hosts.local import Job
from nas_tuners.runs.journal import read
from nas_tuners.runs.loop import run_search
from nas_tuners.runs.run import Run, load
from nas_tuners.search import RandomSearch
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.show.text import describe_best, expected_results
from search_spaces import Space
from search_spaces.cost.limits import constraints_of
from search_spaces.cost.table import CostTable
from tests.nas_tuners import functions
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES, layer

HERE = "tests.nas_tuners.functions"
SPACE = SPACES["20 x 4"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a space and its cost table: option i of a key costs i multiply-adds, 0 to 60 in total."""
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    space = Space.from_json(SPACE)
    CostTable(space, {"macs": 0}, {"macs": {key: [0, 1, 2, 3] for key in space.keys}}).save(tmp_path / "cost.json")
    return tmp_path


def words(*more: str, function: str = f"{HERE}:good") -> tuple[str, ...]:
    return ("search", "space.json", "--evaluate", function, "--trials", "30", "-o", "run", *more)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_finds_keeps_and_says_what_is_best(nas: Nas, folder: Path, algorithm: str) -> None:
    said = nas(*words("--algorithm", algorithm, "--seed", "3"), cwd=folder)
    run, header = load(folder / "run" / "journal.jsonl")
    assert run.search.best is not None
    assert f"best {run.search.best.score:.6g} (uid {run.search.best.uid}) of 30 trials" in said
    assert "nas show run; nas export run -o run/best" in said
    assert header["search"]["name"] == ALGORITHMS[algorithm].search.__name__
    assert header["search"]["arguments"]["seed"] == 3
    assert header["command"]["functions"] == {"evaluate": f"{HERE}:good"}
    assert f"{run.search.best.score:.6g}" in nas("show", "run", cwd=folder)
    nas("export", "run", "-o", "best", cwd=folder)
    assert functions.good(json.loads((folder / "best" / "choices.json").read_text())) == run.search.best.score


def test_an_algorithm_takes_its_own_numbers(nas: Nas, folder: Path) -> None:
    numbers = ("--set", "candidate_pool_size=6", "--set", "mode=generation", "--set", "mutate_prob=0.3")
    nas(*words(*numbers), cwd=folder)
    arguments = load(folder / "run" / "journal.jsonl")[1]["search"]["arguments"]
    assert (arguments["candidate_pool_size"], arguments["mode"], arguments["mutate_prob"]) == (6, "generation", 0.3)


def test_limits_hold_and_the_costs_of_the_best_are_shown(nas: Nas, folder: Path) -> None:
    said = nas(*words("--constraint", "20<=macs<=24", "--cost-table", "cost.json"), cwd=folder)
    assert re.search(r"20 <= macs <= 24: [\d.e+-]+ % of 1\.1e\+12 architectures", said)
    assert re.search(r"\(uid \d+, macs 2[0-4]\) of 30 trials", said)
    run, _ = load(folder / "run" / "journal.jsonl")
    assert all(20 <= sum(trial.tokens) <= 24 for trial in run.search.trials.values())


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ([], None),
        (["macs<=330e6"], {"macs": [None, 330e6]}),
        (["330e6 >= macs"], {"macs": [None, 330e6]}),
        (["macs>=2.5", "macs<=1e3", "params<=.5"], {"macs": [2.5, 1000.0], "params": [None, 0.5]}),
        (["290e6<=macs<=330e6"], {"macs": [290e6, 330e6]}),
        (["330e6>=macs>=290e6"], {"macs": [290e6, 330e6]}),
        (["macs<=3", "macs<=2"], {"macs": [None, 2.0]}),
        (["latency_ms<=3"], {"latency_ms": [None, 3.0]}),
    ],
)
def test_limits_as_they_are_written(texts: list[str], wanted: object) -> None:
    assert constraints_of(texts) == wanted


def test_the_lowest_is_the_best_of_what_counts(nas: Nas, folder: Path) -> None:
    options = ("--minimize", "--score-key", "macs", "--algorithm", "random")
    nas(*words(*options, function=f"{HERE}:with_costs"), cwd=folder)
    run, _ = load(folder / "run" / "journal.jsonl")
    told = [trial.metrics["macs"] for trial in run.search.trials.values() if trial.metrics]
    assert run.search.best is not None
    assert run.search.best.score == min(told)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--algorithm", "evolutoin"), "--algorithm is 'evolutoin', wanted one of 'annealing', 'auto'"),
        (("--algorithm", "evolutoin"), "did you mean 'evolution'?"),
        (("--set", "mutate_prb=0.1"), "--set mutate_prb=0.1 is 'mutate_prb', wanted one of 'candidate_pool_size'"),
        (("--set", "mutate_prb=0.1"), "did you mean 'mutate_prob'?"),
        (("--set", "mutate_prob"), "wanted name=value"),
        (("--set", "seed=3"), "use --seed"),
        (("--set", "mutate_prob=2"), "mutate_prob is 2, wanted a number from 0 to 1"),
        (("--set", "x=1", "--algorithm", "random"), "--set x: random takes no arguments"),
        (("--seed", "-1"), "seed is -1, wanted a whole number from 0 up"),
        (("--constraint", "macs<9"), "wanted such as"),
        (("--constraint", "macs"), "wanted such as"),
        (("--constraint", "9<=macs<=3"), "leaves nothing: the range of macs is empty"),
        (("--constraint", "macs<=9"), "needs cost_table=, the file that nas cost writes"),
        (("--constraint", "flops<=9", "--cost-table", "cost.json"), "has no metric ['flops']"),
        (("--constraint", "macs>=61", "--cost-table", "cost.json"), "the nearest reachable macs is 60"),
        (("--cost-table", "none.json"), "cannot read the cost table none.json"),
        (("--trials", "0"), "--trials is 0, wanted a whole number from 1 up"),
        (("--workers", "0"), "--workers is 0"),
        (("--evaluate", "nowhere:f"), "nowhere:f cannot be imported"),
        (("--evaluate", f"{HERE}:bood"), "did you mean"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    nas: Nas, folder: Path, more: tuple[str, ...], said: str
) -> None:
    got = nas(*words(*more), cwd=folder, code=1)
    assert said in got
    assert len(got.splitlines()) <= 3
    assert not (folder / "run").exists()


def test_the_function_is_looked_for_in_the_current_folder_also_when_resumed_elsewhere(
    nas: Nas, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (folder / "own.py").write_text(
        "from pathlib import Path\n"
        "def f(choices):\n    return float(Path('factor').read_text()) * len(choices)\n"  # a file beside it
    )
    (folder / "factor").write_text("2")
    assert "best 40" in nas(*words(function="own:f"), cwd=folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert "of 40 trials" in nas("resume", str(folder / "run"), "--trials", "40", cwd=elsewhere)
    run, _ = load(folder / "run" / "journal.jsonl")
    assert run.search.counts.told == 40


def test_a_second_search_in_a_folder_is_told_to_resume(nas: Nas, folder: Path) -> None:
    nas(*words(), cwd=folder)
    before = (folder / "run" / "journal.jsonl").read_bytes()
    assert "run/journal.jsonl exists: go on with nas resume run" in nas(*words(), cwd=folder, code=1)
    assert "of 30 trials" in nas("resume", "run", cwd=folder)
    assert (folder / "run" / "journal.jsonl").read_bytes() == before


def test_a_search_killed_in_its_header_can_be_begun_again(nas: Nas, folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "journal.jsonl").write_text('{"event": "head')
    assert "run/journal.jsonl is empty: nothing was begun" in nas("resume", "run", cwd=folder, code=1)
    assert "of 30 trials" in nas(*words(), cwd=folder)


@pytest.mark.filterwarnings("default:.*cut short")
def test_a_line_that_was_cut_short_is_told_of_once(nas: Nas, folder: Path) -> None:
    nas(*words(), cwd=folder)
    path = folder / "run" / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    said = nas("resume", "run", cwd=folder)
    assert said.count("the last line was cut short") == 1
    assert "of 30 trials" in said


def test_ctrl_c_says_how_to_go_on_and_nothing_is_lost(nas: Nas, folder: Path) -> None:
    said = nas(*words("--algorithm", "annealing", function=f"{HERE}:interrupts"), cwd=folder, code=130)
    assert "interrupted after 4 of 30 trials; nothing is lost. Go on with: nas resume run" in said
    assert "of 30 trials" in nas("resume", "run", cwd=folder)
    (folder / "whole").mkdir()
    nas(
        "search",
        "space.json",
        *words("--algorithm", "annealing")[2:-4],
        "-o",
        "whole",
        "--algorithm",
        "annealing",
        cwd=folder,
    )
    events = [read(folder / name / "journal.jsonl")[0][1:] for name in ("run", "whole")]
    assert events[0] == events[1]


def test_a_search_with_nothing_but_failures_says_why(nas: Nas, folder: Path) -> None:
    said = nas(*words(function=f"{HERE}:returns_text"), cwd=folder, code=1)
    assert "30 trials, 30 of them failed; no result\nfailed: uid 0, 1, " in said
    assert "9 and 20 more: the metric is 'good'" in said


def test_a_resume_refuses_another_cost_table(nas: Nas, folder: Path) -> None:
    nas(*words("--constraint", "macs<=30", "--cost-table", "cost.json"), cwd=folder)
    space = Space.from_json(SPACE)
    CostTable(space, {"macs": 1}, {"macs": {key: [0, 1, 2, 3] for key in space.keys}}).save(folder / "cost.json")
    assert "another cost table" in nas("resume", "run", "--trials", "40", cwd=folder, code=1)


COMMAND = {
    "name": "search",
    "functions": {"evaluate": f"{HERE}:good"},
    "algorithm": "random",
    "trials": 1,
    "workers": 1,
    "folder": ".",
}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (COMMAND | {"name": "party"}, "wanted the header of a run of nas search or nas rank"),
        (COMMAND | {"functions": None}, "wanted the header of a run of nas search"),
        (COMMAND | {"functions": {}}, "wanted the header of a run of nas search"),
        (COMMAND | {"workers": 10**6}, "--workers is 1000000, wanted at most 1024"),
        (COMMAND | {"trials": "many"}, "trials is 'many', wanted a whole number"),
        (COMMAND | {"algorithm": "party"}, "--algorithm is 'party', wanted one of"),
        ({"name": "search"}, "wanted the header of a run of nas search"),
    ],
)
def test_a_journal_of_no_command_of_ours(nas: Nas, folder: Path, command: object, said: str) -> None:
    run = Run.start(RandomSearch(), Space.from_json(SPACE), path=folder / "journal.jsonl", command=command)
    run.close()
    assert said in nas("resume", ".", cwd=folder, code=1)


def test_a_journal_of_a_users_own_loop_is_not_resumed(nas: Nas, folder: Path) -> None:
    Run.start(RandomSearch(), Space.from_json(SPACE), path=folder / "journal.jsonl").close()
    assert "does not belong to an NNI experiment" in nas("resume", ".", cwd=folder, code=1)
    assert "are for runs of nas search" in nas("resume", ".", "--trials", "9", cwd=folder, code=1)


def test_progress_tells_the_best_and_the_time_left_of_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    space = Space.from_json({"a": layer(*"abcdefghij")})
    table = CostTable(space, {"macs": 0}, {"macs": {"a": list(range(10))}})
    run = Run.start(RandomSearch(seed=1, constraints={"macs": 8}, cost_table=table), space)
    run_search(run, functions.good, 3)
    Job("search", {}, "random", 5, 1, ".").finish(run, functions.good, quiet=0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[######----] 3/5 trials  best ")
    best = max(sum(trial.tokens) for trial in run.search.trials.values())
    assert re.fullmatch(rf"\[##########\] 5/5 trials  .*/s  best {best} \(macs {best}\)", lines[-1])


def test_a_progress_note_has_the_counts_that_are_not_zero() -> None:
    run = Run.start(RandomSearch(seed=1), Space.from_json(SPACE))
    assert describe_best(run) == "no result yet"
    for proposal in run.ask(4)[:3]:
        run.tell(proposal.uid, 0.25)
    run.tell(0, 0.5)
    run.fail(run.ask()[0].uid, "no memory")
    assert describe_best(run) == "best 0.25  pending 1  failed 1  duplicate 1"


def test_a_run_cannot_have_more_results_than_its_space() -> None:
    run = Run.start(RandomSearch(seed=1), Space.from_json({"a": layer(*"abc")}))
    assert [expected_results(run, limit) for limit in (2, 9, None)] == [2, 3, None]


def test_a_search_begins_from_another_run(nas: Nas, folder: Path) -> None:
    nas(*words("--algorithm", "random"), cwd=folder)
    said = nas(*words("--from", "run", "--trials", "12", "-o", "next"), cwd=folder)
    assert "bayesian, because it takes warm_start" in said
    header = load(folder / "next" / "journal.jsonl")[1]
    assert len(header["search"]["arguments"]["warm_start"][0]["scores"]) == 30
    said = nas(*words("--from", "run", "--algorithm", "evolution", "-o", "third"), cwd=folder, code=1)
    assert "--from is not for evolution" in said
    assert "nowhere is not a file or folder" in nas(*words("--from", "nowhere", "-o", "third"), cwd=folder, code=1)


def test_several_objectives_end_in_a_front(nas: Nas, folder: Path) -> None:
    objectives = ("--objective", "default=maximize", "--objective", "macs=minimize", "--cost-table", "cost.json")
    said = nas(*words(*objectives), cwd=folder)
    assert "bayesian, because it takes objectives" in said
    assert "front, " in said
    shown = nas("show", "run", cwd=folder)
    assert shown[shown.index("front, ") :].split("\n")[1].split() == ["uid", "default", "macs"]
    front = json.loads(nas("show", "run", "--json", cwd=folder))["front"]
    assert len(front) >= 2
    nas("export", "run", "-o", "best", "--front", cwd=folder)
    assert sorted(int(path.name) for path in (folder / "best").iterdir()) == sorted(front)
    single = nas(*words("--algorithm", "random", "-o", "one"), cwd=folder)
    assert "front" not in single
    assert "it has no front" in nas("export", "one", "-o", "other", "--front", cwd=folder, code=1)
    wrong = nas(*words("--objective", "macs", "-o", "other"), cwd=folder, code=1)
    assert "--objective is 'macs', wanted METRIC=maximize or minimize" in wrong
    said = nas(*words(*objectives, "--algorithm", "evolution", "-o", "other"), cwd=folder, code=1)
    assert "--objective is not for evolution" in said
