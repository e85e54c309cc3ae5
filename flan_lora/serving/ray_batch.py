"""Batch files over the actors of Ray Data: each has a base and an engine, and answers portions of lines.

dataset.map_batches(
    BatchAnswerer,
    fn_constructor_args=(BatchOptions("emotion"), "/srv/adapters", "mini"),
    batch_size=128,
    compute=ray.data.ActorPoolStrategy(size=4),
)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from flan_lora.adapters.remote_store import adapter_root, place_of
from flan_lora.serving.batch_answers import BatchOptions, Line, answer_lines
from flan_lora.serving.batch_file import PORTION, Record
from flan_lora.serving.batch_formats import cell_of, line_of
from flan_lora.serving.open_router import open_router
from flan_lora.system.ray_cluster import ClusterError, connected

_MAX_BLOCKS = 2000
"""Of a dataset; each is a task of Ray's."""


@dataclass(frozen=True, slots=True)
class Actors:
    """How many engines, and what each may use."""

    num_actors: int = 1
    num_cpus: float = 1.0
    """And so its threads (Ray sets OMP_NUM_THREADS)."""
    num_gpus: float = 0.0


class BatchAnswerer:
    """For `ray.data.Dataset.map_batches`: adds the answers to the columns of each batch.

    The columns are the inputs of the adapter's task (`BatchOptions.columns` says other names), and may be
    ``adapter`` and ``parameters`` of each row. Added are ``adapter``, ``answer`` and ``error``, one of which is
    None, and with `BatchOptions.scores` ``log_prob``, ``mean_log_prob`` and ``label_probabilities`` (JSON).
    """

    def __init__(self, options: BatchOptions, adapters_dir: str = "adapters", base: str | None = None) -> None:
        """
        Args:
            adapters_dir: the adapter root, at the same place on every node, or a URL.
            base: `mini`, a Hub id or a folder; None: the base that has adapters.

        Raises:
            AdapterError: no base has adapters, or several have and ``base`` does not say which.
        """
        self._options = options
        self._router = open_router(adapter_root(adapters_dir), base)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        rows = [dict(zip(batch, cells, strict=True)) for cells in zip(*batch.values(), strict=True)]
        lines = [Line(number, line_of(row)) for number, row in enumerate(rows, start=1)]
        records = self.answer(lines, "row")
        added = dict.fromkeys(["adapter", "answer", "error", *(name for each in records for name in each)])
        columns = {name: [cell_of(each.get(name)) for each in records] for name in added if name not in _OURS}
        return {**batch, **columns}

    def answer(self, lines: Sequence[Line], source: str) -> list[Record]:
        """Records of lines, as the batch file has them."""
        return list(answer_lines(self._router, source, lines, self._options))


_OURS = ("line", "input")
"""Of a record; the batch has them already."""


class _LineAnswerer:
    """The same for lines of a batch file, whose records go back as they are written."""

    def __init__(self, source: str, options: BatchOptions, adapters_dir: str, base: str | None) -> None:
        self._source, self._answerer = source, BatchAnswerer(options, adapters_dir, base)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        pairs = zip(batch["line"], batch["content"], strict=True)
        lines = [Line(int(number), bytes(content)) for number, content in pairs]
        return {"record": [json.dumps(record) for record in self._answerer.answer(lines, self._source)]}


def answer_on_ray(
    lines: Sequence[Line], source: str, options: BatchOptions, adapters_dir: Path, base: str | None, actors: Actors
) -> Iterator[list[Record]]:
    """`flan_lora.serving.batch_file.Answer` by actors, on the cluster that RAY_ADDRESS names or that runs here.

    Raises:
        ClusterError: there is none, or an actor cannot open its base.
    """
    num_blocks = min(math.ceil(len(lines) / PORTION), _MAX_BLOCKS)
    items = [{"line": line.number, "content": line.content} for line in lines]
    with connected():
        ray.data.DataContext.get_current().enable_progress_bars = False  # the file's own says more
        answered = ray.data.from_items(items, override_num_blocks=num_blocks).map_batches(
            _LineAnswerer,
            fn_constructor_args=(source, options, place_of(adapters_dir), base),
            batch_size=None,  # a block is a portion
            compute=ray.data.ActorPoolStrategy(size=actors.num_actors),
            num_cpus=actors.num_cpus,
            num_gpus=actors.num_gpus,
        )
        try:
            for batch in answered.iter_batches(batch_size=None):
                yield [json.loads(record) for record in batch["record"]]
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"the batch stopped: {error}\nMend the cause; the same command goes on where it stopped."
            ) from error
