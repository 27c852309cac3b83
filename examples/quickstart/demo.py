"""The whole job in one go, by the commands that the README tells you to type."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import yaml

HERE = Path(__file__).parent.resolve()
BIN = Path(sys.executable).parent
ENV = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}", "PYTHONUNBUFFERED": "1"}


def run(*command: str, show: bool = True) -> str:
    """Run one command in this folder, as you would. Returns: what it printed."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    with subprocess.Popen(
        command, cwd=HERE, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if show:
                    print(line, end="", flush=True)
        except KeyboardInterrupt:  # the command gets it, too, and says how to go on
            print(process.stdout.read())
    if process.returncode:
        raise SystemExit("" if show else "".join(lines)[-2000:] + f"\nexited with {process.returncode}")
    return "".join(lines)


def configure(options: argparse.Namespace, space: Path) -> Path:
    """config.yml with this run's paths and numbers in it."""
    config = yaml.safe_load((HERE / "config.yml").read_text())
    words = ["--epochs", str(options.epochs)]
    words += ["--data", str(options.data.resolve())] if options.data else []
    words += ["--limit", str(options.limit)] if options.limit else []
    config["trialCommand"] = shlex.join([sys.executable, "trial.py", *words])
    config["trialCodeDirectory"] = config["tuner"]["codeDirectory"] = str(HERE)
    config["searchSpaceFile"] = str(space)
    config["maxTrialNumber"] = options.trials
    path = space.with_name("config.yml")
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def search(config: Path) -> str:
    """Run the experiment to its end; if it does not get there, say how to go on, and end. Returns: its id."""
    said = run("nas", "run", str(config))
    return re.findall(r"^experiment (\w+): ", said, re.MULTILINE)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="a folder with MNIST-like idx.gz files; default: scikit-learn's digits"
    )
    parser.add_argument("--limit", type=int, help="how many images to use")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="as short as can be")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/quickstart"))
    options = parser.parse_args()
    if options.smoke:
        options.trials, options.epochs, options.limit = 4, 1, options.limit or 600

    started, folder = time.monotonic(), options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    space, best = folder / "search_space.json", folder / "best"
    run("nas", "ss-gen", "-o", str(space), "--", sys.executable, "trial.py")
    by_nnictl = folder / "by_nnictl.json"
    run("nnictl", "ss_gen", "-t", f"{shlex.quote(sys.executable)} trial.py", "-f", str(by_nnictl), show=False)
    if by_nnictl.read_text() != space.read_text():
        raise SystemExit(f"nnictl ss_gen and nas ss-gen differ: {by_nnictl}, {space}")
    print("the same file as by nas ss-gen")
    config = configure(options, space)
    run("nas", "check", str(config))
    experiment = search(config)
    run("nas", "show", experiment)
    run("nas", "export", experiment, "-o", str(best))
    words = ["--data", str(options.data.resolve())] if options.data else []
    words += ["--limit", str(options.limit)] if options.limit else []
    run(sys.executable, "retrain.py", str(best), "--epochs", str(3 * options.epochs), *words)
    print(f"\ndone in {time.monotonic() - started:.0f} s; the network is in {best}")


if __name__ == "__main__":
    main()
