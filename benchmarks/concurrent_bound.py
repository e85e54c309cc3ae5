"""What training several adapters in one pass over the shared base could gain at most.

    python benchmarks/concurrent_bound.py --rounds 15
    python benchmarks/concurrent_bound.py --shape large --rows 4 --rounds 2     FLAN-T5-large's shapes

N adapters with batches of B rows each, in one mixed batch, can be no faster than one adapter with a batch of N x B
rows: the same passes over the base, and fewer small products. So the seconds per row of one adapter at B rows,
over those at N x B rows, bound the gain. Forward and backward are timed, batch sizes in turn; the optimizer is
left out, as it is one per adapter either way. The table ends in one JSON line.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click


@click.command(help=__doc__)
@click.option("--shape", type=click.Choice(["mini", "large"]), default="mini", help="Of the frozen base.")
@click.option("--rows", default=8, show_default=True, help="Of one adapter's batch.")
@click.option("--adapters", default=6, show_default=True, help="Trained in one pass.")
@click.option("--rounds", default=5, show_default=True, help="Timed steps of each batch size.")
@click.option("--source-tokens", default=64, show_default=True, help="Of every row.")
@click.option("--target-tokens", default=8, show_default=True, help="Of every row.")
def main(shape: str, rows: int, adapters: int, rounds: int, source_tokens: int, target_tokens: int) -> None:
    from bench_train import prepare_base

    from flan_lora.base.load import open_base
    from flan_lora.base.quantised import quiet_bitsandbytes
    from flan_lora.recipe_file import load_recipe
    from flan_lora.training.lora import add_lora

    quiet_bitsandbytes()
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe("emotion", [f"base.model={prepare_base(shape, Path(folder))}"])
        base = open_base(recipe.base)
        model = add_lora(recipe, base).train()
        seconds: dict[int, list[float]] = {rows: [], rows * adapters: []}
        for turn in range(rounds + 1):
            for size in seconds:
                took = step_seconds(model, size, source_tokens, target_tokens)
                if turn:  # the first of each warms up
                    seconds[size].append(took)
    report(seconds, {"shape": shape, "source_tokens": source_tokens, "target_tokens": target_tokens})


def step_seconds(model: Any, num_rows: int, source_tokens: int, target_tokens: int) -> float:
    """Seconds of one forward and backward pass over random rows of equal length."""
    import torch

    device = next(model.parameters()).device
    ids = torch.randint(3, 8000, (num_rows, source_tokens), device=device)
    labels = torch.randint(3, 8000, (num_rows, target_tokens), device=device)
    start = time.perf_counter()
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss.backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    model.zero_grad()
    return time.perf_counter() - start


def report(seconds: dict[int, list[float]], setting: dict[str, Any]) -> None:
    """Print milliseconds per row of each batch size, and what they bound."""
    import torch

    from flan_lora.system.devices import measured_on

    per_row = {size: statistics.median(times) / size for size, times in seconds.items()}
    for size, value in per_row.items():
        low, high = (1000 * bound(seconds[size]) / size for bound in (min, max))
        print(f"{size:3} rows  {1000 * value:8.2f} ms per row  ({low:.2f} to {high:.2f})")
    alone, together = per_row
    gain = per_row[alone] / per_row[together]
    print(f"{together // alone} adapters of {alone} rows in one pass: at most {gain:.2f} times as fast as in turn")
    versions = {name: version(name) for name in ("torch", "transformers", "peft", "bitsandbytes")}
    device = measured_on(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    record = {"seconds": seconds, "gain_bound": gain, "threads": torch.get_num_threads(), "device": device}
    print(json.dumps({**setting, **record, "versions": versions}))


if __name__ == "__main__":
    main()
