"""A file of requests as other systems and programs write it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from flan_lora.errors import DataError
from flan_lora.serving.batch_answers import BatchOptions
from flan_lora.serving.batch_file import answer_batch
from flan_lora.serving.router import Router
from tests.serving.stores import TEXTS


@pytest.mark.parametrize("kind", ["\n", "\r\n", "\r", "bom", "gzip"])
def test_lines_of_any_system_are_answered(router: Router, tmp_path: Path, kind: str) -> None:
    """Line ends of Windows and old Macs, files put one behind the other, packed files, a field spelt nearly so."""
    lines = [json.dumps(text) for text in TEXTS[:2]] + [json.dumps({"Text": TEXTS[2]})]
    end = {"bom": "\n\ufeff", "gzip": "\n"}.get(kind, kind)
    content = ("\ufeff" * (kind == "bom") + end.join(lines) + end).encode()
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(gzip.compress(content) if kind == "gzip" else content)
    answer_batch(router, source, target, BatchOptions("emotion"))
    records = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    expected = [each.text for each in router.generate(TEXTS[:3], "emotion")]
    assert [record["answer"] for record in records] == expected
    assert [record["line"] for record in records] == [1, 2, 3]


def test_a_file_of_another_program_is_one_error(router: Router, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    for content, message in (
        (b"PK\x03\x04....xl/workbook", "an Excel workbook"),
        (b"\x1f\x8b...", "whole gzip file"),
    ):
        source.write_bytes(content)
        with pytest.raises(DataError, match=f"in.jsonl: .*{message}"):
            answer_batch(router, source, tmp_path / "out.jsonl", BatchOptions("emotion"))
    assert not (tmp_path / "out.jsonl").exists()
