"""Adapter folders for the tests of this package: their names, their manifest, and ways to rewrite them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flan_lora.adapters.manifest import Manifest
from flan_lora.adapters.store import Store
from tests.published import make_manifest, tiny_fingerprint

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
OLD, NEW = "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
BASE = {"fingerprint": tiny_fingerprint()}
A_KEY = "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight"
B_KEY = A_KEY.replace("lora_A", "lora_B")
NO_NEXT_STEP = "Restore the folder from its origin, or publish it again: flan-lora train recipes/emotion.yaml"

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")


def manifest(name: str = "emotion", **changes: Any) -> Manifest:
    return make_manifest(name, **{"base": BASE, **changes})


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / WEIGHTS)


def rewrite_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))


def hidden(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.iterdir() if path.name.startswith(".") and path.name != ".lock")


def drop_b(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[B_KEY]


def change_rank(tensors: dict[str, torch.Tensor]) -> None:
    tensors[A_KEY] = tensors[A_KEY][:3]


def wrong_prefix(tensors: dict[str, torch.Tensor]) -> None:
    tensors[A_KEY.removeprefix("base_model.model.")] = tensors.pop(A_KEY)


def foreign_module(tensors: dict[str, torch.Tensor]) -> None:
    for key in (A_KEY, B_KEY):
        tensors[key.replace(".q.", ".k.")] = tensors[key].clone()


def not_finite(tensors: dict[str, torch.Tensor]) -> None:
    tensors[B_KEY][0, 0] = float("nan")


def zero_b(tensors: dict[str, torch.Tensor]) -> None:
    for key in tensors:
        if "lora_B" in key:
            tensors[key].zero_()


def no_v(tensors: dict[str, torch.Tensor]) -> None:
    for key in [key for key in tensors if ".v." in key]:
        del tensors[key]
