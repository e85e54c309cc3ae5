"""Rows of a role: a user's own file, how roles share rows, how many are taken, what errors say."""

from __future__ import annotations

import csv
import logging
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_lora.data.sources import DataSource
from flan_lora.data.splits import ROLES, Split, divide, load_split, load_whole_file, max_rows_of
from flan_lora.errors import DataError
from flan_lora.recipe import parse_recipe
from tests.data.rows import LABELS, emotion_rows, local_root, recipe_of, texts_of, user_file


def test_one_file_plays_all_three_roles_without_sharing_a_row(tmp_path: Path) -> None:
    source = user_file(tmp_path, emotion_rows(400))
    splits = {role: load_split(recipe_of(), role, source) for role in ROLES}
    assert {role: split.num_rows for role, split in splits.items()} == {"train": 320, "validation": 40, "test": 40}
    assert Counter(text for split in splits.values() for text in texts_of(split)) == Counter(
        row["text"] for row in emotion_rows(400)
    )
    assert splits["train"].origin == "mine.jsonl"


def test_equal_rows_of_a_file_stay_in_one_role_even_with_different_ids(tmp_path: Path) -> None:
    rows = [{**row, "id": f"{row['text']}-{copy}"} for row in emotion_rows(100) for copy in range(3)]
    source = user_file(tmp_path, rows)
    roles = {role: set(texts_of(load_split(recipe_of(), role, source))) for role in ROLES}
    assert not (roles["train"] & roles["test"] or roles["train"] & roles["validation"])
    assert not roles["validation"] & roles["test"]


def test_columns_are_mapped_to_the_tasks_names(tmp_path: Path) -> None:
    path = tmp_path / "tweets.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "Tweet", "feeling"])
        writer.writerows(["ignored", f"tweet {number}", LABELS[number % 6]] for number in range(60))
    recipe = recipe_of(columns={"text": "Tweet", "label": "feeling"})
    split = load_split(recipe, "train", DataSource("file", path))
    assert all(example.target == LABELS[int(example.inputs["text"].split()[1]) % 6] for example in split.examples)


def test_a_missing_column_is_named_with_those_that_exist(tmp_path: Path) -> None:
    rows = [{"texts": "good day", "feeling": "joy"}] * 3
    with pytest.raises(DataError) as failure:
        load_split(recipe_of(), "train", user_file(tmp_path, rows))
    assert str(failure.value) == (
        f"{tmp_path / 'mine.jsonl'}: task emotion needs columns that are not there.\n"
        "  columns  texts, feeling\n"
        "  missing  text, did you mean 'texts'?\n"
        "  missing  label\n"
        "Map a column of yours: --set data.columns.text=<your column>."
    )


def test_a_mapped_column_that_is_missing_is_named_as_mapped(tmp_path: Path) -> None:
    source = user_file(tmp_path, [{"tweet": "good day", "label": "joy"}] * 3)
    with pytest.raises(DataError, match="missing  tweets, did you mean 'tweet'"):
        load_split(recipe_of(columns={"text": "tweets"}), "train", source)


def test_a_mapping_for_a_column_the_task_does_not_have_is_refused(tmp_path: Path) -> None:
    source = user_file(tmp_path, emotion_rows(30))
    with pytest.raises(
        DataError, match=r"data\.columns maps txt, which task emotion does not use\.\n  it uses  text, label"
    ):
        load_split(recipe_of(columns={"txt": "text"}), "train", source)


def test_a_semicolon_file_gets_the_hint(tmp_path: Path) -> None:
    """Of rows that hold no semicolon: else it is read."""
    (tmp_path / "a.csv").write_text("text;label\ngood day\n")
    with pytest.raises(DataError, match="The header is one column: separate the fields by commas"):
        load_split(recipe_of(), "train", DataSource("file", tmp_path / "a.csv"))


@pytest.mark.parametrize("columns", [{}, {"text": "TEXT", "label": "label"}])
def test_columns_that_differ_in_case_and_spaces_are_those_of_the_task(
    tmp_path: Path, columns: dict[str, str]
) -> None:
    rows = [{"Text ": row["text"], "LABEL": row["label"]} for row in emotion_rows(60)]
    split = load_split(recipe_of(columns=columns), "train", user_file(tmp_path, rows))
    assert split.respelt_columns == {"text": "Text ", "label": "LABEL"}
    plain = load_split(recipe_of(), "train", user_file(tmp_path, emotion_rows(60)))
    assert [(e.inputs, e.target) for e in split.examples] == [(e.inputs, e.target) for e in plain.examples]
    assert load_whole_file(recipe_of(), user_file(tmp_path, rows)).respelt_columns == split.respelt_columns


def test_of_two_spellings_none_is_taken_and_the_exact_one_is(tmp_path: Path) -> None:
    rows = [{"Text": "a", "TEXT": "b", "label": "joy"}] * 3
    with pytest.raises(DataError, match="missing  text"):
        load_split(recipe_of(), "train", user_file(tmp_path, rows))
    rows = [{"Text": "a", "text": f"b {number}", "label": "joy"} for number in range(60)]
    split = load_split(recipe_of(), "train", user_file(tmp_path, rows))
    assert split.examples[0].inputs["text"].startswith("b") and split.respelt_columns == {}


def test_a_column_inside_another_is_named(tmp_path: Path) -> None:
    rows = [{"row_id": 1, "fields": {"text": "x", "label": "joy"}}]
    with pytest.raises(DataError, match="'text' stands inside the column 'fields': give what is in there"):
        load_split(recipe_of(), "train", user_file(tmp_path, rows))


def test_a_folder_of_ones_own_files_gets_the_hint(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv", "notes.txt"):
        (tmp_path / name).write_text("text,label\nx,joy\n")
    with pytest.raises(
        DataError, match=r"is a folder of 2 files \(test\.csv, train\.csv\), no data folder"
    ) as failure:
        load_split(recipe_of(), "train", DataSource("local", tmp_path))
    assert f"--data {tmp_path / 'test.csv'}" in str(failure.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("column", ["text", "label"])
def test_what_is_no_number_is_no_text_and_no_label(tmp_path: Path, value: str, column: str) -> None:
    row = {"text": '"good day"', "label": '"joy"', column: value}
    path = tmp_path / "mine.jsonl"
    path.write_text(
        "".join(f'{{"text": {row["text"]}, "label": {row["label"]}, "note": NaN}}\n' for _ in range(9))
    )
    with pytest.raises(DataError, match=f"row 1: .*column '{column}': got -?(nan|inf)"):
        load_whole_file(recipe_of(), DataSource("file", path))


def test_unusable_rows_come_in_one_error_the_first_five_shown(tmp_path: Path) -> None:
    rows = emotion_rows(20)
    for number in (1, 3, 5, 7, 9, 11):
        rows[number] = {"text": f"day {number}", "label": "bored"}
    with pytest.raises(DataError) as failure:
        load_split(recipe_of(), "train", local_root(tmp_path, train=rows))
    text = str(failure.value)
    assert "train.jsonl: 6 of 20 rows cannot be used by task emotion (the first 5):\n  row 2: " in text
    assert [f"  row {number}:" in text for number in (2, 4, 6, 8, 10, 12)] == [True] * 5 + [False]
    assert "'bored'" in text
    assert text.endswith("Correct or remove these rows (numbered from 1, header not counted).")


def test_rows_without_any_example_are_an_error(tmp_path: Path) -> None:
    rows = [{"sentence1": "a", "sentence2": "b", "label": 0}] * 4
    with pytest.raises(DataError, match="4 rows, but task paraphrase makes no example of any of them"):
        load_split(recipe_of("paraphrase"), "train", local_root(tmp_path, train=rows))


def test_equal_rows_get_keys_of_their_own(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "x", "label": 1}, {"id": "b", "text": "y", "label": 1}] * 2
    split = load_split(recipe_of(), "train", local_root(tmp_path, train=rows))
    assert [example.key for example in split.examples] == ["a", "b", "a#2", "b#2"]


# Roles that share rows


def qa_rows(num_groups: int, rows_per_group: int = 10) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{group}-{n}",
            "title": f"article {group}",
            "context": f"c {group} {n}",
            "question": "q",
            "answers": "c",
        }
        for group in range(num_groups)
        for n in range(rows_per_group)
    ]


def titles_of(split: Split) -> set[str]:
    return {example.inputs["context"].split()[1] for example in split.examples}


def test_roles_that_name_one_split_divide_it_by_group(tmp_path: Path) -> None:
    splits = {"train": "validation", "validation": "validation", "test": "validation"}
    recipe = recipe_of("qa", group_by="title", splits=splits)
    source = local_root(tmp_path, validation=qa_rows(50))
    loaded = {role: load_split(recipe, role, source) for role in ROLES}
    assert sum(split.num_rows for split in loaded.values()) == 500
    assert [loaded[role].num_rows for role in ROLES] == [300, 100, 100]
    groups = [titles_of(loaded[role]) for role in ROLES]
    assert sum(map(len, groups)) == 50  # no article in two roles


@pytest.mark.parametrize(
    ("splits", "shares"),
    [
        ({"test": "validation"}, {"train": 50, "validation": 100, "test": 100}),
        ({"validation": "train"}, {"train": 40, "validation": 10, "test": 30}),
        ({"test": "train"}, {"train": 40, "validation": 200, "test": 10}),
    ],
    ids=["validation and test", "train and validation", "train and test"],
)
def test_two_roles_share_a_split(tmp_path: Path, splits: dict[str, str], shares: dict[str, int]) -> None:
    source = local_root(tmp_path, train=qa_rows(50, 1), validation=qa_rows(200, 1), test=qa_rows(30, 1))
    recipe = recipe_of("qa", group_by="title", splits=splits)
    assert {role: load_split(recipe, role, source).num_rows for role in ROLES} == shares


def test_the_division_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = emotion_rows(200)
    shuffled = random.Random(3).sample(rows, len(rows))
    one, other = user_file(tmp_path / "a", rows), user_file(tmp_path / "b", shuffled)
    for role in ROLES:
        assert set(texts_of(load_split(recipe_of(), role, one))) == set(
            texts_of(load_split(recipe_of(), role, other))
        )


def test_the_division_is_the_same_on_every_machine() -> None:
    # recorded once: Python's own hash() would change it with every process
    parts = divide([f"group {number}" for number in range(12)], ROLES, share=0.25)
    assert parts == {"test": [2, 6, 11], "validation": [0, 4, 10], "train": [1, 3, 5, 7, 8, 9]}


@given(
    groups=st.lists(st.integers(0, 40).map(str), min_size=30, max_size=200),
    roles=st.sampled_from([ROLES, ("train", "validation"), ("validation", "test")]),
)
@settings(max_examples=60, deadline=None)
def test_no_group_is_divided_and_no_row_lost(groups: list[str], roles: tuple[str, ...]) -> None:
    parts = divide(groups, roles, share=0.2)
    assert sorted(number for numbers in parts.values() for number in numbers) == list(range(len(groups)))
    homes = {role: {groups[number] for number in numbers} for role, numbers in parts.items()}
    assert sum(map(len, homes.values())) == len(set(groups))
    largest = max(Counter(groups).values())
    *held_out, rest = (role for role in ("test", "validation", "train") if role in roles)
    for role in held_out:
        assert len(parts[role]) < 0.2 * len(groups) + largest
        assert len(parts[role]) >= 0.2 * len(groups) or not parts[rest]


def test_too_few_groups_name_the_dial(tmp_path: Path) -> None:
    splits = {"train": "train", "validation": "train", "test": "train"}
    recipe = recipe_of("qa", group_by="title", splits=splits)
    with pytest.raises(
        DataError, match=r"nothing is left for train: 20 rows in 2 groups \(by title\) do not fill"
    ) as failure:
        load_split(recipe, "train", local_root(tmp_path, train=qa_rows(2)))
    assert "set data.group_by to a column with more values (null = each row by itself)" in str(failure.value)


def test_an_unknown_group_column_is_an_error_on_the_hub_and_said_for_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = {"train": "train", "validation": "train", "test": "train"}
    recipe = recipe_of(group_by="author", splits=splits)
    with pytest.raises(
        DataError, match=r"data\.group_by names 'author', no such column\.\n  columns  text, label"
    ):
        load_split(recipe, "train", local_root(tmp_path, train=emotion_rows(60)))
    with caplog.at_level(logging.WARNING):
        assert load_split(recipe, "train", user_file(tmp_path, emotion_rows(60))).num_rows == 48
    assert "has no column 'author' (data.group_by): rows are divided one by one" in caplog.text


# Samples


def test_a_sample_is_seeded_ordered_and_nested(tmp_path: Path) -> None:
    source = local_root(tmp_path, train=emotion_rows(100))
    small, large = (texts_of(load_split(recipe_of(), "train", source, max_rows=n)) for n in (10, 40))
    again = texts_of(load_split(recipe_of(), "train", source, max_rows=10))
    other = texts_of(load_split(recipe_of(training={"seed": 1}), "train", source, max_rows=10))
    assert small == again != other
    assert set(small) < set(large)
    assert small == sorted(small, key=lambda text: int(text.split()[1]))
    assert len(load_split(recipe_of(), "train", source, max_rows=1000).examples) == 100


def test_the_recipes_limits_belong_to_their_roles() -> None:
    recipe = parse_recipe(
        {
            "name": "x",
            "task": "emotion",
            "data": {"dataset": "a/b", "max_train_rows": 7, "max_validation_rows": 8},
            "evaluation": {"max_test_rows": 9},
        },
        where="test",
    )
    assert [max_rows_of(recipe, role) for role in ROLES] == [7, 8, 9]
