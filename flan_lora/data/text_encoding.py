"""Bytes of a text file -> text."""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from flan_lora.errors import DataError
from flan_lora.system.file_signatures import unpacked

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_PROBE_BYTES = 4096
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")
_MAX_WESTERN_SHARE = 0.3
"""Of bytes from 0x80: few in Windows-1252, its accents and quotes; most of the bytes of Cyrillic or Chinese."""
_DECLARE = "Save the file as UTF-8, or set data.encoding to the encoding that it has."


def read_text(path: Path, encoding: str | None = None) -> str:
    """A whole file as text, unpacked if it is gzip's, without its byte order mark.

    Args:
        encoding: Python's name of it; none: what a byte order mark says, else UTF-8. Nothing is guessed.

    Raises:
        DataError: the file cannot be read, holds no text, or not in this encoding; with the line, and the encoding
            it looks like.
    """
    try:
        data = unpacked(path, path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    name = encoding or marked or "utf-8"
    try:
        text = data.decode(name)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        if name in ("utf-8", "utf-8-sig") and encoding is None:
            raise DataError(_not_utf8(path, data, error.start, line)) from error
        shown = data[error.start : error.start + 4].hex(" ")
        raise DataError(f"{path}:{line}: not {name} (bytes {shown}: {error.reason}).\n{_DECLARE}") from error
    except UnicodeError as error:  # codecs such as idna do not say where
        raise DataError(f"{path}: not {name} ({error}).\n{_DECLARE}") from error
    if encoding is None and marked is None and (guess := _unmarked_utf16(data)):
        raise DataError(
            f"{path}: every other byte is zero: it looks like {guess.upper()} without a byte order mark.\n"
            f"Save it as UTF-8, or read it so: --set data.encoding={guess}"
        )
    return text.removeprefix("\ufeff")


def _not_utf8(path: Path, data: bytes, place: int, line: int) -> str:
    """Which byte, and what the file looks like; a wrong guess would turn apostrophes into invisible characters."""
    byte = data[place]
    first = f"{path}:{line}: not UTF-8 (byte 0x{byte:02x}).\n"
    if _SURROGATE.match(data, place):
        return f"{first}Save it as UTF-8: this is half of an emoji (a lone surrogate), so no character. Drop it."
    if not data.decode("utf-8", "ignore").isascii():
        return (
            f"{first}Save it as UTF-8, all of it: other bytes of the file are UTF-8, so this line is damaged or "
            "was pasted from a file of another encoding."
        )
    try:
        character = data.decode("cp1252") and bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        character = ""
    is_western = sum(byte >= 0x80 for byte in data) <= _MAX_WESTERN_SHARE * len(data)
    if not character or not is_western:
        return f"{first}Save it as UTF-8, or name its encoding: --set data.encoding=NAME (gb18030, shift_jis, ...)"
    return (
        f"{first}Save it as UTF-8, or read it as Windows-1252, where this byte is {character!r} "
        f"({unicodedata.name(character, 'no character')}):\n"
        f"  --set data.encoding=cp1252\n"
        f"  iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8{path.suffix}"
    )


def _unmarked_utf16(data: bytes) -> str | None:
    """UTF-16 of mostly Latin text decodes as UTF-8 with a zero after, or before, each character."""
    probe = data[:_PROBE_BYTES]
    half = len(probe) // 2
    if half == 0 or 0 not in probe:
        return None
    if probe[1::2].count(0) > 0.7 * half:
        return "utf-16-le"
    return "utf-16-be" if probe[::2].count(0) > 0.7 * half else None
