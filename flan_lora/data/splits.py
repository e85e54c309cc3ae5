"""Rows to the examples of train, validation and test: read, divided by group, sampled, rendered by the task."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from flan_lora.data.augment import augmented
from flan_lora.data.file_formats import Row
from flan_lora.data.label_readings import label_readings
from flan_lora.data.mixing import Addition, auxiliary_rows, sample
from flan_lora.data.sources import DataSource, Table, content, name_for_task, read_table, respelt_columns
from flan_lora.errors import DataError
from flan_lora.recipe import Recipe, Role
from flan_lora.tasks.labels import Reading
from flan_lora.tasks.task import Example, Task, swapped

log = logging.getLogger(__name__)

ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Split:
    """The examples of one role, and what they were made from."""

    role: str
    examples: tuple[Example, ...]
    origin: str
    """Dataset, split, revision and source; never a path of this machine."""
    num_rows: int
    """Rows the examples came from: a row may give none, one or two."""
    content_hash: str
    """sha256 (hex) over the task's columns of the rows used, in order."""
    also: tuple[Addition, ...] = ()
    """Of train: what the auxiliary sources (data.also) added; their rows are among the examples."""
    label_readings: Mapping[str, Reading] = field(default_factory=dict)
    """Column -> whether its labels are written by name or by place."""
    respelt_columns: Mapping[str, str] = field(default_factory=dict)
    """Task column -> the file's own name, where that is another spelling of it."""


def load_split(recipe: Recipe, role: Role, source: DataSource, *, max_rows: int | None = None) -> Split:
    """Read, divide, sample and render the rows of one role.

    Roles that name the same rows (one Hub split, or a user's only file) divide them by ``data.group_by``,
    whatever the rows' order: test and validation take 20 % each (a user's file: 10 %), train the rest; without
    train, test and validation take half each. The bundled sample has a file for each role. Train has the rows of
    the auxiliary sources behind its own.

    Args:
        max_rows: keep a seeded sample of this many rows, in their own order; a larger sample contains a smaller.

    Raises:
        DataError: rows cannot be found, read, divided or used by the task.
    """
    return _split(recipe, role, _rows_of_role(recipe, role, source, max_rows))


def augmented_train(recipe: Recipe, source: DataSource) -> Callable[[int], Split]:
    """Epoch (from 0) -> the training rows as ``data.augment`` writes them then; as many examples in each.

    Raises what ``load_split`` raises.
    """
    rows = _rows_of_role(recipe, "train", source, max_rows_of(recipe, "train"))
    task, seed = recipe.task_definition, recipe.training.seed

    def epoch_rows(epoch: int) -> Split:
        numbered = [
            dataclasses.replace(
                row,
                values=augmented(row.values, task, recipe.data.augment, seed=seed, epoch=epoch, place=place),
            )
            for place, row in enumerate(rows.numbered)
        ]
        return _split(recipe, "train", dataclasses.replace(rows, numbered=numbered))

    return epoch_rows


@dataclass(frozen=True, slots=True)
class _RoleRows:
    """The rows of a role before the task has seen them."""

    table: Table
    numbered: list[_NumberedRow]
    additions: tuple[Addition, ...]


def _rows_of_role(recipe: Recipe, role: Role, source: DataSource, max_rows: int | None) -> _RoleRows:
    """Read, divide, add and sample."""
    table, numbered = _own_rows(recipe, role, source)
    additions: list[Addition] = []
    if role == "train" and recipe.data.also:
        held_out = [row.values for other in ("validation", "test") for row in _own_rows(recipe, other, source)[1]]
        for also, rows, addition in auxiliary_rows(recipe, source, held_out, [row.values for row in numbered]):
            numbered += [_NumberedRow(also.where, number, row) for number, row in enumerate(rows)]
            additions.append(addition)
    return _RoleRows(table, sample(numbered, max_rows, recipe.training.seed), tuple(additions))


def _split(recipe: Recipe, role: Role, rows: _RoleRows) -> Split:
    """Render."""
    task, table, numbered = recipe.task_definition, rows.table, rows.numbered
    examples = _render(task, numbered, table.where)
    if role == "train" and task.swap is not None:
        examples += tuple(swapped(task, example) for example in examples)
    return Split(
        role=role,
        examples=examples,
        origin=table.origin,
        num_rows=len(numbered),
        content_hash=sha256_of(content(row.values, task) for row in numbered),
        also=rows.additions,
        label_readings=label_readings([row.values for row in numbered], task, table.where),
        respelt_columns=respelt_columns(table, task, recipe.data.columns),
    )


def load_whole_file(recipe: Recipe, source: DataSource, *, max_rows: int | None = None) -> Split:
    """Every row of a user's file, undivided, as the role "all": to score an adapter on rows that are not its own.

    Raises:
        DataError: rows cannot be read or used by the task.
    """
    assert source.kind == "file"
    task = recipe.task_definition
    table = read_table(recipe, "test", source)
    rows = name_for_task(table, task, recipe.data.columns)
    readings = label_readings(rows, task, table.where)
    numbered = [_NumberedRow(table.where, number, row) for number, row in enumerate(rows)]
    numbered = sample(numbered, max_rows, recipe.training.seed)
    return Split(
        role="all",
        examples=_render(task, numbered, table.where),
        origin=table.origin,
        num_rows=len(numbered),
        content_hash=sha256_of(content(row.values, task) for row in numbered),
        label_readings=readings,
        respelt_columns=respelt_columns(table, task, recipe.data.columns),
    )


@dataclass(frozen=True, slots=True)
class _NumberedRow:
    """A row, and where it stands for an error message."""

    where: str
    number: int
    """From 0."""
    values: Row


def _own_rows(recipe: Recipe, role: Role, source: DataSource) -> tuple[Table, list[_NumberedRow]]:
    """The rows of the recipe's own dataset that play a role, under the task's column names."""
    table = read_table(recipe, role, source)
    task = recipe.task_definition
    rows = name_for_task(table, task, recipe.data.columns)
    label_readings(rows, task, table.where)  # of the whole file: roles must not read one column in two ways
    numbers = _numbers_of_role(recipe, role, source, rows, table.where)
    return table, [_NumberedRow(table.where, number, rows[number]) for number in numbers]


def max_rows_of(recipe: Recipe, role: Role) -> int | None:
    """The recipe's limit for a role."""
    return {
        "train": recipe.data.max_train_rows,
        "validation": recipe.data.max_validation_rows,
        "test": recipe.evaluation.max_test_rows,
    }[role]


def _numbers_of_role(recipe: Recipe, role: Role, source: DataSource, rows: Sequence[Row], where: str) -> list[int]:
    """Numbers (from 0, ascending) of the rows that play ``role``."""
    sharing = _roles_sharing(recipe, role, source)
    if len(sharing) == 1:
        return list(range(len(rows)))
    group_by = recipe.data.group_by
    groups = _groups(rows, recipe.task_definition, group_by, where, is_file=source.kind == "file")
    share = 0.5 if "train" not in sharing else 0.1 if source.kind == "file" else 0.2
    numbers = divide(groups, sharing, share)[role]
    if not numbers:
        raise DataError(
            f"{where}: nothing is left for {role}: {len(rows)} rows in {len(set(groups))} groups "
            f"(by {group_by or 'content'}) do not fill {', '.join(sharing)}.\n"
            "Add rows, or set data.group_by to a column with more values (null = each row by itself)."
        )
    return numbers


def _roles_sharing(recipe: Recipe, role: Role, source: DataSource) -> list[Role]:
    """The roles, ``role`` among them, that are played by the same rows."""
    if source.kind == "sample":
        return [role]
    if source.kind == "file":
        return list(ROLES)
    splits = recipe.data.splits
    return [other for other in ROLES if getattr(splits, other) == getattr(splits, role)]


def _groups(rows: Sequence[Row], task: Task, group_by: str | None, where: str, *, is_file: bool) -> list[str]:
    """For each row the value that must not be split between roles: the group's, else the row's own content."""
    if group_by is not None and any(group_by in row for row in rows):
        return [json.dumps(row.get(group_by), sort_keys=True, default=str) for row in rows]
    if group_by is not None and not is_file:
        known = ", ".join(rows[0])
        raise DataError(f"{where}: data.group_by names {group_by!r}, no such column.\n  columns  {known}")
    if group_by is not None:
        # The recipe's dataset has this column and a user's file need not; said, because equal contexts may now
        # stand in two roles.
        log.warning("%s has no column %r (data.group_by): rows are divided one by one.", where, group_by)
    return [content(row, task) for row in rows]


def divide(groups: Sequence[str], roles: Iterable[str], share: float) -> dict[str, list[int]]:
    """Give every row to one role, whole groups at a time.

    Groups are taken in the order of their sha256, so the result depends on the set of rows only: not on their
    order, and not on Python's hash seed. Test, then validation, are filled up to ``share`` of the rows; the rest
    is train's (validation's where train does not take part).

    Args:
        groups: one value per row; equal values stay together.
    """
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    taking = set(roles)
    *held_out, rest = [role for role in ("test", "validation", "train") if role in taking]
    parts: dict[str, list[int]] = {role: [] for role in (*held_out, rest)}
    for group in sorted(members, key=lambda value: sha256_of([value])):
        role = next((name for name in held_out if len(parts[name]) < share * len(groups)), rest)
        parts[role].extend(members[group])
    return {role: sorted(numbers) for role, numbers in parts.items()}


def _render(task: Task, rows: Sequence[_NumberedRow], where: str) -> tuple[Example, ...]:
    """Rows -> examples with keys of their own; all unusable rows in one error, the first five shown."""
    examples: list[Example] = []
    problems: list[str] = []
    for row in rows:
        try:
            examples.extend(task.examples(row.values))
        except DataError as error:
            place = f"{'' if row.where == where else f'of {row.where}, '}row {row.number + 1}"
            problems.append(f"  {place}: {' '.join(line.strip() for line in str(error).splitlines()[:2])}")
    if problems:
        raise DataError(
            f"{where}: {len(problems)} of {len(rows)} rows cannot be used by task {task.name}"
            f"{' (the first 5)' if len(problems) > 5 else ''}:\n" + "\n".join(problems[:5]) + "\n"
            "Correct or remove these rows (numbered from 1, header not counted)."
        )
    if not examples:
        raise DataError(f"{where}: {len(rows)} rows, but task {task.name} makes no example of any of them.")
    return _with_own_keys(examples)


def _with_own_keys(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Equal rows share a key; the second becomes <key>#2, so that saved predictions stay apart."""
    seen: Counter[str] = Counter()
    kept = []
    for example in examples:
        seen[example.key] += 1
        count = seen[example.key]
        kept.append(example if count == 1 else dataclasses.replace(example, key=f"{example.key}#{count}"))
    return tuple(kept)


def sha256_of(texts: Iterable[str]) -> str:
    """sha256 (hex) of a sequence of texts, boundaries included."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()
