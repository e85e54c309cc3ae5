"""A file of requests -> a file of answers: in the order of the input, resumable, with bad lines named.

    in:   "a text", or {"text": ...}, or the inputs of the adapter's task; "adapter" names another one for a line,
          "parameters" changes how its answer is generated. Or a table: a row a request, its columns the fields
    out:  {"line": 3, "input": ..., "adapter": "emotion", "answer": "joy"}, or "questions" where the adapter shall
          propose them, or "error" in place of either. Or a table of the same

While it grows, the output has another name, made of everything its answers depend on: the same command goes on
where a killed one stopped, and never in the file of another job. One process at a time writes an output.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from flan_lora.adapters.remote_folder import is_url
from flan_lora.errors import DataError
from flan_lora.serving.batch_answers import BatchOptions, Line, answer_lines
from flan_lora.serving.batch_formats import publish, read_lines, target_exists
from flan_lora.serving.router import Router
from flan_lora.system.documents import DocumentError, parse_json
from flan_lora.system.lock import sole_owner
from flan_lora.system.text import shorten

Record = dict[str, Any]
Answer = Callable[[Sequence[Line]], Iterable[Sequence[Record]]]
"""Lines -> the records of all of them, in portions and in any order."""

PORTION = 128
"""Lines that are answered and then written: what a kill can cost."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What has been done."""

    num_answers: int
    """In the whole output."""
    num_resumed: int
    """Lines that an earlier, interrupted command had done."""
    errors: tuple[str, ...]
    """``file:line: reason`` of each line without an answer."""


def answer_batch(
    router: Router,
    source: str | Path,
    target: str | Path,
    options: BatchOptions,
    *,
    identity: str = "",
    progress: bool = False,
) -> BatchReport:
    """`answer_file` by a router of this process."""

    def answer(lines: Sequence[Line]) -> Iterator[list[Record]]:
        for start in range(0, len(lines), PORTION):
            yield list(answer_lines(router, str(source), lines[start : start + PORTION], options))

    return answer_file(source, target, options, answer, identity=identity, progress=progress)


def answer_file(
    source: str | Path,
    target: str | Path,
    options: BatchOptions,
    answer: Answer,
    *,
    identity: str = "",
    progress: bool = False,
) -> BatchReport:
    """Answer every line of ``source`` into ``target``; ``target`` appears when it is whole, in the input's order.

    A line that cannot be answered gets its error, whatever is wrong with it; the others are answered.

    Args:
        source: JSON lines, .csv, .tsv, .parquet or .arrow; a path or an fsspec URL.
        target: JSON lines, .csv, .tsv or .parquet, likewise. Beside a URL nothing can grow: until it is whole the
            output of one lies in the current folder.
        identity: whatever else the answers depend on (the adapter's version): a file begun under another one is
            not continued.
        progress: show a bar when stderr is a terminal.

    Raises:
        DataError: the source cannot be read, the target exists or cannot be written, or another job's unfinished
            file, or one that was edited, lies beside it.
        BusyError: another process writes this target.
    """
    content, lines = read_lines(source)
    if not lines:
        raise DataError(f"{source}: the file has no lines.")
    beside = Path(str(target).rpartition("/")[2]) if is_url(str(target)) else Path(target)
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        with sole_owner(beside.with_name(f".{beside.name}.lock"), f"the output {target}"):
            if target_exists(target):
                raise DataError(f"{target} exists. Remove it, or name another output.")
            partial = _partial(beside, f"{_job(content, options)}{identity}")
            return _answer_rest(answer, lines, partial, target, progress)
    except OSError as error:
        raise DataError(
            f"{shorten(str(target), 300)} cannot be written: {error.strerror or error}.\n"
            "Make room or give write permission, or name another output; the same command then goes on."
        ) from error


def _job(content: bytes, options: BatchOptions) -> str:
    """All that answers depend on, but the adapter's version."""
    values = [options.adapter, options.scores, options.max_proposals, dict(options.columns)]
    values += [dict(options.params)] if options.params else []  # a job of before there were any goes on
    return f"{hashlib.sha256(content).hexdigest()} {json.dumps(values)} "


def _partial(beside: Path, job: str) -> Path:
    """Where the output grows; 12 hex digits of its name stand for the job."""
    partial = beside.with_name(f"{beside.name}.{hashlib.sha256(job.encode()).hexdigest()[:12]}.partial")
    if others := [path for path in beside.parent.glob(f"{escape(beside.name)}.*.partial") if path != partial]:
        raise DataError(
            f"{others[0]} is the unfinished output of another job (another input, adapter or option).\n"
            "Finish that one with its own command, or remove the file."
        )
    return partial


def _answer_rest(
    answer: Answer, lines: Sequence[Line], partial: Path, target: str | Path, progress: bool
) -> BatchReport:
    done = _repair(partial, lines)
    num_resumed = len(done)
    missing = [line for line in lines if line.number not in done]
    with partial.open("ab") as file, _bar(len(lines), num_resumed, progress) as bar:
        for records in answer(missing) if missing else ():
            file.write(b"".join(_dumps(record) + b"\n" for record in records))
            file.flush()
            os.fsync(file.fileno())
            done.update((record["line"], record) for record in records)
            bar.update(len(records))
    assert len(done) == len(lines), "every line has its record"
    ordered = [done[line.number] for line in lines]
    publish(partial, target, ordered, is_in_order=list(done) == [line.number for line in lines], dumps=_dumps)
    errors = [record["error"] for record in ordered if "error" in record]
    return BatchReport(len(lines) - len(errors), num_resumed, tuple(errors))


def _dumps(record: Mapping[str, Any]) -> bytes:
    """JSON, UTF-8; what a path has of bytes that are no UTF-8 becomes an escape."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _repair(partial: Path, lines: Sequence[Line]) -> dict[int, Record]:
    """The records that are there, by line; what a kill left half-written is cut off."""
    if not partial.is_file():
        return {}
    content = partial.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    done: dict[int, Record] = {}
    wanted = {line.number for line in lines}
    for place, text in enumerate(whole.split(b"\n")[:-1], start=1):
        record = _record(partial, place, text, wanted - done.keys())
        done[record["line"]] = record
    if len(whole) < len(content):
        with partial.open("r+b") as file:
            file.truncate(len(whole))
    return done


def _record(partial: Path, number: int, text: bytes, wanted: set[int]) -> Record:
    """A record as this module writes it. Raises DataError for anything else."""
    try:
        record = parse_json(text)
        problem = "no record of a line of the input, or of one that stands here already"
    except DocumentError as error:
        record, problem = None, str(error)
    if (
        isinstance(record, dict)
        and isinstance(record.get("line"), int)
        and record["line"] in wanted
        and isinstance(record.get("error", ""), str)
        and record.keys() & {"error", "answer", "questions"}
    ):
        return record
    raise DataError(
        f"{partial}:{number}: this unfinished output has been edited: {problem}.\n"
        "  expected  the answer to a line of the input, as it was written\n"
        "Undo the edit and run the same command, or remove the file to begin anew."
    )


def _bar(total: int, initial: int, progress: bool) -> Any:
    from tqdm import tqdm

    visible = progress and sys.stderr.isatty()
    return tqdm(total=total, initial=initial, desc="answers", unit="line", disable=not visible, leave=False)
