"""A Ray cluster for tests: two nodes on this machine, little memory, and no process of it left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 2, "object_store_memory": 200_000_000, "include_dashboard": False}
"""CPUs by name: what is started may use those that there are."""


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Two nodes; `Cluster.address` is what RAY_ADDRESS takes."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # at Ray's own 15 the workers starve beside anything else
    started: list[psutil.Process] = []
    cluster = _begun()
    try:
        yield cluster
    finally:
        started = processes_of(cluster)
        cluster.shutdown()
        for process in psutil.wait_procs(started, timeout=10)[1]:
            process.kill()


def _begun(num_tries: int = 3) -> Cluster:
    """Ray gives a node 30 s to start, which a busy machine may not have; what it started then ends with us."""
    while True:
        num_tries -= 1
        try:
            cluster = Cluster(initialize_head=True, head_node_args=dict(NODE))
            cluster.add_node(**NODE)
            return cluster
        except Exception as error:
            if not num_tries or "timed out during startup" not in str(error):
                raise


def processes_of(cluster: Cluster) -> list[psutil.Process]:
    """Those of the nodes, and the workers that they started."""
    found = []
    for node in cluster.list_all_nodes():
        for infos in node.all_processes.values():
            for info in infos:
                if info.process.poll() is None:
                    process = psutil.Process(info.process.pid)
                    found += [process, *process.children(recursive=True)]
    return found


def engines_of(cluster: Cluster) -> list[psutil.Process]:
    """The processes of the engine's replicas, which Ray names after the deployment."""
    return [process for process in processes_of(cluster) if ":engine" in " ".join(process.cmdline())]
