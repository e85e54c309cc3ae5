"""CSV text -> rows, as spreadsheets and pandas write it.

Read besides plain CSV: Excel's first line ``sep=;``, semicolons, tabs or bars where the header and every row say
so, columns without a name or a value (spreadsheets keep empty ones), rows of empty cells, cells of any length.
Values stay strings.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from flan_lora.errors import DataError
from flan_lora.system.text import shorten

_SEP_LINE = re.compile(r'"?sep=([^\r\n])"?[ \t]*(?:\r\n|\r|\n)', re.IGNORECASE)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""With its end, of any system; not splitlines(), which ends lines at U+2028 too."""
_MAX_CELL_CHARS = 2**31 - 1
"""What the csv module takes on every platform; its own limit, 131,072, is less than a long document."""
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ADVICE = 'Put fields that hold a quote or a line break between quotes, and double the quotes inside: "".'


class Record(NamedTuple):
    """One record of the file; a quoted field may span lines."""

    first_line: int
    last_line: int
    values: list[str]


def parse_csv(path: Path, text: str, delimiter: str = ",") -> list[dict[str, Any]]:
    """Rows under the names of the header. Raises DataError with the line; a quote's is where it opens.

    Args:
        delimiter: of a file that does not say another one, by ``sep=`` or by a header that is no table without.
    """
    first_line = 1
    if match := _SEP_LINE.match(text):
        delimiter, text, first_line = match[1], text[match.end() :], 2
    elif (seen := _seen_delimiters(text, delimiter)) and not _is_column(text, delimiter, seen):
        return _read_as_seen(path, text, seen)
    return _rows(path, text, delimiter, first_line)


def _rows(path: Path, text: str, delimiter: str, first_line: int = 1) -> list[dict[str, Any]]:
    records = _records(path, text, delimiter, first_line)
    if not records:
        return []
    header = [name.strip() for name in records[0].values]
    if len(records) == 1:
        raise DataError(
            f"{path}: the file has no rows, only a header ({shorten(', '.join(header), 300)}).\nAdd rows to it."
        )
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
    _check_no_second_header(path, records)
    return [{header[place]: row[place] for place in kept} for row in rows]


def _seen_delimiters(text: str, delimiter: str) -> list[str]:
    """Other delimiters of a header that is one field by its own: they make a table of it."""
    if len(_header(text, delimiter)) != 1:
        return []
    return [other for other in _DELIMITERS if other != delimiter and len(_header(text, other)) > 1]


def _header(text: str, delimiter: str) -> list[str]:
    """Fields of the first record that is not empty; none where it is no CSV."""
    with suppress(csv.Error), _cells_of_any_length():
        lines = (match[0] for match in _LINE.finditer(text))
        records = csv.reader(lines, delimiter=delimiter, strict=True)
        return next((found for found in records if any(map(str.strip, found))), [])
    return []


def _is_column(text: str, delimiter: str, seen: Sequence[str]) -> bool:
    """Whether the file is one column by its own delimiter, in whose rows the others that were seen are not."""
    with suppress(csv.Error), _cells_of_any_length():
        records = [row for row in csv.reader(_LINE.findall(text), delimiter=delimiter, strict=True) if any(row)]
        is_narrow = all(len(row) == 1 for row in records)
        return is_narrow and not any(other in row[0] for row in records[1:] for other in seen)
    return False


def _read_as_seen(path: Path, text: str, seen: Sequence[str]) -> list[dict[str, Any]]:
    """A table by the only delimiter that fits every row. Raises DataError where none does, or several."""
    found: list[list[dict[str, Any]]] = []
    errors: list[DataError] = []
    for delimiter in seen:
        try:
            found.append(_rows(path, text, delimiter))
        except DataError as error:
            errors.append(error)
    if len(found) == 1:
        return found[0]
    names = " or ".join(_DELIMITERS[delimiter] for delimiter in seen)
    if not found:
        raise DataError(f"{errors[0]}\nThe fields were read as separated by {names}, as those of the header are.")
    raise DataError(
        f"{path}: separated by {names}: the header and every row fit each of them.\n"
        "Say which in a first line of its own, such as sep=;"
    )


def _check_no_second_header(path: Path, records: Sequence[Record]) -> None:
    """Two files that were put into one would give a row of column names."""
    header = records[0].values
    for record in records[1:] if len(header) > 1 else ():
        if record.values == header:
            raise DataError(
                f"{path}:{record.first_line}: the header stands here again: are these two files in one?\n"
                "Remove this line."
            )


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
