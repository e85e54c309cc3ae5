"""How a file writes its labels: by name or by place, and never both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flan_lora.data.file_formats import Row
from flan_lora.errors import DataError
from flan_lora.tasks.labels import Reading, read_label
from flan_lora.tasks.task import Task

_HOW: dict[Reading, str] = {"name": "by name", "index": "by number"}


def label_readings(rows: Sequence[Row], task: Task, where: str) -> dict[str, Reading]:
    """Column -> how its labels are written; values that are no label are left to the task, which refuses them.

    Raises:
        DataError: one column has names and numbers: in some rows a number may not be meant as a place.
    """
    return {
        column: reading
        for column, labels in task.label_columns.items()
        if (reading := _reading(rows, column, labels, where)) is not None
    }


def describe_readings(readings: Mapping[str, Reading], task: Task) -> list[str]:
    """One line per column, for people: which reading was taken, and of numbers what each one means."""
    lines = []
    for column, reading in readings.items():
        labels = task.label_columns[column]
        meant = ", ".join(f"{place} = {label}" for place, label in enumerate(labels))
        lines.append(f"column {column!r} is read {_HOW[reading]}" + (f": {meant}" if reading == "index" else ""))
    return lines


def _reading(rows: Sequence[Row], column: str, labels: Sequence[str], where: str) -> Reading | None:
    found: dict[Reading, list[int]] = {"name": [], "index": []}
    for number, row in enumerate(rows, start=1):
        if (label := read_label(row.get(column), labels)) is not None:
            found[label.reading].append(number)
    used = [reading for reading, numbers in found.items() if numbers]
    if len(used) < 2:
        return used[0] if used else None
    counts = "\n".join(
        f"  {_HOW[reading]:<9} {len(found[reading]):>6} rows, e.g. row {_few(found[reading])}" for reading in used
    )
    raise DataError(
        f"{where}: column {column!r} has labels by name and by number: a number may not mean a place.\n{counts}\n"
        f"Write all of them by name: {', '.join(labels)} (rows are numbered from 1, header not counted)."
    )


def _few(numbers: Sequence[int], num_shown: int = 3) -> str:
    return ", ".join(map(str, numbers[:num_shown])) + (", ..." if len(numbers) > num_shown else "")
