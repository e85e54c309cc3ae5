"""What tells one checkpoint from another of its shape, however it was loaded."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import T5ForConditionalGeneration

    from flan_lora.base.checkpoint_rows import RowsOf

ARCHITECTURE_FIELDS = (
    "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads",
    "relative_attention_num_buckets", "relative_attention_max_distance", "layer_norm_epsilon",
    "feed_forward_proj", "scale_decoder_outputs", "pad_token_id", "eos_token_id", "decoder_start_token_id",
)  # fmt: skip
"""What the config contributes to the fingerprint: whatever changes the function the weights compute."""

ROWS_PER_LINEAR = 4
ROWS_PER_EMBEDDING = 64


def fingerprint(model: T5ForConditionalGeneration, rows_of: RowsOf | None = None) -> str:
    """sha256 (hex) of a checkpoint: equal for loads in every precision, another for another of its shape.

    Hashed, after a cast to bf16: the architecture, all norms and position biases, evenly spaced rows of embedding
    and head, and max |row| for evenly spaced rows of every other linear. The last is exact in int8, where it is
    the scale that bitsandbytes keeps, so a base that was fine-tuned only in q and v is another base. A change
    confined to rows between the sampled ones goes unnoticed. About 10 ms of CPU at flan-t5-large.

    Args:
        rows_of: of the checkpoint itself (`checkpoint_rows`); a 4-bit base, whose scales are blocks', takes it.
    """
    import torch

    with torch.no_grad():
        pieces = _unquantised_samples(model) + _row_maxima(model, rows_of)
        sample = torch.cat([piece.bfloat16().flatten() for piece in pieces]).cpu()
    architecture = _architecture(model)
    digest = hashlib.sha256(json.dumps(architecture, sort_keys=True).encode())
    digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _architecture(model: T5ForConditionalGeneration) -> dict[str, Any]:
    """Of a T5 without its kind, as in the first adapters; mT5 and umT5 lack a field and name theirs."""
    config = model.config
    fields = [field for field in ARCHITECTURE_FIELDS if hasattr(config, field)]
    kind = {} if config.model_type == "t5" else {"model_type": config.model_type}
    return {**{field: getattr(config, field) for field in fields}, **kind}


def short(fingerprint: str) -> str:
    """The first 8 hex digits, for people."""
    return fingerprint[:8]


def _unquantised_samples(model: T5ForConditionalGeneration) -> list[torch.Tensor]:
    """Rows of embedding and head; every norm and position bias, in the order of their names."""
    weights = dict(model.named_parameters())
    small = [name for name in sorted(weights) if "layer_norm" in name or "relative_attention_bias" in name]
    tables = [_even_rows(table.weight, ROWS_PER_EMBEDDING) for table in (model.shared, model.lm_head)]
    return [*tables, *(weights[name] for name in small)]


def _row_maxima(model: T5ForConditionalGeneration, rows_of: RowsOf | None) -> list[torch.Tensor]:
    """max |row| of evenly spaced rows of every linear but the head, as bitsandbytes computes it: in fp16, of bf16.

    Rows of one width are stacked first, int8 or not alike: hundreds of small operations would each wake every
    thread, which took a second on a busy machine.
    """
    from torch import nn

    stacks: dict[tuple[int, str], list[torch.Tensor]] = {}
    for name, module in sorted(model.named_modules()):
        if isinstance(module, nn.Linear) and module is not model.lm_head:
            rows = _sampled_rows(name, module, rows_of)
            stacks.setdefault((module.in_features, name.rsplit(".", 1)[-1]), []).append(rows)
    return [_maxima(stacks[key]) for key in sorted(stacks)]


def _sampled_rows(name: str, linear: Any, rows_of: RowsOf | None) -> torch.Tensor:
    """Evenly spaced rows (rows, width), or the scales (rows,) that int8 kept of them."""
    if type(linear.weight).__name__ == "Params4bit":
        assert rows_of is not None, "a 4-bit base: take `Base.fingerprint`"
        step = _step(linear.out_features, ROWS_PER_LINEAR)
        return rows_of(f"{name}.weight", list(range(0, linear.out_features, step))).to(linear.weight.device)
    scale = int8_scale(linear)
    return _even_rows(linear.weight if scale is None else scale, ROWS_PER_LINEAR)


def _maxima(stack: list[torch.Tensor]) -> torch.Tensor:
    """(rows,) from (rows, width) weights, or from the scales (rows,) that int8 kept of them."""
    import torch

    rows = torch.cat(stack)
    return rows if rows.dim() == 1 else rows.bfloat16().abs().amax(dim=1).to(torch.float16)


def _even_rows(tensor: torch.Tensor, num_rows: int) -> torch.Tensor:
    """At most ``num_rows`` evenly spaced rows (the first included), a view."""
    return tensor[:: _step(tensor.shape[0], num_rows)]


def _step(length: int, num_rows: int) -> int:
    return max(1, -(-length // num_rows))


def int8_scale(linear: Any) -> torch.Tensor | None:
    """max |row| of an int8 linear, fp32 (out,); None for any other module.

    `frozen_t5.Int8Linear` has it; bitsandbytes keeps it on the weight until the first forward pass, then on the
    layer's state.
    """
    if (own := getattr(linear, "int8_scale", None)) is not None:
        return own  # type: ignore[no-any-return]
    weight = getattr(linear, "weight", None)
    if weight is None or type(weight).__name__ != "Int8Params":
        return None
    scale = weight.SCB if weight.SCB is not None else linear.state.SCB
    assert scale is not None, "an int8 linear without scales: was it moved without being quantised?"
    return scale  # type: ignore[no-any-return]
