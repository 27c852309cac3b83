"""Progressive shrinking under NNI: trials go on with one shared supernet, each by the sub-network that it was given."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from net import build, images, loader

from mutators import get_and_apply_next_architecture, report_final, search_space_of, shared_checkpoint
from mutators.oneshot import TrainConfig, evaluate, train_supernet
from search_spaces import Space

CHECKPOINT = Path(os.environ.get("OFA_CHECKPOINT", Path.home() / "ofa-supernet.pt"))
STEPS = int(os.environ.get("OFA_STEPS", "30"))


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    supernet = build()
    choices = get_and_apply_next_architecture(supernet)
    data = images()
    with shared_checkpoint(CHECKPOINT) as shared:
        state = shared.read() or {"model": supernet.state_dict(), "trials": 0}
        supernet.load_state_dict(state["model"])
        if choices.get("_phase", {}).get("name") != "search":  # that is the last one: it only measures
            tokens = Space.from_json(search_space_of(supernet)).encode(choices)
            config = TrainConfig(epochs=1, lr=0.05, steps_per_epoch=STEPS, seed=state["trials"], schedule="constant")
            train_supernet(supernet, loader(data.train, shuffle=True), config, paths=lambda _: [tokens], progress=False)
            shared.write({"model": supernet.state_dict(), "trials": state["trials"] + 1})
    train, valid = loader(data.train, shuffle=True), loader(data.valid, shuffle=False)
    report_final(evaluate(supernet, choices, valid, train, batches=5)["default"])


if __name__ == "__main__":
    main()
