"""Rows of a role: where they come from, how roles share them, what errors say, and the cache of tokens."""

from __future__ import annotations

import csv
import json
import logging
import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_lora.base.encode import encode_source, encode_target
from flan_lora.data import sources
from flan_lora.data.encoding import EncodedSplit, encode_split, tokenizer_identity
from flan_lora.data.sources import DataSource, open_source
from flan_lora.data.splits import ROLES, Split, divide, load_split, max_rows_of
from flan_lora.data.token_cache import BrokenCacheError, default_cache_dir, read_cache, write_cache
from flan_lora.errors import DataError, RecipeError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.recipe_file import load_recipe
from tests.tiny import tiny_tokenizer

REPO = Path(__file__).resolve().parents[2]
RECIPES = sorted((REPO / "recipes").glob("*.yaml"))
LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")


def recipe_of(task: str = "emotion", training: dict[str, Any] | None = None, **data: Any) -> Recipe:
    section = {"dataset": "owner/name", "max_source_tokens": 200, "max_target_tokens": 16, **data}
    return parse_recipe({"name": "x", "task": task, "data": section, "training": training or {}}, where="test")


def emotion_rows(num_rows: int, word: str = "day") -> list[dict[str, Any]]:
    return [{"text": f"{word} {number}", "label": number % 6} for number in range(num_rows)]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def local_root(folder: Path, **splits: list[dict[str, Any]]) -> DataSource:
    for split, rows in splits.items():
        write_jsonl(folder / "owner__name" / "default" / f"{split}.jsonl", rows)
    return DataSource("local", folder)


def user_file(folder: Path, rows: list[dict[str, Any]]) -> DataSource:
    return DataSource("file", write_jsonl(folder / "mine.jsonl", rows))


def texts_of(split: Split) -> list[str]:
    return [example.inputs["text"] for example in split.examples]


# What --data means


def test_data_means_hub_sample_folder_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_jsonl(tmp_path / "rows.JSONL", emotion_rows(1))
    assert open_source(None) == open_source("hub") == DataSource("hub")
    assert open_source("sample").kind == "sample"
    assert open_source(str(tmp_path)) == DataSource("local", tmp_path)
    assert open_source(str(file)) == DataSource("file", file)
    monkeypatch.setenv("FLAN_LORA_DATA", str(tmp_path))
    assert open_source(None) == DataSource("local", tmp_path)
    assert open_source("hub") == DataSource("hub")


def test_a_source_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match=r"--data nowhere: no such file or folder\.\nGive hub, sample, a folder or a file"
    ):
        open_source("nowhere")
    monkeypatch.setenv("FLAN_LORA_DATA", "gone")
    with pytest.raises(DataError, match="FLAN_LORA_DATA=gone: no such file or folder"):
        open_source(None)
    (tmp_path / "rows.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"files of kind '\.xlsx' are not read\.\nUse one of \.jsonl"):
        open_source(str(tmp_path / "rows.xlsx"))


# Local root, sample, Hub


def test_a_local_root_has_the_hubs_shape(tmp_path: Path) -> None:
    source = local_root(tmp_path, train=emotion_rows(7), test=emotion_rows(3, "night"))
    split = load_split(recipe_of(), "train", source)
    assert (split.role, split.num_rows, len(split.examples)) == ("train", 7, 7)
    assert split.origin == "owner/name/default:train (local root)"
    assert [example.target for example in split.examples] == [*LABELS, "sadness"]
    assert texts_of(load_split(recipe_of(), "test", source)) == ["night 0", "night 1", "night 2"]


def test_a_local_root_may_hold_csv(tmp_path: Path) -> None:
    folder = tmp_path / "owner__name" / "default"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text("text,label\ngood day,1\nbad day,0\n")
    split = load_split(recipe_of(), "train", DataSource("local", tmp_path))
    assert [example.target for example in split.examples] == ["joy", "sadness"]


def test_a_declared_encoding_is_read_and_leaves_other_recipes_what_they_were(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"text,label\n" + b"it\x92s day %d,joy\n" * 30 % tuple(range(30)))
    with pytest.raises(DataError, match=r"--set data\.encoding=cp1252"):
        load_split(recipe_of(), "train", DataSource("file", path))
    split = load_split(recipe_of(encoding="cp1252"), "train", DataSource("file", path))
    assert all(text.startswith("it\u2019s day") for text in texts_of(split))
    with pytest.raises(RecipeError, match=r"data\.encoding: no text encoding of that name.*got 'hex'"):
        recipe_of(encoding="hex")
    assert (
        recipe_of(encoding=None).fingerprint()
        == recipe_of().fingerprint()
        != recipe_of(encoding="cp1252").fingerprint()
    )


def test_a_missing_split_lists_what_is_there(tmp_path: Path) -> None:
    source = local_root(tmp_path, train=emotion_rows(3), dev=emotion_rows(3))
    with pytest.raises(DataError, match=r"no rows at .*default/validation\.jsonl") as failure:
        load_split(recipe_of(), "validation", source)
    assert f"there is  dev.jsonl, train.jsonl in {tmp_path / 'owner__name' / 'default'}\n" in str(failure.value)
    assert "Set data.config and data.splits to what is there, or use --data hub" in str(failure.value)
    with pytest.raises(DataError, match=rf"there is  owner__name in {tmp_path}\n"):
        load_split(recipe_of(dataset="other/name"), "train", source)
    with pytest.raises(DataError, match=rf"there is  default in {tmp_path / 'owner__name'}\n"):
        load_split(recipe_of(config="split"), "train", source)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_the_bundled_sample(path: Path) -> None:
    recipe, source = load_recipe(path), open_source("sample")
    splits = {role: load_split(recipe, role, source, max_rows=40) for role in ROLES}
    assert all(splits[role].examples for role in ROLES)
    data = recipe.data
    assert splits["test"].origin == f"{data.dataset}/{data.config}:test (bundled sample)"
    assert len({split.content_hash for split in splits.values()}) == 3


def test_hub_rows_become_a_split_that_names_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake(*args: Any) -> tuple[list[dict[str, Any]], str | None]:
        asked.append(args)
        return emotion_rows(4), "c" * 40 if args[2] == "train" else None

    monkeypatch.setattr(sources, "read_hub_rows", fake)
    recipe = recipe_of(config="split", revision="refs/convert/parquet")
    split = load_split(recipe, "train", open_source("hub"))
    assert asked == [("owner/name", "split", "train", "refs/convert/parquet")]
    assert split.origin == f"owner/name/split:train @ {'c' * 40} (Hub)"
    assert load_split(recipe, "test", open_source("hub")).origin == (
        "owner/name/split:test @ refs/convert/parquet (Hub)"
    )
    assert load_split(recipe_of(), "test", open_source("hub")).origin == "owner/name/default:test @ main (Hub)"


def test_an_empty_hub_split_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "read_hub_rows", lambda *args: ([], None))
    with pytest.raises(
        DataError, match=r"owner/name/default:test on the Hub has no rows\.\nSet data\.splits\.test"
    ):
        load_split(recipe_of(), "test", open_source("hub"))


def test_the_hub_and_its_local_copy_have_one_content_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_rows = [{"idx": number, **row} for number, row in enumerate(emotion_rows(5))]
    monkeypatch.setattr(sources, "read_hub_rows", lambda *args: (hub_rows, None))
    local = local_root(tmp_path, train=emotion_rows(5))
    assert (
        load_split(recipe_of(), "train", open_source("hub")).content_hash
        == load_split(recipe_of(), "train", local).content_hash
    )
    changed = [{**row, "label": 5 - row["label"] % 6} for row in emotion_rows(5)]
    other = load_split(recipe_of(), "train", local_root(tmp_path / "b", train=changed))
    assert other.content_hash != load_split(recipe_of(), "train", local).content_hash


# A user's own file


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
    (tmp_path / "a.csv").write_text("text;label\ngood day;joy\n")
    with pytest.raises(DataError, match="The header is one column: separate the fields by commas"):
        load_split(recipe_of(), "train", DataSource("file", tmp_path / "a.csv"))


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


# Tokens and their cache


@pytest.fixture
def split(tmp_path: Path) -> Split:
    rows = [{"text": "joy " * (1 + 7 * number), "label": number % 6} for number in range(30)]
    rows[3]["text"] = "a {b} <c>"
    return load_split(recipe_of(), "train", local_root(tmp_path / "root", train=rows))


def cache_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_encoded_split_holds_what_one_by_one_encoding_gives(split: Split, tmp_path: Path) -> None:
    tokenizer, recipe = tiny_tokenizer(), recipe_of(max_source_tokens=150, max_target_tokens=2)
    encoded = encode_split(split, recipe, tokenizer, cache_dir=tmp_path)
    sources = [encode_source(tokenizer, example.prompt, 150) for example in split.examples]
    targets = [encode_target(tokenizer, example.target, 2) for example in split.examples]
    assert encoded.input_ids == [item.input_ids for item in sources]
    assert encoded.labels == [item.input_ids for item in targets]
    assert encoded.source_dropped == [item.num_dropped_tokens for item in sources]
    assert encoded.num_source_truncated == sum(item.num_dropped_tokens > 0 for item in sources) > 0
    assert encoded.num_target_truncated == sum(item.num_dropped_tokens > 0 for item in targets) > 0
    assert encoded.source_lengths == [len(item.input_ids) for item in sources]
    assert (len(encoded), encoded[4]) == (30, {"input_ids": sources[4].input_ids, "labels": targets[4].input_ids})


def test_unknown_pieces_are_counted_without_eos(tmp_path: Path) -> None:
    source = local_root(tmp_path, train=[{"dialogue": "Ann: hi", "summary": "joy अ joy"}])
    split = load_split(recipe_of("summarization"), "train", source)
    encoded = encode_split(split, recipe_of("summarization"), tiny_tokenizer(), cache_dir=tmp_path / "cache")
    ids = encoded.labels[0]
    assert encoded.unk_share_target == pytest.approx(ids.count(2) / (len(ids) - 1))
    assert encoded.unk_share_target > 0.2
    assert encoded.unk_share_source == 0.0


def test_the_second_time_comes_from_the_cache(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode_split(split, recipe_of(), tiny_tokenizer(), cache_dir=tmp_path)
    assert [path.suffix for path in cache_files(tmp_path / "encoded")] == [".safetensors"]
    monkeypatch.setattr("flan_lora.data.encoding.encode_for_training", lambda *args: pytest.fail("encoded again"))
    assert encode_split(split, recipe_of(), tiny_tokenizer(), cache_dir=tmp_path) == first


def test_the_key_covers_texts_limits_and_tokenizer(split: Split, tmp_path: Path) -> None:
    from dataclasses import replace

    def hash_of(split: Split = split, tokenizer: Any = None, **limits: int) -> str:
        return encode_split(
            split, recipe_of(**limits), tokenizer or tiny_tokenizer(), cache_dir=tmp_path
        ).content_hash

    first, *rest = split.examples
    larger = tiny_tokenizer()
    larger.add_tokens(["zebra"])
    hashes = [
        hash_of(),
        hash_of(max_source_tokens=100),
        hash_of(max_target_tokens=12),
        hash_of(replace(split, examples=(replace(first, target="other"), *rest))),
        hash_of(replace(split, examples=(replace(first, prompt=replace(first.prompt, tail="?")), *rest))),
        hash_of(tokenizer=larger),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hash_of(replace(split, role="test", origin="elsewhere")) == hashes[0]


def test_a_tokenizers_last_call_does_not_change_its_identity() -> None:
    tokenizer = tiny_tokenizer()
    before = tokenizer_identity(tokenizer)
    tokenizer(["joy", "love you"], padding=True, truncation=True, max_length=3)
    assert tokenizer_identity(tokenizer) == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "altered", "other file"])
def test_a_broken_cache_file_is_rebuilt_and_said_once(
    split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    first = encode_split(split, recipe_of(), tiny_tokenizer(), cache_dir=tmp_path)
    (path,) = cache_files(tmp_path / "encoded")
    content = path.read_bytes()
    altered = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
    path.write_bytes(
        {"truncated": content[:-9], "empty": b"", "altered": altered, "other file": b"hello" * 9}[damage]
    )
    with caplog.at_level(logging.WARNING):
        assert encode_split(split, recipe_of(), tiny_tokenizer(), cache_dir=tmp_path) == first
    assert [record.message.count("is broken and is built again") for record in caplog.records] == [1]
    assert read_cache(path).lists["input_ids"] == first.input_ids


def test_a_cache_file_of_another_shape_is_rebuilt(split: Split, tmp_path: Path) -> None:
    first = encode_split(split, recipe_of(), tiny_tokenizer(), cache_dir=tmp_path)
    (path,) = cache_files(tmp_path / "encoded")
    write_cache(path, {"something": [[1, 2]]}, {})
    assert encode_split(split, recipe_of(), tiny_tokenizer(), cache_dir=tmp_path) == first


def test_a_folder_that_cannot_be_written_is_done_without(
    split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        encoded = encode_split(split, recipe_of(), tiny_tokenizer(), cache_dir=tmp_path / "file")
    assert len(encoded) == 30
    assert "encoding is not cached. Set FLAN_LORA_CACHE." in caplog.text


def test_the_variable_moves_the_cache_or_turns_it_off(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "mine"))
    first = encode_split(split, recipe_of(), tiny_tokenizer())
    assert len(cache_files(tmp_path / "mine")) == 1
    for off in ("off", ""):
        monkeypatch.setenv("FLAN_LORA_CACHE", off)
        assert default_cache_dir() is None
        assert encode_split(split, recipe_of(), tiny_tokenizer()) == first
    monkeypatch.delenv("FLAN_LORA_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "flan_lora"


def test_a_writer_that_dies_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_cache(tmp_path / "a.safetensors", {"ids": [[1]]}, {})
    assert cache_files(tmp_path) == []


def test_a_writer_overtaken_by_another_still_finishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, replace, overtaken = tmp_path / "a.safetensors", os.replace, []

    def overtake(temporary: Any, final: Any) -> None:
        if not overtaken:  # the other process writes and publishes while this one is about to
            overtaken.append(temporary)
            write_cache(path, {"ids": [[1, 2]]}, {})
        replace(temporary, final)

    monkeypatch.setattr("os.replace", overtake)
    write_cache(path, {"ids": [[1, 2]]}, {})
    assert read_cache(path).lists == {"ids": [[1, 2]]}
    assert cache_files(tmp_path) == [path]


def test_two_writers_and_a_reader_never_see_half_a_file(tmp_path: Path) -> None:
    path, failures = tmp_path / "a.safetensors", []
    lists = {"ids": [[number, number + 1] for number in range(2000)]}
    write_cache(path, lists, {"share": 0.1})

    def write() -> None:
        for _ in range(20):
            write_cache(path, lists, {"share": 0.1})

    def read() -> None:
        for _ in range(60):
            try:
                assert read_cache(path).lists == lists
            except (AssertionError, BrokenCacheError, OSError) as error:
                failures.append(error)

    threads = [threading.Thread(target=job) for job in (write, write, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert cache_files(tmp_path) == [path]  # no temporary file stays behind


@given(rows=st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=8), share=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_any_lists_survive_the_cache(tmp_path_factory: pytest.TempPathFactory, rows: Any, share: float) -> None:
    path = tmp_path_factory.mktemp("cache") / "a.safetensors"
    write_cache(path, {"ids": rows, "others": [[1]]}, {"share": share})
    assert read_cache(path).lists == {"ids": rows, "others": [[1]]}
    assert read_cache(path).numbers == {"share": share}


def test_a_symmetric_task_is_trained_on_both_orders_and_tested_on_one(tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "label": n % 2} for n in range(4)]
    source = local_root(tmp_path, train=rows, test=rows)
    train, test = (load_split(recipe_of("similarity"), role, source) for role in ("train", "test"))  # type: ignore[arg-type]
    assert (len(train.examples), train.num_rows, len(test.examples)) == (8, 4, 4)
    assert train.examples[:4] == test.examples
    for one, other in zip(train.examples[:4], train.examples[4:], strict=True):
        assert (other.inputs["sentence1"], other.inputs["sentence2"]) == (
            one.inputs["sentence2"],
            one.inputs["sentence1"],
        )
        assert (other.target, other.key) == (one.target, f"{one.key}-swapped")
        assert str(other.prompt) != str(one.prompt)


# Real rows


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_encodes_real_rows_with_the_real_tokenizer(
    shared_data: Path, tmp_path: Path, path: Path
) -> None:
    from transformers import T5Tokenizer

    tokenizer = T5Tokenizer.from_pretrained(str(shared_data / "t5"), extra_ids=100)
    recipe, source = load_recipe(path), DataSource("local", shared_data)
    encoded: dict[str, EncodedSplit] = {}
    for role, max_rows in (("train", 120), ("validation", 60)):
        split = load_split(recipe, role, source, max_rows=max_rows)  # type: ignore[arg-type]
        encoded[role] = encode_split(split, recipe, tokenizer, cache_dir=tmp_path)
        assert split.origin.endswith("(local root)")
        assert str(shared_data) not in split.origin
        assert max(encoded[role].source_lengths) <= recipe.data.max_source_tokens
        assert all(ids[-1] == tokenizer.eos_token_id and len(ids) > 1 for ids in encoded[role].labels)
    assert encoded["train"].num_target_truncated <= 1
    assert encoded["train"].unk_share_target < 0.01
    assert encoded["train"].unk_share_source < 0.02
