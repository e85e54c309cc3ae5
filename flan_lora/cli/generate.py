"""``flan-lora generate``: ask one adapter, and the bare base beside it if you like."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flan_lora.cli.options import adapters_dir_option, find_store, json_option
from flan_lora.cli.output import print_json, print_table, shorten

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import T5ForConditionalGeneration

    from flan_lora.tasks import Example, Task


@click.command()
@click.argument("texts", metavar="[TEXT|-]...", nargs=-1)
@click.option("--adapter", "adapter_name", required=True, metavar="ADAPTER", help="Name or folder of an adapter.")
@click.option(
    "-i",
    "--input",
    "columns",
    metavar="COLUMN=TEXT",
    multiple=True,
    help="An input of a task that takes several, e.g. -i question=... -i context=... (- reads stdin).",
)
@click.option("--base", metavar="BASE", help="The base to load; the adapter must fit it. [default: the adapter's]")
@click.option("--compare", is_flag=True, help="Print the bare base's answer beside the adapter's.")
@adapters_dir_option
@json_option
def generate(
    texts: tuple[str, ...],
    adapter_name: str,
    columns: tuple[str, ...],
    base: str | None,
    compare: bool,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Print the adapter's answer to each TEXT.

    Without TEXT, or with -, one text is read from standard input.
    """
    from flan_lora.base import open_base
    from flan_lora.evaluate import predict
    from flan_lora.recipe import Recipe
    from flan_lora.store import load_adapter
    from flan_lora.tasks import get_task

    store, name = find_store(adapter_name, adapters_dir, base)
    stored = store.open(name)
    task = get_task(stored.manifest.task)
    examples = read_examples(task, texts, columns)
    recipe = Recipe.model_validate(stored.manifest.recipe)
    loaded = open_base(recipe.base if base is None else recipe.base.model_copy(update={"model": base}))

    def answer(model: PeftModel | T5ForConditionalGeneration) -> list[str]:
        limit = recipe.data.max_source_tokens
        return predict(
            model, loaded.tokenizer, task, examples, evaluation=recipe.evaluation, max_source_tokens=limit
        )

    # The bare base first: PEFT puts the adapter's layers into it.
    answers = {"base": answer(loaded.model)} if compare else {}
    answers["adapter"] = answer(load_adapter(loaded.model, stored, fingerprint=loaded.fingerprint))
    print_answers(examples, answers, as_json)


def read_examples(task: Task, texts: Sequence[str], columns: Sequence[str]) -> list[Example]:
    """What the user typed, as examples without an answer."""
    from flan_lora.errors import DataError
    from flan_lora.tasks import Example

    if columns:
        given = dict(_column(task, text) for text in columns)
        missing = [column for column in task.inputs if column not in given]
        if missing or texts:
            wanted = " ".join(f"-i {column}=..." for column in task.inputs)
            raise DataError(f"task {task.name} needs {wanted}, and no TEXT beside them.")
        requests = [given]
    elif len(task.inputs) > 1:
        wanted = " ".join(f"-i {column}=..." for column in task.inputs)
        raise DataError(f"task {task.name} takes {len(task.inputs)} inputs, not one text: {wanted}")
    else:
        requests = [{task.inputs[0]: _text(text)} for text in texts or ("-",)]
    return [
        Example(key=str(index), prompt=task.prompt(inputs), target="", references=(), inputs=inputs)
        for index, inputs in enumerate(requests)
    ]


def print_answers(examples: Sequence[Example], answers: dict[str, list[str]], as_json: bool) -> None:
    """The bare answer for one model, a table when two are compared."""
    rows = [dict(zip(answers, row, strict=True)) for row in zip(*answers.values(), strict=True)]
    inputs = [dict(example.inputs) for example in examples]
    if as_json:
        print_json([{"inputs": given, **row} for given, row in zip(inputs, rows, strict=True)])
    elif len(answers) == 1:
        click.echo("\n".join(answers["adapter"]))
    else:
        print_table(
            ("TEXT", "BARE BASE", "ADAPTER"),
            [
                (shorten(next(iter(given.values())), 60), shorten(row["base"], 30), shorten(row["adapter"], 60))
                for given, row in zip(inputs, rows, strict=True)
            ],
        )


def _column(task: Task, text: str) -> tuple[str, str]:
    """``question=...`` -> (question, ...), checked against the task."""
    from flan_lora.errors import DataError

    name, separator, value = text.partition("=")
    if not separator or name not in task.inputs:
        raise DataError(f"--input {text}: task {task.name} takes {', '.join(task.inputs)}, as COLUMN=TEXT.")
    return name, _text(value)


def _text(text: str) -> str:
    """A text as given, or standard input for ``-``."""
    return sys.stdin.read().strip() if text == "-" else text
