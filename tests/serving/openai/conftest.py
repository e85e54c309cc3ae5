"""One server process for all tests that only ask it something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.openai.process import Process, serving


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`flan-lora serve --base mini` over the published adapters."""
    with serving(tmp_path_factory.mktemp("server")) as process:
        yield process
