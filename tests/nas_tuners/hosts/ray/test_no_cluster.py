"""``nas run --on ray`` where it cannot run: without Ray, or the cluster that is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nas_tuners.hosts.ray import cluster
from nas_tuners.hosts.trials.plan import TrialPlan
from tests.nas_tuners.hosts.trials.experiments import REPORT, write_config, write_trial
from tests.nas_tuners.nas import Nas
from tests.ports import free_port

RUN = ("run", "config.yml", "--on", "ray", "-o", "out")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_trial(tmp_path, REPORT)
    write_config(tmp_path)
    return tmp_path


def check_failed(nas: Nas, folder: Path, *wanted: str, words: tuple[str, ...] = RUN) -> None:
    printed = nas(*words, cwd=folder, code=1)
    assert len(printed.splitlines()) <= 3, printed
    assert all(text in printed for text in wanted), printed
    assert not (folder / "out").exists()


def test_without_ray(nas: Nas, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    check_failed(nas, folder, 'pip install "nas-tuners[ray]"')


@pytest.fixture
def with_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_import_ray", lambda: None)


@pytest.mark.usefixtures("with_ray")
def test_a_cluster_that_is_not_there(nas: Nas, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    check_failed(nas, folder, f"no Ray cluster answers at {address}", "`ray start --head`", "without RAY_ADDRESS")
    for wrong in ("ray://10.0.0.1:10001", "10.0.0.1", ":6379", "10.0.0.1:head"):
        monkeypatch.setenv("RAY_ADDRESS", wrong)
        check_failed(nas, folder, f"RAY_ADDRESS is {wrong!r}, wanted HOST:PORT")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:123456")
    check_failed(nas, folder, "no Ray cluster answers")


@pytest.mark.usefixtures("with_ray")
def test_words_that_are_none(nas: Nas, folder: Path) -> None:
    check_failed(nas, folder, "--cpus is 0, wanted a whole number from 1 up", words=(*RUN, "--cpus", "0"))
    local = ("run", "config.yml", "--on", "local", "-o", "out")
    check_failed(nas, folder, "--cpus is for --on ray", words=(*local, "--cpus", "2"))
    check_failed(nas, folder, "--port is for --on nni: --on ray has none", words=(*RUN, "--port", "8080"))


def test_trials_that_no_node_has_room_for(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}}, {"Alive": False, "Resources": {"GPU": 8.0}}]
    cluster._check_resources(nodes, TrialPlan("true", "/", 1, gpus_per_trial=1))
    assert capsys.readouterr().err == ""
    cluster._check_resources(nodes, TrialPlan("true", "/", 1, gpus_per_trial=2))
    assert "trialGpuNumber is 2, but no node of the cluster has more than 1 GPUs" in capsys.readouterr().err
