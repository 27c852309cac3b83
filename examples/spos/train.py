"""Step 1: train the supernet. Killed and started again, it goes on where it was."""

from __future__ import annotations

import torch
from net import FOLDER, build, images, train_all

if __name__ == "__main__":
    images()
    torch.manual_seed(0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = build()
    train_all(model, FOLDER / "checkpoint.pt")
    torch.save(model.state_dict(), FOLDER / "supernet.pt")
