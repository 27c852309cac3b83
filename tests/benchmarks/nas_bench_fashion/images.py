"""The images of the table: those of the example that is measured by it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "examples" / "spos"))
from images import FOLDER, Batches, Images, Split, read_images

__all__ = ["FOLDER", "Batches", "Images", "Split", "read_images"]
