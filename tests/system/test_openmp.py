"""Whoever waits for the worker of a batch keeps no threads behind torch's operations; nor does an idle worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

THREADS = """
import os, time
import torch
from flan_lora.engine.engine import Engine
from flan_lora.engine.request import Request
from flan_lora.engine.runner import EagerRunner
from flan_lora.system.openmp import release_threads
from tests.engine.running import ask
from tests.published import no_adapters
from tests.tiny import tiny_t5

def num_threads():
    return len(os.listdir("/proc/self/task"))

def work():
    torch.ones(2**22).add_(1)  # large enough for both threads

def decode(self, caches, ids):
    work()
    seen.append(num_threads())
    return plain(self, caches, ids)

plain, EagerRunner.decode = EagerRunner.decode, decode

torch.set_num_threads(2)
seen, engine = [], Engine(tiny_t5(), no_adapters())
release_threads()
alone = num_threads()
work()
with_pool = num_threads()
engine.submit(ask([5, 6, 1], {}, 3)).result()
time.sleep(0.2)
print(with_pool - alone, max(seen) - alone, num_threads() - alone)
work()
print(num_threads() - alone)
"""


@pytest.mark.skipif(
    not list((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")), reason="torch without its own libgomp"
)
def test_one_pool_at_a_time_and_none_when_idle() -> None:
    run = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    pool, serving, idle, again = (int(word) for word in run.stdout.split())
    assert pool == 1
    assert serving == 2  # the worker and its pool; the caller's is gone
    assert idle == 1  # the worker, for as long as it waits for more
    assert again == 2  # and the caller has a pool as soon as it needs one


def test_a_forked_child_leaves_its_parents_pool_alone() -> None:
    """The threads are not there, so to end them would wait for ever."""
    script = (
        "import os, torch\nfrom flan_lora.system.openmp import release_threads\n"
        "torch.set_num_threads(2)\ntorch.ones(2**22).add_(1)\n"
        "child = os.fork()\n"
        "if child == 0:\n    release_threads()\n    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == ["7"]
