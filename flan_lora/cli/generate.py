"""``flan-lora generate``: ask one adapter a few texts or a whole file, and the bare base beside it if you like."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flan_lora.cli.options import adapters_dir_option, find_store, json_option
from flan_lora.cli.output import print_json, print_table
from flan_lora.cli.route import open_router
from flan_lora.system.text import shorten

if TYPE_CHECKING:
    from flan_lora.serving.completion import Completion, Text
    from flan_lora.serving.router import Router

_PATH = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("texts", metavar="[TEXT|-]...", nargs=-1)
@click.option(
    "--adapter",
    "adapter_name",
    required=True,
    metavar="ADAPTER",
    help="Name or folder of an adapter; `auto` chooses one for each text by its content.",
)
@click.option(
    "-c",
    "--column",
    "columns",
    metavar="COLUMN=TEXT",
    multiple=True,
    help="An input of a task that takes several, e.g. -c question=... -c context=... (- reads stdin).",
)
@click.option(
    "-i", "--input", "source", type=_PATH, metavar="FILE", help="Answer the lines of a JSONL file, with --output."
)
@click.option("-o", "--output", "target", type=_PATH, metavar="FILE", help="Where the answers go, as JSONL.")
@click.option("--base", metavar="BASE", help="The base to load; the adapter must fit it. [default: the adapter's]")
@click.option("--compare", is_flag=True, help="Print the bare base's answer beside the adapter's.")
@click.option(
    "--propose",
    "max_proposals",
    type=click.IntRange(min=1),
    metavar="N",
    help="question-generation: up to N questions with their answers about each TEXT, surest first.",
)
@click.option(
    "--scores",
    is_flag=True,
    help="Add the answer's log-probability, and calibrated probabilities of a task's labels.",
)
@adapters_dir_option
@json_option
def generate(
    texts: tuple[str, ...],
    adapter_name: str,
    columns: tuple[str, ...],
    source: Path | None,
    target: Path | None,
    base: str | None,
    compare: bool,
    max_proposals: int | None,
    scores: bool,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Print the adapter's answer to each TEXT.

    Without TEXT, or with -, one text is read from standard input.

    A line of an input file is a text in quotes or an object of the task's inputs, such as {"text": "..."};
    "adapter" in it names another adapter for this line. With --propose it needs the passage alone. Answers keep
    the order of the lines. After a kill, the same command goes on where it stopped.
    """
    from flan_lora.errors import DataError

    if (source is None) != (target is None):
        raise DataError("--input and --output go together: a file to read, a file to write.")
    if source is not None and (texts or columns or compare):
        raise DataError("--input takes all texts from the file: no TEXT, --column or --compare beside it.")
    if max_proposals is not None and (columns or compare or scores):
        raise DataError("--propose takes texts alone, and scores by itself: no --column, --compare or --scores.")
    router, name = _open(adapter_name, adapters_dir, base)
    if source is not None and target is not None:
        _answer_file(router, name, source, target, scores, max_proposals)
        return
    if max_proposals is not None:
        _print_proposals(router, name, [_text(text) for text in texts or ("-",)], max_proposals, as_json=as_json)
        return
    given = _read_texts(() if name == "auto" else router.inputs(name), texts, columns)
    choices: list[Any] = [{name: 0.0}, name] if compare else [name]  # weight 0: the base, asked as the adapter is
    answers = router.generate(
        [text for text in given for _ in choices], choices * len(given), label_probabilities=scores
    )
    rows = [answers[start : start + len(choices)] for start in range(0, len(answers), len(choices))]
    _print_answers(given, rows, scores=scores, as_json=as_json)


def _open(adapter_name: str, adapters_dir: Path, base: str | None) -> tuple[Router, str]:
    """A router on the adapter's base, and the adapter's name there; the adapter is ready."""
    from flan_lora.serving.completion import AUTO
    from flan_lora.serving.router import Router

    if adapter_name == AUTO:
        return open_router(adapters_dir, base), AUTO
    store, name = find_store(adapter_name, adapters_dir, base)
    router = Router.open(store.root, store.open(name).open_base(base))
    router.load(name)
    return router, name


def _answer_file(
    router: Router, name: str, source: Path, target: Path, scores: bool, max_proposals: int | None
) -> None:
    from flan_lora.errors import DataError
    from flan_lora.serving.batch_file import Ask, answer_file
    from flan_lora.serving.completion import AUTO

    inputs, identity = (("text",), "") if name == AUTO else (router.inputs(name), router.identity(name))
    ask = Ask(name, inputs if max_proposals is None else inputs[:1], scores, max_proposals)
    report = answer_file(router, source, target, ask, identity=identity, progress=True)
    resumed = f", {report.num_resumed:,} lines of them from before" if report.num_resumed else ""
    click.echo(f"{report.num_answers:,} answers in {target}{resumed}", err=True)
    if report.errors:
        shown = "\n".join(f"  {error}" for error in report.errors[:20])
        more = f"\n  and {len(report.errors) - 20:,} more" if len(report.errors) > 20 else ""
        raise DataError(f"{len(report.errors):,} lines have no answer ({target} says why):\n{shown}{more}")


def _read_texts(inputs: Sequence[str], texts: Sequence[str], columns: Sequence[str]) -> list[Text]:
    """What the user typed; ``inputs`` of the adapter's task, none where the adapter is yet to be chosen."""
    from flan_lora.errors import DataError

    wanted = " ".join(f"-c {column}=..." for column in inputs)
    if columns:
        given = dict(_column(inputs, text) for text in columns)
        missing = [column for column in inputs if column not in given]
        if missing or texts:
            raise DataError(f"this adapter's task needs {wanted}, and no TEXT beside them.")
        return [given]
    if len(inputs) > 1:
        raise DataError(f"this adapter's task takes {len(inputs)} inputs, not one text: {wanted}")
    return [_text(text) for text in texts or ("-",)]


def _print_proposals(router: Router, name: str, texts: Sequence[str], limit: int, *, as_json: bool) -> None:
    """What can be asked of each text, its answer, and how sure the adapter is."""
    from flan_lora.serving.batch_file import proposal_values

    rows = [[proposal_values(item) for item in router.propose(text, name, max_proposals=limit)] for text in texts]
    if as_json:
        print_json([{"input": text, "questions": own} for text, own in zip(texts, rows, strict=True)])
        return
    for text, own in zip(texts, rows, strict=True):
        if len(texts) > 1:
            click.echo(shorten(text, 90))
        print_table(
            ("QUESTION", "ANSWER", "SCORE"),
            [(item["question"], item["answer"], f"{item['score']:.2f}") for item in own],
        )


def _print_answers(
    given: Sequence[Text], rows: Sequence[Sequence[Completion]], *, scores: bool, as_json: bool
) -> None:
    """The answer alone, or a table when there is more to show."""
    if as_json:
        print_json([_json(text, row, scores) for text, row in zip(given, rows, strict=True)])
    elif len(rows[0]) == 1 and not scores:
        click.echo("\n".join(answer.text for (answer,) in rows))
    else:
        header = ["TEXT", *["BARE BASE"] * (len(rows[0]) - 1), "ADAPTER", *["LOG PROB", "LABELS"] * scores]
        print_table(header, [_cells(text, row, scores) for text, row in zip(given, rows, strict=True)])


def _json(text: Text, row: Sequence[Completion], scores: bool) -> dict[str, Any]:
    from flan_lora.serving.batch_file import answer_values

    bare = {"base": row[0].text} if len(row) > 1 else {}
    return {"input": text, **bare, **answer_values(row[-1], scores)}


def _cells(text: Text, row: Sequence[Completion], scores: bool) -> list[str]:
    shown = text if isinstance(text, str) else next(iter(text.values()))
    cells = [shorten(shown, 60), *(shorten(answer.text, 30) for answer in row[:-1]), shorten(row[-1].text, 60)]
    if scores:
        labels = row[-1].label_probabilities or {}
        ranked = sorted(labels.items(), key=lambda item: -item[1])[:3]
        cells += [f"{row[-1].log_prob:.2f}", ", ".join(f"{name} {share:.3f}" for name, share in ranked) or "-"]
    return cells


def _column(inputs: Sequence[str], text: str) -> tuple[str, str]:
    """``question=...`` -> (question, ...); checked against the task where there is one."""
    from flan_lora.errors import DataError

    name, separator, value = text.partition("=")
    if not separator or (inputs and name not in inputs):
        takes = ", ".join(inputs) or "any input"
        raise DataError(f"--column {text}: this adapter's task takes {takes}, as COLUMN=TEXT.")
    return name, _text(value)


def _text(text: str) -> str:
    """A text as given, or standard input for ``-``."""
    return sys.stdin.read().strip() if text == "-" else text
