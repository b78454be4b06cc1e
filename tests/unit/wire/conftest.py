"""Every test of this room runs twice: with the part that is in C, and with the Python that stands in for it."""

from __future__ import annotations

import pytest

from mongoguard.wire import message, native, scanning

IMPLEMENTATIONS = ["python"] if native.native_scan is None else ["python", "native"]


@pytest.fixture(autouse=True, params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two a test runs with."""
    chosen: str = request.param
    if chosen == "python":
        monkeypatch.setattr(scanning, "native_scan", None)
        monkeypatch.setattr(message, "native_spans", None)
    return chosen
