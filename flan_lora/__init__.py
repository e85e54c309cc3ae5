"""The LoRA adapter factory for FLAN-T5: one frozen 8-bit base, one adapter per task.

The public names, on one screen. They load on first use, so ``import flan_lora`` costs milliseconds and
``flan-lora --help`` never waits for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flan_lora.adapters.manifest import Manifest
    from flan_lora.adapters.peft_loader import load_adapter
    from flan_lora.adapters.store import Store
    from flan_lora.base.load import Base, open_base
    from flan_lora.composition.compose import compose
    from flan_lora.data.sources import open_source
    from flan_lora.data.splits import load_split
    from flan_lora.engine.generation_params import GenerationParams, Sampling
    from flan_lora.errors import FlanLoraError
    from flan_lora.evaluation.predict import predict
    from flan_lora.recipe import Recipe
    from flan_lora.recipe_file import load_recipe
    from flan_lora.serving.completion import Completion, Route
    from flan_lora.serving.router import Router
    from flan_lora.tasks import TASKS, Example, Prompt, Task, get_task
    from flan_lora.training.factory import build_adapter

__version__ = "0.1.0"

_HOMES = {
    "Base": "base.load",
    "open_base": "base.load",
    "load_split": "data.splits",
    "open_source": "data.sources",
    "GenerationParams": "engine.generation_params",
    "Sampling": "engine.generation_params",
    "FlanLoraError": "errors",
    "predict": "evaluation.predict",
    "build_adapter": "training.factory",
    "Manifest": "adapters.manifest",
    "Recipe": "recipe",
    "load_recipe": "recipe_file",
    "Completion": "serving.completion",
    "Route": "serving.completion",
    "Router": "serving.router",
    "Store": "adapters.store",
    "load_adapter": "adapters.peft_loader",
    "compose": "composition.compose",
    "TASKS": "tasks",
    "Example": "tasks",
    "Prompt": "tasks",
    "Task": "tasks",
    "get_task": "tasks",
}

__all__ = [
    "TASKS",
    "Base",
    "Completion",
    "Example",
    "FlanLoraError",
    "GenerationParams",
    "Manifest",
    "Prompt",
    "Recipe",
    "Route",
    "Router",
    "Sampling",
    "Store",
    "Task",
    "__version__",
    "build_adapter",
    "compose",
    "get_task",
    "load_adapter",
    "load_recipe",
    "load_split",
    "open_base",
    "open_source",
    "predict",
]


def __getattr__(name: str) -> Any:
    """Import a public name's module the first time the name is used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'flan_lora' has no attribute {name!r}")
    return getattr(import_module(f"flan_lora.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
