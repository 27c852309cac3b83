"""Search the space of config.yml in a program of ray.tune. The journal is tuned/journal.jsonl."""

from pathlib import Path

import yaml
from ray import tune

from nas_tuners.hosts.ray import RaySearcher
from nas_tuners.search import RandomSearch
from search_spaces import Space

HERE = Path(__file__).parent


def train(config: dict) -> None:
    """Report what a training of the architecture would reach."""
    choices = config["choices"]
    tune.report({"accuracy": choices["conv"]["_idx"] + choices["act"]["_idx"] / 2 + choices["lr"]})


if __name__ == "__main__":
    space = Space.from_json(yaml.safe_load((HERE / "config.yml").read_text())["searchSpace"])
    searcher = RaySearcher(RandomSearch(seed=1), space, HERE / "tuned/journal.jsonl", metric="accuracy", mode="max")
    settings = tune.TuneConfig(search_alg=searcher, num_samples=6, max_concurrent_trials=2)
    results = tune.Tuner(train, tune_config=settings, run_config=tune.RunConfig(storage_path=HERE / "results")).fit()
    print("best accuracy", max(result.metrics["accuracy"] for result in results))
