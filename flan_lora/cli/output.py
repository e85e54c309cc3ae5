"""How the command line prints: aligned tables, numbers with units, JSON. Knows text only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """Print anything made of dataclasses, pydantic models, mappings, sequences, paths and scalars."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> None:
    """Print aligned columns; a column whose cells are all numbers is aligned right."""
    click.echo(format_table(header, rows, indent=indent))


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> str:
    """Aligned text, one line a row, two spaces between columns; no header when all its cells are empty."""
    lines = [[str(cell) for cell in row] for row in ([header, *rows] if any(header) else rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [bool(rows) and all(_is_number(str(row[i])) for row in rows) for i in range(len(widths))]
    return "\n".join(
        indent
        + "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def size(size_bytes: float) -> str:
    """Bytes as a person reads them, in powers of 1000: ``18.9 MB``."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.{0 if unit == 'B' else 1}f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.2f} GB"


def duration(seconds: float) -> str:
    """Seconds as a person reads them: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage: ``3.2 %``."""
    return f"{100 * share:.1f} %"


def _is_number(text: str) -> bool:
    """Whether a cell reads as a number, units and separators aside; an empty cell does not decide."""
    return text in ("", "-") or text[0].isdigit() or (text[0] == "-" and text[1:2].isdigit())


def _plain(value: Any) -> Any:
    """JSON types only."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
