"""Kept memory is not mapped and zeroed anew for every large tensor."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from flan_lora.system.malloc import keep_freed_memory, return_freed_memory

def num_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(40 * 2**18).fill_(1.0)  # 40 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

default = num_faults()
keep_freed_memory()
num_faults()
kept, with_it = num_faults(), resident_mb()
return_freed_memory()
print(default, kept, with_it - resident_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt and malloc_trim are glibc's")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    default, kept, returned_mb = (float(word) for word in run.stdout.split())
    assert default > 1_000  # a page of 4 KiB each, or of 64
    assert kept < default / 20
    assert returned_mb > 30
