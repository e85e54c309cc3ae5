"""A file of requests -> a file of answers: in the order of the input, resumable, with bad lines named.

    in:   "a text", or {"text": ...}, or the inputs of the adapter's task; "adapter" names another one for a line
    out:  {"line": 3, "input": ..., "adapter": "emotion", "answer": "joy"}, or "questions" where the adapter shall
          propose them, or "error" in place of either

While it grows, the output has another name, made of everything its answers depend on: the same command goes on
where a killed one stopped, and never in the file of another job. Knows files and a router; never a tensor.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flan_lora.errors import DataError, FlanLoraError
from flan_lora.serving.completion import AUTO, Choice, Completion, Text
from flan_lora.serving.propose import Proposal
from flan_lora.serving.router import Router

_PORTION = 128
"""Lines that are answered and then written: what a kill can cost."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input that is not blank."""

    number: int
    """From 1, as editors count."""
    content: str


@dataclass(frozen=True, slots=True)
class FileReport:
    """What has been done."""

    num_answers: int
    """In the whole output."""
    num_resumed: int
    """Lines that an earlier, interrupted command had done."""
    errors: tuple[str, ...]
    """``file:line: reason`` of each line without an answer."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of every line."""

    adapter: Choice
    """For lines that name none."""
    inputs: tuple[str, ...]
    """Of the adapter's task; of ("text",) where it has none."""
    scores: bool = False
    """Also write the log-probability, and the probabilities of labels."""
    max_proposals: int | None = None
    """Propose what can be asked of each line, in place of an answer."""


def answer_file(
    router: Router, source: Path, target: Path, ask: Ask, *, identity: str = "", progress: bool = False
) -> FileReport:
    """Answer every line of ``source`` into ``target``; ``target`` appears when it is whole.

    Args:
        identity: whatever else the answers depend on (the adapter's version): a file begun under another one is
            not continued.
        progress: show a bar when stderr is a terminal.

    Raises:
        DataError: the source cannot be read, the target exists, or another job's unfinished file lies beside it.
    """
    content = _read(source)
    lines = [Line(n, line) for n, line in enumerate(content.split("\n"), start=1) if line.strip()]
    if not lines:
        raise DataError(f"{source}: the file has no lines.")
    if target.exists():
        raise DataError(f"{target} exists. Remove it, or name another output.")
    partial = target.with_name(f"{target.name}.{_job(content, ask, identity)}.partial")
    if others := [path for path in target.parent.glob(f"{target.name}.*.partial") if path != partial]:
        raise DataError(
            f"{others[0]} is the unfinished output of another job (another input, adapter or option).\n"
            "Finish that one with its own command, or remove the file."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    num_done = _repair(partial, lines)
    with partial.open("a", encoding="utf-8", newline="\n") as file, _bar(len(lines), num_done, progress) as bar:
        for start in range(num_done, len(lines), _PORTION):
            portion = lines[start : start + _PORTION]
            for record in _answers(router, source, portion, ask):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            bar.update(len(portion))
    records = [json.loads(line) for line in partial.read_bytes().split(b"\n") if line]
    os.replace(partial, target)
    errors = tuple(record["error"] for record in records if "error" in record)
    return FileReport(len(records) - len(errors), num_done, errors)


def _read(source: Path) -> str:
    if not source.is_file():
        raise DataError(f"{source}: no such file.")
    try:
        return source.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 ({error.reason} at byte {error.start}). Convert it first.") from None


def _job(content: str, ask: Ask, identity: str) -> str:
    """12 hex digits over all that answers depend on."""
    values = [content, ask.adapter, ask.inputs, ask.scores, ask.max_proposals, identity]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]


def _repair(partial: Path, lines: Sequence[Line]) -> int:
    """Cut what a kill left half-written; how many lines are done."""
    if not partial.is_file():
        return 0
    whole = partial.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    numbers = [json.loads(line)["line"] for line in whole.split(b"\n") if line]
    if numbers != [line.number for line in lines[: len(numbers)]]:
        raise DataError(f"{partial} has been edited: its lines are not those of the input. Remove it.")
    with partial.open("r+b") as file:
        file.truncate(len(whole))
    return len(numbers)


def _answers(router: Router, source: Path, lines: Sequence[Line], ask: Ask) -> Iterator[dict[str, Any]]:
    """One record a line, in order."""
    records: list[dict[str, Any]] = []
    good: list[tuple[dict[str, Any], Text, Choice]] = []
    for line in lines:
        record: dict[str, Any] = {"line": line.number}
        records.append(record)
        try:
            record["input"] = json.loads(line.content)
            good.append((record, *_request(record["input"], ask)))
        except json.JSONDecodeError as error:
            record["error"] = f"{source}:{line.number}: not valid JSON ({error.msg}, column {error.colno})"
        except DataError as error:
            record["error"] = f"{source}:{line.number}: {error}"
    _fill(router, source, good, ask)
    yield from records


def _request(value: Any, ask: Ask) -> tuple[Text, Choice]:
    """A line's text or inputs, and its adapter."""
    if isinstance(value, str):
        return value, ask.adapter
    if not isinstance(value, dict):
        raise DataError(f"expected a text or an object of inputs (got {type(value).__name__})")
    adapter = value.get("adapter", ask.adapter)
    if ask.max_proposals is not None and not isinstance(adapter, str):
        raise DataError(f'to propose, "adapter" must be the name of one adapter (got {json.dumps(adapter)})')
    is_known = (adapter == ask.adapter and adapter != AUTO) or ask.max_proposals is not None
    names = ask.inputs if is_known else tuple(name for name in value if name not in ("adapter", "id"))
    missing = [name for name in names if not isinstance(value.get(name), str)]
    if missing or not names:
        raise DataError(f"expected the text inputs {', '.join(ask.inputs)} (got {', '.join(value) or 'nothing'})")
    return (value[names[0]] if len(names) == 1 else {name: value[name] for name in names}), adapter


def _fill(router: Router, source: Path, good: Sequence[tuple[dict[str, Any], Text, Choice]], ask: Ask) -> None:
    """Answer the records in one batch; if that is refused, in halves, so that only the guilty go without."""
    if not good:
        return
    records, texts, adapters = zip(*good, strict=True)
    try:
        answered = _answered(router, texts, adapters, ask)
    except FlanLoraError as error:
        if len(good) == 1:
            records[0]["error"] = f"{source}:{records[0]['line']}: {error}"
            return
        middle = len(good) // 2
        _fill(router, source, good[:middle], ask)
        _fill(router, source, good[middle:], ask)
        return
    for record, values in zip(records, answered, strict=True):
        record.update(values)


def _answered(router: Router, texts: Sequence[Text], adapters: Sequence[Choice], ask: Ask) -> list[dict[str, Any]]:
    """What is written of each text."""
    if ask.max_proposals is None:
        completions = router.generate(list(texts), list(adapters), label_probabilities=ask.scores)
        return [answer_values(completion, ask.scores) for completion in completions]
    found = [
        router.propose(str(text), str(adapter), max_proposals=ask.max_proposals)
        for text, adapter in zip(texts, adapters, strict=True)
    ]
    return [{"questions": [proposal_values(item) for item in items]} for items in found]


def answer_values(completion: Completion, scores: bool) -> dict[str, Any]:
    """An answer as JSON has it."""
    values: dict[str, Any] = {"adapter": completion.adapter, "answer": completion.text}
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
