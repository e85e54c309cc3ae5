"""Documents with a schema: frozen pydantic models, and one line for each thing that is wrong with a value.

Knows field types and words; never what a field is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from flan_lora.system.text import shown, suggest

MAX_LINES = 20
"""Of one message: more would push the first off the screen."""


class Section(BaseModel):
    """Frozen, unknown keys refused, numbers finite, help text taken from the docstrings under the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads ``rank: yes`` as true, and pydantic true as 1."""
        if isinstance(value, bool) and _is_number(cls.model_fields[info.field_name or ""].annotation):
            raise ValueError("expected a number, not a truth value")
        return value


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The schema classes that a field's type names: itself, or inside a tuple or an optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)


def problem_lines(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """One line per problem: where, what, got."""
    return [_problem_line(item, schema) for item in error.errors()]


def indented(problems: Sequence[str], max_lines: int = MAX_LINES) -> str:
    """One indented line per problem, the first ``max_lines`` of them and a count."""
    left = len(problems) - max_lines
    more = [f"  and {left} more"] if left > 0 else []
    return "\n".join([*(f"  {line}" for line in problems[:max_lines]), *more])


def _problem_line(item: Any, schema: type[BaseModel]) -> str:
    *above, last = item["loc"] or ("the whole",)
    location, got = ".".join(str(part) for part in (*above, last)), shown(item["input"])
    if item["type"] == "extra_forbidden":
        known = _section_at(above, schema).model_fields
        return f"{location}: unknown key{suggest(str(last), known)} (got {got})"
    if item["type"] == "missing":
        return f"{location}: required, but missing"
    message = item["msg"].removeprefix("Value error, ")
    if not item["loc"]:  # the message names the field; what was got would be the whole document
        return str(message)
    return f"{location}: {message} (got {got})"


def _section_at(location: Iterable[Any], section: type[BaseModel]) -> type[BaseModel]:
    """The schema class under a location such as ('lora',) or ('data', 'also', 0)."""
    for part in location:
        if isinstance(part, str) and part in section.model_fields:  # else a place in a list, or a key of a mapping
            section = next(sections_in(section.model_fields[part].annotation))
    return section


def _is_number(annotation: Any) -> bool:
    """Whether a field takes numbers, below an optional, and no truth values."""
    parts = {annotation, *get_args(annotation)}
    return bool(parts & {int, float}) and bool not in parts
