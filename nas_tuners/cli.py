"""The command ``nas``. A failure prints one to three lines and exits non-zero."""

from __future__ import annotations

import contextlib
import shlex
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from nas_tuners.runs.interrupts import raising_interrupts
from nas_tuners.search.algorithms import ALGORITHMS, AUTO
from search_spaces.errors import printable
from search_spaces.resolve import reason_of

_Add = Callable[..., ArgumentParser]
_RUN = "an experiment's id, latest (the experiment that was started last), a folder, or a journal.jsonl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns: the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _make_parser().parse_args(words)
    options.typed = shlex.join(["nas", *words])
    with raising_interrupts() as received:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return int(import_module(f"nas_tuners.commands.{options.module}").execute(options))
        except KeyboardInterrupt as error:
            with contextlib.suppress(OSError):  # the terminal is gone
                print(f"nas: {printable(str(error)) or 'interrupted; every result so far is kept.'}", file=sys.stderr)
            return received.exit_code
        except (ValueError, RuntimeError, OSError) as error:
            print(f"nas: {printable(str(error))}", file=sys.stderr)
            return 1
        except SystemExit as error:  # nothing of ours exits: code that the command has run, such as a model's
            command = options.module.replace("_", "-")
            print(f"nas: the code that nas {command} ran has exited: {printable(reason_of(error))}", file=sys.stderr)
            return 1


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"nas: warning: {printable(str(message))}", file=sys.stderr)


def _make_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="nas",
        description="Neural architecture search for PyTorch, under NNI or without it.",
        epilog="MODULE:FUNCTION names a Python function; MODULE is looked for in the current folder first. "
        f"RUN is {_RUN}. `nas COMMAND --help` tells more.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, title: str, more: str = "", usage: str | None = None, epilog: str | None = None
    ) -> ArgumentParser:
        described = f"{title[0].upper()}{title[1:]}.{more and f' {more}'}"
        command = commands.add_parser(name, help=title, description=described, usage=usage, epilog=epilog)
        command.set_defaults(module=name.replace("-", "_"))
        return command

    _add_spaces(add)
    _add_searches(add)
    _add_runs(add)
    _add_continuations(add)
    _add_prune(add)
    _add_costs(add)
    known = "In this Python environment config.yml may then say `tuner: {name: NasEvolution}`."
    add("register", "make the tuners known to NNI by name", known)
    return parser


def _add_spaces(add: _Add) -> None:
    p = add(
        "ss-gen",
        "write the search space of a trial script's model",
        "Runs COMMAND up to mutators.get_and_apply_next_architecture(model), which writes the choices of the model.",
        usage="nas ss-gen [-d DIR] [-o FILE] -- COMMAND",
    )
    p.add_argument("-d", "--directory", type=Path, default=Path(), metavar="DIR", help="folder to run COMMAND in (.)")
    output = Path("search_space.json")
    p.add_argument("-o", "--output", type=Path, default=output, metavar="FILE", help=f"file to write ({output})")
    p.add_argument("command", nargs="+", metavar="COMMAND", help="command of a trial, such as: python trial.py")

    p = add(
        "check",
        "list all that is wrong with a search space or an experiment's config.yml",
        "Checks config.yml with its space and its tuner's classArgs, before NNI would notice.",
    )
    p.add_argument("file", type=Path, metavar="FILE", help="a search space (.json), or a configuration (.yml)")
    _add_trust(p, "import a tuner of another's that FILE names, and check its classArgs too")


def _add_searches(add: _Add) -> None:
    p = add(
        "search",
        "search a space with a Python function that evaluates architectures, without NNI",
        "The function takes choices, {key: {'_value': name, '_idx': i}}, and returns a number, or a dict of numbers. "
        "If the search is killed, nas resume goes on with it.",
        epilog="example: nas search search_space.json --evaluate my_module:evaluate --trials 500 -o run",
    )
    _add_search_options(p)
    _add_loop(p)

    p = add(
        "rank",
        "measure how well a supernet's scores rank architectures",
        "Scores random architectures with the supernet's weights and trained alone, and prints Kendall's tau between "
        "the two orders. Says whether the score ranks better than rivals in the same run: the metrics of the cost "
        "table, of which more is better, and further functions. All functions take choices and return a number.",
        epilog="example: nas rank search_space.json --score net:score --retrain net:retrain --rival net:untrained "
        "--cost-table costs.json -n 50 -o ranking",
    )
    p.add_argument("--score", required=True, metavar="MODULE:FUNCTION", help="scores choices with the supernet")
    p.add_argument("--retrain", required=True, metavar="MODULE:FUNCTION", help="trains their network alone, scores it")
    rival = "scores choices in another way, such as by an untrained supernet; may be repeated"
    p.add_argument("--rival", action="append", metavar="MODULE:FUNCTION", help=rival)
    p.add_argument(
        "--minimize", action="store_true", help="the lowest is the best, of all functions; default: the highest"
    )
    p.add_argument("-n", type=int, default=10, dest="trials", metavar="N", help="number of architectures (10)")
    _add_loop(p, "costs for the constraints, and to compare with")

    p = add(
        "bench",
        "check a search or a tuner of your own, and compare it with ours",
        "Runs it through the conformance suite, a line for each check, and through three landscapes on which keys "
        "interact: what is missing to the optimum after so many trials. Fails if a check fails.",
        epilog="example: nas bench --tuner my_tuner:MySearch --set width=3 -o curves.png",
    )
    own = "class derived from nas_tuners.search.Search, or from nas_tuners.SearchTuner"
    p.add_argument("--tuner", required=True, metavar="MODULE:CLASS", help=own)
    p.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        dest="numbers",
        help="an argument of the class, in JSON; may be repeated",
    )
    p.add_argument("--trials", type=int, default=200, metavar="N", help="trials of each run (200)")
    p.add_argument("--seeds", type=int, default=5, metavar="N", help="runs on each landscape (5)")
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="draw the curves: .png, .svg or .pdf")


def _add_search_options(p: ArgumentParser) -> None:
    p.add_argument("--evaluate", required=True, metavar="MODULE:FUNCTION", help="takes choices, returns a metric")
    p.add_argument("--algorithm", default=AUTO, metavar="NAME", help=f"{', '.join(ALGORITHMS)}, or what suits (auto)")
    p.add_argument("--trials", type=int, default=100, metavar="N", help="results in total, failures included (100)")
    p.add_argument("--minimize", action="store_true", help="the lowest metric is the best; default: the highest")
    p.add_argument("--score-key", default="default", metavar="NAME", help="metric to optimize, of several (default)")
    p.add_argument(
        "--early-stopping",
        default="none",
        metavar="RULE",
        help="stop trials by what they report on the way: asha, median, or JSON with its numbers (none)",
    )
    outcome = 'a limit on a metric that trials report, such as "latency_ms<=20"; may be repeated'
    p.add_argument("--outcome-constraint", action="append", metavar="LIMIT", help=outcome)
    again = "evaluate what leads again: repeats, auto: unless its lead is clear, or none (none)"
    p.add_argument("--noise", default="none", metavar="MODE", help=again)
    p.add_argument("--repeats", type=int, default=3, metavar="K", help="results that an architecture then needs (3)")
    earlier = "begin from the results of this run, also of a space that has changed; may be repeated"
    p.add_argument("--from", dest="earlier", action="append", metavar="RUN", help=earlier)
    objective = "one of several objectives, such as default=maximize, latency_ms=minimize; may be repeated"
    p.add_argument("--objective", action="append", metavar="METRIC=MODE", help=objective)
    argument = "an argument of the algorithm, such as mutate_prob=0.2; may be repeated"
    p.add_argument("--set", action="append", metavar="NAME=VALUE", dest="numbers", help=argument)
    option = "search the other keys only: conv=5x5, skip=a,b for several inputs; may be repeated"
    p.add_argument("--fix", action="append", metavar="KEY=VALUE", help=option)


def _add_loop(p: ArgumentParser, costs: str = "costs for the constraints") -> None:
    p.add_argument("space", type=Path, metavar="SPACE", help="a search space, such as nas ss-gen writes")
    p.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the search (0)")
    limit = 'such as "macs<=330e6", "290e6<=macs<=330e6", or "macs<=0.6x" (of the largest network); may be repeated'
    p.add_argument("--constraint", action="append", metavar="LIMIT", help=limit)
    p.add_argument("--cost-table", type=Path, metavar="FILE", help=f"{costs}, from nas cost or latency")
    p.add_argument("--workers", type=int, default=1, metavar="N", help="number of processes that evaluate (1)")
    limit = "a trial that takes longer has failed; default: no limit"
    p.add_argument("--trial-timeout", type=float, metavar="SECONDS", help=limit)
    p.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the journal")


def _add_runs(add: _Add) -> None:
    p = add(
        "run",
        "check an experiment's config.yml and run it to its end: under NNI, without it, on Ray or Slurm",
        "Under NNI it starts however busy the machine is, and is stopped at its end. On local, trials are processes of "
        "this machine, without manager, port or web page; on ray they are tasks, on slurm jobs of a "
        "cluster. If it is stopped or killed, nas resume goes on with it.",
        epilog="example: nas run config.yml --on local -o run",
    )
    p.add_argument("config", type=Path, metavar="CONFIG", help="an experiment's configuration, as nnictl takes it")
    hosts = (
        "what runs the trials: nni; local, processes of this machine; ray, tasks of a cluster; slurm, jobs of one (nni)"
    )
    p.add_argument("--on", choices=("nni", "local", "ray", "slurm"), default="nni", help=hosts)
    asked = "of --on slurm: an option of sbatch for each trial, such as partition=gpu or exclusive; may be repeated"
    p.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE", help=asked)
    p.add_argument("--cpus", type=int, help="of --on ray: CPUs of a trial; default: 1")
    p.add_argument("--port", type=int, help="of --on nni: port of NNI's web page; default: 8080, or a free one")
    folder = "of --on local, ray and slurm: folder for the journal, and the trials' logs; default: a new one in runs"
    p.add_argument("-o", "--output", type=Path, metavar="DIR", help=folder)

    p = add("show", "show the results of a run, or draw them", "Prints counts and the ten best.")
    p.add_argument("source", metavar="RUN", help=_RUN)
    p.add_argument("--json", action="store_true", help="print everything, as one JSON object")
    p.add_argument("--plot", type=Path, metavar="FILE", help="draw to a file: .png, .svg or .pdf")
    p.add_argument("--cost", metavar="NAME", help="with --plot: to draw the metric against; default: macs, if known")
    p.add_argument("--watch", action="store_true", help="print progress until the experiment ends")

    p = add(
        "export",
        "write the best architecture of a run to files",
        "Writes choices.json, for mutators.extract, and choices.yml; with --model also the network, for "
        "mutators.load_subnet, and with --pt2 and --onnx as files that run without the model's source.",
        epilog="example: nas export latest -o best --model trial:build --weights weights.pt --pt2 --onnx",
    )
    p.add_argument("source", metavar="RUN", help=_RUN)
    p.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the files")
    p.add_argument(
        "--front", action="store_true", help="write all nondominated architectures, each in a folder named by its uid"
    )
    p.add_argument("--model", metavar="MODULE:FUNCTION", help="builds the model with its choices")
    weights = "state dict of the whole model, or of what is written; default: the model's own, untrained"
    p.add_argument("--weights", type=Path, metavar="FILE", help=weights)
    p.add_argument("--pt2", action="store_true", help="write network.pt2, for torch.export.load")
    p.add_argument("--onnx", action="store_true", help="write network.onnx, compared in onnxruntime")
    shape = "shape of one input for --pt2 and --onnx, such as 3,224,224; default: guessed from the first layer"
    p.add_argument("--input", metavar="C,H,W", help=shape)


def _add_continuations(add: _Add) -> None:
    p = add(
        "import",
        "take the results of another run, or of an NNI export, into a run",
        "Tells the run of --into what architectures of its space were given elsewhere; those that it knows keep its "
        "own result. Stop it first; nas resume goes on with them.",
        epilog="example: nas import old_run --into run; nas import exported.json --into latest",
    )
    p.set_defaults(module="import_")
    p.add_argument("source", metavar="RUN|FILE", help="a run, or a file of nnictl experiment export --type json")
    p.add_argument("--into", required=True, metavar="RUN", help=f"the run to tell: {_RUN}")

    p = add(
        "resume",
        "resume an NNI experiment, or a run of nas run, nas search or nas rank",
        "After a stop, a crash or a kill, whichever processes are left of it.",
    )
    p.add_argument("source", metavar="RUN", help=_RUN)
    p.add_argument("--trials", type=int, metavar="N", help="new total of results, for runs without NNI")
    p.add_argument("--workers", type=int, metavar="N", help="new number of processes, for runs without NNI")
    p.add_argument("--trial-timeout", type=float, metavar="SECONDS", help="new limit, for runs without NNI")
    p.add_argument("--port", type=int, help="port of NNI's web page; default: the one it had, or a free one")
    own = "your function, instead of the one that the journal names"
    p.add_argument("--evaluate", metavar="MODULE:FUNCTION", help=f"{own}, of nas search")
    p.add_argument("--score", metavar="MODULE:FUNCTION", help=f"{own}, of nas rank; goes with --retrain")
    p.add_argument("--retrain", metavar="MODULE:FUNCTION", help=f"{own}, of nas rank; goes with --score")
    rivals = f"{own}, of nas rank; one for each of its rivals, in their order"
    p.add_argument("--rival", action="append", metavar="MODULE:FUNCTION", help=rivals)
    _add_trust(p, "run the code that a journal names, though you have not begun it here")


def _add_prune(add: _Add) -> None:
    p = add(
        "prune",
        "set most weights of a saved network to zero",
        "Prunes gradually while the network trains on, or at once without --train. If a training is killed, the same "
        "command goes on with it.",
    )
    p.add_argument("folder", type=Path, metavar="SUBNET", help="folder of a network, of save_subnet or nas export")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the pruned network")
    p.add_argument("--ratio", type=float, required=True, metavar="R", help="share of weights to prune, such as 0.75")
    p.add_argument("--conv1x1-only", action="store_true", help="prune 1x1 convolutions only")
    p.add_argument("--local", action="store_true", help="reach the ratio in each tensor; default: over all together")
    p.add_argument("--skip", metavar="MODULE:FUNCTION", help="takes the network, returns names of parameters to keep")
    training = 'takes the network, returns {"loader": batches, "config": TrainConfig(...)}'
    p.add_argument("--train", metavar="MODULE:FUNCTION", help=training)
    p.add_argument("--stable-epochs", type=int, default=0, metavar="N", help="epochs before anything is pruned (0)")
    p.add_argument(
        "--pruning-epochs", type=int, metavar="N", help="epochs in which it rises; default: half of the rest"
    )
    p.add_argument("--pruning-steps", type=int, metavar="N", help="steps in which it rises; default: 100, or fewer")
    p.add_argument("--evaluate", metavar="MODULE:FUNCTION", help="scores a network; printed before and after")
    p.add_argument("--model", metavar="MODULE:FUNCTION", help="builds the model; gets the arguments in the folder")
    _add_trust(p, "build the model by the function that the folder names")


def _add_trust(p: ArgumentParser, about: str) -> None:
    p.add_argument("--trust-code", action="store_true", help=f"{about}: only if you know where that comes from")


def _add_costs(add: _Add) -> None:
    p = add(
        "cost",
        "count what each option of a model's choices costs: macs, params",
        "The table is what --cost-table and the tuners' cost_table take.",
        epilog="example: nas cost trial:build --input 3,224,224 -o costs.json",
    )
    _add_model(p)

    p = add(
        "latency",
        "measure how many milliseconds each option of a model's choices takes",
        "Measures on this machine; the table is what --cost-table and the tuners' cost_table take.",
        epilog="example: nas latency trial:build --input 3,224,224 --table costs.json -o costs.json",
    )
    _add_model(p)
    p.add_argument("--table", type=Path, metavar="FILE", help="a table of nas cost, whose metrics to keep")
    p.add_argument("--threads", type=int, metavar="N", help="number of torch's threads; default: torch's own")


def _add_model(p: ArgumentParser) -> None:
    p.add_argument("model", metavar="MODULE:FUNCTION", help="builds the model; annotated to return an nn.Module")
    p.add_argument("--input", required=True, metavar="C,H,W", help="shape of one input, such as 3,224,224")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="file for the cost table")


if __name__ == "__main__":
    sys.exit(main())
