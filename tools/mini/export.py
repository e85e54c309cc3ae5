"""From a finished run to the artefact: bf16 weights, tokenizer, loss curve and card in one folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import textwrap
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tools.mini import corpus
from tools.mini.instruct import DIALOGUE_CHARS, MAX_OWN_ROWS
from tools.mini.panel_file import PANEL_FILE, draw, load

MAX_CURVE_RECORDS = 400
_PANEL_LINES = (
    "## What it could do on the way",
    "",
    "![curves over source tokens](panel.png)",
    "",
    "Nats per character on passages that no stage read, blanked words, copies, and our tasks' validation rows",
    "without an adapter; `panel.jsonl` has the figures, `tools/mini/panel.py` says what each is.",
    "",
)
_FOREIGN_LINES = (
    "## Its adapters on rows that nobody read",
    "",
    "Neither this base nor its adapters read these rows (`tools/foreign`); the base is asked in their prompts.",
    "",
    "<!-- foreign:begin -->",
    "Not measured yet.",
    "<!-- foreign:end -->",
    "",
)
"""`docs/refresh.py` writes the table between the marks."""
PACKAGES = ("torch", "transformers", "sentencepiece", "numpy")


def export(
    model: Any, tokenizer: Any, work: Path, out: Path, *, plan: dict[str, Any], data: Path, note: str = ""
) -> Path:
    """Write the checkpoint folder `out`, replacing what a former export left there.

    ``model`` keeps its fp32 weights; a bf16 copy is saved. ``work`` gives the log and ``spiece.model``.
    """
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    save_weights(model, partial)
    tokenizer.save_pretrained(str(partial))
    shutil.copy(work / "tokenizer" / "spiece.model", partial / "spiece.model")
    records = [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]
    write_curve(records, partial / "loss.jsonl")
    panel = load(work / PANEL_FILE)
    if panel:
        shutil.copy(work / PANEL_FILE, partial / PANEL_FILE)
        draw(panel, partial / "panel.png")
    card = render_card(records, plan, model, data_digests(data), note, has_panel=bool(panel))
    (partial / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(partial, out)
    return out


def save_weights(model: Any, folder: Path) -> None:
    """Save a bf16 copy with its configs; refuses to write a tied head (transformers 5 ties at many turns)."""
    import copy

    import torch
    from transformers import GenerationConfig

    published = copy.deepcopy(model).to(torch.bfloat16)
    assert published.lm_head.weight.data_ptr() != published.shared.weight.data_ptr()
    assert published.config.tie_word_embeddings is False
    published.generation_config = GenerationConfig(pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    published.save_pretrained(str(folder))
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner alone


def write_curve(records: list[dict[str, Any]], path: Path) -> None:
    """Thin the run's log to a loss curve of bounded size, means over equal runs of records."""
    width = -(-len(records) // MAX_CURVE_RECORDS)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(records), width):
            group = [r for r in records[start : start + width] if r["stage"] == records[start]["stage"]]
            mean = sum(r["loss"] for r in group) / len(group)
            file.write(json.dumps({**group[-1], "loss": round(mean, 4)}) + "\n")


def data_digests(root: Path) -> dict[str, str]:
    """First 12 hex digits of the sha256 of every source: which data the artefact has seen."""
    digests = {}
    for entry in corpus.SOURCES:
        path = root / entry.path
        digest = hashlib.sha256()
        for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
            if file.stem not in entry.leave_out:
                digest.update(file.read_bytes())
        digests[entry.name] = digest.hexdigest()[:12]
    return digests


def _stage_rows(records: list[dict[str, Any]]) -> list[str]:
    """One table row per stage: steps, tokens, seconds and the mean loss of its last records."""
    rows, before = [], {"step": 0, "source_tokens": 0, "target_tokens": 0, "elapsed_s": 0.0}
    for stage in dict.fromkeys(record["stage"] for record in records):
        own = [record for record in records if record["stage"] == stage]
        steps, sources, targets, seconds = (own[-1][key] - value for key, value in before.items())
        loss = sum(record["loss"] for record in own[-10:]) / len(own[-10:])
        rows.append(
            f"| {stage} | {steps:,} | {sources / 1e6:.2f} M | {targets / 1e6:.2f} M "
            f"| {seconds / 60:.0f} min | {loss:.3f} |"
        )
        before = {key: own[-1][key] for key in before}
    return rows


def render_card(
    records: list[dict[str, Any]],
    plan: dict[str, Any],
    model: Any,
    digests: dict[str, str],
    note: str,
    has_panel: bool,
) -> str:
    """The README of the checkpoint: what it is, what it saw, how it was made."""
    c = model.config
    num_parameters = sum(p.numel() for p in model.parameters())
    sources = [f"| {s.name} | `{s.path}` | {s.licence} | {s.terms} | {digests[s.name]} |" for s in corpus.SOURCES]
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    threads = plan["num_threads"]
    return "\n".join(
        [
            "# mini: the embedded base of flan_lora",
            "",
            "A small T5 v1.1 (gated GELU, untied head) with its own tokenizer, so that every command runs",
            "without a GPU and without a hub. It is a base for LoRA adapters, not a good writer by itself.",
            *([note] if note else []),
            "",
            f"Shape: d_model {c.d_model}, d_ff {c.d_ff}, {c.num_layers} + {c.num_decoder_layers} layers, "
            f"{c.num_heads} heads of {c.d_kv}: {num_parameters:,} parameters, bf16.",
            "Fewer decoder than encoder layers: equal losses after equal time, and answers in less.",
            "",
            "| stage | steps | source tokens | target tokens | wall time | last loss (per target token) |",
            "|---|---|---|---|---|---|",
            *_stage_rows(records),
            "",
            "Denoising: half span corruption (15 %, mean span 3, arXiv:1910.10683), the rest long spans, suffixes",
            "(arXiv:2205.05131) and look-ups (`tools/mini/denoise.py`); packed, no padding.",
            *_wrapped(
                "Instruction: several templates per set (arXiv:2210.11416), pairs made of plain text beside "
                f"them (`tools/mini/selfmade.py`), {plan['span_tokens']} source tokens of stage one with every "
                "batch. "
                "The initial weights hold the copying circuits of `tools/mini/circuits.py`."
            ),
            "",
            *_wrapped(
                "What the base has seen of the rows that the adapters learn from (their train splits), all of it "
                "under other prompts than the adapters': every emotion row, as a choice between two feelings in "
                "other words or as yes or no. Of the rest half of the rows, drawn by their text: emotions by name "
                "while annealing; PAWS pairs as same or different, and said in other words; SAMSum up to "
                f"{DIALOGUE_CHARS} characters; SQuAD with the passage cut around the answer. Besides, all of "
                f"TyDi QA. Under a task's own prompt and answer it has seen {MAX_OWN_ROWS} rows of each set; none "
                "of MLQA."
            ),
            "",
            "Muon on the matrices in the blocks, Adam elsewhere; the rate falls to zero during the annealing.",
            "",
            f"Made on {platform.machine()}, {threads} threads; products: {plan['products']}; seed {plan['seed']}.",
            f"Versions: {versions}. Loss curve: `loss.jsonl`. Rebuild:",
            "",
            f"    python -m tools.mini build --data DIR --out DIR --steps {plan['steps']} "
            f"--instruct-steps {plan['instruct_steps']} --decay-steps {plan['decay_steps']} "
            f"--seed {plan['seed']} --threads {threads}",
            "",
            *(_PANEL_LINES if has_panel else ()),
            *_FOREIGN_LINES,
            "## Data",
            "",
            "Plain text, train splits and public instruction sets; no row of our validation or test splits.",
            "QNLI is left out: its validation set repeats SQuAD's development questions.",
            "",
            "| source | file | licence | terms | sha256 |",
            "|---|---|---|---|---|",
            *sources,
            "",
            *(f"- {name}: {text}." for name, text in corpus.TERMS.items()),
            "",
        ]
    )


def _wrapped(text: str) -> list[str]:
    """A paragraph as lines."""
    return textwrap.wrap(text, 110)
