"""Check a tuner's face to NNI: pairing by uid, whatever NNI calls, in whatever order, from two threads."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nas_tuners.testing.driving import as_reported, most, proposed, score
from nas_tuners.testing.expecting import expect, expect_distinct, expect_same, reporting
from nas_tuners.testing.spaces import SPACES, WIDE, layer, named_space

if TYPE_CHECKING:
    from nas_tuners.hosts.nni.tuner import SearchTuner

MakeTuner = Callable[[], "SearchTuner"]
"""Makes the tuner that is checked, each time anew with the same arguments, which maximize."""

SMALL = {"a": layer("x", "y", "z"), "b": layer("p", "q")}
_UNUSABLE = ("0.9", [0.9], None, {"accuracy": 0.9}, {"default": "good"}, float("nan"), {"default": float("inf")})


@reporting
def check_parameters(make: MakeTuner) -> None:
    """Send choices with a uid, in every space."""
    for name, entries in SPACES.items():
        tuner, space = started(make, entries), named_space(name)
        for number, parameters in enumerate(tuner.generate_multiple_parameters(list(range(5)))):
            sent = json.loads(json.dumps(parameters))
            trial = tuner.run.search.trials[sent["_uid"]]
            expect(f"choices of uid {sent['_uid']} in the space {name!r}", space.encode(sent), trial.tokens)
            _report(tuner, number, sent)
        expect_distinct(f"proposals in the space {name!r}", proposed(tuner.run.search))


@reporting
def check_pairing(make: MakeTuner) -> None:
    """Pair results with their own parameters by uid, whatever ids NNI gives."""
    tuner = started(make)
    sent = tuner.generate_multiple_parameters(list(range(4)))
    for number, parameters in zip([2, 0, 1], sent, strict=False):
        _report(tuner, number, parameters)
    tuner.receive_trial_result(0, sent[0], {"default": 99.0, "_uid": sent[3]["_uid"]}, trial_job_id="j")
    told = [trial.score for trial in tuner.run.search.trials.values()]
    wanted = [score(trial.tokens) for trial in tuner.run.search.trials.values()]
    expect("scores, each of its own architecture", told, [*wanted[:3], 99.0])


@reporting
def check_order(make: MakeTuner) -> None:
    """Take results and ends of trials in any order, twice, and of strangers."""
    tuner = started(make)
    sent = tuner.generate_multiple_parameters(list(range(4)))
    tuner.trial_end(None, True)
    tuner.trial_end(2, True)
    for number in (3, 1, 2, 0):
        _report(tuner, number, sent[number])
        tuner.receive_trial_result(number, sent[number], 99.0, trial_job_id="j")
    for number in (1, 0, 3):
        tuner.trial_end(number, True)
    tuner.receive_trial_result(99, {"_uid": 99}, 99.0, trial_job_id="j")
    tuner.receive_trial_result(99, {}, 99.0, trial_job_id="j")
    search = tuner.run.search
    expect("results and failures", (search.counts.told, search.counts.failed), (4, 0))
    expect("best score, of the first results", search.best and search.best.score, max(map(score, proposed(search))))


@reporting
def check_threads(make: MakeTuner) -> None:
    """Take calls from two threads as from one."""
    compare_threads(make, ORDERS, trials=40)


@reporting
def check_unusable_metrics(make: MakeTuner) -> None:
    """Go on when a metric is no number, and never take it for a result."""
    for value in _UNUSABLE:
        tuner = started(make)
        tuner.receive_trial_result(0, tuner.generate_parameters(0), value, trial_job_id="j")
        expect(f"best after the metric {value!r}", tuner.run.search.best, None)
        expect(f"results after the metric {value!r}", tuner.run.search.counts.told, 0)
        _report(tuner, 1, tuner.generate_parameters(1))
        expect("results after a good metric", tuner.run.search.counts.told, 1)


@reporting
def check_silent_ends(make: MakeTuner) -> None:
    """Count a trial that ends without a result as failed, or try it again."""
    tuner = started(make)
    first, second = tuner.generate_multiple_parameters([0, 1])
    tuner.trial_end(0, True)
    third = tuner.generate_parameters(2)
    expect("failures while a trial runs that may be either", tuner.run.search.counts.failed, 0)
    _report(tuner, 1, second)
    tuner.trial_end(1, True)
    tuner.trial_end(2, False)
    again = [parameters["_uid"] for parameters in tuner.generate_multiple_parameters([3, 4])]
    silent, trials = [first["_uid"], third["_uid"]], tuner.run.search.trials
    lost = [uid for uid in silent if trials[uid].state != "failed" and uid not in again]
    expect("uids without a result that have not failed, and are not tried again", lost, [])
    expect("results", tuner.run.search.counts.told, 1)


@reporting
def check_end(make: MakeTuner) -> None:
    """Send all of a small space, then say that there are no more trials."""
    tuner = started(make, SMALL)
    sent = tuner.generate_multiple_parameters(list(range(8)))
    expect("number of parameters of a space of six", len(sent), most(tuner.run.search, 6))
    for number, parameters in enumerate(sent):
        _report(tuner, number, parameters)
        tuner.trial_end(number, True)
    expect("parameters after the last", tuner.generate_multiple_parameters([8, 9]), [])


@reporting
def check_changed_space(make: MakeTuner) -> None:
    """Go on in a changed space with the results that fit it."""
    tuner = started(make, SMALL)
    for number, parameters in enumerate(tuner.generate_multiple_parameters(list(range(6)))):
        _report(tuner, number, parameters)
    search = tuner.run.search
    tuner.update_search_space(dict(reversed(SMALL.items())))
    expect("whether the same space in another order changes nothing", tuner.run.search is search, True)
    kept = sum(trial.tokens[0] > 0 for trial in search.trials.values())
    tuner.update_search_space({"a": layer("y", "z", "w"), "b": SMALL["b"]})
    expect("results that fit the changed space", tuner.run.search.counts.told, kept)
    for parameters in tuner.generate_multiple_parameters([6, 7, 8]):
        expect("what is new in the changed space", parameters["a"]["_value"], "w")


@reporting
def check_restart(make: MakeTuner) -> None:
    """Go on from the journal when NNI starts it again, with ids that begin anew."""
    unbroken = started(make)
    trials = most(unbroken.run.search, 12)
    half = trials // 2
    wanted = _run_trials(unbroken, 0, trials)
    with under_nni():
        broken = started(make)
        _run_trials(broken, 0, half)
        broken._on_exit()
        tuner = make()
        tuner.load_checkpoint()
        tuner.update_search_space(SPACES[WIDE])
        expect("results that it knows after the restart", tuner.run.search.counts.told, half)
        seen = _run_trials(tuner, 0, trials - half)
        tuner._on_exit()
    expect_same("proposals, with a restart in the middle", seen, wanted)


ORDERS = ("result first", "end first", "whenever")


def compare_threads(make: MakeTuner, orders: Sequence[str], trials: int) -> None:
    """Raise AssertionError unless a tuner that two threads call does as one that a single thread calls."""
    single = started(make)
    trials = most(single.run.search, trials)
    _run_trials(single, 0, trials)
    for order in orders:
        double = started(make)
        _alternate(double, order, trials)
        one, two = single.run.search, double.run.search
        expect_same(f"proposals of two threads, {order}", proposed(two), proposed(one))
        expect(f"counts of two threads, {order}", two.counts, one.counts)


def _alternate(tuner: SearchTuner, order: str, trials: int) -> None:
    """Call a tuner from two threads, as NNI does: one brings results, the other the ends of the same trials."""
    may_end, has_ended = threading.Semaphore(trials if order == "whenever" else 0), threading.Semaphore(0)

    def results() -> None:
        with _letting_go(may_end, trials):
            for number in range(trials):
                parameters = tuner.generate_parameters(number)
                if order == "end first":
                    may_end.release()
                    has_ended.acquire()
                _report(tuner, number, parameters)
                if order == "result first":
                    may_end.release()

    def ends() -> None:
        with _letting_go(has_ended, trials):
            for number in range(trials):
                may_end.acquire()
                tuner.trial_end(number, True)
                has_ended.release()

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(results), threads.submit(ends)]:
            done.result()  # raises what the thread raised


@contextmanager
def _letting_go(semaphore: threading.Semaphore, waits: int) -> Iterator[None]:
    """Let the thread that waits for a semaphore go on, should this one fail: it would wait for ever."""
    try:
        yield
    except BaseException:
        semaphore.release(waits)
        raise


def started(make: MakeTuner, space: Any = None) -> SearchTuner:
    """Make a tuner and give it a space, as NNI does, by default one that nothing exhausts."""
    tuner = make()
    tuner.update_search_space(SPACES[WIDE] if space is None else space)
    return tuner


@contextmanager
def under_nni() -> Iterator[Path]:
    """Let tuners find a folder for their journal, as in an experiment. Yields: the folder."""
    before = os.environ.get("NNI_CHECKPOINT_DIRECTORY")
    with TemporaryDirectory(prefix="nas-check-") as folder:
        checkpoint = Path(folder, "experiment", "checkpoint")
        checkpoint.mkdir(parents=True)
        os.environ["NNI_CHECKPOINT_DIRECTORY"] = str(checkpoint)
        try:
            yield checkpoint
        finally:
            del os.environ["NNI_CHECKPOINT_DIRECTORY"]
            if before is not None:
                os.environ["NNI_CHECKPOINT_DIRECTORY"] = before


def _run_trials(tuner: SearchTuner, first: int, last: int) -> list[tuple[int, ...]]:
    """Run trials one by one. Returns: all that was ever proposed."""
    for number in range(first, last):
        _report(tuner, number, tuner.generate_parameters(number))
        tuner.trial_end(number, True)
    return proposed(tuner.run.search)


def _report(tuner: SearchTuner, number: int, parameters: dict[str, Any]) -> None:
    """Bring the result of a trial, worked out from its parameters."""
    search = tuner.run.search
    value = as_reported(search, score(search.space.encode(parameters)))
    tuner.receive_trial_result(number, parameters, value, trial_job_id=f"j{number}")
