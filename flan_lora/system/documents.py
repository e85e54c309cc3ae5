"""Text of a YAML or JSON file -> plain values, whoever wrote it: none can hang, exhaust memory or run code.

What comes out is made of mappings with text keys, lists, texts, numbers, truth values and null, at most
`MAX_DEPTH` deep. Everything else is a `DocumentError` that says where.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import yaml

MAX_DEPTH = 32
"""Of nested mappings and lists; a recipe has 5, a manifest 6."""
MAX_YAML_CHARACTERS = 100_000
"""The longest recipe that ships has 3,000; PyYAML reads 20,000 to 200,000 a second."""
MAX_YAML_VALUES = 5_000
"""Aliases count as what they stand for, so that a file of ten lines cannot stand for a thousand million."""
MAX_JSON_VALUES = 2_000_000
"""A manifest has about 200."""
_MAX_DIGITS = 400
_MERGE = "tag:yaml.org,2002:merge"
_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null"))
_KINDS = {"timestamp": "a date", "binary": "bytes", "set": "a set", "omap": "an ordered map", "pairs": "pairs"}


class DocumentError(ValueError):
    """A text that is not plain values; ``problems`` has a line for each thing that is wrong, with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def parse_yaml(text: str) -> Any:
    """The plain values of one YAML document; None of an empty one.

    Raises:
        DocumentError: not YAML, a key that stands twice or is no text, a value that JSON does not have (a date, a
            set, bytes, infinity), too deep, or too large once every alias is written out.
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise DocumentError([f"{len(text):,} characters; at most {MAX_YAML_CHARACTERS:,} are read"])
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        value = None if node is None else loader.plain(node)
    except yaml.YAMLError as error:
        raise DocumentError([str(error)]) from error
    finally:
        loader.dispose()
    if loader.problems:
        raise DocumentError(loader.problems)
    return value


def parse_json(content: bytes | str) -> Any:
    """The plain values of a JSON text, UTF-8.

    Raises:
        DocumentError: not JSON or not UTF-8, a key that stands twice, a number that is not finite or
            no 64-bit integer, half of a surrogate pair, too deep or too large.
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)
    except RecursionError:
        raise DocumentError([_too_deep()]) from None
    except ValueError as error:
        raise DocumentError([str(error)]) from error
    if problem := _not_plain(value):
        raise DocumentError([problem])
    return value


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner, parser and scalars; depth, aliases, keys and kinds of values are ours.

    PyYAML builds what aliases stand for again and again, recurses as deep as a text asks, and keeps the last of
    two equal keys.
    """

    def __init__(self, text: str) -> None:
        self.problems: list[str] = []
        self._depth = 0
        self._num_values = 0
        try:
            super().__init__(text)
        except yaml.YAMLError as error:  # control characters
            raise DocumentError([str(error)]) from error

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node of the text; stops where PyYAML would recurse until Python's stack ends."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise DocumentError([_too_deep(_line(event))])
        self._count(event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def plain(self, node: Any, depth: int = 1) -> Any:
        """The values of a node; what is wrong on the way is collected in ``problems``."""
        self._count(node)
        if depth > MAX_DEPTH:
            raise DocumentError(
                [f"{_too_deep(_line(node))}; an alias stands inside what it stands for, or nearly"]
            )
        if isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq"):
            return [self.plain(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag.endswith(":map"):
            return self._mapping(node, depth)
        if isinstance(node, yaml.ScalarNode) and node.tag in _PLAIN:
            return self._scalar(node)
        kind = _KINDS.get(node.tag.rpartition(":")[2], f"of the type {node.tag!r}")
        self.problems.append(f"{_line(node)}: a value that is {kind}; write it in quotes, as a text")
        return None

    def _count(self, node: Any) -> None:
        """Stop at too many values: of the text while it is read, then of what its aliases stand for."""
        self._num_values += 1
        if self._num_values > 2 * MAX_YAML_VALUES:  # each is met twice
            raise DocumentError(
                [f"{_line(node)}: over {MAX_YAML_VALUES:,} values, what aliases stand for included"]
            )

    def _mapping(self, node: Any, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = {**self._merged(value_node, depth), **merged}
                continue
            key, value = self.plain(key_node, depth + 1), self.plain(value_node, depth + 1)
            if not isinstance(key, str):
                self.problems.append(f"{_line(key_node)}: the key {_shown(key)} is no text; write it in quotes")
            elif key in own:
                self.problems.append(f"{_line(key_node)}: {key!r} stands twice, first in line {lines[key]}")
            else:
                own[key], lines[key] = value, key_node.start_mark.line + 1
        return {**merged, **own}

    def _merged(self, node: Any, depth: int) -> dict[str, Any]:
        """What ``<<: *other`` brings in; of several the first that has a key wins (yaml.org/type/merge)."""
        value = self.plain(node, depth + 1)
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            self.problems.append(f"{_line(node)}: '<<' takes mappings")
            return {}
        return {key: item for part in reversed(parts) for key, item in part.items()}

    def _scalar(self, node: Any) -> Any:
        is_number = node.tag.endswith((":int", ":float"))
        if is_number and len(node.value) > _MAX_DIGITS:  # 1:2:3:... takes PyYAML quadratic time
            self.problems.append(
                f"{_line(node)}: a number of {len(node.value):,} characters; write a text in quotes"
            )
            return None
        try:
            value = self.construct_object(node)
        except (ValueError, OverflowError, IndexError, KeyError) as error:  # `!!float x`, `!!int ""`, `!!bool x`
            self.problems.append(
                f"{_line(node)}: {_shown(node.value)} is no {node.tag.rpartition(':')[2]}: {error}"
            )
            return None
        if problem := _not_plain(value):
            self.problems.append(f"{_line(node)}: {problem}")
            return None
        return value


def _line(node: Any) -> str:
    return f"line {node.start_mark.line + 1}"


def _too_deep(place: str = "") -> str:
    return f"{place}{': ' if place else ''}nested more than {MAX_DEPTH} deep"


def _shown(value: Any) -> str:
    """A value in one short line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {_shown(double)} stands twice in one object")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _not_plain(value: Any) -> str:
    """The first thing that is wrong with values; empty when nothing is. Walks without recursion."""
    left, num_values = [(value, 1)], 0
    while left:
        item, depth = left.pop()
        num_values += 1
        if depth > MAX_DEPTH:
            return _too_deep()
        if num_values > MAX_JSON_VALUES:
            return f"over {MAX_JSON_VALUES:,} values"
        if isinstance(item, dict):
            left += [(part, depth) for part in item] + [(part, depth + 1) for part in item.values()]
        elif isinstance(item, list):
            left += [(part, depth + 1) for part in item]
        elif isinstance(item, str) and not item.isascii() and _has_surrogate(item):
            return f"the text {_shown(item)} has half of a surrogate pair, which is no character"
        elif isinstance(item, float) and not math.isfinite(item):
            return f"the number {item} is not finite"
        elif isinstance(item, int) and abs(item) >= 1 << 63:
            return f"the number {_shown(item)} does not fit 64 bits"
    return ""


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
