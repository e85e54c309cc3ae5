"""A random T5 for every test that asks one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tiny import tiny_t5


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_t5()
