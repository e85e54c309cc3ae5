"""Emotions as sentiments: the mapping, samples that share no row, and where reviews are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from flan_lora.compare.out_of_domain import as_labels, draw, find_rows
from flan_lora.data.sources import DataSource
from flan_lora.evaluation.predictions import Prediction
from flan_lora.tasks import TASKS

EMOTION = TASKS["emotion"]
[SPEC] = EMOTION.out_of_domain
LABELS = SPEC.task.labels


def answered(emotion: str, **shares: float) -> Prediction:
    probabilities = dict.fromkeys(EMOTION.labels, 0.0) | shares if shares else None
    return Prediction("1", "text", emotion, ("positive",), emotion, label_probabilities=probabilities)


def test_every_emotion_but_surprise_says_a_sentiment() -> None:
    assert set(SPEC.label_map) == set(EMOTION.labels) - {"surprise"}
    assert set(SPEC.label_map.values()) == set(LABELS)


def test_shares_are_summed_and_surprise_counts_for_neither() -> None:
    [row] = as_labels(SPEC, [answered("surprise", surprise=0.6, joy=0.1, love=0.15, anger=0.15)])
    assert row.prediction == "positive", "0.25 against 0.15, though surprise is likeliest"
    assert row.label_probabilities == pytest.approx({"positive": 0.25 / 0.4, "negative": 0.15 / 0.4})
    [sure] = as_labels(SPEC, [answered("surprise", surprise=1.0)])
    assert sure.label_probabilities == {"negative": 0.5, "positive": 0.5}


def test_without_probabilities_the_answer_itself_is_mapped() -> None:
    assert [as_labels(SPEC, [answered(e)])[0].prediction for e in ("love", "fear", "surprise")] == [
        "positive",
        "negative",
        "surprise",
    ]


def test_the_rows_that_choose_and_the_rows_that_score_are_apart() -> None:
    rows = [{"text": f"film {k % 450}", "label": k % 2} for k in range(500)]
    tried, scored = draw(SPEC.task, rows, num_tried=100, num_scored=300)
    assert (len(tried), len(scored)) == (100, 300)
    assert not {item.key for item in tried} & {item.key for item in scored}
    assert draw(SPEC.task, rows, num_tried=100, num_scored=300) == (tried, scored), "the same sample every time"
    few = draw(SPEC.task, rows[:10], num_tried=100, num_scored=300)
    assert tuple(map(len, few)) == (5, 5)


def test_held_out_reviews_come_before_those_that_a_base_may_have_read(tmp_path: Path) -> None:
    folder = tmp_path / SPEC.dataset.replace("/", "__") / SPEC.config
    folder.mkdir(parents=True)
    source = DataSource("local", tmp_path)
    assert find_rows(SPEC, source) is None
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text(f'{{"text": "{split}", "label": 1}}\n')
        found = find_rows(SPEC, source)
        assert (
            found is not None and found[0][0]["text"] == split == found[1] and f":{split} (local root)" in found[2]
        )
    assert find_rows(SPEC, DataSource("sample", tmp_path)) is None


def test_the_real_reviews_are_read(shared_data: Path) -> None:
    found = find_rows(SPEC, DataSource("local", shared_data))
    if found is None:
        pytest.skip("the local data root has no film reviews")
    tried, scored = draw(SPEC.task, found[0], num_tried=50, num_scored=200)
    assert {item.target for item in tried} == set(LABELS) and len(scored) == 200
