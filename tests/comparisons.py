"""Comparisons for tests: saved answers of a bare base and an adapter to made-up rows, without any model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from flan_lora.compare.comparison import Predictor
from flan_lora.compare.results import (
    ComparisonRecord,
    OutOfDomainRecord,
    PredictorRecord,
    PromptScoreRecord,
    write_results,
)
from flan_lora.evaluation.predictions import Prediction
from flan_lora.tasks import TASKS

HASH = "ab" * 32
TRAINING_LOG = [
    *({"step": step, "loss": 2.0 / (1 + step)} for step in range(1, 5)),
    {"step": 2, "eval_loss": 1.0, "eval_macro_f1": 0.5, "eval_rouge_l": 20.0},
    {"step": 4, "eval_loss": 0.8, "eval_macro_f1": 0.7, "eval_rouge_l": 25.0},
]
WORDS = "the a cat dog bridge river was old long opened yesterday".split()


def labelled(
    accuracy: float, num: int = 60, seed: int = 0, labels: tuple[str, ...] = ()
) -> tuple[Prediction, ...]:
    """Answers to a task with labels, right with a probability of ``accuracy``; ten with their latency."""
    labels = labels or TASKS["emotion"].labels
    draw = random.Random(seed)
    rows = []
    for number in range(num):
        truth = labels[number % len(labels)]
        answer = truth if draw.random() < accuracy else draw.choice(labels)
        sure = draw.uniform(0.4, 1.0)
        shares = {label: (1 - sure) / (len(labels) - 1) for label in labels} | {answer: sure}
        latency_s = 0.01 + 0.01 * draw.random() if number < 10 else None
        text = " ".join(draw.choices(WORDS, k=1 + number % 9))
        rows.append(Prediction(str(number), text, answer, (truth,), answer, 2, latency_s, shares))
    return tuple(rows)


def written(quality: float, num: int = 40, seed: int = 0) -> tuple[Prediction, ...]:
    """Answers to a generation task: the reference with words replaced."""
    draw = random.Random(seed)
    rows = []
    for number in range(num):
        words = [WORDS[(number * 3 + k) % len(WORDS)] for k in range(6)]
        answer = " ".join(word if draw.random() < quality else "nothing" for word in words)
        rows.append(Prediction(str(number), f"dialogue {number}", answer, (" ".join(words),), answer, 8, 0.1))
    return tuple(rows)


def make_record(**changes: Any) -> ComparisonRecord:
    """A valid record of an emotion comparison."""
    values = {
        "adapter": "emotion",
        "task": "emotion",
        "base": "mini",
        "base_fingerprint": HASH,
        "adapter_sha256": HASH,
        "role": "test",
        "origin": "made up",
        "content_hash": HASH,
        "predictors": [
            PredictorRecord(name="bare base", about="mini without an adapter"),
            PredictorRecord(name="emotion adapter", about="rank 4"),
        ],
        "prompt_scores": [PromptScoreRecord(prompt="one", example="Say it.", score=0.5)],
        "num_prompt_rows": 20,
        "training_log": TRAINING_LOG,
        "baselines": {"majority": {"accuracy": 0.35}},
        "device": "cpu",
        "quantization": "int8",
        "versions": {"python": "3.12.1"},
        "created_at": "2026-01-02T03:04:05Z",
    }
    return ComparisonRecord.model_validate({**values, **changes})


def save_emotion(folder: Path, *, out_of_domain: bool = False, **changes: Any) -> ComparisonRecord:
    """A finished comparison in ``folder``."""
    rows = [
        Predictor("bare base", "mini without an adapter", labelled(0.5, seed=1)),
        Predictor("emotion adapter", "rank 4", labelled(0.8, seed=2)),
    ]
    others: list[list[Predictor]] = []
    if out_of_domain:
        names = ("bare base, for the sentiment", "bare base, by emotion", "emotion adapter, by emotion")
        sides = ("negative", "positive")
        others = [[Predictor(n, n, labelled(0.7, seed=k, labels=sides)) for k, n in enumerate(names)]]
        record = OutOfDomainRecord(
            name="film-reviews",
            folder="film-reviews",
            origin="reviews",
            predictors=[PredictorRecord(name=name, about=name) for name in names],
            prompt_scores=[PromptScoreRecord(prompt="the sentiment", example="Text: good", score=0.7)],
            note="the base has read them",
        )
        changes["out_of_domain"] = [record]
    record = make_record(**changes)
    write_results(folder, record, rows, others)
    return record
