"""Files like those that people report: what `data lint`, training, `eval` and `batch` make of each, as they stand.

They lie beside the local data root, never in the repository.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from flan_lora.adapters.store import Store
from flan_lora.base.load import open_base
from flan_lora.data.lint import lint
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import load_whole_file
from flan_lora.errors import DataError
from flan_lora.recipe_file import find_recipe, load_recipe
from flan_lora.serving.batch_answers import BatchOptions
from flan_lora.serving.batch_file import answer_batch
from flan_lora.serving.router import Router
from tests.checkpoint import save_checkpoint, spec_of
from tests.conftest import REPO
from tests.published import make_manifest, stage, tiny_fingerprint
from tests.tiny import tiny_tokenizer

TOKENIZER: Any = tiny_tokenizer()
READ = (
    ("cell_longer_than_131072.csv", "summarization"),
    ("json_array_named.jsonl", "emotion"),
    ("squad_answers_as_python_dict.csv", "qa"),
    ("squad_scalar_answer.jsonl", "qa"),
)
REFUSED = (
    ("boolean_labels_emotion.jsonl", "emotion", r"rows cannot be used .*\n  row \d+: .*'label': got (True|False)"),
    (
        "cp1252_curly_quotes.csv",
        "summarization",
        r"csv:2: not UTF-8 \(byte 0x92\)[\s\S]*--set data\.encoding=cp1252",
    ),
    ("unclosed_quote_in_the_middle.csv", "emotion", r"csv:22: not valid CSV \(the quote that opens here"),
    ("lone_surrogate_in_train_summarization.jsonl", "summarization", r"row \d+: .*lone surrogate"),
    ("lone_surrogate_with_id_summarization.jsonl", "summarization", r"row 4: .*lone surrogate"),
    ("adapter_of_wrong_type_requests.jsonl", "emotion", r":1: expected one JSON object a line, got str"),
    ("lone_surrogate_requests.jsonl", "emotion", r":1: expected one JSON object a line, got str"),
)


@pytest.fixture(scope="module")
def field() -> Path:
    root = Path(os.environ.get("FLAN_LORA_SHARED") or REPO.parent / "shared" / "data")
    for folder in (root / "field", root.parent / "field"):
        if folder.is_dir():
            return folder
    pytest.skip("no folder of field files beside the local data root (FLAN_LORA_SHARED)")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", "off")


def test_every_file_is_tried(field: Path) -> None:
    assert {path.name for path in field.iterdir()} == {name for name, *_ in (*READ, *REFUSED)}


@pytest.mark.parametrize(("name", "task"), READ)
def test_what_is_unambiguous_is_read(field: Path, name: str, task: str) -> None:
    recipe, source = load_recipe(find_recipe(task)), DataSource("file", field / name)
    examples = load_whole_file(recipe, source).examples
    assert len(examples) >= 60
    assert not any("{'" in example.target for example in examples), "what Python prints is no answer"
    assert str(lint(recipe, source, TOKENIZER))


@pytest.mark.parametrize(("name", "task", "message"), REFUSED)
def test_what_is_not_is_one_error_with_its_place(field: Path, name: str, task: str, message: str) -> None:
    recipe, source = load_recipe(find_recipe(task)), DataSource("file", field / name)
    for read in (lambda: load_whole_file(recipe, source), lambda: lint(recipe, source, TOKENIZER)):
        with pytest.raises(DataError, match=message) as failure:
            read()
        assert name in str(failure.value)


def test_a_windows_file_is_read_as_it_says(field: Path) -> None:
    recipe = load_recipe(find_recipe("summarization"), ("data.encoding=cp1252",))
    split = load_whole_file(recipe, DataSource("file", field / "cp1252_curly_quotes.csv"))
    assert "\u2019" in split.examples[0].inputs["dialogue"]


@pytest.mark.parametrize(
    ("name", "answered"),
    [("adapter_of_wrong_type_requests.jsonl", {1}), ("lone_surrogate_requests.jsonl", {1, 3})],
)
def test_a_request_that_is_wrong_costs_no_other(
    field: Path, tmp_path: Path, name: str, answered: set[int]
) -> None:
    """Half of an emoji, too, in a field that is not read: no file could hold the record."""
    save_checkpoint(tmp_path / "base")
    base = {"model": "mini", "quantization": "fp32", "fingerprint": tiny_fingerprint()}
    Store(tmp_path / "adapters").publish(stage(tmp_path / "staged"), make_manifest("emotion", base=base))
    router = Router.open(tmp_path / "adapters", open_base(spec_of(tmp_path / "base"), device="cpu"))
    answer_batch(router, field / name, tmp_path / "out.jsonl", BatchOptions("emotion"))
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert {record["line"] for record in records if "answer" in record} == answered
    assert all(f"{name}:{record['line']}: " in record["error"] for record in records if "error" in record)
