"""The command line, as a process: what it prints, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mutators import extract, load_subnet
from nas_tuners.runs.run import Run
from nas_tuners.search import RandomSearch
from search_spaces import Space
from search_spaces.cost import CostTable
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES, layer

TRIAL = """
import sys
import torch
from mutators import LayerChoice, get_and_apply_next_architecture
def build() -> torch.nn.Module:
    return torch.nn.Sequential(LayerChoice([torch.nn.Linear(4, 3), torch.nn.Linear(4, 3, bias=False)], key="fc"))
if __name__ == "__main__":
    model = build()
    get_and_apply_next_architecture(model)
    model(torch.zeros(1, 4))
    sys.exit(3)  # not reached in a dry run
"""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "ss-gen"),
        (["check", "nothing.json"], 1, "nas: cannot read the search space nothing.json: No such file or directory"),
        (["show"], 2, "RUN"),
    ],
)
def test_as_a_process_it_exits_and_prints_as_a_command_should(words: list[str], code: int, said: str) -> None:
    command = [sys.executable, "-m", "nas_tuners.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert code == 0 or len(done.stderr.splitlines()) <= 3
    assert "Traceback" not in done.stderr


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "trial.py").write_text(TRIAL)
    return tmp_path


@pytest.mark.slow
def test_ss_gen_writes_the_space_and_says_what_it_is(nas: Nas, code: Path) -> None:
    said = nas("ss-gen", "-o", "out.json", "--", sys.executable, "trial.py", cwd=code)
    space = Space.load(code / "out.json")
    assert space.to_json() == {"fc": layer("0", "1")}
    assert "1 choices, 2 architectures" in said
    assert space.digest in said


@pytest.mark.slow
def test_ss_gen_runs_in_a_folder_and_writes_where_it_stands(
    nas: Nas, code: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    nas("ss-gen", "-d", str(code), "--", sys.executable, "trial.py", cwd=elsewhere)
    assert (elsewhere / "search_space.json").exists()
    assert not (code / "search_space.json").exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise SystemExit(7)", "exited with 7: no search space was written"),
        ("pass", "emitted no search space: it has to call mutators.get_and_apply_next_architecture(model)"),
        ("import os; open(os.environ['NNI_GEN_SEARCH_SPACE'], 'w').write('{}')", "no key at all"),
        ("import os; open(os.environ['NNI_GEN_SEARCH_SPACE'], 'w').write('{')", "neither JSON nor JSON5"),
    ],
)
def test_ss_gen_fails_with_the_trial_and_leaves_the_file_as_it_was(
    nas: Nas, code: Path, script: str, said: str
) -> None:
    before = json.dumps({"fc": layer("a", "b")})
    (code / "out.json").write_text(before)
    (code / "trial.py").write_text(script)
    assert said in nas("ss-gen", "-o", "out.json", "--", sys.executable, "trial.py", cwd=code, code=1)
    assert (code / "out.json").read_text() == before


def test_ss_gen_names_a_command_or_folder_that_is_not_there(nas: Nas, code: Path) -> None:
    assert "cannot run no-such-thing: No such file" in nas("ss-gen", "--", "no-such-thing", cwd=code, code=1)
    assert "nowhere is not a folder" in nas("ss-gen", "-d", "nowhere", "--", "true", cwd=code, code=1)


def test_check_of_a_space(nas: Nas, code: Path) -> None:
    (code / "good.json5").write_text("{fc: {_type: 'layer_choice', _value: ['a', 'b']}} // fine")
    assert "1 choices, 2 architectures" in nas("check", "good.json5", cwd=code)
    (code / "wide.json").write_text(json.dumps(SPACES["20 x 4"]))
    assert "20 choices, 1099511627776 architectures (about 1.1e+12)" in nas("check", "wide.json", cwd=code)
    (code / "bad.json").write_text('{"fc": {"_type": "layer_choice", "_value": []}, "_x": 1}')
    said = nas("check", "bad.json", cwd=code, code=1)
    assert "(2 wrong)" in said
    assert "key 'fc'._value" in said


def config(**changes: Any) -> dict[str, Any]:
    tuner = {"className": "nas_tuners.AnnealingTuner", "codeDirectory": ".", "classArgs": {"seed": 1}}
    return {
        "searchSpace": {"fc": layer("a", "b"), "lr": {"_type": "choice", "_value": [0.1, 0.2]}},
        "trialCommand": "python3 trial.py",
        "trialConcurrency": 2,
        "maxTrialNumber": 3,
        "tuner": tuner,
        "trainingService": {"platform": "local"},
    } | changes


def tuner(**changes: Any) -> dict[str, Any]:
    return config(tuner={**config()["tuner"], **changes})


OWN = "from nas_tuners import SearchTuner\nraise RuntimeError('boom')"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (config(), "2 choices, 4 architectures"),
        (config(maxTrialNumber=9), "the experiment ends after 4 trials, not 9"),
        (config(tuner={"name": "RegularizedEvolutionTuner"}), "2 choices"),
    ],
)
def test_check_of_a_good_configuration(nas: Nas, code: Path, written: Any, said: str) -> None:
    (code / "config.yml").write_text(yaml.safe_dump(written))
    assert said in nas("check", "config.yml", cwd=code)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[", "is not YAML"),
        ("just text", "wanted a mapping with trialCommand"),
        (tuner(classArgs={"sed": 1}), "'seed'; did you mean 'seed'?"),
        (tuner(classArgs={"seed": "bad"}), "seed is 'bad', wanted a whole number"),
        (tuner(classArgs={"optimize_mode": "max"}), "wanted one of 'maximize', 'minimize'"),
        (tuner(classArgs={"init_temperature": -1}), "init_temperature is -1"),
        (tuner(classArgs={"init_choices": {"fc": {"_idx": 5}}}), "choices do not fit this space"),
        (tuner(classArgs=[1]), "tuner.classArgs is [1], wanted a mapping"),
        (
            tuner(className="nas_tuners.NoSuchTuner"),
            "tuner.className is 'nas_tuners.NoSuchTuner', wanted one of",
        ),
        (tuner(className="AnnealingTuner"), "wanted module.Class"),
        (tuner(className="own.Tuner"), "own.Tuner cannot be imported: RuntimeError: boom"),
        (tuner(codeDirectory="nowhere"), "nowhere is not a folder"),
        (tuner(name="NasAnnealing"), "wanted exactly one of className and name"),
        (config(tuner={"className": "nas_tuners.RandomTuner"}), "write: codeDirectory: ."),
        (config(tuner={"name": "TPE"}), "NNI's TPE cannot search architectures"),
        (config(tuner={"name": "NasAnealing"}), "did you mean 'NasAnnealing'?"),
        (config(tuner="annealing"), "tuner is 'annealing', wanted a mapping"),
        (config(searchSpace={"fc": layer()}), "key 'fc'._value: got []"),
        (config(searchSpace=None), "wanted exactly one of searchSpaceFile and searchSpace"),
        (config(searchSpace=None, searchSpaceFile="none.json"), "cannot read the search space"),
        (config(searchSpace=None, searchSpaceFile="five.json"), "five.json is JSON5, which NNI cannot read"),
        (config(trialConcurrency="many"), "trialConcurrency is 'many', wanted a whole number from 1 up"),
        (config(trainingService={"platform": "mainframe"}), "NNI: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_check_names_what_nni_would_find_out_too_late(nas: Nas, code: Path, written: Any, said: str) -> None:
    (code / "own.py").write_text(OWN)
    (code / "five.json").write_text("{\n// comment\n'fc': {_type: 'layer_choice', _value: ['a']}}")
    (code / "config.yml").write_text(written if isinstance(written, str) else yaml.safe_dump(written))
    assert said in nas("check", "config.yml", "--trust-code", cwd=code, code=1)


def test_a_cost_table_is_found_beside_the_tuners_code_and_yaml_may_say_330e6(
    nas: Nas, code: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    space = Space.from_json(config()["searchSpace"])
    CostTable(space, {"macs": 1e6}, {"macs": {"fc": [1e6, 3e6], "lr": [0, 0]}}).save(code / "macs.json")
    text = yaml.safe_dump(tuner(classArgs={"cost_table": "macs.json", "constraints": {"macs": "LIMIT"}}))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (code / "config.yml").write_text(text.replace("LIMIT", "2e6"))
    assert "2 choices" in nas("check", str(code / "config.yml"), cwd=elsewhere)
    (code / "config.yml").write_text(text.replace("LIMIT", "1e6"))
    assert "the nearest reachable macs is 2000000" in nas("check", str(code / "config.yml"), cwd=elsewhere, code=1)
    (code / "config.yml").write_text(text.replace("LIMIT", "small"))
    assert "constraints['macs'] is 'small'" in nas("check", str(code / "config.yml"), cwd=elsewhere, code=1)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of 12 trials."""
    running = Run.start(
        RandomSearch(seed=4), Space.from_json(SPACES["two inputs of four"]), path=tmp_path / "journal.jsonl"
    )
    for proposal in running.ask(11):
        if proposal.uid == 3:
            running.fail(proposal.uid, "RuntimeError: out of memory")
        elif proposal.uid == 5:
            running.tell(proposal.uid, float("nan"))
        elif proposal.uid != 7:
            running.tell(proposal.uid, {"default": proposal.uid / 10, "macs": 5}, job=f"j{proposal.uid}")
    running.close()
    return tmp_path


def test_show_json_is_one_object_with_all_there_is(nas: Nas, run: Path) -> None:
    text = nas("show", "--json", ".", cwd=run)
    shown = json.loads(text, parse_constant=pytest.fail)
    assert shown["counts"].items() >= dict(asked=11, told=8, failed=2, duplicate=0, pending=1).items()
    assert shown["space_digest"] == Space.from_json(SPACES["two inputs of four"]).digest
    assert (shown["search"], shown["seed"]) == ("RandomSearch", 4)
    assert shown["best"]["metrics"] == {"default": 1.0, "macs": 5}
    assert [trial["state"] for trial in shown["trials"]][3:8] == ["failed", "told", "failed", "told", "pending"]
    for trial in shown["trials"]:
        assert {"uid", "choices", "metrics", "trial_job_id", "state"} <= trial.keys()
        assert "default" in trial["metrics"]


def test_show_is_a_table_for_people(nas: Nas, run: Path) -> None:
    said = nas("show", "journal.jsonl", cwd=run)
    assert "11 asked: 8 told, 2 failed, 1 pending" in said
    assert "failed: uid 3: RuntimeError: out of memory" in said
    assert "in=[" in said


def test_export_writes_choices_that_the_space_takes(nas: Nas, run: Path) -> None:
    nas("export", ".", "-o", "best", cwd=run)
    choices = json.loads((run / "best" / "choices.json").read_text())
    Space.from_json(SPACES["two inputs of four"]).encode(choices)
    named = yaml.safe_load((run / "best" / "choices.yml").read_text())
    assert named["op"] == {"chosen": [choices["op"]["_value"]]}
    assert named["in"] == {"chosen": choices["in"]["_value"]}


def fc_run(code: Path) -> torch.nn.Module:
    """A run over TRIAL's space, and its model with weights of its own."""
    running = Run.start(RandomSearch(), Space.from_json({"fc": layer("0", "1")}), path=code / "journal.jsonl")
    for proposal in running.ask(2):
        running.tell(proposal.uid, float(proposal.tokens[0]))
    running.close()
    namespace: dict[str, Any] = {"__name__": "trial"}
    exec(TRIAL, namespace)
    return namespace["build"]()  # type: ignore[no-any-return]


@pytest.mark.parametrize("whole", [True, False], ids=["weights of the whole model", "weights of the network"])
def test_export_saves_the_network_with_given_weights(nas: Nas, code: Path, whole: bool) -> None:
    model = fc_run(code)
    network = extract(model, {"fc": {"_idx": 1}})
    torch.save((model if whole else network).state_dict(), code / "weights.pt")
    nas("export", ".", "-o", "best", "--model", "trial:build", "--weights", "weights.pt", cwd=code)
    again = load_subnet(code / "best", model)
    x = torch.randn(5, 4)
    assert torch.equal(again(x), network(x))


def test_export_explains_what_does_not_fit(nas: Nas, code: Path) -> None:
    fc_run(code)
    (code / "text.pt").write_text("no tensors")
    torch.save({"0.weight": torch.zeros(1)}, code / "other.pt")
    words = ("export", ".", "-o", "best", "--model", "trial:build", "--weights")
    assert "No such file" in nas(*words, "none.pt", cwd=code, code=1)
    assert "is not a state dict" in nas(*words, "text.pt", cwd=code, code=1)
    assert "does not fit trial:build" in nas(*words, "other.pt", cwd=code, code=1)
    assert "Give --model" in nas("export", ".", "-o", "best", "--weights", "other.pt", cwd=code, code=1)
    words = ("export", ".", "-o", "best", "--weights", "other.pt", "--model")
    assert "cannot be imported" in nas(*words, "nowhere:build", cwd=code, code=1)
    assert "trial:nothing" in nas(*words, "trial:nothing", cwd=code, code=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "nothing"), "nothing is not a file or folder"),
        (("show", "."), "has no journal"),
        (("resume", "nothing"), "nothing is not a file or folder"),
        (("export", "nothing", "-o", "x"), "nothing is not a file or folder"),
        (("check", "nothing.json"), "cannot read the search space nothing.json"),
        (("check", "nothing.yml"), "cannot read nothing.yml"),
        (("show", "damaged.jsonl"), "damaged.jsonl, line 1: wanted the header of a journal"),
        (("show", "empty.jsonl"), "empty.jsonl is empty"),
    ],
)
def test_what_is_missing_is_named(nas: Nas, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "damaged.jsonl").write_text("x\n")
    (tmp_path / "empty.jsonl").touch()
    assert said in nas(*words, cwd=tmp_path, code=1)


def test_a_run_without_a_result_has_nothing_to_export(nas: Nas, tmp_path: Path) -> None:
    Run.start(RandomSearch(), Space.from_json(SPACES["one key"]), path=tmp_path / "journal.jsonl").close()
    assert "no result yet" in nas("show", ".", cwd=tmp_path)
    assert "no result yet" in nas("export", ".", "-o", "best", cwd=tmp_path, code=1)


def test_register_makes_the_tuners_known_by_name(nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNI_CONFIG_DIR", str(tmp_path))
    for _ in range(2):
        assert "NasAnnealing" in nas("register", cwd=tmp_path)
    written = yaml.safe_load((tmp_path / "registered_algorithms.yml").read_text())
    assert {"builtinName": "NasAnnealing", "className": "nas_tuners.AnnealingTuner", "source": "user"} in written[
        "tuners"
    ]
    (tmp_path / "config.yml").write_text(
        yaml.safe_dump(config(tuner={"name": "NasAnnealing", "classArgs": {"sed": 1}}))
    )
    assert "did you mean 'seed'?" in nas("check", "config.yml", cwd=tmp_path, code=1)
