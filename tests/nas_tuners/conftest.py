from __future__ import annotations

import pytest

from tests.nas_tuners.nas import Nas


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)
