"""One server process for all tests that only ask it something, and one on Ray."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

from tests.serving.openai.fake import Served, served
from tests.serving.openai.process import Process, serving

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed here")
WAYS = ["one process", pytest.param("carried as on Ray", marks=needs_ray)]


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`flan-lora serve --base mini` over the published adapters."""
    with serving(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture(scope="session")
def mini_on_ray(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`flan-lora serve --ray --base mini` with two replicas over the published adapters."""
    options = ("--ray", "--replicas", "2")
    with serving(tmp_path_factory.mktemp("ray"), *options, RAY_ADDRESS=cluster.address) as process:
        yield process


@pytest.fixture(scope="module", params=WAYS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server of a model of words."""
    limits = {"max_body_bytes": 5000, "max_prompts": 4}
    with ExitStack() as stack:
        if request.param == "one process":
            yield stack.enter_context(served(**limits))
        else:
            from tests.serving.ray_handles import carried

            yield stack.enter_context(carried(**limits)).served
