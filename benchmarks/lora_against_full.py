"""LoRA against full fine-tuning of the same base: what ranks, targets and learning rates are worth.

    python benchmarks/lora_against_full.py emotion --data DATA --steps 400
    python benchmarks/lora_against_full.py summarization --data DATA --steps 400

Every run takes the same rows in the same order for the same steps, AdamW with the recipes' schedule, and is
scored on the same validation rows at its end. LoRA runs on the frozen int8 base; full fine-tuning on the fp32
base, all parameters trained. Each finished run is one line of the results file, so a stopped sweep goes on.
"""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from result_lines import ResultLines

ALL_LINEAR = ("q", "k", "v", "o", "wi_0", "wi_1", "wo")
QV = ("q", "v")


@dataclass(frozen=True)
class Variant:
    """One run of the sweep."""

    rank: int | None
    """None: full fine-tuning."""
    modules: tuple[str, ...]
    learning_rate: float

    @property
    def name(self) -> str:
        if self.rank is None:
            return f"full, lr {self.learning_rate:g}"
        modules = "all linear" if self.modules == ALL_LINEAR else ",".join(self.modules)
        return f"LoRA {modules}, r {self.rank}, lr {self.learning_rate:g}"


SWEEP = (
    *(Variant(16, ALL_LINEAR, rate) for rate in (3e-5, 3e-4, 1e-3, 2e-3, 5e-3)),
    *(Variant(None, (), rate) for rate in (3e-5, 3e-4, 1e-3, 2e-3)),
    *(Variant(16, QV, rate) for rate in (1e-3, 2e-3, 5e-3)),
    *(Variant(rank, modules, 1e-3) for rank in (4, 64) for modules in (ALL_LINEAR, QV)),
    *(Variant(rank, modules, 2e-3) for rank in (4, 64) for modules in (ALL_LINEAR, QV)),
)


@click.command(help=__doc__)
@click.argument("recipe")
@click.option("--data", required=True, help="As for `flan-lora train`.")
@click.option("--base", default="mini", show_default=True)
@click.option("--steps", default=400, show_default=True, help="Optimizer steps of each run.")
@click.option("--rows", default=500, show_default=True, help="Validation rows that are scored.")
@click.option("--set", "overrides", multiple=True, help="Recipe values for all runs.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Results, one JSON line a run.")
def main(recipe: str, data: str, base: str, steps: int, rows: int, overrides: tuple[str, ...], out: Path) -> None:
    results = ResultLines(out, ("name",))
    for variant in SWEEP:
        one_run = partial(run, variant, recipe, data, base, steps, rows, overrides)
        print(_line(results.get_or_run((variant.name,), one_run)), flush=True)


def run(
    variant: Variant, recipe_name: str, data: str, base_name: str, steps: int, num_rows: int, overrides: Any
) -> dict[str, Any]:
    """Train one variant and score it."""
    import torch

    from flan_lora.base.load import open_base
    from flan_lora.base.quantised import quiet_bitsandbytes
    from flan_lora.data.encoding import encode_split
    from flan_lora.data.sources import open_source
    from flan_lora.data.splits import load_split
    from flan_lora.evaluation.evaluate import evaluate
    from flan_lora.recipe_file import load_recipe
    from flan_lora.training.lora import add_lora

    quiet_bitsandbytes()
    settings = [f"base.model={base_name}", *overrides, f"training.learning_rate={variant.learning_rate}"]
    if variant.rank is None:
        settings.append("base.quantization=fp32")
    else:
        settings += [f"lora.rank={variant.rank}", f"lora.alpha={2 * variant.rank}"]
        settings.append(f"lora.target_modules=[{', '.join(variant.modules)}]")
    recipe = load_recipe(recipe_name, settings)
    source = open_source(data)
    base = open_base(recipe.base)
    torch.manual_seed(recipe.training.seed)
    model: Any = base.model.requires_grad_() if variant.rank is None else add_lora(recipe, base)
    split = load_split(recipe, "train", source, max_rows=recipe.data.max_train_rows)
    encoded = encode_split(split, recipe, base.tokenizer)
    started_s = time.perf_counter()
    loss = fit(model, recipe, base, encoded, steps)
    train_s = time.perf_counter() - started_s
    scored = evaluate(
        model,
        base.tokenizer,
        recipe.task_definition,
        load_split(recipe, "validation", source, max_rows=num_rows),
        evaluation=recipe.evaluation,
        max_source_tokens=recipe.data.max_source_tokens,
        name=variant.name,
    )
    return {
        **asdict(variant),
        "recipe": recipe_name,
        "steps": steps,
        "batch_size": recipe.training.batch_size,
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "last_loss": round(loss, 4),
        "scores": {name: round(score.value, 4) for name, score in scored.scores.items()},
        "low_high": [round(getattr(scored.scores[recipe.select_on], side), 4) for side in ("low", "high")],
        "select_on": recipe.select_on,
        "rows": scored.num_rows,
        "train_s": round(train_s, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def fit(model: Any, recipe: Any, base: Any, rows: Any, steps: int) -> float:
    """`steps` AdamW steps with linear warm-up and decay; returns the mean loss of the last tenth."""
    import torch

    from flan_lora.base.encode import Collator
    from flan_lora.training.sampler import LengthGroupedOrder

    training = recipe.training
    lengths = [len(source) + len(target) for source, target in zip(rows.input_ids, rows.labels, strict=True)]
    order = LengthGroupedOrder(lengths, training.batch_size, training.seed)
    collate = Collator(base.tokenizer.pad_token_id, base.model.config.decoder_start_token_id)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=training.learning_rate, weight_decay=training.weight_decay)
    warmup = max(1, round(training.warmup_share * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
    )
    model.train()
    losses: list[float] = []
    while len(losses) < steps:
        order.set_epoch(len(losses) * training.batch_size // len(lengths))
        numbers = list(order)
        for start in range(0, len(numbers), training.batch_size):
            batch = collate([rows[row] for row in numbers[start : start + training.batch_size]])
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, training.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            if len(losses) == steps:
                break
    last = losses[-max(1, steps // 10) :]
    return sum(last) / len(last)


def _line(result: dict[str, Any]) -> str:
    low, high = result["low_high"]
    score = result["scores"][result["select_on"]]
    return (
        f"{result['name']:32} {result['trained_parameters']:>10,} trained  "
        f"{result['select_on']} {score:.4f} ({low:.4f} to {high:.4f})  {result['train_s']:.0f} s"
    )


if __name__ == "__main__":
    main()
