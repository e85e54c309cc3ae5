"""A comparison's folder: what is saved is scored again, others join by name, and a wrong folder is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flan_lora.compare.comparison import Predictor
from flan_lora.compare.results import find_answers, is_current, read_record, read_results
from flan_lora.errors import DataError
from flan_lora.evaluation.predictions import write_predictions
from flan_lora.tasks import TASKS
from tests.comparisons import HASH, labelled, save_emotion

EMOTION = TASKS["emotion"]


def test_what_was_saved_is_read_and_scored_again(tmp_path: Path) -> None:
    record = save_emotion(tmp_path, out_of_domain=True)
    results = read_results(tmp_path)
    assert results.record == record
    assert [item.name for item in results.comparison.predictors] == ["bare base", "emotion adapter"]
    assert results.comparison.predictors[1].predictions == labelled(0.8, seed=2)
    [other] = results.out_of_domain
    assert other.spec.name == "film-reviews" and other.comparison.num_rows == 60
    assert set(other.comparison.task.labels) == {"negative", "positive"}


def test_a_folder_of_format_version_1_is_read(tmp_path: Path) -> None:
    """As it was written before further comparisons had names: contest.json, and film reviews in polarity/."""
    save_emotion(tmp_path, out_of_domain=True)
    now = read_results(tmp_path)
    values = json.loads((tmp_path / "results.json").read_text())
    [reviews] = values.pop("out_of_domain")
    old_trials = [
        [{"wording": item.pop("prompt"), **item} for item in part.pop("prompt_scores")]
        for part in (values, reviews)
    ]
    contestants = [part.pop("predictors") for part in (values, reviews)]
    number = values.pop("num_prompt_rows")
    record = {
        **values,
        "format_version": 1,
        "contestants": contestants[0],
        "trials": old_trials[0],
        "num_trial_rows": number,
        "reviews": {
            "origin": reviews["origin"],
            "contestants": contestants[1],
            "trials": old_trials[1],
            "note": reviews["note"],
        },
    }
    (tmp_path / "results.json").unlink()
    (tmp_path / "contest.json").write_text(json.dumps(record))
    (tmp_path / "film-reviews").rename(tmp_path / "polarity")
    before = read_results(tmp_path)
    assert before.comparison == now.comparison
    assert before.out_of_domain[0].comparison == now.out_of_domain[0].comparison
    assert before.record.prompt_scores == now.record.prompt_scores and before.record.num_prompt_rows == 20
    assert is_current(tmp_path, {"content_hash": HASH})
    save_emotion(tmp_path)
    assert not (tmp_path / "contest.json").exists(), "compared anew, the folder has one record"


def test_a_further_comparison_that_the_task_does_not_know_is_an_error(tmp_path: Path) -> None:
    record = save_emotion(tmp_path, out_of_domain=True)
    [other] = record.out_of_domain
    changed = record.model_copy(update={"out_of_domain": [other.model_copy(update={"name": "news"})]})
    (tmp_path / "results.json").write_text(changed.model_dump_json())
    with pytest.raises(DataError, match=r"has no comparison 'news' \(it has film-reviews\)"):
        read_results(tmp_path)


def test_saved_answers_of_others_join_without_running(tmp_path: Path) -> None:
    save_emotion(tmp_path)
    third = Predictor("rank 64", "saved", labelled(0.9, seed=3))
    comparison = read_results(tmp_path, [third]).comparison
    assert [pair.name for pair in comparison.pairwise] == ["emotion adapter", "rank 64"]


def test_a_folder_without_its_record_was_not_finished(tmp_path: Path) -> None:
    save_emotion(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(DataError, match="flan-lora compare"):
        read_results(tmp_path)
    (tmp_path / "results.json").unlink()
    with pytest.raises(DataError, match=r"results\.json cannot be read"):
        read_record(tmp_path)


def test_saved_answers_count_only_for_the_very_same_adapter_base_and_rows(tmp_path: Path) -> None:
    same = {"base_fingerprint": HASH, "adapter_sha256": HASH, "content_hash": HASH, "role": "test"}
    assert not is_current(tmp_path, same)
    save_emotion(tmp_path)
    assert is_current(tmp_path, same)
    for name in same:
        assert not is_current(tmp_path, {**same, name: "other"})


def find(spec: str, tmp_path: Path) -> Predictor:
    return find_answers(spec, EMOTION, runs_dir=tmp_path / "runs", base_slug="mini")


def make_run(folder: Path, task: str = "emotion") -> None:
    folder.mkdir(parents=True)
    recipe = {"task": task, "name": "moods", "lora": {"rank": 8}}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    write_predictions(folder / "predictions" / "moods.jsonl", labelled(0.6))
    write_predictions(folder / "predictions" / "base.jsonl", labelled(0.1))


def test_answers_are_found_by_file_folder_and_run_id(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "mini" / "moods.1")
    write_predictions(tmp_path / "mine.jsonl", labelled(0.7))
    by_id, by_path = find("moods.1", tmp_path), find(str(tmp_path / "runs" / "mini" / "moods.1"), tmp_path)
    assert by_id == by_path == Predictor("moods.1", "run of moods, rank 8", labelled(0.6))
    assert find(f"{tmp_path}/mine.jsonl", tmp_path).name == "mine"
    assert find(f"rank 64={tmp_path}/mine.jsonl", tmp_path).name == "rank 64"
    save_emotion(tmp_path / "reports" / "mini-emotion")
    report = find(str(tmp_path / "reports" / "mini-emotion"), tmp_path)
    assert report.predictions == labelled(0.8, seed=2) and "comparison of emotion" in report.about


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("nowhere", "no such file, folder or run"),
        ("empty", "neither a run"),
        ("summaries", "task 'summarization'"),
    ],
)
def test_what_holds_no_answers_to_this_task_is_an_error(tmp_path: Path, spec: str, expected: str) -> None:
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    make_run(tmp_path / "runs" / "mini" / "summaries", task="summarization")
    with pytest.raises(DataError, match=expected):
        find(spec, tmp_path)
