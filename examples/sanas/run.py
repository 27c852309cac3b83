"""SANAS in its own loop: half of the multiply-adds of a small MobileNetV2, and what that costs in accuracy.

Killed and started again, the search goes on where it was. Under eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from net import CONFIG, INITIAL, NAME, START, build, costs, images, score

from nas_tuners.sanas import SANAS
from nas_tuners.search import RandomSearch
from search_spaces import Tokens


@dataclass(frozen=True)
class Settings:
    """How much of everything."""

    data: str | None = None
    steps: int = 40
    limit: int = 4000
    epochs: int = 2
    final_limit: int = 6000
    final_epochs: int = 4
    seeds: int = 2
    random: int = 6


SMOKE = {"steps": 3, "limit": 400, "epochs": 1, "final_limit": 400, "final_epochs": 1, "seeds": 2, "random": 2}


def search(settings: Settings, limit: float, folder: Path) -> Tokens:
    """Return the tokens of the best network within ``limit`` multiply-adds."""
    data = images(settings.data, settings.limit)
    sanas = SANAS(
        (NAME, CONFIG),
        init_temperature=0.02,  # two points of accuracy
        init_tokens=START,
        search_steps=settings.steps,
        save_checkpoint=folder,
        load_checkpoint=folder if folder.exists() else None,
        constraints={"macs": limit},
        input_shape=(1, 14, 14),
    )
    while not sanas.finished:
        torch.manual_seed(0)
        (network,) = sanas.next_archs()
        accuracy = score(network, data.train, data.valid, settings.epochs)
        sanas.reward(accuracy)
        best = sanas.current_info()["best_reward"]
        print(f"step {sanas.steps}/{settings.steps}: {accuracy:.4f}, best {best:.4f}", flush=True)
    return tuple(sanas.current_info()["best_tokens"])


def final(settings: Settings, tokens: Tokens, seed: int) -> float:
    """Accuracy on the test images, after a longer training on more images."""
    data = images(settings.data, settings.final_limit)
    torch.manual_seed(seed)
    return score(build(tokens=tokens), data.train, data.test, settings.final_epochs)


def compare(settings: Settings, found: Tokens) -> None:
    """Print the table: each network with several seeds, and random networks of the found one's cost."""
    table = costs()
    macs = table.cost("macs", found)
    draws = RandomSearch(seed=1, constraints={"macs": [0.9 * macs, macs]}, cost_table=table)
    draws.setup(table.space)
    others = [proposal.tokens for proposal in draws.ask(settings.random)]
    rows = {"initial": [INITIAL], "start": [START], "found": [found], f"{len(others)} random": others}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = {
            name: [pool.submit(final, settings, net, seed) for net in nets for seed in range(_seeds(settings, nets))]
            for name, nets in rows.items()
        }
        print(f"\n{'network':12}{'MMACs':>8}{'params':>10}{'test accuracy':>18}")
        for name, nets in rows.items():
            scores = [job.result() for job in jobs[name]]
            cost = [statistics.mean(table.cost(metric, net) for net in nets) for metric in ("macs", "params")]
            accuracy = f"{100 * statistics.mean(scores):.2f} +- {100 * statistics.stdev(scores):.2f} %"
            print(f"{name:12}{cost[0] / 1e6:8.3f}{cost[1]:10.0f}{accuracy:>18}", flush=True)


def _seeds(settings: Settings, nets: list[Tokens]) -> int:
    return settings.seeds if len(nets) == 1 else 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a folder with four MNIST-like idx.gz files")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--smoke", action="store_true", help="as short as can be")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/sanas"))
    options = parser.parse_args()
    settings = Settings(options.data, **(SMOKE if options.smoke else {"steps": options.steps}))

    began = time.monotonic()
    limit = costs().cost("macs", INITIAL) // 2
    found = search(settings, limit, options.output)
    print(f"found {list(found)} within {limit:.0f} multiply-adds")
    compare(settings, found)
    print(f"done in {time.monotonic() - began:.0f} s; more: nas show {options.output}")


if __name__ == "__main__":
    main()
