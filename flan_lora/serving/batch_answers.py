"""Lines of a batch file -> records of their answers: whatever is wrong with a line is that line's error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flan_lora.errors import DataError, FlanLoraError
from flan_lora.serving.completion import AUTO, Choice, Completion, Text, heaviest, mix_of
from flan_lora.serving.params import Params
from flan_lora.serving.propose import Proposal
from flan_lora.serving.router import Router
from flan_lora.system.documents import DocumentError, parse_json
from flan_lora.system.text import same_name, shown

_NOT_INPUTS = ("adapter", "id", "parameters")
"""Fields of a line that are no inputs of a task."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input that is not blank, or a row of a table as JSON."""

    number: int
    """From 1, as editors count; of a table its rows."""
    content: bytes


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


def answer_lines(
    router: Router, source: str, lines: Sequence[Line], options: BatchOptions
) -> Iterator[dict[str, Any]]:
    """One record a line, in order.

    Args:
        source: where the lines are from, for errors.
    """
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


def _fill(router: Router, source: str, jobs: Sequence[_Job], options: BatchOptions) -> None:
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
