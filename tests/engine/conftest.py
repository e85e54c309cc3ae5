"""An engine that steps only when a test lets it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.engines import MADE, Gate


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.allow(10_000)
    while MADE:  # what one leaves behind would pass the next test's gate
        MADE.pop().close(0)
