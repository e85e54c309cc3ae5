"""A file of requests -> a file of answers: in the order of the input, resumable, with bad lines named.

    in:   "a text", or {"text": ...}, or the inputs of the adapter's task; "adapter" names another one for a line,
          "parameters" changes how its answer is generated
    out:  {"line": 3, "input": ..., "adapter": "emotion", "answer": "joy"}, or "questions" where the adapter shall
          propose them, or "error" in place of either

While it grows, the output has another name, made of everything its answers depend on: the same command goes on
where a killed one stopped, and never in the file of another job. One process at a time writes an output.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

from flan_lora.errors import DataError, FlanLoraError
from flan_lora.serving.completion import AUTO, Choice, Completion, Text, heaviest, mix_of
from flan_lora.serving.params import Params
from flan_lora.serving.propose import Proposal
from flan_lora.serving.router import Router
from flan_lora.system.documents import DocumentError, parse_json
from flan_lora.system.file_signatures import unpacked
from flan_lora.system.lock import sole_owner
from flan_lora.system.text import same_name, shorten, shown

_PORTION = 128
"""Lines that are answered and then written: what a kill can cost."""
_LINE_END = re.compile(rb"\r\n|\r|\n")
"""Of any system; a line of JSON has none of them inside."""
_NOT_INPUTS = ("adapter", "id", "parameters")
"""Fields of a line that are no inputs of a task."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input that is not blank."""

    number: int
    """From 1, as editors count."""
    content: bytes


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What has been done."""

    num_answers: int
    """In the whole output."""
    num_resumed: int
    """Lines that an earlier, interrupted command had done."""
    errors: tuple[str, ...]
    """``file:line: reason`` of each line without an answer."""


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What is asked of every line."""

    adapter: Choice
    """For lines that name none."""
    scores: bool = False
    """Also write the log-probability, and the probabilities of labels."""
    max_proposals: int | None = None
    """Propose what can be asked of each line, in place of an answer."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Input of the task -> the field's name in the lines, where they differ."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Generation parameters in place of the adapters' own; those of a line come before them."""


class _Job(NamedTuple):
    """What is asked for a line, and the record that takes the answer."""

    record: dict[str, Any]
    text: Text
    adapter: Choice
    params: Params


def answer_batch(
    router: Router,
    source: Path,
    target: Path,
    options: BatchOptions,
    *,
    identity: str = "",
    progress: bool = False,
) -> BatchReport:
    """Answer every line of ``source`` into ``target``; ``target`` appears when it is whole.

    A line that cannot be answered gets its error, whatever is wrong with it; the others are answered.

    Args:
        identity: whatever else the answers depend on (the adapter's version): a file begun under another one is
            not continued.
        progress: show a bar when stderr is a terminal.

    Raises:
        DataError: the source cannot be read, the target exists or cannot be written, or another job's unfinished
            file, or one that was edited, lies beside it.
        BusyError: another process writes this target.
    """
    content = _read(source)
    contents = [line.removeprefix(codecs.BOM_UTF8) for line in _LINE_END.split(content)]
    lines = [Line(n, line) for n, line in enumerate(contents, start=1) if line.strip()]
    if not lines:
        raise DataError(f"{source}: the file has no lines.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with sole_owner(target.with_name(f".{target.name}.lock"), f"the output {target}"):
            partial = _partial(target, f"{_job(content, options)}{identity}")
            return _answer_lines(router, source, lines, partial, target, options, progress)
    except OSError as error:
        raise DataError(
            f"{shorten(str(target), 300)} cannot be written: {error.strerror or error}.\n"
            "Make room or give write permission, or name another output; the same command then goes on."
        ) from error


def _read(source: Path) -> bytes:
    try:
        if not source.is_file():
            raise DataError(f"{shorten(str(source), 300)}: no such file.")
        if source.suffix.lower() in (".csv", ".tsv", ".parquet"):
            raise DataError(
                f"{source}: a batch file is JSON lines: a text in quotes, or an object of inputs, a line.\n"
                "Convert the table first (pandas: to_json(path, orient='records', lines=True))."
            )
        content = unpacked(source, source.read_bytes())
    except OSError as error:
        raise DataError(f"{shorten(str(source), 300)} cannot be read: {error.strerror or error}.") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{source}: not UTF-8, but UTF-16. Convert it first: iconv -f utf-16 -t utf-8")
    return content.removeprefix(codecs.BOM_UTF8)


def _job(content: bytes, options: BatchOptions) -> str:
    """All that answers depend on, but the adapter's version."""
    values = [options.adapter, options.scores, options.max_proposals, dict(options.columns)]
    values += [dict(options.params)] if options.params else []  # a job of before there were any goes on
    return f"{hashlib.sha256(content).hexdigest()} {json.dumps(values)} "


def _partial(target: Path, job: str) -> Path:
    """Where the output grows; 12 hex digits of its name stand for the job."""
    if target.exists():
        raise DataError(f"{target} exists. Remove it, or name another output.")
    partial = target.with_name(f"{target.name}.{hashlib.sha256(job.encode()).hexdigest()[:12]}.partial")
    if others := [path for path in target.parent.glob(f"{escape(target.name)}.*.partial") if path != partial]:
        raise DataError(
            f"{others[0]} is the unfinished output of another job (another input, adapter or option).\n"
            "Finish that one with its own command, or remove the file."
        )
    return partial


def _answer_lines(
    router: Router,
    source: Path,
    lines: Sequence[Line],
    partial: Path,
    target: Path,
    options: BatchOptions,
    progress: bool,
) -> BatchReport:
    done = _repair(partial, lines)
    errors = [record["error"] for record in done if "error" in record]
    with partial.open("ab") as file, _bar(len(lines), len(done), progress) as bar:
        for start in range(len(done), len(lines), _PORTION):
            portion = lines[start : start + _PORTION]
            records = list(_answers(router, source, portion, options))
            file.write(b"".join(_dumps(record) + b"\n" for record in records))
            file.flush()
            os.fsync(file.fileno())
            errors += [record["error"] for record in records if "error" in record]
            bar.update(len(portion))
    os.replace(partial, target)
    return BatchReport(len(lines) - len(errors), len(done), tuple(errors))


def _dumps(record: Mapping[str, Any]) -> bytes:
    """JSON, UTF-8; what a path has of bytes that are no UTF-8 becomes an escape."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _repair(partial: Path, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The records that are there; what a kill left half-written is cut off."""
    if not partial.is_file():
        return []
    content = partial.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    records = []
    for place, text in enumerate(whole.split(b"\n")[:-1]):
        wanted = lines[place].number if place < len(lines) else None
        records.append(_record(partial, place + 1, text, wanted))
    if len(whole) < len(content):
        with partial.open("r+b") as file:
            file.truncate(len(whole))
    return records


def _record(partial: Path, number: int, text: bytes, wanted: int | None) -> dict[str, Any]:
    """A record as this module writes it. Raises DataError for anything else."""
    try:
        record = parse_json(text)
        problem = "no record of a line of the input"
    except DocumentError as error:
        record, problem = None, str(error)
    if (
        isinstance(record, dict)
        and record.get("line") == wanted is not None
        and isinstance(record.get("error", ""), str)
        and record.keys() & {"error", "answer", "questions"}
    ):
        return record
    raise DataError(
        f"{partial}:{number}: this unfinished output has been edited: {problem}.\n"
        f"  expected  the answer to line {wanted} of the input, as it was written\n"
        "Undo the edit and run the same command, or remove the file to begin anew."
    )


def _answers(
    router: Router, source: Path, lines: Sequence[Line], options: BatchOptions
) -> Iterator[dict[str, Any]]:
    """One record a line, in order."""
    records: list[dict[str, Any]] = []
    good: list[_Job] = []
    for line in lines:
        record: dict[str, Any] = {"line": line.number}
        records.append(record)
        try:
            record["input"] = parse_json(line.content)
            good.append(_Job(record, *_request(router, record["input"], options)))
        except DocumentError as error:
            record["error"] = f"{source}:{line.number}: not valid JSON: {error}"
        except FlanLoraError as error:
            record["error"] = f"{source}:{line.number}: {error}"
    _fill(router, source, good, options)
    yield from records


def _request(router: Router, value: Any, options: BatchOptions) -> tuple[Text, Choice, Params]:
    """A line's text or inputs, its adapter, and its generation parameters."""
    if isinstance(value, str):
        return value, options.adapter, options.params
    if not isinstance(value, dict):
        raise DataError(f"expected a text or an object of inputs (got {type(value).__name__})")
    adapter: Any = value.get("adapter", options.adapter)
    if options.max_proposals is not None and not isinstance(adapter, str):
        raise DataError(f'to propose, "adapter" must be the name of one adapter (got {json.dumps(adapter)})')
    own = value.get("parameters") or {}
    if not isinstance(own, dict) or (own and options.max_proposals is not None):
        raise DataError(f'"parameters" are an object of generation parameters, not to propose (got {shown(own)})')
    params = {**options.params, **own}
    mix = mix_of(adapter)
    names = _inputs(router, adapter, mix, value, options)
    inputs: dict[str, Any] = {name: _field(value, options.columns.get(name, name)) for name in names}
    if not inputs or not all(isinstance(text, str) for text in inputs.values()):
        expected = ", ".join(options.columns.get(name, name) for name in names) or "of a task"
        raise DataError(f"expected the text inputs {expected} (got {', '.join(value) or 'nothing'})")
    if len(names) == 1:
        return inputs[names[0]], adapter, params
    optional = router.optional_inputs(heaviest(mix)) if adapter != AUTO and mix else ()
    return inputs | {name: value[name] for name in optional if name in value}, adapter, params


def _field(value: Mapping[str, Any], name: str) -> Any:
    """A field of a line, as training reads a column: by its name, else by the only one that is spelt nearly so."""
    return value.get(name if name in value else same_name(name, value) or name)


def _inputs(
    router: Router, adapter: Choice, mix: Mapping[str, float], value: Mapping[str, Any], options: BatchOptions
) -> Sequence[str]:
    """Which inputs a line shall have: those of its adapter's task; for "auto" all of its fields."""
    if adapter == AUTO:
        own = {column: name for name, column in options.columns.items()}
        return [own.get(name, name) for name in value if name not in _NOT_INPUTS]
    if not mix:
        return ("text",)
    names = router.inputs(heaviest(mix))
    return names[:1] if options.max_proposals is not None else names


def _fill(router: Router, source: Path, jobs: Sequence[_Job], options: BatchOptions) -> None:
    """Answer the records in one batch; if that is refused, in halves, so that only the guilty go without."""
    if not jobs:
        return
    try:
        answered = _answered(router, jobs, options)
    except FlanLoraError as error:
        if len(jobs) == 1:
            jobs[0].record["error"] = f"{source}:{jobs[0].record['line']}: {error}"
            return
        middle = len(jobs) // 2
        _fill(router, source, jobs[:middle], options)
        _fill(router, source, jobs[middle:], options)
        return
    for job, values in zip(jobs, answered, strict=True):
        job.record.update(values)


def _answered(router: Router, jobs: Sequence[_Job], options: BatchOptions) -> list[dict[str, Any]]:
    """What is written of each text."""
    if options.max_proposals is None:
        completions = router.generate(
            [job.text for job in jobs],
            [job.adapter for job in jobs],
            params=[job.params for job in jobs],
            label_probabilities=options.scores,
        )
        return [answer_values(completion, options.scores) for completion in completions]
    found = [router.propose(str(job.text), str(job.adapter), max_proposals=options.max_proposals) for job in jobs]
    return [{"questions": [proposal_values(item) for item in items]} for items in found]


def answer_values(completion: Completion, scores: bool) -> dict[str, Any]:
    """An answer as JSON has it."""
    values: dict[str, Any] = {"adapter": completion.adapter, "answer": completion.text}
    if completion.alternatives:
        values["alternatives"] = list(completion.alternatives)
    if completion.route is not None:
        values["reason"] = completion.route.reason
    if scores:
        values["log_prob"] = completion.log_prob
        values["mean_log_prob"] = completion.mean_log_prob
        if completion.label_probabilities is not None:
            values["label_probabilities"] = dict(completion.label_probabilities)
    return values


def proposal_values(proposal: Proposal) -> dict[str, Any]:
    """A proposed question as JSON has it."""
    return {"question": proposal.completion.text, "answer": proposal.found, "score": proposal.sureness}


def _bar(total: int, initial: int, progress: bool) -> Any:
    from tqdm import tqdm

    visible = progress and sys.stderr.isatty()
    return tqdm(total=total, initial=initial, desc="answers", unit="line", disable=not visible, leave=False)
