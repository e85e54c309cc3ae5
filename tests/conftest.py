"""What every test shares: no network, the local data root, a header that says where the tests ran."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from types import ModuleType

import pytest

# Before torch and the Hugging Face libraries are imported anywhere: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: more threads only wait for each other
os.environ.pop("FLAN_LORA_DATA", None)  # a developer's own setting must not decide what is tested

REPO = Path(__file__).resolve().parents[1]
SHOWN_VERSIONS = ("torch", "transformers", "peft", "bitsandbytes", "datasets")


def pytest_report_header() -> list[str]:
    """Versions and device, without importing torch: a single unit test should start at once."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SHOWN_VERSIONS)
    device = "nvidia-smi found" if shutil.which("nvidia-smi") else "no nvidia-smi, so CPU"
    return [versions, f"device: {device}; {os.cpu_count()} cores, {platform.machine()}"]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file, which share its fixtures, run in one worker; those that need CUDA skip without it."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(REPO))))
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The local data root: real rows in the Hub's shape, never part of the repository.

    ``FLAN_LORA_SHARED`` names it; a developer's checkout may also have it beside the repository.
    """
    root = Path(os.environ.get("FLAN_LORA_SHARED") or REPO.parent / "shared" / "data")
    if not (root / "dair-ai__emotion").is_dir():
        pytest.skip(f"no local data root (set FLAN_LORA_SHARED; looked for {root.name}/ beside the repository)")
    return root


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout under test."""
    return REPO


@pytest.fixture(scope="module")
def refresh() -> ModuleType:
    """docs/refresh.py, which is not in a package."""
    spec = importlib.util.spec_from_file_location("refresh", REPO / "docs" / "refresh.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
