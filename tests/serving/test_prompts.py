"""From an adapter's manifest to the engine's requests: what it was evaluated with is what it is asked with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flan_lora.adapters.validation import StoredAdapter
from flan_lora.base.decode import label_constraint
from flan_lora.engine.generation_params import GenerationParams
from flan_lora.serving.prompts import PromptEncoder, ServingConfig
from flan_lora.tasks import get_task
from tests.published import make_manifest
from tests.tiny import tiny_tokenizer

SEARCH = {
    "num_beams": 3,
    "max_new_tokens": 9,
    "min_new_tokens": 2,
    "length_penalty": 0.5,
    "no_repeat_ngram_size": 2,
}


def prepared(task: str, params: dict[str, Any] | None = None) -> GenerationParams:
    """What a text is asked with, of an adapter of a task that was evaluated with ``SEARCH``."""
    manifest = make_manifest()
    recipe = {**manifest.recipe, "task": task, "evaluation": {**manifest.recipe["evaluation"], **SEARCH}}
    stored = StoredAdapter(Path("one"), manifest.model_copy(update={"recipe": recipe, "task": task}))
    text = "no fear" if task == "emotion" else "A: hi B: ho"
    encoder = PromptEncoder(tiny_tokenizer())
    return encoder.prepare(text, {"one": 1.0}, ServingConfig.of(stored), params).windows[0].params


def test_an_adapter_is_asked_as_it_was_evaluated() -> None:
    assert prepared("summarization") == GenerationParams(**SEARCH)  # type: ignore[arg-type]


def test_a_caller_may_ask_otherwise() -> None:
    asked = prepared("summarization", {"max_new_tokens": 4, "num_beams": 1, "length_penalty": 1.0})
    assert (asked.max_new_tokens, asked.num_beams, asked.no_repeat_ngram_size) == (4, 1, 2)


def test_labels_keep_their_length() -> None:
    """A limit of an adapter's own must not cut a label in two."""
    labels = label_constraint(tiny_tokenizer(), get_task("emotion").labels)
    assert prepared("emotion").max_new_tokens == labels.max_new_tokens != SEARCH["max_new_tokens"]
