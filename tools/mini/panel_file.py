"""The panel's records on disk, and as curves. Knows figures by name; never a model."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

PANEL_FILE = "panel.jsonl"


def append(path: Path, step: int, source_tokens: int, figures: Mapping[str, float]) -> None:
    """Add one record; an older one of the same step is replaced."""
    records = [record for record in load(path) if record["step"] != step]
    records.append({"step": step, "source_tokens": source_tokens, **figures})
    records.sort(key=lambda record: record["step"])
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    partial.replace(path)


def load(path: Path) -> list[dict[str, float]]:
    """The panel's records so far, by step."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def draw(records: Sequence[Mapping[str, float]], path: Path) -> None:
    """One PNG: a plot for each group of figures, over source tokens."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    assert records, "a panel without a record has nothing to draw"
    groups: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(name for record in records for name in record if ":" in name):
        measure_name, _, what = name.partition(": ")
        groups[f"{measure_name}, {what.partition(',')[0]}" if "," in what else measure_name].append(name)
    figure, axes = plt.subplots(-(-len(groups) // 2), 2, figsize=(12, 3.6 * -(-len(groups) // 2)), squeeze=False)
    for axis, (title, names) in zip(axes.flat, groups.items(), strict=False):
        for name in names:
            points = [(r["source_tokens"] / 1e6, r[name]) for r in records if name in r]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.rpartition(", ")[2])
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("source tokens, millions")
        axis.legend(fontsize=7)
    for axis in axes.flat[len(groups) :]:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
