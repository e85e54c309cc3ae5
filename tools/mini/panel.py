"""The panel: what a base can do at a checkpoint, as one record of a JSON-lines file and as curves.

nats        per character of what should be written: comparable between tokenizers
exact       share of probes of which every token would be written as it stands
score       the task's own score of what the base writes under the task's prompt (validation rows)
repeated    share of those texts in which a run of four words stands twice
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from flan_lora.base.encode import Collator, encode_sources, encode_targets
from flan_lora.errors import FlanLoraError
from flan_lora.tasks import get_task
from flan_lora.tasks.scorers import score
from tools.mini.pretrain import STATE_FILE
from tools.mini.probes import GAP, TASK_FILES, Probe, all_probes, load_passages, task_examples
from tools.mini.state import PANEL_FILE, open_trunk

MAX_SOURCE_TOKENS = 448
MAX_TARGET_TOKENS = 128
BATCH_ROWS = 16
LONG_ANSWERS = ("summarization", "question-generation", "paraphrase")
"""Tasks whose answers are texts: where loops can show."""


def measure(
    model: Any, tokenizer: Any, root: Path, passages: Mapping[str, list[str]], *, tasks: bool = True
) -> dict[str, float]:
    """Every figure of the panel by name.

    Args:
        model: A T5 of transformers, on any device.
        tokenizer: Its own: two bases are compared per character.
        root: The data root, for the validation rows of our tasks.
        passages: What `probes.load_passages` gives.
        tasks: Whether the base also writes answers, which takes the longest.
    """
    figures: dict[str, float] = {}
    model.eval()
    with torch.inference_mode():
        for name, probes in all_probes(root, passages).items():
            if not probes:
                continue
            nats, exact = _forced(model, tokenizer, probes)
            figures[f"nats: {name}"] = nats
            if name in ("last word", "cloze", "copying"):
                figures[f"exact: {name}"] = exact
        for name in TASK_FILES if tasks else ():
            figures |= _written(model, tokenizer, root, name)
    return {name: round(value, 4) for name, value in figures.items()}


def _forced(model: Any, tokenizer: Any, probes: Sequence[Probe]) -> tuple[float, float]:
    """(nats per character, share of targets of which every token is the likeliest)."""
    targets = [f"{GAP} {probe.target}" if probe.is_gap else probe.target for probe in probes]
    sources = encode_sources(tokenizer, [probe.prompt for probe in probes], MAX_SOURCE_TOKENS)
    labels = encode_targets(tokenizer, targets, MAX_TARGET_TOKENS)
    total, num_exact = 0.0, 0
    rows = [{"input_ids": s.input_ids, "labels": t.input_ids} for s, t in zip(sources, labels, strict=True)]
    for batch in _batches(model, rows):
        logits = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            decoder_input_ids=batch["decoder_input_ids"],
        ).logits.float()
        asked = batch["labels"].clone()
        if probes[0].is_gap:  # the sentinel is no part of the answer, nor is the end of a continuation
            asked[:, 0] = -100
        losses = torch.nn.functional.cross_entropy(logits.mT, asked, ignore_index=-100, reduction="sum")
        total += float(losses)
        counted = (asked != -100) & (asked != tokenizer.eos_token_id)
        num_exact += int(((logits.argmax(-1) == asked) | ~counted).all(1).sum())
    return total / sum(len(probe.target) for probe in probes), num_exact / len(probes)


def _written(model: Any, tokenizer: Any, root: Path, name: str) -> dict[str, float]:
    """Score and repetitions of what the base writes, greedily, under a task's own prompt."""
    examples = task_examples(root, name)
    task = get_task(TASK_FILES[name][0])
    sources = encode_sources(tokenizer, [example.prompt for example in examples], MAX_SOURCE_TOKENS)
    rows = [{"input_ids": source.input_ids} for source in sources]
    outputs: list[str] = []
    for batch in _batches(model, rows):
        ids = model.generate(**batch, max_new_tokens=task.max_new_tokens, num_beams=1, do_sample=False)
        outputs += tokenizer.batch_decode(ids, skip_special_tokens=True)
    predictions = [task.parse(output) for output in outputs]
    references = [example.references for example in examples]
    texts = [next(iter(example.inputs.values())) for example in examples]
    figures = {f"score: {name}": score(task.scorers, predictions, references, texts)[task.select_on]}
    if name in LONG_ANSWERS:
        figures[f"repeated: {name}"] = sum(map(repeats, outputs)) / len(outputs)
    return figures


def repeats(text: str, length: int = 4) -> bool:
    """Whether a run of `length` words stands twice in a text."""
    words = text.lower().split()
    runs = [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]
    return len(set(runs)) < len(runs)


def _batches(model: Any, rows: Sequence[Mapping[str, list[int]]]) -> Iterator[dict[str, Any]]:
    collate = Collator(pad_id=0, decoder_start_id=0)
    for start in range(0, len(rows), BATCH_ROWS):
        batch = collate(rows[start : start + BATCH_ROWS])
        yield {name: tensor.to(model.device) for name, tensor in batch.items()}


def measure_trunk(
    run: Path, packed: Path, root: Path, *, state_file: str = STATE_FILE, tasks: bool = True
) -> dict[str, float]:
    """Measure a state of the trunk in `run`, add a record to ``panel.jsonl`` and draw ``panel.png``."""
    from transformers import AutoTokenizer

    trainer, _ = open_trunk(run)
    if not trainer.load(state_file):
        raise FlanLoraError(
            f"{run} holds no {state_file} to measure.\nStart the trunk with `python -m tools.mini read`."
        )
    tokenizer = AutoTokenizer.from_pretrained(str(packed / "tokenizer"))
    passages = load_passages(root, packed / "passages.json")
    figures = measure(trainer.model, tokenizer, root, passages, tasks=tasks)
    append(run / PANEL_FILE, trainer.step, trainer.source_tokens, figures)
    draw(load(run / PANEL_FILE), run / "panel.png")
    return figures


def measure_checkpoint(folder: Path, packed: Path, root: Path, *, tasks: bool = True) -> dict[str, float]:
    """Measure a checkpoint folder of transformers, with its own tokenizer."""
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    model = T5ForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    return measure(model, tokenizer, root, load_passages(root, packed / "passages.json"), tasks=tasks)


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
