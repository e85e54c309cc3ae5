"""Regular expressions of an adapter's config, matched to the names of linears in bounded time.

PEFT hands them to `re`, whose backtracking takes for ever on ``(a+)+b``. Here the same expressions, parsed by the
standard library, are matched by sets of positions: what can end where, from where, once each. The answer is the
one of `re`, because only whether an expression matches is asked, never which of several ways. Where `re`
cannot take long, because nothing repeats inside a repeat, it is asked itself: it is a hundred times as fast.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flan_lora.errors import AdapterError
from flan_lora.system.text import shown

MAX_PATTERN_CHARACTERS = 2_000
_MAX_DEPTH = 40
"""Of nested groups."""
_MAX_STEPS = 100_000
"""Of position sets, for one name: half a second. A list of 400 names in brackets takes 1,000."""
_FEW_STEPS = 200_000
"""Of `re`, for one name: a millisecond."""
_LONG_NAME = 70
_sre: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
_CATEGORIES: Mapping[str, Callable[[str], bool]] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_NOT_DIGIT": lambda c: not c.isdecimal(),
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda c: not c.isspace(),
    "CATEGORY_WORD": lambda c: c.isalnum() or c == "_",
    "CATEGORY_NOT_WORD": lambda c: not (c.isalnum() or c == "_"),
}
_REFUSED = {
    "GROUPREF": "a backreference",
    "GROUPREF_EXISTS": "a condition on a group",
    "POSSESSIVE_REPEAT": "a possessive repeat",
    "ATOMIC_GROUP": "an atomic group",
}
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
_LOOKS = ("ASSERT", "ASSERT_NOT")


@lru_cache(maxsize=1024)
def module_pattern(expression: str) -> ModulePattern:
    """An expression, parsed once.

    Raises:
        AdapterError: not a regular expression, longer or deeper than any that was written by hand, or with what
            only backtracking can match (backreferences, atomic groups); one line.
    """
    if len(expression) > MAX_PATTERN_CHARACTERS:
        raise AdapterError(
            f"the pattern {shown(expression)} has {len(expression):,} characters, at most "
            f"{MAX_PATTERN_CHARACTERS:,} are matched: list the modules instead"
        )
    try:
        tree = _sre.parse(expression)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        raise AdapterError(f"the pattern {shown(expression)} is no regular expression: {error}") from error
    if reason := _refusal(tree):
        raise AdapterError(f"the pattern {shown(expression)} has {reason}: list the modules instead")
    compiled = re.compile(expression) if _num_steps(tree) <= _FEW_STEPS else None
    return ModulePattern(expression, tree, bool(tree.state.flags & re.IGNORECASE), compiled)


@dataclass(frozen=True, eq=False)
class ModulePattern:
    """An expression that can be matched; make it with `module_pattern`."""

    expression: str
    tree: Any
    """As the standard library parses it: (operation, argument) pairs."""
    ignores_case: bool
    compiled: re.Pattern[str] | None
    """For `re`, where that cannot take long."""

    def fullmatch(self, name: str) -> bool:
        """Whether it matches the whole of a name. Raises AdapterError where that takes too many steps."""
        if self.compiled is not None and len(name) <= _LONG_NAME:
            return self.compiled.fullmatch(name) is not None
        return len(name) in self._run(name)

    def match(self, name: str) -> bool:
        """Whether it matches a beginning of a name. Raises AdapterError where that takes too many steps."""
        if self.compiled is not None and len(name) <= _LONG_NAME:
            return self.compiled.match(name) is not None
        return bool(self._run(name))

    def _run(self, name: str) -> set[int]:
        return _Matching(self, name).ends(self.tree, 0, self.ignores_case)


class _Matching:
    """One expression on one name. ``ends`` of a node and a position are found once and kept."""

    def __init__(self, pattern: ModulePattern, name: str) -> None:
        self.pattern, self.name = pattern, name
        self.known: dict[tuple[int, int], set[int]] = {}
        self.num_steps = 0

    def ends(self, nodes: Sequence[Any], start: int, ignores_case: bool) -> set[int]:
        """Where a sequence of nodes that begins at ``start`` can end."""
        positions = {start}
        for node in nodes:
            self.num_steps += len(positions)
            if self.num_steps > _MAX_STEPS:
                raise AdapterError(
                    f"the pattern {shown(self.pattern.expression)} takes too long to match {shown(self.name)}: "
                    "list the modules instead"
                )
            positions = {end for position in positions for end in self.node_ends(node, position, ignores_case)}
            if not positions:
                break
        return positions

    def node_ends(self, node: Any, start: int, ignores_case: bool) -> set[int]:
        key = (id(node), start)  # nodes live as long as the tree
        if key not in self.known:
            self.known[key] = self.find(str(node[0]), node[1], start, ignores_case)
        return self.known[key]

    def find(self, operation: str, argument: Any, start: int, ignores_case: bool) -> set[int]:
        if operation == "BRANCH":
            return {end for nodes in argument[1] for end in self.ends(nodes, start, ignores_case)}
        if operation == "SUBPATTERN":
            _, added, removed, nodes = argument
            inside = (ignores_case or bool(added & re.IGNORECASE)) and not removed & re.IGNORECASE
            return self.ends(nodes, start, inside)
        if operation in _REPEATS:
            least, most, nodes = argument
            return self.repeat(least, most, nodes, start, ignores_case)
        if operation in _LOOKS:
            is_there = self.looks(argument[0], argument[1], start, ignores_case)
            return {start} if is_there == (operation == "ASSERT") else set()
        if operation == "AT":
            return {start} if self.stands(str(argument), start) else set()
        if operation == "FAILURE" or start >= len(self.name):
            return set()
        return {start + 1} if _takes(operation, argument, self.name[start], ignores_case) else set()

    def repeat(self, least: int, most: int, nodes: Sequence[Any], start: int, ignores_case: bool) -> set[int]:
        """Rounds until the least number is done, then until nothing new is reached or the most are done."""
        positions = {start}
        for _ in range(least):
            after = {end for position in positions for end in self.ends(nodes, position, ignores_case)}
            if after == positions:  # a further round changes nothing
                break
            positions = after
        found, latest = set(positions), positions
        for _ in range(min(most, len(self.name) + least + 1) - least):
            latest = {end for position in latest for end in self.ends(nodes, position, ignores_case)} - found
            if not latest:
                break
            found |= latest
        return found

    def looks(self, direction: int, nodes: Any, start: int, ignores_case: bool) -> bool:
        """Whether what is looked for stands ahead of a position, or ends there."""
        if direction > 0:
            return bool(self.ends(nodes, start, ignores_case))
        width = nodes.getwidth()[0]  # of one width, or the parser's check would have refused it
        return start >= width and start in self.ends(nodes, start - width, ignores_case)

    def stands(self, where: str, position: int) -> bool:
        if where in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            return position == 0
        if where == "AT_END_STRING":
            return position == len(self.name)
        if where == "AT_END":  # `$` also stands before a line break at the end
            return self.name[position:] in ("", "\n")
        is_word = [0 <= k < len(self.name) and _is_word(self.name[k]) for k in (position - 1, position)]
        return (is_word[0] != is_word[1]) == (where == "AT_BOUNDARY")


def _takes(operation: str, argument: Any, character: str, ignores_case: bool) -> bool:
    """Whether a node that stands for one character takes this one."""
    if operation == "ANY":
        return character != "\n"
    variants = {character, character.lower(), character.upper()} if ignores_case else {character}
    if operation == "LITERAL":
        return chr(argument) in variants
    if operation == "NOT_LITERAL":
        return chr(argument) not in variants
    assert operation == "IN", operation
    is_negated = str(argument[0][0]) == "NEGATE"
    members = argument[1:] if is_negated else argument
    return any(_has(str(kind), value, each) for kind, value in members for each in variants) != is_negated


def _has(kind: str, value: Any, character: str) -> bool:
    """Whether a member of a set in brackets is, or has, this character."""
    if kind == "LITERAL":
        return chr(value) == character
    if kind == "RANGE":
        return len(character) == 1 and value[0] <= ord(character) <= value[1]
    return _CATEGORIES[str(value)](character)


_is_word = _CATEGORIES["CATEGORY_WORD"]


def _refusal(tree: Any) -> str:
    """What an expression has that position sets cannot match, or nobody needs; empty when nothing."""
    left = [(tree, 1)]
    while left:
        nodes, depth = left.pop()
        if depth > _MAX_DEPTH:
            return f"groups nested over {_MAX_DEPTH} deep"
        for operation, argument in nodes:
            name = str(operation)
            if name in _REFUSED:
                return _REFUSED[name]
            if name in _LOOKS and argument[0] < 0 and len({*argument[1].getwidth()}) > 1:
                return "a look behind of more than one width"
            left += [(inner, depth + 1) for inner in _inner(name, argument)]
    return ""


def _num_steps(nodes: Sequence[Any], is_repeated: bool = False) -> float:
    """At most how many ways `re` tries on a name of `_LONG_NAME` characters; infinity where they are not few.

    Each repeat ends at any of the characters, each branch takes any of its ways, one after another. Inside a
    repeat a further one, or a branch, multiplies with every round.
    """
    steps = 1.0
    for operation, argument in nodes:
        name = str(operation)
        if name in _LOOKS or (is_repeated and (name in _REPEATS or name == "BRANCH")):
            return float("inf")
        if name in _REPEATS and argument[1] == 1:  # an optional part: there or not
            steps *= 1 + _num_steps(argument[2], is_repeated)
        elif name in _REPEATS:
            steps *= min(argument[1] + 1, _LONG_NAME) * _num_steps(argument[2], is_repeated=True)
        elif name == "BRANCH":
            steps *= sum(_num_steps(way) for way in argument[1])
        elif name == "SUBPATTERN":
            steps *= _num_steps(argument[-1], is_repeated)
    return steps


def _inner(operation: str, argument: Any) -> Iterable[Any]:
    """The sequences of nodes inside a node."""
    if operation == "BRANCH":
        return tuple(argument[1])
    if operation in (*_REPEATS, *_LOOKS, "SUBPATTERN"):
        return (argument[-1],)
    return ()
