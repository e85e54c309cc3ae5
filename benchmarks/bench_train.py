"""Training throughput and peak memory: ours against the stock way of the tutorials, same rows, same steps.

    python benchmarks/bench_train.py --shape mini                     seconds
    python benchmarks/bench_train.py --shape large --rounds 2         FLAN-T5-large's shapes, random weights

Variants, each in a process of its own, in turn (A B C A B C ...), so that a drifting machine hits all alike:

    stock-max      Seq2SeqTrainer + PEFT + prepare_model_for_kbit_training, padded to the longest allowed source
    stock-dynamic  the same with dynamic padding and length-grouped batches: the best the stock parts can do
    ours           flan_lora.training.trainer

All three read the same encoded rows and train the same LoRA layers on the same base (int8, or bf16 by
--quantization) for the same steps in bf16 autocast, without evaluation. Samples/s counts from the end of step one.
Peak memory on the CPU is the process's anonymous resident memory (RssAnon, without the mapped checkpoint file),
sampled every 10 ms from the start of training; on a GPU it is torch's max_memory_allocated.

The table ends in one JSON line.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

VARIANTS = ("stock-max", "stock-dynamic", "ours")
LARGE = {"d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_heads": 16, "num_layers": 24, "num_decoder_layers": 24}


@click.command(help=__doc__)
@click.option("--shape", type=click.Choice(["mini", "large"]), default="mini", help="Of the frozen base.")
@click.option("--recipe", default="emotion", help="Recipe whose rows, lengths and LoRA are used.")
@click.option("--data", default="sample", help="As for `flan-lora train`.")
@click.option("--steps", default=12, help="Optimizer steps of each run; the first is not timed.")
@click.option("--rounds", default=3, help="Runs of each variant.")
@click.option("--checkpointing/--no-checkpointing", default=False, help="Gradient checkpointing, in all variants.")
@click.option("--quantization", type=click.Choice(["int8", "bf16"]), default="int8", help="Of the frozen base.")
@click.option("--worker", hidden=True, type=click.Choice(VARIANTS))
@click.option("--base-dir", hidden=True, type=click.Path(path_type=Path))
def main(worker: str | None, base_dir: Path | None, **options: Any) -> None:
    if worker is not None:
        assert base_dir is not None
        print(json.dumps(run_variant(worker, str(base_dir), options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        base = prepare_base(options["shape"], Path(folder))
        results = [
            run_in_process(variant, base, options) for _ in range(options["rounds"]) for variant in VARIANTS
        ]
    print_report(results, options)


def prepare_base(shape: str, folder: Path) -> Path:
    """`mini` as it ships, or a random checkpoint of FLAN-T5-large's shape with mini's tokenizer."""
    from flan_lora.mini import MINI_PATH

    if shape == "mini":
        return MINI_PATH
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", decoder_start_token_id=0, **LARGE)
    config.tie_word_embeddings = False
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config).to(torch.bfloat16)
    model.save_pretrained(folder / "large")
    AutoTokenizer.from_pretrained(MINI_PATH).save_pretrained(folder / "large")
    return folder / "large"


def run_in_process(variant: str, base: Path, options: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", variant, "--base-dir", str(base)]
    for name in ("shape", "recipe", "data", "steps", "quantization"):
        command += [f"--{name}", str(options[name])]
    command.append("--checkpointing" if options["checkpointing"] else "--no-checkpointing")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"{variant:14} {result['samples_per_s']:8.2f} samples/s  {result['peak_bytes'] / 1e9:6.2f} GB", flush=True
    )
    return dict(result)


def run_variant(variant: str, base_dir: str, options: dict[str, Any]) -> dict[str, Any]:
    """Train ``steps`` steps in this process and measure them."""
    from flan_lora.base.load import open_base
    from flan_lora.base.quantised import quiet_bitsandbytes
    from flan_lora.data.encoding import encode_split
    from flan_lora.data.sources import open_source
    from flan_lora.data.splits import load_split
    from flan_lora.recipe_file import load_recipe

    quiet_bitsandbytes()
    overrides = [
        f"base.model={base_dir}",
        f"base.quantization={options['quantization']}",
        f"training.max_steps={options['steps']}",
        f"training.gradient_checkpointing={str(options['checkpointing']).lower()}",
    ]
    recipe = load_recipe(options["recipe"], overrides)
    source = open_source(options["data"])
    split = load_split(recipe, "train", source)
    with tempfile.TemporaryDirectory() as run_dir:
        if variant == "ours":
            base = open_base(recipe.base)
            rows = encode_split(split, recipe, base.tokenizer, cache_dir=None)
            trainer = our_trainer(recipe, base, rows, split, Path(run_dir))
        else:
            from flan_lora.base.load import open_tokenizer

            tokenizer = open_tokenizer(recipe.base)
            rows = encode_split(split, recipe, tokenizer, cache_dir=None)
            trainer = stock_trainer(variant, recipe, tokenizer, rows, run_dir)
        return {"variant": variant, **measure(trainer, recipe.training.batch_size)}


def our_trainer(recipe: Any, base: Any, rows: Any, split: Any, run_dir: Path) -> Any:
    """Ours, with evaluation and checkpoints off: the other variants have none either."""
    from transformers.trainer_utils import IntervalStrategy, SaveStrategy

    from flan_lora.training.run_dir import Origin, start_run
    from flan_lora.training.trainer import build_trainer

    run = start_run(run_dir / "run", recipe, Origin(base.fingerprint, split.content_hash))
    trainer = build_trainer(recipe, base, rows, split, rows, run=run)
    trainer.args.eval_strategy, trainer.args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    trainer.args.load_best_model_at_end = False
    trainer.callback_handler.callbacks = [
        item for item in trainer.callback_handler.callbacks if type(item).__name__ != "EarlyStoppingCallback"
    ]
    return trainer


def stock_trainer(variant: str, recipe: Any, tokenizer: Any, rows: Any, run_dir: str) -> Any:
    """What the PEFT int8 tutorials do, in the API of transformers 5."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import (
        BitsAndBytesConfig,
        DataCollatorForSeq2Seq,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        T5ForConditionalGeneration,
    )

    from flan_lora.base.architecture import linear_names

    has_gpu, checkpointing = torch.cuda.is_available(), recipe.training.gradient_checkpointing
    int8 = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=recipe.base.int8_threshold)
    model = T5ForConditionalGeneration.from_pretrained(
        recipe.base.model,
        **({"quantization_config": int8} if recipe.base.quantization == "int8" else {}),
        device_map={"": 0 if has_gpu else "cpu"},
        dtype=torch.bfloat16,
    )
    if recipe.base.quantization == "int8":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    elif checkpointing:
        model.enable_input_require_grads()
    lora = recipe.lora
    model = get_peft_model(
        model,
        LoraConfig(
            task_type="SEQ_2_SEQ_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.modules(linear_names(model.config))),
        ),
    )
    items = [rows[index] for index in range(len(rows))]
    if variant == "stock-max":
        items = [padded(item, recipe.data, tokenizer.pad_token_id) for item in items]
    arguments = Seq2SeqTrainingArguments(
        output_dir=run_dir,
        use_cpu=not has_gpu,
        bf16=True,
        per_device_train_batch_size=recipe.training.batch_size,
        max_steps=recipe.training.max_steps,
        learning_rate=recipe.training.learning_rate,
        train_sampling_strategy="group_by_length" if variant == "stock-dynamic" else "random",
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
        seed=recipe.training.seed,
        gradient_checkpointing=checkpointing,
        dataloader_pin_memory=has_gpu,
    )
    collator = DataCollatorForSeq2Seq(tokenizer, model=model)
    return Seq2SeqTrainer(model=model, args=arguments, train_dataset=items, data_collator=collator)


def padded(item: dict[str, list[int]], data: Any, pad_id: int) -> dict[str, list[int]]:
    """One row padded to the longest allowed source and target, as tokenizer(padding='max_length') gives it."""
    source, labels = item["input_ids"], item["labels"]
    missing = data.max_source_tokens - len(source)
    return {
        "input_ids": source + [pad_id] * missing,
        "attention_mask": [1] * len(source) + [0] * missing,
        "labels": labels + [-100] * (data.max_target_tokens - len(labels)),
    }


def measure(trainer: Any, batch_size: int) -> dict[str, float]:
    """Samples/s from the end of step 1, and the peak memory of the whole training."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        ends_s: list[float]

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.ends_s = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ends_s.append(time.perf_counter())

    clock = Clock()
    trainer.add_callback(clock)
    with peak_memory() as peak:
        trainer.train()
    steps = len(clock.ends_s) - 1
    return {
        "samples_per_s": steps * batch_size / (clock.ends_s[-1] - clock.ends_s[0]),
        "peak_bytes": peak["bytes"],
    }


@contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """Highest memory inside the block, in bytes, under the key 'bytes'."""
    import torch

    peak = {"bytes": 0}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak["bytes"] = torch.cuda.max_memory_allocated()
        return
    from flan_lora.bench.apart import anonymous_bytes

    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.01):
            peak["bytes"] = max(peak["bytes"], anonymous_bytes())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    yield peak
    stop.set()
    thread.join()


def print_report(results: list[dict[str, Any]], options: dict[str, Any]) -> None:
    """Medians, ratios to ours, and the JSON line."""
    import torch

    from flan_lora.system.devices import measured_on

    medians = {
        variant: {
            key: statistics.median(result[key] for result in results if result["variant"] == variant)
            for key in ("samples_per_s", "peak_bytes")
        }
        for variant in VARIANTS
    }
    ours = medians["ours"]
    print(f"\n{'variant':14} {'samples/s':>10} {'ours is':>9} {'peak GB':>9} {'ours is':>9}")
    for variant, row in medians.items():
        speed, memory = ours["samples_per_s"] / row["samples_per_s"], ours["peak_bytes"] / row["peak_bytes"]
        peak_gb = row["peak_bytes"] / 1e9
        print(f"{variant:14} {row['samples_per_s']:10.2f} {speed:8.2f}x {peak_gb:9.2f} {memory:8.2f}x")
    device = measured_on(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    versions = {name: __import__(name).__version__ for name in ("torch", "transformers", "peft", "bitsandbytes")}
    report = {"benchmark": "train", **options, "device": device, "python": platform.python_version(), **versions}
    print(json.dumps({**report, "medians": medians, "runs": results}))


if __name__ == "__main__":
    main()
