"""A store of five adapters on the tiny T5, its base, a router."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flan_lora.base.load import Base, open_base
from flan_lora.serving.router import Router
from tests.checkpoint import save_checkpoint, spec_of
from tests.serving.stores import NAMES, OPEN, publish

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of five emotion adapters on the tiny T5."""
    path = tmp_path_factory.mktemp("adapters") / "store"
    for seed, name in enumerate(NAMES):
        publish(path, name, seed + 3, OPEN if name == "hearts" else None)
    return path


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_base(spec_of(save_checkpoint(tmp_path_factory.mktemp("base"))), device=request.param)


@pytest.fixture
def router(root: Path, base: Base) -> Router:
    return Router.open(root, base)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Ray cluster of one node, small, and nothing left of it at the end."""
    from tests.serving.ray_cluster import running_cluster

    with running_cluster() as running:
        yield running
