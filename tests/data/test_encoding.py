"""Token ids of a split, and their cache on disk."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_lora.base.encode import encode_source, encode_target
from flan_lora.data.encoding import EncodedSplit, encode_split, tokenizer_identity
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import Split, load_split
from flan_lora.data.token_cache import BrokenCacheError, read_cache, write_cache
from flan_lora.recipe_file import load_recipe
from flan_lora.system.cache_dir import default_cache_dir
from tests.data.rows import local_root, recipe_of
from tests.tiny import tiny_tokenizer

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))

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
