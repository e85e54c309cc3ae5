"""What the fuzz tests share: how many examples, values that break readers, and the outcomes that are allowed."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from flan_lora.errors import FlanLoraError

Found = TypeVar("Found")
NUM_EXAMPLES = int(os.environ.get("FLAN_LORA_FUZZ", "0"))
fuzz = settings(
    max_examples=NUM_EXAMPLES or 20,
    derandomize=not NUM_EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)

ODD_TEXTS = (
    *("", " ", "\n", "a\nb", "\0", "\x1b[2J", "\ud83d", "\ufeff", "..", "../x", "/etc/passwd", "~/x", "C:\\x"),
    *("auto", "base", "null", "true", "1e999", "NaN", "0x10", "1_000", "x" * 300, "ß" * 70, "{}", "[]", "*a"),
    *("&a", "!!set", "(a+)+b", "((", "(.*)*y", "q", "v", "mini", "emotion", "qa", "int8", "macro_f1"),
)  # fmt: skip
ODD_NUMBERS = (0, -1, 1, 2, 7, 1 << 31, 1 << 32, 1 << 63, 1 << 64, 10**30, 10**400, 0.0, -0.5, 1e-300, 1e30, 1e308)
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))


def values(keys: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Any]:
    """Anything that JSON, or Python's idea of it, can hold; depth, too."""
    keys = st.sampled_from(ODD_TEXTS) if keys is None else keys
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(ODD_NUMBERS),
        st.sampled_from(NOT_FINITE),
        st.sampled_from(ODD_TEXTS),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
    )
    inner = st.recursive(
        leaves,
        lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(keys, below, max_size=3)),
        max_leaves=6,
    )
    return st.one_of(inner, st.integers(30, 60).map(nested))


def nested(depth: int) -> Any:
    """A list in a list, ``depth`` of them."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The path of everything below a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (key,)
        yield from ((key, *below) for below in places(item))


@st.composite
def changed(draw: st.DrawFn, document: Any, max_changes: int = 2) -> Any:
    """A document in which a few things are replaced, removed or added."""
    result = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, max_changes))):
        if not (found := sorted(places(result), key=str)):
            break
        *above, last = draw(st.sampled_from(found))
        holder = result
        for key in above:
            holder = holder[key]
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if action == "remove":
            del holder[last]
        elif action == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(ODD_TEXTS))] = draw(values())
        else:
            holder[last] = draw(values())
    return result


def answer_or_error(work: Callable[[], Found], *names: str) -> Found | FlanLoraError:
    """What work gives, or its FlanLoraError, which must be readable and name a place; anything else fails."""
    try:
        return work()
    except FlanLoraError as error:
        text = str(error)
        assert any(name in text for name in names), f"none of {names} in: {text[:500]}"
        assert len(text) < 12_000 and len(text.splitlines()) < 80, f"too long: {text[:500]}"
        return error
