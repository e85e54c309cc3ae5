"""A router of the tiny T5, for what fuzz tests ask of it."""

from __future__ import annotations

from pathlib import Path

from flan_lora.adapters.store import Store
from flan_lora.base.load import open_base
from flan_lora.serving.router import Router
from tests.checkpoint import save_checkpoint, spec_of
from tests.published import make_manifest, stage, tiny_fingerprint


def tiny_router(folder: Path, *names: str) -> Router:
    """With a published adapter of each name in ``folder``/adapters."""
    save_checkpoint(folder / "base")
    base = {"model": "mini", "quantization": "fp32", "fingerprint": tiny_fingerprint()}
    for name in names:
        Store(folder / "adapters").publish(stage(folder / f"staged-{name}"), make_manifest(name, base=base))
    return Router.open(folder / "adapters", open_base(spec_of(folder / "base"), device="cpu"))
