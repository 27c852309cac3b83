"""Step 1: train the supernet, one random path a step. Killed and started again, it goes on where it was."""

from __future__ import annotations

import torch
from net import EPOCHS, FOLDER, build, train

if __name__ == "__main__":
    torch.manual_seed(0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = build()
    train(model, 2 * EPOCHS, checkpoint=FOLDER / "checkpoint.pt")
    torch.save(model.state_dict(), FOLDER / "supernet.pt")
