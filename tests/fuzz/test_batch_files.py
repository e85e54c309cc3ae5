"""Batch files: every line gets an answer or its own error, whatever stands in it and in an unfinished output."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flan_lora.errors import FlanLoraError
from flan_lora.serving.batch_answers import BatchOptions
from flan_lora.serving.batch_file import BatchReport, answer_batch
from flan_lora.serving.router import Router
from tests.fuzz.routers import tiny_router
from tests.fuzz.strategies import ODD_TEXTS, answer_or_error, fuzz, nested, values

FIELDS = st.sampled_from(["text", "adapter", "id", "question", "context", "", "\ud83d"])
LINES = st.one_of(
    st.just(b'"i am so sad"'),
    st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")),
    values(FIELDS).map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"text": st.sampled_from(ODD_TEXTS), "adapter": values(st.just("emotion"))}).map(
        lambda value: json.dumps(value).encode()
    ),
    st.sampled_from([b"[" * 100_000, b"9" * 5000, b'{"text": "a", "adapter": {"emotion": 1e300}}']),
    st.integers(30, 60).map(lambda depth: json.dumps({"text": "a", "x": nested(depth)}).encode()),
)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Router:
    return tiny_router(tmp_path_factory.mktemp("fuzz"), "emotion")


@fuzz
@given(lines=st.lists(LINES, min_size=1, max_size=6), adapter=st.sampled_from(["emotion", None, "auto"]))
@example(lines=[b"\r\x00"], adapter="emotion")
def test_any_lines(router: Router, tmp_path: Path, lines: list[bytes], adapter: Any) -> None:
    source, target = (tmp_path / f"{next(_numbers)}.jsonl" for _ in range(2))
    source.write_bytes(b"\n".join(lines))
    found = answer_or_error(lambda: answer_batch(router, source, target, BatchOptions(adapter)), source.name)
    if isinstance(found, BatchReport):
        records = [json.loads(line) for line in target.read_bytes().splitlines()]
        as_read = re.split(rb"\r\n|\r|\n", b"\n".join(lines))
        assert [record["line"] for record in records] == [n for n, line in enumerate(as_read, 1) if line.strip()]
        assert all("error" in record or "answer" in record for record in records)
        assert found.num_answers + len(found.errors) == len(records)
        assert all(f"{source.name}:" in error for error in found.errors)


@fuzz
@given(
    content=st.one_of(
        st.binary(max_size=40), st.lists(values().map(lambda v: json.dumps(v).encode())).map(b"\n".join)
    )
)
def test_an_unfinished_output_of_anything(router: Router, tmp_path: Path, content: bytes) -> None:
    source, target = (tmp_path / f"{next(_numbers)}.jsonl" for _ in range(2))
    source.write_bytes(b'"i am so sad"\n"joy"\n')

    class KilledError(Exception):
        pass

    def killed(*_: Any, **__: Any) -> Any:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Router, "generate", killed)
        answer_batch(router, source, target, BatchOptions("emotion"))
    (partial,) = tmp_path.glob(f"{target.name}.*.partial")
    partial.write_bytes(content)
    found = answer_or_error(lambda: answer_batch(router, source, target, BatchOptions("emotion")), partial.name)
    assert isinstance(found, FlanLoraError) or len(target.read_bytes().splitlines()) == 2
