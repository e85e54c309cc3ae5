"""Emotion adapters of the tiny T5, published, and texts to ask them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flan_lora.adapters.store import Store
from flan_lora.serving.completion import Choice
from flan_lora.serving.router import Router
from tests.published import make_manifest, stage, tiny_fingerprint

NAMES = ("emotion", "moods", "feelings", "hearts", "nerves")
TEXTS = (
    "i am so sad",
    "joy to the question",
    "what is not to love",
    "fear",
    "no anger is yes to you, the sad one",
)
OPEN = {"num_beams": 3, "constrained": False}
"""How `hearts` was evaluated: not among the labels."""


def publish(root: Path, name: str, seed: int, evaluation: dict[str, Any] | None = None, **changes: Any) -> None:
    manifest = make_manifest(name, **{"base": {"fingerprint": tiny_fingerprint()}, **changes})
    if evaluation is not None:
        recipe = {**manifest.recipe, "evaluation": {**manifest.recipe["evaluation"], **evaluation}}
        manifest = manifest.model_copy(update={"recipe": recipe})
    Store(root).publish(stage(root.parent / "staged" / name, seed), manifest)


def answers(router: Router, texts: Sequence[str], adapter: Choice | Sequence[Choice], **options: Any) -> list[str]:
    return [completion.text for completion in router.generate(texts, adapter, **options)]
