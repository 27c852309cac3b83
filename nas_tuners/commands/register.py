"""``nas register``: make our tuners known to NNI by name, in the Python environment that this runs in."""

from __future__ import annotations

import sys
from argparse import Namespace

from nas_tuners.search.algorithms import ALGORITHMS

TUNERS = {algorithm.registered: f"nas_tuners.{algorithm.tuner}" for algorithm in ALGORITHMS.values()}
"""By registered name, the class."""


def register() -> list[str]:
    """Register every tuner; doing it again changes nothing. Returns: their names."""
    from nni.tools.package_utils import AlgoMeta, register_algo_meta

    for name, class_name in TUNERS.items():
        register_algo_meta(AlgoMeta.load({"algoType": "tuner", "builtinName": name, "className": class_name}))
    return list(TUNERS)


def execute(_: Namespace) -> int:
    """Register the tuners, and print their names."""
    print(f"registered for {sys.prefix}: {', '.join(register())}")
    return 0
