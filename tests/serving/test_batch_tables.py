"""Batch files as tables and behind URLs, and what is answered in another order: by the actors of Ray Data."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from flan_lora.errors import DataError
from flan_lora.serving.batch_answers import BatchOptions, Line
from flan_lora.serving.batch_file import Record, answer_batch, answer_file
from flan_lora.serving.router import Router
from tests.serving import stores
from tests.serving.stores import NAMES

FIRST, SECOND = NAMES[:2]
TEXTS = list(stores.TEXTS)
ROWS = [{"text": text, "adapter": (FIRST, SECOND, "")[place % 3]} for place, text in enumerate(TEXTS * 2)]
GREEDY = {"num_beams": 1, "max_new_tokens": 3}


def expected_of(router: Router) -> list[str]:
    return [answer.text for answer in router.generate([row["text"] for row in ROWS], names_of())]


def names_of() -> list[str]:
    return [row["adapter"] or FIRST for row in ROWS]


def write_rows(path: Path) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif path.suffix == ".jsonl":
        lines = [{name: value for name, value in row.items() if value} for row in ROWS]
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["text", "adapter"], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    return path


def read_table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return rows
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_table_is_answered_as_its_rows_in_json_lines_are(router: Router, tmp_path: Path, kind: str) -> None:
    lines, table = write_rows(tmp_path / "in.jsonl"), write_rows(tmp_path / f"in.{kind}")
    answer_batch(router, lines, tmp_path / "a.jsonl", BatchOptions(FIRST))
    report = answer_batch(router, table, tmp_path / "b.jsonl", BatchOptions(FIRST))
    assert report.num_answers == len(ROWS) and report.errors == ()
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    answer_batch(router, table, tmp_path / f"out.{kind}", BatchOptions(FIRST, scores=True))
    found = read_table(tmp_path / f"out.{kind}")
    assert [row["answer"] for row in found] == expected_of(router)
    assert [row["adapter"] for row in found] == names_of() and [row["text"] for row in found] == TEXTS * 2
    shares = json.loads(found[0]["label_probabilities"])
    assert abs(sum(shares.values()) - 1) < 1e-4 and [int(row["line"]) for row in found] == [
        *range(1, len(ROWS) + 1)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["a.jsonl", "b.jsonl", "in.jsonl", f"in.{kind}", f"out.{kind}"]
    )


def test_a_row_says_its_parameters_and_gets_its_own_error(router: Router, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    cells = [["text", "adapter", "parameters"], ["fear", "", '{"max_new_tokens": 1}'], ["fear", "", ""]]
    cells += [["fear", "nobody", ""], ["fear", "", "{"]]
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(cells)
    report = answer_batch(router, source, tmp_path / "out.csv", BatchOptions(FIRST, params={"num_beams": 1}))
    first, second, third, fourth = read_table(tmp_path / "out.csv")
    short = router.generate("fear", FIRST, params={"num_beams": 1, "max_new_tokens": 1}).text
    assert first["answer"] == short and second["answer"] == router.generate("fear", FIRST, num_beams=1).text
    assert third["answer"] == "" and "no adapter 'nobody'" in third["error"]
    assert '"parameters" are an object' in fourth["error"] and len(report.errors) == 2
    assert f"{source}:3: " in report.errors[0]


def test_files_may_lie_behind_a_url(router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("jsonl", "parquet", "csv"):
        local = write_rows(tmp_path / f"in.{kind}")
        source, target = f"memory://batch/in.{kind}", f"memory://batch/out.{kind}"
        with fsspec.open(source, "wb") as file:
            file.write(local.read_bytes())
        answer_batch(router, source, target, BatchOptions(FIRST))
        answer_batch(router, local, tmp_path / f"out.{kind}", BatchOptions(FIRST))
        with fsspec.open(target, "rb") as file:
            assert file.read() == (tmp_path / f"out.{kind}").read_bytes()
        with pytest.raises(DataError, match=f"{target} exists"):
            answer_batch(router, source, target, BatchOptions(FIRST))
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob("*.whole"))
    with pytest.raises(DataError, match=r"memory://batch/none.jsonl cannot be read"):
        answer_batch(router, "memory://batch/none.jsonl", tmp_path / "x.jsonl", BatchOptions(FIRST))
    with pytest.raises(DataError, match=r"nothing://x.jsonl: Protocol not known"):
        answer_batch(router, "nothing://x.jsonl", tmp_path / "x.jsonl", BatchOptions(FIRST))


def backwards(router: Router, options: BatchOptions, num_before_death: int | None = None) -> Any:
    """An `Answer` that begins with the last lines, and dies after so many portions of two."""
    from flan_lora.serving.batch_answers import answer_lines

    def answer(lines: Sequence[Line]) -> Iterator[list[Record]]:
        portions = [lines[start : start + 2] for start in range(0, len(lines), 2)][::-1]
        for place, portion in enumerate(portions):
            if place == num_before_death:
                raise InterruptedError("killed")
            yield list(answer_lines(router, "in.jsonl", portion, options))

    return answer


def test_what_is_answered_in_any_order_is_written_in_the_inputs_and_resumed_from_there(
    router: Router, tmp_path: Path
) -> None:
    source, target, options = write_rows(tmp_path / "in.jsonl"), tmp_path / "out.jsonl", BatchOptions(FIRST)
    with pytest.raises(DataError, match="killed"):
        answer_file(source, target, options, backwards(router, options, 2))
    [partial] = tmp_path.glob("*.partial")
    assert [json.loads(line)["line"] for line in partial.read_text().splitlines()] == [9, 10, 7, 8]
    report = answer_file(source, target, options, backwards(router, options))
    assert report.num_resumed == 4 and report.num_answers == len(ROWS)
    answer_batch(router, source, tmp_path / "alone.jsonl", options)
    assert target.read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


# Ray Data


@pytest.fixture
def answerer(router: Router, monkeypatch: pytest.MonkeyPatch) -> Callable[[BatchOptions], Any]:
    """`BatchAnswerer` on this test's router."""
    pytest.importorskip("ray", reason="Ray is not installed here")
    monkeypatch.setattr("flan_lora.serving.ray_batch.open_router", lambda *_: router)
    from flan_lora.serving.ray_batch import BatchAnswerer

    return BatchAnswerer


def test_a_batch_of_columns_gets_its_answers_as_columns(
    answerer: Callable[[BatchOptions], Any], router: Router
) -> None:
    import numpy as np

    batch = {
        "id": np.arange(3),
        "body": np.array([*TEXTS[:2], 5], object),
        "adapter": np.array([FIRST, SECOND, ""]),
    }
    found = answerer(BatchOptions(FIRST, scores=True, columns={"text": "body"}))(batch)
    first, second = router.generate(TEXTS[:2], [FIRST, SECOND])
    assert found["answer"] == [first.text, second.text, None] and found["id"] is batch["id"]
    assert found["adapter"] == [FIRST, SECOND, None] and "expected the text inputs body" in found["error"][2]
    assert found["log_prob"][0] == pytest.approx(first.log_prob, abs=1e-4) and found["log_prob"][2] is None
