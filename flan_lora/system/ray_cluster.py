"""Ray's cluster: the one that RAY_ADDRESS names or that runs here, else one of our own. Imports Ray late."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flan_lora.errors import FlanLoraError


class ClusterError(FlanLoraError):
    """There is no cluster to run on, or what was started there failed."""


def check_ray() -> None:
    """Raise FlanLoraError with the remedy where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise FlanLoraError("--ray needs Ray, which is not installed.\nInstall it: pip install 'flan-lora[ray]'")


@contextmanager
def connected(**options: Any) -> Iterator[None]:
    """A connection, where the caller has none yet; what it started ends with it.

    Args:
        options: of `ray.init`.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(include_dashboard=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster: {error}\nStart one (ray start --head), or unset RAY_ADDRESS."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
