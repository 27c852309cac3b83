"""Give the trials of an experiment their GPUs."""

from __future__ import annotations

from collections.abc import Sequence


class Gpus:
    """Slots on GPUs: each takes so many trials, and each trial wants so many GPUs.

    >>> gpus = Gpus(["0", "1"], wanted=1, shared=2)
    >>> [gpus.take() for _ in range(4)], gpus.has_room
    (['0', '1', '0', '1'], False)
    """

    def __init__(self, names: Sequence[str], wanted: int, shared: int) -> None:
        self._used = dict.fromkeys(names, 0)
        self._wanted, self._shared = wanted, shared

    @property
    def has_room(self) -> bool:
        """Return whether one more trial has its GPUs."""
        return len(self._free) >= self._wanted

    @property
    def _free(self) -> list[str]:
        """Return the GPUs that take one more trial, those in least use first."""
        return sorted((name for name, used in self._used.items() if used < self._shared), key=self._used.__getitem__)

    def take(self) -> str:
        """Take what one trial wants, for which there is room. Returns: its CUDA_VISIBLE_DEVICES."""
        taken = self._free[: self._wanted]
        for name in taken:
            self._used[name] += 1
        return ",".join(taken)

    def give_back(self, taken: str) -> None:
        """Give back what a trial has taken."""
        for name in filter(None, taken.split(",")):
            self._used[name] -= 1
