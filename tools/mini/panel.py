"""The panel: what a base can do at a checkpoint, as one record of a JSON-lines file and as curves.

nats        per character of what should be written: comparable between tokenizers
exact       share of probes of which every token would be written as it stands
score       the task's own score of what the base writes under the task's prompt (validation rows)
repeated    share of those texts in which a run of four words stands twice
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from flan_lora.base.encode import Collator, encode_sources, encode_targets
from flan_lora.errors import FlanLoraError
from flan_lora.tasks import get_task
from flan_lora.tasks.normalise import repeats
from flan_lora.tasks.scorers import score
from tools.mini.panel_file import PANEL_FILE, append, draw, load
from tools.mini.pretrain import STATE_FILE
from tools.mini.probes import GAP, TASK_FILES, Probe, all_probes, load_passages, task_examples
from tools.mini.state import open_run

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
            nats, exact = teacher_forced(model, tokenizer, probes)
            figures[f"nats: {name}"] = nats
            if name in ("last word", "cloze", "copying"):
                figures[f"exact: {name}"] = exact
        for name in TASK_FILES if tasks else ():
            figures |= _written(model, tokenizer, root, name)
    return {name: round(value, 4) for name, value in figures.items()}


def teacher_forced(model: Any, tokenizer: Any, probes: Sequence[Probe]) -> tuple[float, float]:
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
        if probes[0].is_gap:  # neither the sentinel nor the end belongs to the text that was cut out
            asked[:, 0] = -100
            asked[asked == tokenizer.eos_token_id] = -100
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


def _batches(model: Any, rows: Sequence[Mapping[str, list[int]]]) -> Iterator[dict[str, Any]]:
    collate = Collator(pad_id=0, decoder_start_id=0)
    for start in range(0, len(rows), BATCH_ROWS):
        batch = collate(rows[start : start + BATCH_ROWS])
        yield {name: tensor.to(model.device) for name, tensor in batch.items()}


def measure_run(
    run: Path, packed: Path, root: Path, *, state_file: str = STATE_FILE, tasks: bool = True
) -> dict[str, float]:
    """Measure a state of a trunk, or of a branch's work folder; add it to ``panel.jsonl``, draw ``panel.png``.

    The run may go on meanwhile: nothing else of its folder is touched.
    """
    from transformers import AutoTokenizer

    trainer = open_run(run)
    if not trainer.load(state_file):
        raise FlanLoraError(
            f"{run} holds no {state_file} to measure.\nStart a trunk with `python -m tools.mini read`."
        )
    tokenizer = AutoTokenizer.from_pretrained(str(packed / "tokenizer"))
    passages = load_passages(root, packed / "passages.json")
    figures = measure(trainer.model, tokenizer, root, passages, tasks=tasks)
    append(run / PANEL_FILE, trainer.step, trainer.source_tokens, figures)
    draw(load(run / PANEL_FILE), run / "panel.png")
    return figures


def unmeasured(run: Path) -> list[str]:
    """The states that a trunk keeps for branches (`pretrain.Trainer.keep_every`) and that the panel lacks."""
    measured = {record["step"] for record in load(run / PANEL_FILE)}
    return [path.name for path in sorted(run.glob("state-*.safetensors")) if int(path.stem[6:]) not in measured]


def measure_checkpoint(folder: Path, packed: Path, root: Path, *, tasks: bool = True) -> dict[str, float]:
    """Measure a checkpoint folder of transformers, with its own tokenizer."""
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    model = T5ForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    return measure(model, tokenizer, root, load_passages(root, packed / "passages.json"), tasks=tasks)
