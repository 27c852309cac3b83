"""The command ``nas``. A failure prints one to three lines and exits non-zero."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from nas_tuners.search.algorithms import ALGORITHMS

_Add = Callable[..., argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns: the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return int(options.run(options))
    except KeyboardInterrupt as error:
        print(f"nas: {str(error) or 'interrupted; nothing that was told is lost.'}", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        print(f"nas: {error}", file=sys.stderr)
        return 1


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"nas: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nas", description="Neural architecture search for PyTorch under NNI.")
    add = parser.add_subparsers(required=True, metavar="COMMAND").add_parser
    _add_spaces(add)
    _add_searches(add)
    _add_runs(add)
    _add_costs(add)
    p = add("register", help="make the tuners known to NNI by name, in this Python environment")
    p.set_defaults(run=_register)
    return parser


def _add_spaces(add: _Add) -> None:
    p = add(
        "ss-gen",
        help="write the search space of a trial script's model",
        usage="nas ss-gen [-d DIR] [-o FILE] -- COMMAND",
    )
    p.add_argument("-d", "--directory", type=Path, default=Path(), metavar="DIR", help="where to run COMMAND")
    p.add_argument("-o", "--output", type=Path, default=Path("search_space.json"), metavar="FILE")
    p.add_argument("command", nargs="+", metavar="COMMAND", help="such as: python trial.py")
    p.set_defaults(run=_ss_gen)

    p = add("check", help="say all that is wrong with a space file or an experiment's config.yml")
    p.add_argument("file", type=Path)
    p.set_defaults(run=_check)


def _add_searches(add: _Add) -> None:
    p = add("search", help="search a space with a function of your own, without NNI")
    p.add_argument("space", type=Path, metavar="SPACE", help="a space file, such as nas ss-gen writes")
    p.add_argument("--evaluate", required=True, metavar="MODULE:FUNCTION", help="takes choices, returns a metric")
    p.add_argument("--algorithm", default="evolution", metavar="NAME", help=f"{', '.join(ALGORITHMS)} (evolution)")
    p.add_argument("--trials", type=int, default=100, metavar="N", help="results in total, failures included (100)")
    p.add_argument("--minimize", action="store_true", help="the lowest metric is the best")
    p.add_argument("--score-key", default="default", metavar="NAME", help="what counts of several metrics (default)")
    p.add_argument(
        "--set", action="append", metavar="NAME=VALUE", dest="numbers", help="an argument of the algorithm, in JSON"
    )
    _add_loop(p)
    p.set_defaults(run=_search)

    p = add("rank", help="how well a supernet's scores rank architectures: Kendall's tau against retraining")
    p.add_argument("space", type=Path, metavar="SPACE")
    p.add_argument("--score", required=True, metavar="MODULE:FUNCTION", help="the supernet's score of choices")
    p.add_argument("--retrain", required=True, metavar="MODULE:FUNCTION", help="the score of a network trained alone")
    p.add_argument("-n", type=int, default=10, dest="trials", help="random architectures (10)")
    _add_loop(p)
    p.set_defaults(run=_rank)


def _add_runs(add: _Add) -> None:
    p = add("show", help="show what a run has found")
    p.add_argument("source", metavar="RUN", help="an experiment's id, latest, a folder, or a journal")
    p.add_argument("--json", action="store_true", help="everything, as one JSON object")
    p.add_argument("--plot", type=Path, metavar="FILE", help="draw it: .png, .svg or .pdf")
    p.add_argument("--cost", metavar="NAME", help="what to plot the metric against; default: macs, params ... if known")
    p.add_argument("--watch", action="store_true", help="print progress until the experiment ends")
    p.set_defaults(run=_show)

    p = add("export", help="write the best architecture of a run to files")
    p.add_argument("source", metavar="RUN")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    p.add_argument(
        "--model", metavar="MODULE:FUNCTION", help="builds the model; with --weights, the network is saved too"
    )
    p.add_argument("--weights", type=Path, metavar="FILE", help="a state dict, of the network or of the whole model")
    p.set_defaults(run=_export)

    p = add("prune", help="make most weights of a saved network zero, gradually while it trains on, or at once")
    p.add_argument("folder", type=Path, metavar="SUBNET", help="a folder of save_subnet or nas export")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="for the pruned network")
    p.add_argument("--ratio", type=float, required=True, metavar="R", help="share of the weights, such as 0.75")
    p.add_argument("--conv1x1-only", action="store_true", help="prune 1x1 convolutions only")
    p.add_argument("--local", action="store_true", help="prune each tensor to the ratio, not all together")
    p.add_argument("--skip", metavar="MODULE:FUNCTION", help="takes the network, names the parameters not to prune")
    p.add_argument("--train", metavar="MODULE:FUNCTION", help='takes the network, returns {"loader", "config"}')
    p.add_argument("--stable-epochs", type=int, default=0, metavar="N", help="before anything is pruned (0)")
    p.add_argument("--pruning-epochs", type=int, metavar="N", help="in which the ratio rises (half of the rest)")
    p.add_argument("--pruning-steps", type=int, metavar="N", help="in which it rises (100, or fewer)")
    p.add_argument("--evaluate", metavar="MODULE:FUNCTION", help="takes a network, returns a number to report")
    p.add_argument("--model", metavar="MODULE:FUNCTION", help="builds the model, if the folder does not say so")
    p.set_defaults(run=_prune)

    p = add("resume", help="bring an experiment or a search back, whatever was left over of it")
    p.add_argument("source", metavar="RUN")
    p.add_argument("--trials", type=int, metavar="N", help="of nas search and rank: results in total, if not as begun")
    p.add_argument("--workers", type=int, metavar="N", help="of nas search and rank: processes, if not as begun")
    p.add_argument("--port", type=int, help="of NNI's web page; default: the one it had, or a free one")
    p.set_defaults(run=_resume)


def _add_costs(add: _Add) -> None:
    p = add("cost", help="count what each option of a model's choices costs: macs, params")
    _add_model(p)
    p.set_defaults(run=_cost)

    p = add("latency", help="measure how many milliseconds each option of a model's choices takes here")
    _add_model(p)
    p.add_argument("--table", type=Path, metavar="FILE", help="of nas cost: keep its metrics beside this one")
    p.add_argument("--threads", type=int, metavar="N", help="of torch; default: as many as it takes by itself")
    p.set_defaults(run=_latency)


def _add_loop(p: argparse.ArgumentParser) -> None:
    p.add_argument("--seed", type=int, default=0, metavar="S")
    p.add_argument(
        "--constraint", action="append", metavar="LIMIT", help='such as "macs<=330e6" or "290e6<=macs<=330e6"; several'
    )
    p.add_argument("--cost-table", type=Path, metavar="FILE", help="of nas cost or nas latency; for constraints")
    p.add_argument("--workers", type=int, default=1, metavar="N", help="processes that evaluate (1)")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="for the journal")


def _add_model(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", metavar="MODULE:FUNCTION", help="builds the model; annotated to return an nn.Module")
    p.add_argument("--input", required=True, metavar="C,H,W", help="shape of one input, such as 3,224,224")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the cost table")


def _ss_gen(options: argparse.Namespace) -> int:
    from nas_tuners.commands.check import told
    from nas_tuners.commands.ss_gen import ss_gen

    space = ss_gen(options.command, options.directory, options.output)
    print(f"{options.output}: {told(space)}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from nas_tuners.commands.check import check

    print(f"{options.file} is fine: {check(options.file)}")
    return 0


def _search(options: argparse.Namespace) -> int:
    from nas_tuners.commands.search import search

    lines = search(
        options.space,
        options.evaluate,
        options.output,
        algorithm=options.algorithm,
        trials=options.trials,
        seed=options.seed,
        workers=options.workers,
        optimize_mode="minimize" if options.minimize else "maximize",
        constraints=options.constraint,
        cost_table=options.cost_table,
        score_key=options.score_key,
        numbers=options.numbers,
    )
    print("\n".join(lines))
    return 0


def _rank(options: argparse.Namespace) -> int:
    from nas_tuners.commands.rank import rank

    lines = rank(
        options.space,
        options.score,
        options.retrain,
        options.output,
        trials=options.trials,
        seed=options.seed,
        workers=options.workers,
        constraints=options.constraint,
        cost_table=options.cost_table,
    )
    print("\n".join(lines))
    return 0


def _show(options: argparse.Namespace) -> int:
    from nas_tuners.commands.locate import experiment_of, journal_of
    from nas_tuners.commands.show import summary, table, watch
    from nas_tuners.runs.run import load

    if options.watch:
        status = watch(experiment_of(options.source))
        print(f"the experiment is {status}")
        return int(status == "ERROR")
    run, header = load(journal_of(options.source))
    if options.plot is not None:
        from nas_tuners.show.plots import plot

        print(plot(run, header, options.plot, options.cost))
        return 0
    print(json.dumps(summary(run, header), indent=2, allow_nan=False) if options.json else table(run, header))
    return 0


def _export(options: argparse.Namespace) -> int:
    from nas_tuners.commands.export import export
    from nas_tuners.commands.locate import journal_of

    for path in export(journal_of(options.source), options.output, options.model, options.weights):
        print(path)
    return 0


def _prune(options: argparse.Namespace) -> int:
    from nas_tuners.commands.prune import Plan, prune

    plan = Plan(**{field: getattr(options, field) for field in Plan.__dataclass_fields__})
    print("\n".join(prune(options.folder, options.output, plan, evaluate=options.evaluate, model=options.model)))
    return 0


def _resume(options: argparse.Namespace) -> int:
    from nas_tuners.commands.again import again, command_of
    from nas_tuners.commands.locate import experiment_of
    from nas_tuners.commands.resume import resume

    if command_of(options.source):
        print("\n".join(again(options.source, options.trials, options.workers)))
        return 0
    if options.trials or options.workers:
        raise ValueError("--trials and --workers are for runs of nas search and nas rank; nnictl update is for NNI's.")
    experiment = experiment_of(options.source)
    port = resume(experiment, options.port)
    print(f"experiment {experiment} goes on: http://localhost:{port}; watch it with: nas show --watch {experiment}")
    return 0


def _cost(options: argparse.Namespace) -> int:
    from nas_tuners.commands.cost import cost

    print("\n".join(cost(options.model, options.input, options.output)))
    return 0


def _latency(options: argparse.Namespace) -> int:
    from nas_tuners.commands.latency import latency

    lines = latency(options.model, options.input, options.output, options.table, options.threads)
    print("\n".join(lines))
    return 0


def _register(options: argparse.Namespace) -> int:
    from nas_tuners.commands.register import register

    print(f"registered for {sys.prefix}: {', '.join(register())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
