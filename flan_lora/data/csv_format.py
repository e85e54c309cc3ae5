"""CSV text -> rows, as spreadsheets and pandas write it.

Read besides plain CSV: Excel's first line ``sep=;``, columns without a name or a value (spreadsheets keep empty
ones), rows of empty cells, cells of any length. Values stay strings.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from flan_lora.errors import DataError

_SEP_LINE = re.compile(r'"?sep=([^\r\n])"?[ \t]*(?:\r\n|\r|\n)', re.IGNORECASE)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""With its end, of any system; not splitlines(), which ends lines at U+2028 too."""
_MAX_CELL_CHARS = 2**31 - 1
"""What the csv module takes on every platform; its own limit, 131,072, is less than a long document."""
_ADVICE = 'Put fields that hold a quote or a line break between quotes, and double the quotes inside: "".'


class Record(NamedTuple):
    """One record of the file; a quoted field may span lines."""

    first_line: int
    last_line: int
    values: list[str]


def parse_csv(path: Path, text: str, delimiter: str = ",") -> list[dict[str, Any]]:
    """Rows under the names of the header. Raises DataError with the line; a quote's is where it opens."""
    first_line = 1
    if match := _SEP_LINE.match(text):
        delimiter, text, first_line = match[1], text[match.end() :], 2
    records = _records(path, text, delimiter, first_line)
    if not records:
        return []
    header = [name.strip() for name in records[0].values]
    rows = [_fitted(path, record, header) for record in records[1:]]
    kept = [place for place, name in enumerate(header) if name or any(row[place].strip() for row in rows)]
    names = [header[place] for place in kept]
    if names.count("") > 1:
        raise DataError(
            f"{path}:{records[0].first_line}: {names.count('')} columns with values have no name in the header "
            f"({', '.join(filter(None, names))}).\nName them, or empty them."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}:{records[0].first_line}: the header names {', '.join(map(repr, twice))} twice.")
    return [{header[place]: row[place] for place in kept} for row in rows]


def _records(path: Path, text: str, delimiter: str, first_line: int) -> list[Record]:
    """All records that are not empty."""
    reader = csv.reader(_LINE.findall(text), delimiter=delimiter, strict=True)
    records: list[Record] = []
    start = first_line
    with _cells_of_any_length():
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return records
            except csv.Error as error:
                raise _malformed(path, text, delimiter, (first_line, start), error) from error
            end = reader.line_num + first_line - 1
            if any(value.strip() for value in values):
                records.append(Record(start, end, values))
            start = end + 1


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """The limit is the module's, not the reader's: whoever else reads CSV in this process gets theirs back."""
    before = csv.field_size_limit(_MAX_CELL_CHARS)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _fitted(path: Path, record: Record, header: list[str]) -> list[str]:
    """A record's values, one for each name of the header; what is missing or too much must be empty cells."""
    values, num_missing = record.values, len(header) - len(record.values)
    if not any(header[len(values) :]) and not any(value.strip() for value in values[len(header) :]):
        return [*values[: len(header)], *[""] * num_missing]
    spans = (
        f"The record spans lines {record.first_line} to {record.last_line}: is a closing quote missing?\n"
        if record.last_line > record.first_line
        else ""
    )
    raise DataError(
        f"{path}:{record.first_line}: {len(values)} fields, but the header has {len(header)} "
        f"({', '.join(header)}).\n"
        f"{spans}A field that contains the delimiter must stand between quotes."
    )


def _malformed(path: Path, text: str, delimiter: str, lines: tuple[int, int], error: csv.Error) -> DataError:
    """The error of the record that begins in the second of ``lines``; the text itself begins in the first."""
    first_line, start = lines
    breaks = [match.end() for match in re.finditer(r"\r\n|\r|\n", text)]
    begin = breaks[start - first_line - 1] if start > first_line else 0
    opened, closed = _last_quote(text, begin, delimiter)

    def line_of(place: int) -> int:
        return first_line + sum(1 for end in breaks if end <= place)

    if opened is None:
        return DataError(f"{path}:{start}: not valid CSV ({error}).\n{_ADVICE}")
    if closed is None:
        reason = f"the quote that opens here is never closed; the file ends in line {line_of(len(text.rstrip()))}"
    elif line_of(closed) > line_of(opened):
        reason = f"the quote that opens here is closed only in line {line_of(closed)}, in front of more text"
    else:
        reason = str(error)
    return DataError(f"{path}:{line_of(opened)}: not valid CSV ({reason}).\n{_ADVICE}")


def _last_quote(text: str, begin: int, delimiter: str) -> tuple[int | None, int | None]:
    """Where the quoted field opens, and closes, at which a strict reader stops; none: at another fault."""
    opened: int | None = None
    place, at_start = begin, True
    while place < len(text):
        character = text[place]
        if at_start and character == '"':
            opened = place
            closing = re.compile('(?:[^"]|"")*').match(text, place + 1)
            place = closing.end() if closing else len(text)
            if place >= len(text):
                return opened, None
            after = text[place + 1 : place + 2]
            if after not in ("", delimiter, "\r", "\n"):
                return opened, place
            at_start = False
        else:
            at_start = character in (delimiter, "\r", "\n")
        place += 1
    return None, None
