"""SANAS: PaddleSlim's loop, its defaults as documented, its end without an end of the process, and its checkpoint."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import search_spaces
from mutators.costs import count_macs, count_params
from nas_tuners.runs.journal import JournalError
from nas_tuners.sanas import SANAS, SANASError, SearchFinished
from nas_tuners.sanas.nets import Nets
from nas_tuners.search import ConstraintError
from nas_tuners.search.records import MetricError
from search_spaces import NetError, Space, SpaceError, paddleslim
from search_spaces.cost import CostTable
from tests.nas_tuners.runs.test_journal import DiesAt

NAME = "MobileNetV2BlockSpace"
BLOCKS = {"input_size": 16, "output_size": 8, "block_num": 1, "num_classes": 10}
TWO = {"input_size": 16, "output_size": 8, "block_num": 2}
ONE = (NAME, BLOCKS)
SMALLEST = [0, 0, 0, 0]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint's default place is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that are nothing but their tokens."""
    monkeypatch.setattr(Nets, "build", lambda self, tokens: [tuple(tokens)])


def score(tokens: Any) -> float:
    return float(-(sum((i + 3) * token for i, token in enumerate(tokens)) % 13))


@pytest.mark.parametrize("host", ["", None])
def test_the_loop_of_the_documentation(host: str | None) -> None:
    sanas = SANAS(configs=[ONE], server_addr=(host, 8887), is_server=True, save_checkpoint=None, search_steps=3)
    assert sanas.current_info() == {"best_tokens": None, "best_reward": None, "current_tokens": None}
    rewards = {}
    for step in range(3):
        archs = sanas.next_archs()
        images = torch.zeros(2, 3, 16, 16)
        assert [arch(images).shape for arch in archs] == [(2, 10)]
        tokens = tuple(sanas.current_info()["current_tokens"])
        assert tokens == archs[0].tokens
        rewards[tokens] = -2.0 - step
        assert sanas.reward(rewards[tokens]) is True
    info = sanas.current_info()
    assert info["best_reward"] == -2.0  # below -1, which PaddleSlim takes for none
    assert rewards[tuple(info["best_tokens"])] == -2.0
    (best,) = sanas.tokens2arch(info["best_tokens"])
    assert best.tokens == tuple(info["best_tokens"])


@pytest.mark.parametrize("configs", [ONE, [ONE], (NAME, BLOCKS)])
def test_one_net_may_stand_alone(configs: Any) -> None:
    assert len(SANAS(configs, save_checkpoint=None).next_archs()) == 1


@pytest.mark.parametrize("entry", ["MobileNetV2Space", ("MobileNetV2Space",), ("MobileNetV2Space", {})])
def test_a_name_alone_is_an_entry(entry: Any) -> None:
    for configs in (entry, [entry]):
        sanas = SANAS(configs, save_checkpoint=None)
        assert sanas.run.space == search_spaces.space_of("MobileNetV2Space")


def test_several_entries_are_one_search_and_give_several_networks() -> None:
    sanas = SANAS([ONE, (NAME, TWO | {"num_classes": 3})], save_checkpoint=None)
    assert sanas.run.space.keys[3:5] == ("net0.block1.kernel_size", "net1.block1.expansion")
    first, second = sanas.next_archs()
    assert (len(first.tokens), len(second.tokens)) == (4, 8)
    assert sanas.current_info()["current_tokens"] == [*first.tokens, *second.tokens]
    image = torch.zeros(1, 3, 16, 16)
    first, second = sanas.tokens2arch([0] * 12)
    assert (first.eval()(image).shape, second.eval()(image).shape) == ((1, 10), (1, 3))


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize(("init_tokens", "temperature"), [(None, 10.0), ([1, 2, 3, 1], 1.0)])
def test_defaults_are_those_of_the_documentation(init_tokens: Any, temperature: float, folder: Path) -> None:
    sanas = SANAS(ONE, init_tokens=init_tokens)
    assert (sanas.search_steps, sanas.run.search.temperature) == (300, temperature)
    (first,) = sanas.next_archs()
    assert first == tuple(init_tokens or paddleslim.initial_tokens(NAME, input_size=16, output_size=8, block_num=1))
    sanas.reward(0.0)
    assert sanas.run.search.temperature == 0.85 * temperature
    (second,) = sanas.next_archs()
    assert sum(a != b for a, b in zip(first, second, strict=True)) == 1
    assert [path.name for path in (folder / "nas_checkpoint").iterdir()] == ["journal.jsonl"]


@pytest.mark.usefixtures("no_torch")
def test_nothing_is_saved_without_a_folder(folder: Path) -> None:
    for archs in SANAS(ONE, save_checkpoint=None, search_steps=4):
        assert archs
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("no_torch")
def test_the_end_is_an_exception_that_says_why_or_the_end_of_a_loop() -> None:
    sanas = SANAS(ONE, save_checkpoint=None, search_steps=5)
    seen = []
    for (tokens,) in sanas:
        seen.append(tokens)
        sanas.reward(score(tokens))
    assert len(set(seen)) == 5 and sanas.finished
    with pytest.raises(SearchFinished, match=rf"5 steps are done; best reward {max(map(score, seen))}"):
        sanas.next_archs()


def table(space: Space) -> CostTable:
    """A channel's index is its cost. The keys stand in another order."""
    turned = Space(dict(reversed(space.domains.items())))
    options = {key: [float(i) if "channels" in key else 0.0 for i in range(r)] for key, r in radices(turned)}
    return CostTable(turned, {"macs": 0}, {"macs": options})


def radices(space: Space) -> Iterator[tuple[str, int]]:
    return zip(space.keys, space.radices, strict=True)


@pytest.mark.usefixtures("no_torch")
def test_a_space_that_is_used_up_ends_the_search_too() -> None:
    space = search_spaces.space_of(NAME, input_size=16, output_size=8, block_num=1)
    costs = CostTable(space, {"n": 0}, {"n": {key: [float(i) for i in range(r)] for key, r in radices(space)}})
    sanas = SANAS(ONE, save_checkpoint=None, constraints={"n": 1}, cost_table=costs)
    rewards = [sanas.reward(score(tokens)) for (tokens,) in sanas]
    assert len(rewards) == 5  # all zero, or one of the four keys at its second option
    with pytest.raises(SearchFinished, match="every architecture was handed out"):
        sanas.next_archs()


@pytest.mark.usefixtures("no_torch")
def test_constraints_hold_for_every_network_and_for_the_first() -> None:
    space = search_spaces.space_of(NAME, input_size=16, output_size=8, block_num=1)
    own = paddleslim.initial_tokens(NAME, input_size=16, output_size=8, block_num=1)
    assert own[1] > 5, "the net's own initial tokens are to be too dear here"
    limits: Any = {"save_checkpoint": None, "constraints": {"macs": 5}, "cost_table": table(space), "search_steps": 50}
    sanas = SANAS(ONE, **limits)
    for (tokens,) in sanas:
        assert tokens[1] <= 5
        sanas.reward(score(tokens))
    assert next(iter(SANAS(ONE, init_tokens=[0, 5, 0, 0], **limits))) == [(0, 5, 0, 0)]
    with pytest.raises(ConstraintError, match="init_tokens cost 6 macs, wanted macs <= 5"):
        SANAS(ONE, init_tokens=[0, 6, 0, 0], **limits)


def test_without_a_table_the_costs_are_those_of_the_networks() -> None:
    sanas = SANAS(ONE, save_checkpoint=None, constraints={"macs": 300_000}, search_steps=4)
    for (network,) in sanas:
        assert count_macs(network, (3, 16, 16)) <= 300_000
        sanas.reward(0.0)
    with pytest.raises(ConstraintError) as caught:
        SANAS(ONE, save_checkpoint=None, constraints={"macs": 300_000}, init_tokens=[5, 19, 5, 1])
    largest = count_macs(search_spaces.build(NAME, tokens=[5, 19, 5, 1], **BLOCKS), (3, 16, 16))
    assert f"init_tokens cost {largest} macs, wanted macs <= 300000" in str(caught.value)


def test_the_costs_of_several_networks_add_up() -> None:
    nets = Nets([ONE, (NAME, TWO | {"num_classes": 3})])
    table = nets.cost_table(None)
    rng = np.random.default_rng(0)
    for tokens in (nets.space.sample(rng) for _ in range(3)):
        networks = nets.build(tokens)
        assert table.cost("macs", tokens) == sum(count_macs(network, (3, 16, 16)) for network in networks)
        assert table.cost("params", tokens) == sum(count_params(network) for network in networks)


@pytest.mark.parametrize(
    ("configs", "shape", "limit"),
    [
        ((NAME, {"block_mask": [1]}), (3, 16, 16), 300_000),
        pytest.param("MobileNetV2Space", (3, 224, 224), 150e6, marks=pytest.mark.slow),  # the initial one has 300e6
    ],
)
def test_a_net_without_a_size_needs_that_of_the_images(configs: Any, shape: Any, limit: float) -> None:
    with pytest.raises(SANASError, match=r"is not configured with: give input_shape=\(C, H, W\)"):
        SANAS(configs, save_checkpoint=None, constraints={"macs": limit})
    sanas = SANAS(configs, save_checkpoint=None, constraints={"macs": limit}, input_shape=shape)
    (network,) = sanas.next_archs()
    assert count_macs(network, shape) <= limit


@pytest.mark.usefixtures("no_torch")
def test_a_failure_cools_but_never_counts_as_a_score() -> None:
    sanas = SANAS(ONE, save_checkpoint=None, search_steps=3)
    for value, kept in ((math.nan, False), (-1e9, True), (math.inf, False)):
        sanas.next_archs()
        assert sanas.reward(value) is kept
    assert sanas.current_info()["best_reward"] == -1e9
    assert sanas.finished and sanas.run.search.temperature == pytest.approx(10 * 0.85**3)


@pytest.mark.usefixtures("no_torch")
def test_what_is_skipped_costs_no_step_and_no_temperature() -> None:
    sanas = SANAS(ONE, save_checkpoint=None, search_steps=3)
    for at, (tokens,) in enumerate(sanas):
        if at % 3 == 2:
            sanas.reward(score(tokens))
    assert (sanas.steps, len(sanas.run.search.trials)) == (3, 9)
    assert sanas.run.search.temperature == pytest.approx(10 * 0.85**3)


@pytest.mark.usefixtures("no_torch")
def test_a_reward_belongs_to_networks_and_is_a_number() -> None:
    sanas = SANAS(ONE, save_checkpoint=None)
    with pytest.raises(RuntimeError, match="there are none without one"):
        sanas.reward(1.0)
    sanas.next_archs()
    with pytest.raises(MetricError, match="the metric is 'good'"):
        sanas.reward("good")
    assert sanas.steps == 0
    assert sanas.reward(torch.tensor(0.5)) is True
    with pytest.raises(RuntimeError, match="there are none without one"):
        sanas.reward(1.0)


@pytest.mark.parametrize("value", [{"server_addr": ("10.0.0.2", 8881)}, {"is_server": False}, {"is_server": 0}])
def test_several_machines_are_led_to_nni(value: dict[str, Any], folder: Path) -> None:
    with pytest.raises(SANASError, match=r"share a search through NNI: see examples/sanas"):
        SANAS(ONE, **value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"configs": []}, SANASError, "configs is empty"),
        ({"configs": [NAME, {"block_num": 2}]}, SANASError, "configs has the entry {'block_num': 2}"),
        ({"configs": [(NAME, {}, 3)]}, SANASError, "configs has the entry"),
        ({"configs": "MobileNetV3"}, NetError, "did you mean 'MobileNetV2Space'"),
        ({"configs": (NAME, {"blocks": 2})}, NetError, "takes no 'blocks'"),
        ({"server_addr": "localhost"}, SANASError, r'server_addr is .localhost., wanted \("", port\)'),
        ({"search_steps": 0}, SANASError, "search_steps is 0"),
        ({"search_steps": True}, SANASError, "search_steps is True"),
        ({"reduce_rate": 0}, ValueError, "reduce_rate is 0"),
        ({"init_temperature": -1}, ValueError, "init_temperature is -1"),
        ({"init_tokens": [1, 2]}, SpaceError, "got 2 tokens, wanted 4"),
        ({"init_tokens": [1, 20, 0, 0]}, SpaceError, "token 20 of key 'block1.channels' is out of range"),
        ({"constraints": {"macs": "many"}}, ConstraintError, "constraints"),
        ({"load_checkpoint": "elsewhere"}, JournalError, "there is no search in elsewhere"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    arguments: dict[str, Any], error: type[Exception], said: str, folder: Path
) -> None:
    with pytest.raises(error, match=said):
        SANAS(**{"configs": ONE} | arguments)
    assert list(folder.iterdir()) == []


def test_tokens_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SpaceError, match="got 3 tokens"):
        SANAS(ONE, save_checkpoint=None).tokens2arch([0, 0, 0])


def begin(steps: int, **arguments: Any) -> SANAS:
    """A search with so many rewards, and one more network handed out."""
    sanas = SANAS(ONE, init_temperature=3.0, reduce_rate=0.9, seed=7, **arguments)
    for _ in range(steps):
        sanas.reward(score(sanas.next_archs()[0]))
    sanas.next_archs()
    return sanas


@pytest.mark.usefixtures("no_torch")
def test_a_checkpoint_is_never_written_over(folder: Path) -> None:
    begin(3).close()
    path = folder / "nas_checkpoint" / "journal.jsonl"
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"holds a search already: go on with load_checkpoint='nas_checkpoint'"):
        SANAS(ONE)
    begin(2, save_checkpoint="other").close()
    with pytest.raises(JournalError, match=r"give another save_checkpoint to go on with other"):
        SANAS(ONE, load_checkpoint="other")
    assert path.read_bytes() == before


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("save", ["nas_checkpoint", "other", None])
def test_a_checkpoint_brings_everything_back(save: str | None, folder: Path) -> None:
    old = begin(5)
    old.close()
    path = folder / "nas_checkpoint" / "journal.jsonl"
    before, others = path.read_bytes(), set(folder.rglob("*"))
    new = SANAS(ONE, load_checkpoint="nas_checkpoint", save_checkpoint=save, search_steps=12)
    assert new.current_info() == old.current_info()
    assert new.run.search.temperature == old.run.search.temperature == pytest.approx(3.0 * 0.9**5)
    assert new.next_archs() == old._nets.build(old.current_info()["current_tokens"])
    new.reward(1.0)
    new.next_archs()
    if save != "nas_checkpoint":
        assert path.read_bytes() == before
    written = {"nas_checkpoint": [], "other": ["journal.jsonl", "other"], None: []}[save]
    assert sorted(found.name for found in set(folder.rglob("*")) - others) == written


@pytest.mark.usefixtures("no_torch")
def test_a_search_of_other_nets_or_with_other_numbers_is_not_gone_on_with() -> None:
    begin(2).close()
    with pytest.raises(JournalError) as caught:
        SANAS((NAME, TWO), load_checkpoint="nas_checkpoint")
    assert "key 'block2.expansion' is not in the checkpoint" in str(caught.value)
    with pytest.raises(JournalError, match=r"'num_classes': 10.* in the checkpoint, .*'num_classes': 7"):
        SANAS((NAME, BLOCKS | {"num_classes": 7}), load_checkpoint="nas_checkpoint")
    with pytest.raises(SANASError, match=r"leave them out.*\n  init_temperature was 3.0 in the check.*, is 5.0 here"):
        SANAS(ONE, load_checkpoint="nas_checkpoint", init_temperature=5.0)
    with pytest.raises(SANASError, match=r"constraints was None in the checkpoint"):
        SANAS(ONE, load_checkpoint="nas_checkpoint", constraints={"macs": 5})
    again = SANAS(ONE, load_checkpoint="nas_checkpoint", init_temperature=3.0, reduce_rate=0.9, seed=7)
    with pytest.raises(JournalError, match="in use by another process"):
        SANAS(ONE, load_checkpoint="nas_checkpoint")
    again.close()


@pytest.mark.usefixtures("no_torch")
def test_a_checkpoint_brings_the_costs_back() -> None:
    begin(2, constraints={"macs": 300_000}).close()
    for given in ({}, {"constraints": {"macs": 300_000}}):
        with SANAS(ONE, load_checkpoint="nas_checkpoint", **given) as sanas:  # type: ignore[arg-type]
            table = sanas.run.search.cost_table
            assert table is not None and table.digest == Nets(ONE).cost_table(None).digest
            assert not sanas.run.search.feasible((5, 19, 5, 1))
    with pytest.raises(JournalError, match="is of a search with another cost table"):
        SANAS(
            ONE, load_checkpoint="nas_checkpoint", cost_table=Nets((NAME, BLOCKS | {"num_classes": 3})).cost_table(None)
        )


def test_a_journal_of_another_search_is_none_of_sanas(folder: Path) -> None:
    from nas_tuners import Run
    from nas_tuners.search import RandomSearch

    space = search_spaces.space_of(NAME, input_size=16, output_size=8, block_num=1)
    Run.start(RandomSearch(), space, path=folder / "run" / "journal.jsonl").close()
    with pytest.raises(JournalError, match="is a search, but not one of SANAS"):
        SANAS(ONE, load_checkpoint="run")


def drive(sanas: SANAS) -> None:
    """A user's loop, which trains nothing that it finds too large."""
    for (tokens,) in sanas:
        if sum(tokens) % 4:
            sanas.reward(math.nan if score(tokens) == -7 else score(tokens))


@pytest.mark.slow
@pytest.mark.usefixtures("no_torch")
@pytest.mark.sampled(1)
@pytest.mark.parametrize("torn", [False, True], ids=["after an event", "within a line"])
def test_killed_at_every_event_and_resumed_equals_unbroken(folder: Path, torn: bool) -> None:
    numbers: Any = {"search_steps": 15, "init_temperature": 4.0, "seed": 3}
    unbroken = SANAS(ONE, save_checkpoint="unbroken", **numbers)
    drive(unbroken)
    events = (folder / "unbroken" / "journal.jsonl").read_bytes().count(b"\n") - 1
    assert {trial.state for trial in unbroken.run.search.trials.values()} == {"told", "failed"}
    for event in range(1, events + 1):
        pid = os.fork()
        if pid == 0:  # the child never returns
            try:
                sanas = SANAS(ONE, **numbers)
                DiesAt.n, DiesAt.torn = event, torn
                assert sanas.run._journal is not None
                sanas.run._journal.__class__ = DiesAt
                drive(sanas)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        resumed = resume(torn)
        drive(resumed)
        assert repr(resumed.run.search.trials) == repr(unbroken.run.search.trials)  # NaN is not equal to itself
        assert resumed.current_info() == unbroken.current_info()
        assert resumed.run.search.temperature == unbroken.run.search.temperature
        resumed.close()
        shutil.rmtree(folder / "nas_checkpoint")


def resume(warned: bool) -> SANAS:
    if not warned:
        return SANAS(ONE, load_checkpoint="nas_checkpoint", search_steps=15)
    with pytest.warns(RuntimeWarning, match="the last line was cut short"):
        return SANAS(ONE, load_checkpoint="nas_checkpoint", search_steps=15)


@pytest.mark.usefixtures("no_torch")
def test_killed_within_the_header_it_begins_anew(folder: Path) -> None:
    begin(1).close()
    path = folder / "nas_checkpoint" / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:100])
    sanas = SANAS(ONE, load_checkpoint="nas_checkpoint")
    assert (sanas.steps, sanas.finished) == (0, False)
