"""``flan-lora generate`` and ``propose``: ask one adapter a few texts, and the bare base beside it if you like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flan_lora.cli.batch import FILE, run_batch
from flan_lora.cli.generation import generation_options
from flan_lora.cli.options import adapters_dir_option, json_option
from flan_lora.cli.output import print_json, print_table
from flan_lora.cli.serving import (
    AnsweringCommand,
    adapter_base_option,
    adapter_option,
    columns_of,
    columns_option,
    read_text,
    scores_option,
)
from flan_lora.serving.open_router import open_adapter, open_router
from flan_lora.system.text import shorten

if TYPE_CHECKING:
    from flan_lora.serving.completion import Completion, Text
    from flan_lora.serving.router import Router

texts_argument = click.argument("texts", metavar="[TEXT|-]...", nargs=-1)


@click.command(cls=AnsweringCommand)
@texts_argument
@adapter_option
@click.option(
    "-c",
    "--column",
    "columns",
    metavar="COLUMN=TEXT",
    multiple=True,
    help="An input of a task that takes several, e.g. -c question=... -c context=... (- reads stdin).",
)
@adapter_base_option
@click.option("--compare", is_flag=True, help="Print the bare base's answer beside the adapter's.")
@scores_option
@columns_option
@click.option(
    "--task", help="Whose prompt and parser to use. [default: the adapter's own; of a mix the heaviest's]"
)
@generation_options
@click.option("-i", "--input", "source", type=FILE, hidden=True)
@click.option("-o", "--output", "target", type=FILE, hidden=True)
@click.option("--propose", "max_proposals", type=click.IntRange(min=1), hidden=True)
@adapters_dir_option
@json_option
def generate(
    texts: tuple[str, ...],
    adapter_name: str,
    columns: tuple[str, ...],
    base: str | None,
    compare: bool,
    scores: bool,
    overrides: tuple[str, ...],
    task: str | None,
    source: Path | None,
    target: Path | None,
    max_proposals: int | None,
    params: Mapping[str, Any],
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Print the adapter's answer to each TEXT.

    A mix of adapters is JSON: --adapter '{"emotion": 0.8, "qa": -0.2}', asked as its heaviest one or as --task.
    Without TEXT, or with -, one text is read from standard input. `flan-lora batch` answers a whole file.
    """
    own_names = columns_of(overrides)
    _check_exclusions(
        source,
        target,
        max_proposals,
        bool(texts or columns or compare),
        bool(columns or compare or scores or params or task),
    )
    router, choice = _open(adapter_name, adapters_dir, base)
    if source is not None and target is not None:
        from flan_lora.serving.batch_answers import BatchOptions

        run_batch(router, str(source), str(target), BatchOptions(choice, scores, max_proposals, own_names, params))
    elif max_proposals is not None:
        _print_proposals(router, choice, texts or ("-",), max_proposals, as_json=as_json)
    else:
        given = _read_texts(_inputs(router, choice, task), texts, columns, own_names)
        answers = router.generate(given, choice, task=task, params=params, label_probabilities=scores)
        bare = []
        if compare:
            bare = router.generate(
                given, None, task=task, task_of=[item.adapter for item in answers], params=params
            )
        _print_answers(given, answers, bare, scores=scores, as_json=as_json)


@click.command(cls=AnsweringCommand, name="propose")
@texts_argument
@adapter_option
@click.option(
    "-n", "max_proposals", type=click.IntRange(min=1), default=5, show_default=True, help="Questions, at most."
)
@adapter_base_option
@adapters_dir_option
@json_option
def propose(
    texts: tuple[str, ...],
    adapter_name: str,
    max_proposals: int,
    base: str | None,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Print what can be asked of each TEXT, with the answers, surest first.

    For adapters of question-generation. Without TEXT, or with -, one text is read from standard input.
    """
    router, name = open_adapter(adapter_name, adapters_dir, base)
    _print_proposals(router, name, texts or ("-",), max_proposals, as_json=as_json)


def _open(adapter: str, adapters_dir: Path, base: str | None) -> tuple[Router, Any]:
    """A router, and who answers: a name, or a mix from JSON, whose adapters are then all of one base."""
    from flan_lora.system.documents import DocumentError, parse_json

    if not adapter.lstrip().startswith("{"):
        return open_adapter(adapter, adapters_dir, base)
    try:
        mix = parse_json(adapter.encode("utf-8", "surrogateescape"))
    except DocumentError as error:
        raise click.UsageError(
            f"--adapter {shorten(adapter, 80)}: a mix is JSON, e.g. "
            f"""'{{"emotion": 0.8, "qa": -0.2}}' ({"; ".join(error.problems)})."""
        ) from error
    return open_router(adapters_dir, base, num_slots=max(len(mix) + 1, 9)), mix


def _inputs(router: Router, choice: Any, task: str | None) -> tuple[str, ...]:
    """What a text consists of; none where the adapter is yet to be chosen."""
    from flan_lora.serving.completion import AUTO, heaviest, mix_of
    from flan_lora.tasks import get_task

    if task is not None:
        return get_task(task).inputs
    return () if choice == AUTO else router.inputs(heaviest(mix_of(choice)))


def _check_exclusions(
    source: Path | None, target: Path | None, max_proposals: int | None, has_texts: bool, has_more: bool
) -> None:
    if (source is None) != (target is None):
        raise click.UsageError("--input and --output go together: a file to read, a file to write.")
    if source is not None and has_texts:
        raise click.UsageError("--input takes all texts from the file: no TEXT, --column or --compare beside it.")
    if max_proposals is not None and has_more:
        raise click.UsageError(
            "--propose takes texts alone, and scores by itself: no --column, --compare or --scores."
        )


def _read_texts(
    inputs: Sequence[str], texts: Sequence[str], columns: Sequence[str], own_names: Mapping[str, str]
) -> list[Text]:
    """What the user typed.

    Args:
        inputs: of the adapter's task; none where the adapter is yet to be chosen.
        own_names: of the user, for inputs.
    """
    wanted = " ".join(f"-c {own_names.get(name, name)}=..." for name in inputs)
    if columns:
        given = dict(_column(inputs, text, own_names) for text in columns)
        if texts or any(name not in given for name in inputs):
            raise click.UsageError(f"this adapter's task needs {wanted}, and no TEXT beside them.")
        return [given]
    if len(inputs) > 1:
        raise click.UsageError(f"this adapter's task takes {len(inputs)} inputs, not one text: {wanted}")
    return [read_text(text) for text in texts or ("-",)]


def _column(inputs: Sequence[str], text: str, own_names: Mapping[str, str]) -> tuple[str, str]:
    """``question=...`` -> (question, ...); checked against the task where there is one."""
    typed, separator, value = text.partition("=")
    name = {own: name for name, own in own_names.items()}.get(typed, typed)
    if not separator or (inputs and name not in inputs):
        takes = ", ".join(own_names.get(name, name) for name in inputs) or "any input"
        raise click.UsageError(f"--column {text}: this adapter's task takes {takes}, as COLUMN=TEXT.")
    return name, read_text(value)


def _print_proposals(router: Router, name: str, texts: Sequence[str], limit: int, *, as_json: bool) -> None:
    """What can be asked of each text, its answer, and how sure the adapter is."""
    from flan_lora.serving.batch_answers import proposal_values

    given = [read_text(text) for text in texts]
    rows = [[proposal_values(item) for item in router.propose(text, name, max_proposals=limit)] for text in given]
    if as_json:
        print_json([{"input": text, "questions": own} for text, own in zip(given, rows, strict=True)])
        return
    for text, own in zip(given, rows, strict=True):
        if len(given) > 1:
            click.echo(shorten(text, 90))
        print_table(
            ("QUESTION", "ANSWER", "SCORE"),
            [(item["question"], item["answer"], f"{item['score']:.2f}") for item in own],
        )


def _print_answers(
    given: Sequence[Text],
    answers: Sequence[Completion],
    bare: Sequence[Completion],
    *,
    scores: bool,
    as_json: bool,
) -> None:
    """The answers alone, or a table when there is more to show."""
    if as_json:
        from flan_lora.serving.batch_answers import answer_values

        bases = [{"base": item.text} for item in bare] or [{} for _ in given]
        print_json(
            [
                {"input": text, **base, **answer_values(answer, scores)}
                for text, base, answer in zip(given, bases, answers, strict=True)
            ]
        )
    elif not bare and not scores:
        click.echo("\n".join(answer.text for answer in answers))
    else:
        header = ["TEXT", *(["BARE BASE"] if bare else []), "ADAPTER", *(["LOG PROB", "LABELS"] if scores else [])]
        beside = [[shorten(item.text, 30)] for item in bare] or [[] for _ in given]
        rows = [
            [_shown(text), *base, shorten(answer.text, 60), *(_score_cells(answer) if scores else [])]
            for text, base, answer in zip(given, beside, answers, strict=True)
        ]
        print_table(header, rows)


def _shown(text: Text) -> str:
    return shorten(text if isinstance(text, str) else next(iter(text.values())), 60)


def _score_cells(answer: Completion) -> list[Any]:
    labels = answer.label_probabilities or {}
    ranked = sorted(labels.items(), key=lambda item: -item[1])[:3]
    return [f"{answer.log_prob:.2f}", ", ".join(f"{name} {share:.3f}" for name, share in ranked) or "-"]
