"""Workers of a sweep as actors of a Ray cluster: each loads the base once and takes one trial after another.

Ray places processes and starts them again; what is tried and who stops stays with the study, as without Ray.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flan_lora.data.sources import DataSource
from flan_lora.errors import FlanLoraError
from flan_lora.system.ray_cluster import connected

_RESTARTS = 3
"""Of a worker that dies (a machine that goes away, the kernel's out-of-memory killer); its trial goes on."""
_CPUS_PER_WORKER = 4
"""Where there is no GPU and nobody says how many workers: a training step of T5 gains little from more."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a sweep takes of the cluster."""

    num_workers: int | None = None
    """Processes, each with a base; None: one a GPU, without GPUs one per four processors."""


class RayWorker:
    """The actor: a `Worker` that answers what went wrong as text, for not every error can be pickled."""

    def __init__(self, folder: Path, source: DataSource, cwd: str) -> None:
        os.chdir(cwd)  # a base or a file may be named from there
        self.folder, self.source = folder, source
        self.worker: Any = None

    def run(self, number: int) -> tuple[int, str | None]:
        """Train a trial, also one that a worker before this one began. Gives (number, error or None)."""
        from flan_lora.training.sweep.worker import Worker

        try:
            if self.worker is None:
                self.worker = Worker(self.folder, self.source)
            self.worker.run(number)
        except FlanLoraError as error:
            return number, str(error)
        return number, None


def run(
    folder: Path,
    source: DataSource,
    numbers: Sequence[int],
    resources: Resources,
    *,
    on_end: Callable[[int], None],
) -> None:
    """Train trials on the workers of the cluster that this process is connected to, or of one that is found.

    Args:
        on_end: gets the number of each trial that has ended, in this process.

    Raises:
        FlanLoraError: a trial met what ails the others as well; those that run are cut off and go on next time.
    """
    if not numbers:
        return
    import ray
    from ray.util import ActorPool

    if source.path is not None:
        source = replace(source, path=source.path.resolve())
    with connected(log_to_driver=False, logging_level="ERROR"):
        num_workers, options = _shares(resources, len(numbers))
        actor = ray.remote(RayWorker).options(max_restarts=_RESTARTS, max_task_retries=_RESTARTS, **options)
        workers = [actor.remote(folder.resolve(), source, str(Path.cwd())) for _ in range(num_workers)]
        pool = ActorPool(workers)
        try:
            for number, error in pool.map_unordered(lambda worker, each: worker.run.remote(each), numbers):
                if error is not None:
                    raise FlanLoraError(
                        f"trial {number}: {error}\nThe same command goes on where the sweep stands."
                    )
                on_end(number)
        finally:
            for worker in workers:
                ray.kill(worker)


def _shares(resources: Resources, num_trials: int) -> tuple[int, dict[str, float]]:
    """Number of workers, and what each takes of the cluster.

    Raises:
        FlanLoraError: more workers than the cluster has GPUs, or processors.
    """
    import ray

    cluster = ray.cluster_resources()
    num_gpus, num_cpus = int(cluster.get("GPU", 0)), int(cluster.get("CPU", 1))
    most = num_gpus or num_cpus
    wanted = resources.num_workers or num_gpus or max(num_cpus // _CPUS_PER_WORKER, 1)
    if wanted > most:
        what = "GPUs" if num_gpus else "processors"
        raise FlanLoraError(
            f"{wanted} workers, and the cluster has {most} {what}.\nGive --workers {most} or fewer."
        )
    num_workers = min(wanted, num_trials)
    if num_gpus:
        return num_workers, {"num_gpus": 1, "num_cpus": 1}
    return num_workers, {"num_cpus": max(num_cpus // num_workers, 1)}
