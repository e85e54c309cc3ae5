"""The trunk in small files that a repository can hold: what another machine needs to read on.

    manifest.json      plan, counters, sizes, digests
    weights-NN.bf16    all weights in name order, little-endian bf16, cut every `MAX_SHARD_BYTES`
    log.jsonl          the loss curve, thinned;  panel.jsonl, the panel's, whole
    spiece.model       the tokenizer

The optimizer's state is not kept: momentum forgets in 20 steps and Adam's squares in 50, so a restored run starts
with neither and warms up anew (`REWARM_STEPS`), which costs less reading than their bytes are worth.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flan_lora.errors import FlanLoraError
from tools.mini.export import write_curve
from tools.mini.network import Shape, new_model
from tools.mini.panel_file import PANEL_FILE
from tools.mini.pretrain import STATE_FILE, Schedule, Trainer
from tools.mini.read import NEVER, PLAN_FILE, TrunkPlan
from tools.mini.tokenizer import SPIECE_FILE, save_tokenizer

MAX_SHARD_BYTES = 4_500_000
FORMAT_VERSION = 1
"""Of the manifest."""


def save_state(run: Path, packed: Path, state: Path) -> Path:
    """Write the trunk in `run`, which read `packed`, to the folder `state`, replacing what it holds.

    Raises:
        FlanLoraError: there is no trunk in `run`.
    """
    trainer = open_run(run)
    if not trainer.load():
        raise FlanLoraError(f"{run} holds no {STATE_FILE}.\nStart the trunk with `python -m tools.mini read`.")
    partial = state.with_name(state.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    flat = _flat(trainer.model).to(torch.bfloat16).view(torch.uint8).numpy().tobytes()
    shards = {}
    for number, start in enumerate(range(0, len(flat), MAX_SHARD_BYTES)):
        shard = flat[start : start + MAX_SHARD_BYTES]
        (partial / f"weights-{number:02d}.bf16").write_bytes(shard)
        shards[f"weights-{number:02d}.bf16"] = hashlib.sha256(shard).hexdigest()
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    write_curve([record for record in records if record["step"] <= trainer.step], partial / "log.jsonl")
    if (run / PANEL_FILE).exists():
        shutil.copy(run / PANEL_FILE, partial / PANEL_FILE)
    shutil.copy(packed / "tokenizer" / SPIECE_FILE, partial / SPIECE_FILE)
    manifest = {
        "format_version": FORMAT_VERSION,
        "plan": json.loads((run / PLAN_FILE).read_text()),
        "counters": trainer.counters(),
        "tokens_sha256": _digest(packed / "tokens.npy"),
        "shards": shards,
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(state, ignore_errors=True)
    partial.rename(state)
    return state


def load_state(state: Path, run: Path, packed: Path, *, batch_tokens: int | None = None) -> bool:
    """Make `run` a trunk that `read` continues, and put its tokenizer into `packed`.

    `batch_tokens` changes the size of a micro-batch from here on: a GPU wants more than a core.

    Returns:
        Whether `packed` holds the tokens that the trunk has read; where not, it goes on with other batches.

    Raises:
        FlanLoraError: `run` holds a trunk already, or a file of `state` is missing or damaged.
    """
    if (run / STATE_FILE).exists():
        raise FlanLoraError(f"{run} holds a trunk already.\nChoose another --run, or read on there.")
    manifest = _manifest(state)
    flat = b"".join(_shard(state / name, digest) for name, digest in manifest["shards"].items())
    run.mkdir(parents=True, exist_ok=True)
    plan = TrunkPlan.parse(manifest["plan"])
    plan = plan if batch_tokens is None else replace(plan, batch_tokens=batch_tokens)
    (run / PLAN_FILE).write_text(json.dumps(plan.dump(), indent=1) + "\n")
    for name in ("log.jsonl", PANEL_FILE):
        if (state / name).exists():
            shutil.copy(state / name, run / name)
    trainer = open_run(run)
    _fill(trainer.model, torch.frombuffer(bytearray(flat), dtype=torch.bfloat16), state)
    trainer.restart(manifest["counters"])
    trainer.save()
    if not (packed / "tokenizer" / SPIECE_FILE).exists():
        (packed / "tokenizer").mkdir(parents=True)
        shutil.copy(state / SPIECE_FILE, packed / "tokenizer" / SPIECE_FILE)
        save_tokenizer(packed / "tokenizer")
    tokens = packed / "tokens.npy"
    return tokens.exists() and _digest(tokens) == manifest["tokens_sha256"]


def open_run(run: Path) -> Trainer:
    """A trainer of the run's shape, a trunk's or a branch's, with nothing loaded yet."""
    if not (run / PLAN_FILE).exists():
        raise FlanLoraError(f"{run} holds no {PLAN_FILE}.\nPoint --run at a trunk that `read` has begun.")
    shape = Shape(**json.loads((run / PLAN_FILE).read_text())["shape"])
    return Trainer(new_model(shape, seed=0), Schedule(NEVER, NEVER), run)


def _weights(model: Any) -> list[Tensor]:
    return [parameter.detach() for _, parameter in sorted(model.named_parameters())]


def _flat(model: Any) -> Tensor:
    return torch.cat([weight.flatten() for weight in _weights(model)])


def _fill(model: Any, flat: Tensor, state: Path) -> None:
    """Copy `flat` into the weights in name order."""
    weights = _weights(model)
    expected = sum(weight.numel() for weight in weights)
    if len(flat) != expected:
        raise FlanLoraError(
            f"{state} holds {len(flat):,} weights; its plan's shape has {expected:,}.\nFetch it anew."
        )
    for weight, part in zip(weights, torch.split(flat, [weight.numel() for weight in weights]), strict=True):
        weight.copy_(part.view_as(weight))


def _manifest(state: Path) -> dict[str, Any]:
    path = state / "manifest.json"
    if not path.exists():
        raise FlanLoraError(f"{state} holds no manifest.json.\nPoint --state at a folder that `save-state` wrote.")
    manifest: dict[str, Any] = json.loads(path.read_text())
    if manifest["format_version"] != FORMAT_VERSION:
        raise FlanLoraError(
            f"{path} has format_version {manifest['format_version']}; this code reads {FORMAT_VERSION}.\n"
            "Use the code of the commit that wrote it."
        )
    return manifest


def _shard(path: Path, digest: str) -> bytes:
    if not path.exists():
        raise FlanLoraError(f"{path} is missing.\nFetch the whole state folder again.")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise FlanLoraError(f"{path} is damaged: its sha256 is not the manifest's.\nFetch it again.")
    return data


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
