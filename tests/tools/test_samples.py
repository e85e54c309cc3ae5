"""The bundled samples: the Hub's shape, right offsets, splits that share nothing, and a generator that repeats."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flan_lora.samples import SAMPLES_PATH
from flan_lora.tasks import TASKS
from tools.samples.generate import write_samples

SPLITS = ("train", "validation", "test")
EMOTION = "dair-ai__emotion/split"
MLQA = "facebook__mlqa/mlqa.hi.en"
PAWS = "google-research-datasets__paws/labeled_final"
SAMSUM = "knkarthick__samsum/default"
SQUAD = "rajpurkar__squad/plain_text"

QA_COLUMNS = {"id": str, "title": str, "context": str, "question": str, "answers": dict}
COLUMNS: dict[str, dict[str, type]] = {
    EMOTION: {"text": str, "label": int},
    MLQA: QA_COLUMNS,
    PAWS: {"id": int, "sentence1": str, "sentence2": str, "label": int},
    SAMSUM: {"id": str, "dialogue": str, "summary": str},
    SQUAD: QA_COLUMNS,
}
MIN_ROWS = {
    EMOTION: (480, 90, 120),
    MLQA: (240, 300, 80),
    PAWS: (360, 90, 120),
    SAMSUM: (200, 60, 80),
    SQUAD: (240, 60, 80),
}
TASKS_OF = {
    "emotion": EMOTION,
    "qa": MLQA,
    "question-generation": SQUAD,
    "paraphrase": PAWS,
    "similarity": PAWS,
    "summarization": SAMSUM,
}
KEY = {
    EMOTION: ("text",),
    MLQA: ("context", "question"),
    PAWS: ("sentence1", "sentence2"),
    SAMSUM: ("dialogue",),
    SQUAD: ("context", "question"),
}
# Share of distinct word pairs in the training texts, measured at commit time minus a tenth.
MIN_DISTINCT_2 = {EMOTION: 0.15, MLQA: 0.45, PAWS: 0.20, SAMSUM: 0.39, SQUAD: 0.40}


def read(folder: str, split: str) -> list[dict[str, Any]]:
    text = (SAMPLES_PATH / folder / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], list[dict[str, Any]]]:
    return {(folder, split): read(folder, split) for folder in COLUMNS for split in SPLITS}


@pytest.mark.parametrize("folder", COLUMNS)
def test_rows_have_the_columns_and_types_of_the_hub(rows, folder):
    for split in SPLITS:
        for row in rows[folder, split]:
            assert {name: type(value) for name, value in row.items()} == COLUMNS[folder]
            assert all(value.strip() for value in row.values() if isinstance(value, str))
            assert "{" not in json.dumps(list(row.values())[:4]).replace('{"text"', ""), "an unfilled slot"


@pytest.mark.parametrize("folder", COLUMNS)
def test_every_split_is_large_enough_to_learn_and_to_measure(rows, folder):
    assert all(len(rows[folder, split]) >= least for split, least in zip(SPLITS, MIN_ROWS[folder], strict=True))


@pytest.mark.parametrize("folder", COLUMNS)
def test_no_text_appears_twice_within_or_across_splits(rows, folder):
    texts = [tuple(sorted(row[name] for name in KEY[folder])) for split in SPLITS for row in rows[folder, split]]
    assert [text for text, count in Counter(texts).items() if count > 1] == []


@pytest.mark.parametrize("folder", [MLQA, SQUAD, SAMSUM])
def test_ids_name_one_row(rows, folder):
    ids = [row["id"] for split in SPLITS for row in rows[folder, split]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("folder", [MLQA, SQUAD])
def test_answers_stand_in_the_context_where_they_say_and_nowhere_else(rows, folder):
    for split in SPLITS:
        for row in rows[folder, split]:
            answers = row["answers"]
            assert len(answers["text"]) == len(answers["answer_start"]) >= 1
            for text, start in zip(answers["text"], answers["answer_start"], strict=True):
                assert text and row["context"][start : start + len(text)] == text
            assert row["context"].count(answers["text"][0]) == 1 or answers["text"][0].isdigit()


@pytest.mark.parametrize("folder", [MLQA, SQUAD])
def test_titles_and_contexts_stay_in_one_split(rows, folder):
    for column in ("title", "context"):
        seen = [{row[column] for row in rows[folder, split]} for split in SPLITS]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_mlqa_is_hindi_asked_in_english_with_enough_titles_to_divide(rows):
    for row in rows[MLQA, "validation"]:
        letters = [c for c in row["context"] if c.isalpha()]
        assert sum("\u0900" <= c <= "\u097f" for c in letters) == len(letters)
        assert row["question"].isascii() and row["question"].endswith("?")
    assert len({row["title"] for row in rows[MLQA, "validation"]}) >= 60


@pytest.mark.parametrize("split", SPLITS)
def test_emotion_has_all_six_labels_with_the_skew_of_the_dataset(rows, split):
    labels = Counter(row["label"] for row in rows[EMOTION, split])
    assert sorted(labels) == [0, 1, 2, 3, 4, 5]
    num_rows = sum(labels.values())
    assert all(count / num_rows >= 0.07 for count in labels.values()), labels
    assert {label for label, _ in labels.most_common(2)} == {0, 1}, "sadness and joy lead"
    assert max(labels.values()) / num_rows <= 0.30, "majority class must stay a weak baseline"


def test_emotion_texts_look_like_the_dataset(rows):
    for split in SPLITS:
        for row in rows[EMOTION, split]:
            assert row["text"].isascii() and row["text"] == row["text"].lower() and "'" not in row["text"]


def test_emotion_words_give_the_label_away_often_but_not_always(rows):
    """A bag of words learns it (so can a small base), and does not solve it (so a score says something)."""
    linear = pytest.importorskip("sklearn.linear_model")
    text = pytest.importorskip("sklearn.feature_extraction.text")
    vectorizer = text.TfidfVectorizer(sublinear_tf=True)
    train, test = rows[EMOTION, "train"], rows[EMOTION, "test"]
    features = vectorizer.fit_transform([row["text"] for row in train])
    model = linear.LogisticRegression(C=20, max_iter=2000).fit(features, [row["label"] for row in train])
    accuracy = model.score(vectorizer.transform([row["text"] for row in test]), [row["label"] for row in test])
    assert 0.75 <= accuracy <= 0.95


@pytest.mark.parametrize("split", SPLITS)
def test_paws_pairs_share_their_words_and_differ_in_label(rows, split):
    overlaps = {0: [], 1: []}
    for row in rows[PAWS, split]:
        first, second = (set(row[name].lower().split()) for name in ("sentence1", "sentence2"))
        overlaps[row["label"]].append(len(first & second) / len(first | second))
    assert 0.38 <= len(overlaps[1]) / len(rows[PAWS, split]) <= 0.50
    assert all(sum(values) / len(values) > 0.6 for values in overlaps.values())
    mean_0, mean_1 = (sum(values) / len(values) for values in (overlaps[0], overlaps[1]))
    assert mean_0 > mean_1, "a large overlap must not mean a paraphrase"


def test_dialogues_are_turns_of_named_speakers(rows):
    for split in SPLITS:
        for row in rows[SAMSUM, split]:
            turns = row["dialogue"].split("\n")
            assert len(turns) >= 3 and all(": " in turn for turn in turns)
            speakers = {turn.split(":")[0] for turn in turns}
            assert len(speakers) >= 2 and any(speaker in row["summary"] for speaker in speakers)
            assert row["summary"].endswith(".") and len(row["summary"]) < len(row["dialogue"])


@pytest.mark.parametrize("folder", COLUMNS)
def test_texts_vary(rows, folder):
    texts = {" ".join(row[name] for name in KEY[folder] if name != "question") for row in rows[folder, "train"]}
    pairs = [pair for text in texts for pair in zip(text.split(), text.split()[1:], strict=False)]
    assert len(set(pairs)) / len(pairs) >= MIN_DISTINCT_2[folder]


@pytest.mark.parametrize("folder", [EMOTION, PAWS, SAMSUM])
def test_held_out_words_make_test_more_than_train_with_one_word_changed(rows, folder):
    def vocabulary(split: str) -> set[str]:
        return {word for row in rows[folder, split] for name in KEY[folder] for word in row[name].lower().split()}

    assert len(vocabulary("test") - vocabulary("train")) >= 40


@pytest.mark.parametrize("task", TASKS_OF)
def test_every_task_accepts_every_row(rows, task):
    folder = TASKS_OF[task]
    for split in SPLITS:
        examples = [TASKS[task].examples(row) for row in rows[folder, split]]
        assert all(examples) or task == "paraphrase", "only paraphrase passes over rows (label 0)"
        assert sum(map(len, examples)) >= 60


def test_the_generator_writes_the_committed_files_again(tmp_path):
    written = write_samples(tmp_path)
    names = sorted(str(path.relative_to(tmp_path)) for path in written)
    assert names == sorted(str(path.relative_to(SAMPLES_PATH)) for path in SAMPLES_PATH.glob("*/*/*.jsonl"))
    for name in names:
        assert (tmp_path / name).read_bytes() == (SAMPLES_PATH / name).read_bytes(), name


def test_the_samples_stay_small():
    assert sum(path.stat().st_size for path in Path(SAMPLES_PATH).rglob("*.jsonl")) < 1_500_000
