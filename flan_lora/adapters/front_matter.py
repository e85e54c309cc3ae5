"""The metadata block of a model card, as the Hub reads it."""

from __future__ import annotations

import re
from typing import Any

from flan_lora.adapters.emissions import estimate_emissions
from flan_lora.adapters.manifest import Manifest, Metrics
from flan_lora.tasks import TASKS

DATA_TERMS = {
    "dair-ai/emotion": "for education and research only",
    "rajpurkar/squad": "CC BY-SA 4.0",
    "google-research-datasets/paws": "free for any purpose, with credit to its sources",
    "knkarthick/samsum": "CC BY-NC-ND 4.0",
    "facebook/mlqa": "CC BY-SA 3.0",
    "google-research-datasets/tydiqa": "Apache-2.0",
}
"""What the datasets of the recipes say about their use. English all of them, but for MLQA's configs."""
HUB_METRICS = {"macro_f1": "f1", "self_bleu": "bleu", "ibleu": "bleu"}


def front_matter(manifest: Manifest, metrics: Metrics) -> dict[str, Any]:
    """The metadata block of a Hub model card. What does not apply is left out, not set to null."""
    is_hub_base = "/" in manifest.base.model
    datasets = datasets_of(manifest)
    scores = list(metrics.adapter)
    family = "flan-t5" if "flan-t5" in manifest.base.model else "t5"
    values = {
        "library_name": "peft",
        "base_model": manifest.base.model if is_hub_base else None,
        "base_model_relation": "adapter" if is_hub_base else None,
        "pipeline_tag": _pipeline_tag(manifest),
        "language": _languages(manifest),
        "license": "apache-2.0" if manifest.data.kind == "sample" else "other",
        "license_name": None if manifest.data.kind == "sample" else "terms-of-the-training-data",
        "datasets": datasets or None,
        "metrics": list(dict.fromkeys(_hub_metric(name) for name in scores)),
        "tags": ["lora", family, "flan-lora", manifest.task],
        "co2_eq_emissions": _emissions_block(manifest),
        "model-index": [{"name": manifest.name, "results": [_model_index_result(manifest, metrics)]}],
    }
    return {key: value for key, value in values.items() if value is not None}


def _emissions_block(manifest: Manifest) -> dict[str, Any]:
    """The Hub's own field, in grams. Source: huggingface.co/docs/hub/model-cards-co2."""
    found = estimate_emissions(manifest.training.seconds, manifest.training.device)
    return {
        "emissions": round(found.co2_g, 1),
        "source": f"estimate: {found.assumptions}",
        "training_type": "fine-tuning",
        "hardware_used": manifest.training.device,
    }


def _model_index_result(manifest: Manifest, metrics: Metrics) -> dict[str, Any]:
    """One task, one dataset, all scores. Rows that are not the Hub's do not bear a dataset's name."""
    data, dataset = manifest.recipe["data"], _dataset(manifest)
    described: dict[str, Any] = {"type": "custom", "name": metrics.origin, "split": metrics.split}
    if dataset:
        described = {
            "type": dataset,
            "name": dataset,
            "config": data["config"],
            "split": data["splits"]["test"],
            **({"revision": data["revision"]} if data.get("revision") else {}),
        }
    return {
        "task": {"type": _pipeline_tag(manifest), "name": manifest.task},
        "dataset": described,
        "metrics": [
            {"type": _hub_metric(name), "name": name, "value": round(score.value, 4)}
            for name, score in metrics.adapter.items()
        ],
    }


def _dataset(manifest: Manifest) -> str | None:
    """The Hub dataset, if the rows are its rows; a user's file and the sample only have its shape."""
    return manifest.recipe["data"]["dataset"] if manifest.data.kind in ("hub", "local") else None


def datasets_of(manifest: Manifest) -> list[str]:
    """The Hub datasets behind the training rows, the recipe's own first."""
    own = _dataset(manifest)
    added = [dataset for item in manifest.data.also if item.num_rows for dataset in item.datasets]
    return list(dict.fromkeys([own, *added])) if own else []


def _languages(manifest: Manifest) -> list[str] | None:
    data = manifest.recipe["data"]
    if manifest.data.kind == "file" or data["dataset"] not in DATA_TERMS:
        return None
    return sorted(set(re.findall(r"\.([a-z]{2})\b", data["config"]))) or ["en"]


def _hub_metric(name: str) -> str:
    """The Hub's id of a score: rouge_1 is rouge, f1_joy is f1."""
    return HUB_METRICS.get(name) or re.sub(r"^(rouge|f1)_.*", r"\1", name)


def has_labels(task: str) -> bool:
    """Whether a task chooses among labels."""
    return bool(TASKS[task].labels)


def _pipeline_tag(manifest: Manifest) -> str:
    """The Hub's name of the task; a user's own task gets the one of its kind."""
    kind = "text-classification" if has_labels(manifest.task) else "text-generation"
    return TASKS[manifest.task].card.pipeline_tag or kind
