"""Saved answers, one row a line: what a predictor said to each example of a split.

What was answered once can be scored, compared and shown again without running anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flan_lora.errors import DataError
from flan_lora.system.files import replace_file


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row of an evaluation, as it is saved. Fields that were not measured are None and not written."""

    key: str
    source: str
    """The example's first input, raw."""
    prediction: str
    """The parsed answer that is scored."""
    references: tuple[str, ...]
    raw: str
    """What the model wrote, before ``Task.parse``."""
    num_tokens: int | None = None
    """Generated, eos included."""
    latency_s: float | None = None
    """Of this row alone, from its token ids to its last token; seconds."""
    label_probabilities: Mapping[str, float] | None = None
    """Of a classification's labels; they add up to 1."""


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Save the answers as JSONL, one Prediction a line, UTF-8; a crash leaves the old file or the new one."""
    lines = []
    for prediction in predictions:
        row = {field: getattr(prediction, field) for field in Prediction.__slots__}
        kept = {field: value for field, value in row.items() if value is not None}
        lines.append(json.dumps(kept, ensure_ascii=False) + "\n")
    replace_file(Path(path), "".join(lines).encode())


def read_predictions(path: Path) -> tuple[Prediction, ...]:
    """What `write_predictions` saved, in its order.

    Raises:
        DataError: no such file, no rows, a line that is no prediction, or a key that stands twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would cut at U+2028 inside a text
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}.\nGive a file that --predictions wrote, or a run's folder."
        ) from error
    found = tuple(_parse(path, number, line) for number, line in enumerate(lines, 1) if line.strip())
    if not found:
        raise DataError(f"{path} has no predictions: the file is empty.\nWrite it again (--predictions).")
    if doubles := [key for key, count in Counter(item.key for item in found).items() if count > 1]:
        raise DataError(
            f"{path}: {len(doubles)} keys stand more than once (first: {doubles[0]!r}): rows cannot be paired.\n"
            "Keep one line for each row."
        )
    return found


_TYPES: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "source": (str,),
    "prediction": (str,),
    "references": (list,),
    "raw": (str,),
    "num_tokens": (int,),
    "latency_s": (int, float),
    "label_probabilities": (dict,),
}
_OPTIONAL = {"raw", "num_tokens", "latency_s", "label_probabilities"}
"""Predictions of other programs need only a key, the source, the answer and the references."""


def _parse(path: Path, number: int, line: str) -> Prediction:
    """One line, or an error that says which and why."""
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise _not_a_prediction(path, number, f"not JSON ({error})") from error
    if not isinstance(row, dict):
        raise _not_a_prediction(path, number, f"a {type(row).__name__}, not an object")
    if missing := sorted(_TYPES.keys() - _OPTIONAL - row.keys()):
        raise _not_a_prediction(path, number, f"no {', '.join(missing)}")
    values = {name: row[name] for name in _TYPES if row.get(name) is not None}
    wrong = [name for name, value in values.items() if not isinstance(value, _TYPES[name])]
    references = values.get("references")
    if not wrong and (not references or not all(isinstance(text, str) for text in references)):
        wrong = ["references"]
    if wrong:
        raise _not_a_prediction(path, number, f"{wrong[0]} is {row.get(wrong[0])!r}")
    values["references"] = tuple(values["references"])
    return Prediction(**{"raw": values["prediction"], **values})


def _not_a_prediction(path: Path, number: int, got: str) -> DataError:
    return DataError(
        f"{path}, line {number}: {got}.\n"
        '  expected  {"key": "...", "source": "...", "prediction": "...", "references": ["..."]} and what else '
        "--predictions writes\nWrite the file again, or correct the line."
    )
