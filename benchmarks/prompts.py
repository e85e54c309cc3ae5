"""How much the wording of a prompt matters: the product's own beside others in FLAN's manner, trained briefly.

    python benchmarks/prompts.py --data DATA --out results.jsonl                 all tasks
    python benchmarks/prompts.py --data DATA --out results.jsonl --task emotion

The wordings are each task's own prompt and its `Task.prompt_variants`. Each gets the same rows, adapter and
number of steps, and is scored on the same validation rows. Each finished run is one line of the results file, so a
stopped measurement goes on.
"""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
from result_lines import ResultLines


@click.command(help=__doc__)
@click.option("--data", required=True, help="As for `flan-lora train`.")
@click.option("--base", default="mini", show_default=True)
@click.option("--task", "tasks", multiple=True, help="Default: all six.")
@click.option("--steps", default=150, show_default=True, help="Optimizer steps of each run.")
@click.option("--rows", default=300, show_default=True, help="Validation rows that are scored.")
@click.option("--set", "overrides", multiple=True, help="Recipe values for all runs.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Results, one JSON line a run.")
def main(
    data: str, base: str, tasks: tuple[str, ...], steps: int, rows: int, overrides: tuple[str, ...], out: Path
) -> None:
    from flan_lora.tasks import TASKS
    from flan_lora.tasks.task import all_prompts

    results = ResultLines(out, ("task", "wording"))
    for task in tasks or TASKS:
        for variant in all_prompts(TASKS[task]):
            one_run = partial(run, task, variant, data, base, steps, rows, overrides)
            print(_line(results.get_or_run((task, variant.name), one_run)), flush=True)


def run(
    task_name: str, variant: Any, data: str, base_name: str, steps: int, num_rows: int, overrides: Any
) -> dict[str, Any]:
    """Train one wording and score it."""
    import torch
    from lora_against_full import fit

    from flan_lora.base.load import open_base
    from flan_lora.base.quantised import quiet_bitsandbytes
    from flan_lora.data.encoding import encode_split
    from flan_lora.data.sources import open_source
    from flan_lora.data.splits import load_split
    from flan_lora.evaluation.evaluate import evaluate
    from flan_lora.recipe_file import load_recipe
    from flan_lora.training.lora import add_lora

    quiet_bitsandbytes()
    recipe = load_recipe(task_name, [f"base.model={base_name}", *overrides])
    source, base = open_source(data), open_base(recipe.base)
    spelled = variant.spellings
    labels = tuple(spelled.get(label, label) for label in recipe.task_definition.labels)
    back = {word: label for label, word in spelled.items()}
    task = dataclasses.replace(
        recipe.task_definition,
        labels=labels,
        parse=lambda text: back.get(text.strip(), recipe.task_definition.parse(text)),
    )

    def worded(role: Any, max_rows: int) -> Any:
        split = load_split(recipe, role, source, max_rows=max_rows)
        examples = [_worded(example, variant) for example in split.examples]
        return dataclasses.replace(split, examples=tuple(examples))

    train, validation = worded("train", steps * recipe.training.batch_size), worded("validation", num_rows)
    torch.manual_seed(recipe.training.seed)
    model = add_lora(recipe, base)
    started_s = time.perf_counter()
    loss = fit(model, recipe, base, encode_split(train, recipe, base.tokenizer, cache_dir=None), steps)
    train_s = time.perf_counter() - started_s
    scored = evaluate(
        model,
        base.tokenizer,
        task,
        validation,
        evaluation=recipe.evaluation,
        max_source_tokens=recipe.data.max_source_tokens,
        name=task_name,
    )
    score = scored.scores[recipe.select_on]
    example = str(validation.examples[0].prompt).replace(validation.examples[0].prompt.body, "{...}")
    return {
        "prompt": example,
        "select_on": recipe.select_on,
        "score": round(score.value, 4),
        "low_high": [round(score.low, 4), round(score.high, 4)],
        "rows": scored.num_rows,
        "steps": steps,
        "last_loss": round(loss, 4),
        "train_s": round(train_s, 1),
    }


def _worded(example: Any, variant: Any) -> Any:
    """The example under another prompt, its target in that prompt's words for the labels."""
    target = variant.spellings.get(example.target, example.target)
    return dataclasses.replace(example, prompt=variant.prompt(example.inputs), target=target)


def _line(result: dict[str, Any]) -> str:
    low, high = result["low_high"]
    return (
        f"{result['task']:20} {result['variant']:18} {result['select_on']} {result['score']:.4f} "
        f"({low:.4f} to {high:.4f})  loss {result['last_loss']:.3f}"
    )


if __name__ == "__main__":
    main()
