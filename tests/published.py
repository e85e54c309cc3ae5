"""Adapters for tests: a PEFT folder on the tiny T5 with random B, and a manifest that fits it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.adapters.manifest import Manifest, Metrics
from flan_lora.recipe import Recipe
from flan_lora.tasks import TASKS

if TYPE_CHECKING:  # torch stays out of tests that need only a manifest
    from peft import PeftModel

    from flan_lora.engine.adapter_cache import AdapterCache

HASH = "ab" * 32
TARGETS = ("q", "v", "wi_0")
SCORE = {"value": 0.9, "low": 0.85, "high": 0.95}


def tiny_fingerprint() -> str:
    """Of the tiny T5 that `stage` trains on."""
    from flan_lora.base.fingerprint import fingerprint
    from tests.tiny import tiny_t5

    return fingerprint(tiny_t5())


def manifest_values(name: str = "emotion", **changes: Any) -> dict[str, Any]:
    """A valid manifest of an emotion adapter as plain values, top-level fields replaced by ``changes``."""
    task = TASKS.get(changes.get("task", "emotion"))
    lora = {"rank": 4, "alpha": 8, "target_modules": TARGETS, **changes.pop("lora", {})}
    base = {"model": "mini", "fingerprint": HASH, "quantization": "int8", **changes.pop("base", {})}
    recipe = Recipe.model_validate(
        {
            "name": name,
            "task": task.name if task is not None else "emotion",
            "base": {key: base[key] for key in ("model", "revision", "quantization") if key in base},
            "data": {"dataset": "dair-ai/emotion", "config": "split"},
            "lora": lora,
        }
    )
    document: dict[str, Any] = {
        "name": name,
        "task": "emotion",
        "task_version": task.version if task is not None else 1,
        "base": base,
        "recipe": recipe.resolved(),
        "recipe_fingerprint": recipe.fingerprint(),
        "data": {
            "kind": "hub",
            "origin": "dair-ai/emotion split@train",
            "content_hash": HASH,
            "num_train_rows": 16000,
            "num_validation_rows": 400,
            "num_test_rows": 2000,
        },
        "training": {
            "num_steps": 3000,
            "best_step": 2500,
            "seconds": 754.0,
            "device": "cpu",
            "precision": "bf16",
            "seed": 0,
        },
        "scores": {"accuracy": SCORE},
        "versions": {"python": "3.12.1", "flan-lora": "0.1.0"},
        "created_at": "2026-01-02T03:04:05Z",
    }
    return {**document, **changes}


def make_manifest(name: str = "emotion", **changes: Any) -> Manifest:
    """`manifest_values`, validated."""
    return Manifest.model_validate(manifest_values(name, **changes))


def make_metrics(**changes: Any) -> Metrics:
    """Metrics whose adapter scores are those of `make_manifest`."""
    values = {
        "task": "emotion",
        "select_on": "accuracy",
        "split": "test",
        "num_rows": 2000,
        "origin": "dair-ai/emotion split@test",
        "seconds": 12.0,
        "adapter": {"accuracy": SCORE},
        "base": {"accuracy": {"value": 0.3, "low": 0.28, "high": 0.32}},
        "baselines": {"majority": {"accuracy": {"value": 0.35, "low": 0.33, "high": 0.37}}},
    }
    return Metrics.model_validate({**values, **changes})


def tiny_peft(seed: int = 0, **lora: Any) -> PeftModel:
    """The tiny T5 with a LoRA adapter; A and B random, because B = 0 would be the bare base."""
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    from tests.tiny import tiny_t5

    settings = {"r": 4, "lora_alpha": 8, "target_modules": list(TARGETS), **lora}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft_model = get_peft_model(tiny_t5(), LoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, **settings))
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.5)
    return peft_model.eval()


def stage(folder: Path, seed: int = 0, **lora: Any) -> Path:
    """What a training run leaves in ``folder``: PEFT's two files."""
    tiny_peft(seed, **lora).save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()  # PEFT's empty template
    return folder


def no_adapters() -> AdapterCache:
    """An empty cache for the tiny T5."""
    from flan_lora.adapters.weights import base_linears
    from flan_lora.engine.adapter_cache import AdapterCache
    from tests.tiny import tiny_t5

    return AdapterCache(base_linears(tiny_t5()), fingerprint="x" * 64)


def cache_of_two(path: Path, **settings: Any) -> AdapterCache:
    """The adapters "one" and "two" of the tiny T5, made under ``path`` and known to a cache."""
    from flan_lora.adapters.weights import base_linears, open_folder
    from flan_lora.engine.adapter_cache import AdapterCache
    from tests.tiny import tiny_t5

    cache = AdapterCache(base_linears(tiny_t5()), fingerprint="x" * 64, **settings)
    for seed, name in enumerate(("one", "two")):
        cache.add(*open_folder(name, stage(path / name, seed)))
    return cache
