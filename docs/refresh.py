"""Write the generated parts of the documentation: results in README.md and mini's card, docs/reference.md.

    python docs/refresh.py            write them
    python docs/refresh.py --check    say what is stale, exit code 1

Results come from the metrics.json and manifest.json beside each published adapter, those on foreign rows from
docs/foreign/<base>.json (`python -m tools.foreign`), and from nowhere else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

REPO = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
FOREIGN_BEGIN, FOREIGN_END = "<!-- foreign:begin -->", "<!-- foreign:end -->"
FOREIGN = REPO / "docs" / "foreign" / "mini.json"
MINI_CARD = REPO / "flan_lora" / "mini" / "checkpoint" / "README.md"
HEADLINES = {
    "emotion": ("accuracy", "macro_f1"),
    "qa": ("exact_match", "f1"),
    "question-generation": ("bleu", "rouge_l"),
    "paraphrase": ("ibleu", "copy_share"),
    "summarization": ("rouge_1", "rouge_l"),
    "similarity": ("accuracy", "order_agreement"),
}
"""Scores worth a line in the table; all of them are in metrics.json."""

OFFICIAL = {
    "dair-ai/emotion/split:test (local root)": "whole",
    "knkarthick/samsum/default:test (local root)": "whole",
    "google-research-datasets/paws/labeled_final:test (local root)": "PAWS-X en, not PAWS' own",
    "rajpurkar/squad/plain_text:validation (local root)": "part of SQuAD's dev articles",
    "facebook/mlqa/mlqa.hi.en:validation (local root)": "a fifth of MLQA's validation articles",
}
"""Origin of test rows -> how much of the official test split that is."""


def results_table(adapters_dir: Path) -> str:
    """A Markdown table over <adapters_dir>/<base>/<name>/metrics.json, one line per headline score."""
    rows = [row for path in sorted(adapters_dir.glob("*/*/metrics.json")) for row in _rows(path)]
    if not rows:
        return "No adapter is published yet."
    header = (
        "Base",
        "Task",
        "Score",
        "Adapter (95 % interval)",
        "Bare base (same)",
        "Trivial baseline",
        "Data",
        "Run",
    )
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(path: Path) -> Iterator[tuple[str, ...]]:
    """The lines of one adapter; where it stands and how it was made only on the first."""
    metrics = json.loads(path.read_text(encoding="utf-8"))
    manifest = json.loads((path.parent / "manifest.json").read_text(encoding="utf-8"))
    training = manifest["training"]
    minutes = max(1, round(training["seconds"] / 60))
    origin = metrics["origin"]
    data = f"{metrics['num_rows']:,} rows of {origin.partition(':')[0]} ({OFFICIAL.get(origin, origin)})"
    weights = manifest["files"]["adapter_model.safetensors"]
    size = f"{weights['size_bytes'] / 1e6:.1f} MB"
    run = f"{training['num_steps']:,} steps, {minutes} min, {manifest['base']['quantization']}, {size}"
    first = (path.parent.parent.name, path.parent.name, data, run)
    for name in HEADLINES.get(metrics["task"], (metrics["select_on"],)):
        base, adapter, shown_data, shown_run = first
        own, bare = metrics["adapter"][name], metrics["base"].get(name)
        cell = f"**{_number(own['value'])}** {_interval(own)}"
        bare_cell = f"{_number(bare['value'])} {_interval(bare)}" if bare else "-"
        yield base, adapter, f"`{name}`", cell, bare_cell, _best_baseline(metrics, name), shown_data, shown_run
        first = ("", "", "", "")


def _interval(score: dict[str, Any]) -> str:
    return f"({_number(score['low'])} to {_number(score['high'])})"


def _best_baseline(metrics: dict[str, Any], score: str) -> str:
    """The trivial predictor to beat, with its value."""
    values = [(scores[score]["value"], name) for name, scores in metrics["baselines"].items() if score in scores]
    if not values:
        return "-"
    value, name = max(values)
    return f"{_number(value)} ({name})"


def _number(value: float) -> str:
    """Shares in [0, 1] with three digits, scores up to 100 with one."""
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"


def foreign_table(path: Path, *, in_short: bool = False) -> str:
    """A Markdown table over a file of `tools.foreign`, one line per score; the best of a line is bold.

    in_short: only the first score of each set, and only sets that others made.
    """
    if not path.is_file():
        return "Not measured yet."
    document = json.loads(path.read_text(encoding="utf-8"))
    header = ("Rows", "Task", "Score", "Adapter (95 % interval)", "Bare base (same)", "Best trivial")
    lines = [header, ("---",) * len(header)]
    for entry in document["sets"]:
        if in_short and entry["kind"] != "others":
            continue
        licence = "" if in_short else f"; {entry['licence']}"
        shown = f"{entry['num_rows']:,} {entry['about']}{licence}"
        for name in list(entry["adapter"])[: 1 if in_short else None]:
            lines.append((shown, entry["task"] if shown else "", f"`{name}`", *_three_cells(entry, name)))
            shown = ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _three_cells(entry: dict[str, Any], name: str) -> tuple[str, str, str]:
    """Adapter, bare base, best trivial predictor; of a share of copies the least is best."""
    rivals = {who: scores[name] for who, scores in entry["baselines"].items() if name in scores}
    is_least = name == "copy_share"
    best = (min if is_least else max)(rivals, key=lambda who: rivals[who]["value"], default=None)
    scores = [entry["adapter"][name], entry["bare_base"].get(name), rivals[best] if best else None]
    known = [score["value"] for score in scores if score]
    top = min(known) if is_least else max(known)
    cells = ["-" if score is None else _cell(score, is_best=score["value"] == top) for score in scores]
    return cells[0], cells[1], cells[2] if best is None else f"{cells[2]}, {best}"


def _cell(score: dict[str, Any], *, is_best: bool) -> str:
    value = _number(score["value"])
    return f"{f'**{value}**' if is_best else value} {_interval(score)}"


def outdated_foreign(path: Path, adapters_dir: Path) -> list[str]:
    """Adapters whose figures on foreign rows are those of other weights than are published."""
    if not path.is_file():
        return []
    found = []
    for entry in json.loads(path.read_text(encoding="utf-8"))["sets"]:
        file = adapters_dir / path.stem / entry["task"] / "manifest.json"
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if manifest["files"]["adapter_model.safetensors"]["sha256"] != entry["adapter_sha256"]:
            found.append(entry["task"])
    return sorted(set(found))


def reference() -> str:
    """docs/reference.md: the help of every command, and every field of a recipe."""
    parts = [
        "# Reference",
        "Generated by `make docs` from the code; do not edit.",
        "## Recipe fields",
        "Set in YAML or with `--set section.field=value`. Types and limits are also in `flan-lora recipe schema`.",
        *_fields(),
        "## Commands",
        *_helps(),
    ]
    return "\n\n".join(parts) + "\n"


def _fields() -> Iterator[str]:
    """One table per section of the recipe."""
    from pydantic import BaseModel

    from flan_lora.recipe import RecipeFile
    from flan_lora.system.schema import sections_in

    def table(model: type[BaseModel], prefix: str) -> Iterator[str]:
        lines = ["| Field | Default | Meaning |", "| --- | --- | --- |"]
        below = []
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                below.append((kind, f"{prefix}{name}."))
                continue
            is_list = get_origin(kind) is tuple
            below += [(inner, f"{prefix}{name}{'[].' if is_list else '.'}") for inner in sections_in(kind)]
            value = json.dumps(None if field.is_required() else field.get_default(call_default_factory=True))
            default = "required" if field.is_required() else f"`{value}`"
            meaning = " ".join((field.description or "").split()).replace("<", "&lt;")
            lines.append(f"| `{prefix}{name}` | {default} | {meaning} |")
        yield "\n".join(lines)
        for kind, below_prefix in below:
            yield from table(kind, below_prefix)

    yield from table(RecipeFile, "")


def _helps() -> Iterator[str]:
    """The help text of every command, at 100 columns."""
    import click

    from flan_lora.cli import main

    def walk(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
        settings = {"terminal_width": 100, "max_content_width": 100, **command.context_settings}
        context = click.Context(command, info_name=name, parent=parent, **settings)
        yield f"```text\n{context.get_help()}\n```"
        for child_name, child in getattr(command, "commands", {}).items():
            if child.hidden:
                continue
            yield from walk(child, child_name, context)

    yield from walk(main, "flan-lora", None)


def with_table(text: str, table: str, begin: str = BEGIN, end: str = END) -> str:
    """The text with what stands between the markers replaced."""
    head, found, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    assert found and found_end, f"a text lost its markers {begin} and {end}"
    return f"{head}{begin}\n{table}\n{end}{tail}"


def wanted_files() -> dict[Path, str]:
    """Path -> what it should hold now."""
    readme, short, whole = REPO / "README.md", foreign_table(FOREIGN, in_short=True), foreign_table(FOREIGN)
    text = with_table(readme.read_text(encoding="utf-8"), results_table(REPO / "adapters"))
    return {
        readme: with_table(text, short, FOREIGN_BEGIN, FOREIGN_END),
        MINI_CARD: with_table(MINI_CARD.read_text(encoding="utf-8"), whole, FOREIGN_BEGIN, FOREIGN_END),
        REPO / "docs" / "reference.md": reference(),
    }


def stale_files() -> list[str]:
    """Names of generated files that are not as they should be."""
    return [
        str(path.relative_to(REPO))
        for path, text in wanted_files().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write, or with --check only compare."""
    stale = stale_files()
    if outdated := outdated_foreign(FOREIGN, REPO / "adapters"):
        print(
            f"{FOREIGN.relative_to(REPO)} measured other weights than are published of {', '.join(outdated)}.\n"
            "Measure again: python -m tools.foreign --data DATA --packages PACKAGES",
            file=sys.stderr,
        )
    if arguments == ["--check"]:
        if stale:
            print(f"stale: {', '.join(stale)}. Run make docs and commit the result.", file=sys.stderr)
        return 1 if stale or outdated else 0
    for path, text in wanted_files().items():
        path.write_text(text, encoding="utf-8")
    print(f"wrote {', '.join(stale)}" if stale else "nothing to write")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    raise SystemExit(main(sys.argv[1:]))
