"""Which rows play a role: the Hub's, a local root's, a file's or the sample's; under the task's column names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from flan_lora.data.file_formats import READERS, Row, kind_of, read_rows
from flan_lora.errors import DataError
from flan_lora.recipe import AlsoSection, DataSection, PartnerSection, Recipe, Role
from flan_lora.system.file_signatures import not_read
from flan_lora.system.hub import local_folder, read_hub_rows
from flan_lora.system.text import same_name, shorten, suggest
from flan_lora.tasks.task import Task

Names: TypeAlias = "DataSection | AlsoSection | PartnerSection"
"""What names a dataset, its config and its revision."""


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where rows come from: the Hub, a local root in the Hub's shape, one file of the user's, or the sample."""

    kind: Literal["hub", "local", "file", "sample"]
    path: Path | None = None
    """The local root or the file; none for the Hub."""

    @property
    def description(self) -> str:
        """For people and manifests: never a path of this machine."""
        file_name = self.path.name if self.path else ""
        return {"hub": "Hub", "local": "local root", "file": file_name, "sample": "bundled sample"}[self.kind]


def open_source(spec: str | None) -> DataSource:
    """What ``--data`` means: ``hub``, ``sample``, a folder (local root) or a file; none: $FLAN_LORA_DATA or hub.

    Raises:
        DataError: no such folder or file, or a file of another kind.
    """
    setting = os.environ.get("FLAN_LORA_DATA", "") if spec is None else spec
    if setting in {"", "hub"}:
        return DataSource("hub")
    if setting == "sample":
        from flan_lora.samples import SAMPLES_PATH

        return DataSource("sample", SAMPLES_PATH)
    name = f"--data {shorten(setting, 300)}" if spec is not None else f"FLAN_LORA_DATA={shorten(setting, 300)}"
    path = Path(setting).expanduser()
    if os.path.isdir(path):  # not path.is_dir, which raises where a name is too long
        return DataSource("local", path)
    if not os.path.isfile(path):
        raise DataError(f"{name}: no such file or folder.\nGive hub, sample, a folder or a file.")
    if (suffix := kind_of(path)) not in READERS:
        raise DataError(f"{name}: {not_read(suffix, tuple(READERS))}")
    return DataSource("file", path)


@dataclass(frozen=True)
class Table:
    """Rows as read, before anything is renamed or divided."""

    rows: list[Row]
    where: str
    """For error messages: the file's path, or the Hub's names."""
    origin: str
    """For manifests: no path of this machine."""


def read_table(recipe: Recipe, role: Role, source: DataSource) -> Table:
    """The rows that play a role, possibly together with other roles' rows."""
    data = recipe.data
    if source.kind == "file":
        assert source.path is not None
        return Table(read_rows(source.path, data.encoding), str(source.path), source.description)
    split = role if source.kind == "sample" else getattr(data.splits, role)
    return read_split(data, split, source, dial=f"data.splits.{role}")


def read_split(names: Names, split: str, source: DataSource, *, dial: str) -> Table:
    """The rows of one split, on the Hub or in the Hub's shape; ``dial``: the field that names it, for errors."""
    name = f"{names.dataset}/{names.config}:{split}"
    if source.kind == "hub":
        rows, commit = read_hub_rows(names.dataset, names.config, split, names.revision)
        if not rows:
            raise DataError(f"{name} on the Hub has no rows.\nSet {dial} to a split with rows.")
        return Table(rows, f"{name} (Hub)", f"{name} @ {commit or names.revision or 'main'} (Hub)")
    assert source.path is not None
    path = _local_file(source.path, names.dataset, names.config, split)
    encoding = names.encoding if isinstance(names, DataSection) else None
    return Table(read_rows(path, encoding), str(path), f"{name} ({source.description})")


def _local_file(root: Path, dataset: str, config: str, split: str) -> Path:
    """<root>/<owner>__<name>/<config>/<split>.<jsonl|parquet|...>, the first kind that exists."""
    folder = root / local_folder(dataset) / config
    for suffix in READERS:
        if (path := folder / f"{split}{suffix}").is_file():
            return path
    own = sorted(path for path in root.iterdir() if kind_of(path) in READERS and path.is_file())
    if own and not (root / local_folder(dataset)).is_dir():
        raise DataError(
            f"{root} is a folder of {len(own)} files ({shorten(', '.join(path.name for path in own), 200)}), no "
            f"data folder in the Hub's shape ({local_folder(dataset)}/{config}/{split}.jsonl).\n"
            f"Give one file, which is divided into train, validation and test: --data {own[0]}"
        )
    raise DataError(
        f"no rows at {folder / split}.jsonl (nor another of {', '.join(READERS)}).\n"
        f"  there is  {_listing(root, folder)}\n"
        "Set data.config and data.splits to what is there, or use --data hub, --data sample or a file of yours."
    )


def _listing(root: Path, folder: Path) -> str:
    """What exists on the way to a missing folder, from the deepest level that exists."""
    while folder != root and not folder.is_dir():
        folder = folder.parent
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return f"{', '.join(names[:20]) or 'nothing'}{', ...' if len(names) > 20 else ''} in {folder}"


def name_for_task(table: Table, task: Task, columns: Mapping[str, str]) -> list[Row]:
    """Rows with the task's column names; mapped columns keep their own name too, for ``group_by``.

    Raises:
        DataError: a column is missing, or ``columns`` maps one that the task does not use.
    """
    known = _known_columns(table)
    unknown = sorted(set(columns) - set(task.columns))
    if unknown:
        raise DataError(
            f"data.columns maps {', '.join(unknown)}, which task {task.name} does not use.\n"
            f"  it uses  {', '.join(task.columns)}"
        )
    needed = {name: columns.get(name, name) for name in task.columns} | respelt_columns(table, task, columns)
    missing = [name for name, own_name in needed.items() if own_name not in known]
    if missing:
        raise DataError(_missing_columns(table, task, needed, missing, known))
    renames = {name: own_name for name, own_name in needed.items() if name != own_name}
    if not renames:
        return table.rows
    return [row | {name: row.get(own_name) for name, own_name in renames.items()} for row in table.rows]


def respelt_columns(table: Table, task: Task, columns: Mapping[str, str]) -> dict[str, str]:
    """Task column -> the table's own name, where they differ by nothing but case and spaces (``Text``, ``LABEL``).

    A column that is there as it should be called is that one; of several spellings none is taken.
    """
    known = _known_columns(table)
    wanted = {name: columns.get(name, name) for name in task.columns}
    absent = {name: own_name for name, own_name in wanted.items() if own_name not in known}
    return {name: found for name, own_name in absent.items() if (found := same_name(own_name, known)) is not None}


def _known_columns(table: Table) -> list[str]:
    return list(dict.fromkeys(name for row in table.rows[:1000] for name in row))


def content(row: Row, task: Task) -> str:
    """The task's columns of a row as canonical JSON: the same for the Hub's row and its local copy."""
    columns = {name: row.get(name) for name in task.columns}
    return json.dumps(columns, sort_keys=True, ensure_ascii=False, default=str)


def _missing_columns(
    table: Table, task: Task, needed: Mapping[str, str], missing: Sequence[str], known: list[str]
) -> str:
    """Which columns a task misses, which there are, and how to map them."""
    lines = [
        f"{table.where}: task {task.name} needs columns that are not there.",
        f"  columns  {shorten(', '.join(known), 1000)}",
    ]
    for name in missing:
        lines.append(f"  missing  {needed[name]}{suggest(needed[name], known, list_known=False)}")
    first = needed[missing[0]]
    for column, value in table.rows[0].items():
        if isinstance(value, Mapping) and first in value:
            lines.append(
                f"{first!r} stands inside the column {column!r}: give what is in there columns of its own."
            )
    if len(known) == 1 and (";" in known[0] or "\t" in known[0]):
        lines.append("The header is one column: separate the fields by commas (or tabs, in a .tsv file).")
    lines.append(f"Map a column of yours: --set data.columns.{missing[0]}=<your column>.")
    return "\n".join(lines)
