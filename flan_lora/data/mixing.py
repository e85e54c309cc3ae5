"""Auxiliary sources: more training rows, and none that gives validation or test away.

MLQA's configs are the same articles in several languages: ids and texts are shared, titles are translated. So
what is held out is known by id (within one dataset), by text and by group (title), and grows along rows that
share one of them: an id leads to an English title, the title to every row of that article, whatever source it
stands in.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from flan_lora.data.file_formats import Row
from flan_lora.data.sources import DataSource, Table, content, name_for_task, read_split
from flan_lora.errors import DataError
from flan_lora.recipe import AlsoSection, PartnerSection, Recipe
from flan_lora.tasks.task import Task

log = logging.getLogger(__name__)
Item = TypeVar("Item")

MIN_PARTNER_SHARE = 0.5
"""With fewer partners than this the ids are not the same ids, and the rows keep their own questions."""


@dataclass(frozen=True, slots=True)
class Addition:
    """What came of one auxiliary source."""

    origin: str
    """As `data.splits.Split.origin`; never a path of this machine."""
    datasets: tuple[str, ...]
    """Hub ids of what its rows are made of: their terms go onto the card."""
    num_rows: int = 0
    """Rows that train got, before data.max_train_rows."""
    num_held_out: int = 0
    """Left out: they share an article with validation or test."""
    num_repeated: int = 0
    """Left out: train has the same row already."""
    num_unmatched: int = 0
    """Left out: no row with their id in `question_from`."""
    is_missing: bool = False
    """An optional source that was not to be had."""

    def __str__(self) -> str:
        if self.is_missing:
            return f"{self.origin}: not there, optional"
        counts = (
            (self.num_held_out, "of held-out articles"),
            (self.num_repeated, "that train has already"),
            (self.num_unmatched, "without a partner"),
        )
        left_out = ", ".join(f"{count:,} {why}" for count, why in counts if count)
        return f"{self.origin}: {self.num_rows:,} rows{f' (left out: {left_out})' if left_out else ''}"


@dataclass(frozen=True, slots=True)
class Marks:
    """What gives a row's article away, each mark with its kind in front."""

    group_by: str | None
    text_column: str

    def of(self, row: Row, dataset: str) -> frozenset[str]:
        """A row's own marks. Ids say nothing beyond their dataset, an empty title says nothing at all."""
        group = _tidy(row.get(self.group_by)) if self.group_by else ""
        marks = {f"text {_tidy(row.get(self.text_column))}"}
        if row.get("id") not in (None, ""):
            marks.add(f"id {dataset} {row['id']}")
        return frozenset(marks | ({f"group {group}"} if group else set()))


@dataclass
class _Rows:
    """One source on its way into train."""

    spec: AlsoSection
    table: Table
    rows: list[Row]
    addition: Addition


def auxiliary_rows(
    recipe: Recipe, source: DataSource, held_out: Iterable[Row], train: Sequence[Row]
) -> Iterator[tuple[Table, list[Row], Addition]]:
    """The rows that each source of ``data.also`` adds to train, in the recipe's order; none from a file or sample.

    Args:
        held_out: all rows of validation and test, under the task's column names.
        train: the rows that train has of its own.

    Raises:
        DataError: a source that is not optional cannot be read, or its columns are not the task's.
    """
    if source.kind not in ("hub", "local"):
        return
    task, data = recipe.task_definition, recipe.data
    marks = Marks(data.group_by, task.inputs[0])
    sources = [_read(spec, source, task) for spec in data.also]
    closed = _closure(marks, [marks.of(row, data.dataset) for row in held_out], sources)
    known = {content(row, task) for row in train}
    for one in sources:
        free = [row for row in one.rows if not closed & marks.of(row, one.spec.dataset)]
        new = []
        for row in free:
            if (own := content(row, task)) not in known:
                known.add(own)
                new.append(row)
        kept = sample(new, one.spec.max_rows, recipe.training.seed)
        yield (
            one.table,
            kept,
            replace(
                one.addition,
                num_rows=len(kept),
                num_held_out=len(one.rows) - len(free),
                num_repeated=len(free) - len(new),
            ),
        )


def sample(rows: Sequence[Item], max_rows: int | None, seed: int) -> list[Item]:
    """At most ``max_rows`` of the rows in their own order; a larger sample contains a smaller."""
    places = list(range(len(rows)))
    if max_rows is not None and max_rows < len(rows):
        random.Random(seed).shuffle(places)
        places = sorted(places[:max_rows])
    return [rows[place] for place in places]


def _closure(marks: Marks, held_out: Iterable[frozenset[str]], sources: Sequence[_Rows]) -> set[str]:
    """The marks of held-out rows, and of every row that is tied to one through shared marks."""
    closed = set().union(*held_out)
    pending = [marks.of(row, one.spec.dataset) for one in sources for row in one.rows]
    size = -1
    while size < len(closed):
        size, rest = len(closed), []
        for row in pending:
            if row & closed:
                closed |= row
            else:
                rest.append(row)
        pending = rest
    return closed


def _read(spec: AlsoSection, source: DataSource, task: Task) -> _Rows:
    """A source under the task's column names; empty for an optional one that is not there."""
    partner_spec = spec.question_from
    try:
        table = _table(spec, source)
        partner = _table(partner_spec, source) if partner_spec is not None else None
    except DataError as error:
        if not spec.optional:
            raise
        name = f"{spec.dataset}/{spec.config}:{spec.split}"
        log.warning("%s adds no training rows: it is optional, and not there (%s)", name, _first_line(error))
        missing = Table([], name, f"{name} ({source.description})")
        return _Rows(spec, missing, [], Addition(missing.origin, (spec.dataset,), is_missing=True))
    kept = [row for row in table.rows if all(str(row.get(n, "")).startswith(v) for n, v in spec.keep.items())]
    if not kept:
        raise DataError(f"{table.where}: data.also: no row has {spec.keep}.\nCorrect `keep`, or leave it out.")
    rows = name_for_task(replace(table, rows=kept), task, spec.columns)
    if partner is None or partner_spec is None:
        return _Rows(spec, table, rows, Addition(table.origin, (spec.dataset,)))
    joined = _with_questions(rows, partner)
    if len(joined) < MIN_PARTNER_SHARE * len(rows):
        said = "%s: only %d of %d rows have their id in %s; all keep their own questions."
        log.warning(said, table.where, len(joined), len(rows), partner.where)
        return _Rows(spec, table, rows, Addition(f"{table.origin}, own questions", (spec.dataset,)))
    addition = Addition(
        f"{table.origin}, questions of {partner.origin}",
        (spec.dataset, partner_spec.dataset),
        num_unmatched=len(rows) - len(joined),
    )
    return _Rows(spec, table, joined, addition)


def _table(spec: AlsoSection | PartnerSection, source: DataSource) -> Table:
    return read_split(spec, spec.split, source, dial="the split in data.also")


def _with_questions(rows: Sequence[Row], partner: Table) -> list[Row]:
    """Rows whose id is in ``partner``, with the question that stands there."""
    questions = {str(row.get("id")): row.get("question") for row in partner.rows if row.get("question")}
    return [row | {"question": questions[str(row.get("id"))]} for row in rows if str(row.get("id")) in questions]


def _tidy(value: object) -> str:
    """A title or text whatever its case, spaces and underscores: SQuAD writes New_York."""
    return " ".join(str(value or "").replace("_", " ").casefold().split())


def _first_line(error: DataError) -> str:
    return str(error).splitlines()[0].rstrip(".")
