"""Ray's cluster: the one that RAY_ADDRESS names or that runs here, else one of our own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from flan_lora.errors import FlanLoraError


class ClusterError(FlanLoraError):
    """There is no cluster to run on, or what was started there failed."""


@contextmanager
def connected() -> Iterator[None]:
    """A connection, where the caller has none yet; what it started ends with it.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster: {error}\nStart one (ray start --head), or unset RAY_ADDRESS."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
