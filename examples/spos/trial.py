"""The same search under NNI: a trial scores one architecture with the supernet's weights."""

from __future__ import annotations

from net import build, score

from mutators import get_and_apply_next_architecture, report_final

if __name__ == "__main__":
    report_final(score(get_and_apply_next_architecture(build())))
