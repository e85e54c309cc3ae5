"""An adapter's weights in CPU memory, ready to serve: read from a PEFT folder, and known to land on the base.

Knows folders, LoRA's files and the shapes of the base's linears; never a slot, a batch or a request.
"""

from __future__ import annotations

import hashlib
import json
from _thread import start_new_thread
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.adapters.validation import (
    CONFIG,
    LORA_KEY,
    PLAIN_INITS,
    REQUIRED,
    WEIGHTS,
    AdapterFiles,
    StoredAdapter,
    checked_weights,
    corrupt,
    indented,
    is_target,
    module_rank,
    module_scaling,
    pickles,
    read_again,
    read_or_none,
)
from flan_lora.errors import AdapterError, AdapterMismatchError
from flan_lora.adapters.manifest import FileRecord
from flan_lora.adapters.store import read_published

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import T5ForConditionalGeneration

Linears = Mapping[str, tuple[int, int]]
"""Path of a linear in the base -> (in, out) features."""

_HARMLESS = frozenset(
    "alpha_pattern auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config"
    " exclude_modules inference_mode init_lora_weights layers_pattern layers_to_transform loftq_config lora_alpha"
    " lora_dropout lora_ga_config megatron_config megatron_core peft_type peft_version qalora_group_size r"
    " rank_pattern revision runtime_config target_modules task_type use_rslora".split()
)
"""Fields of adapter_config.json that change nothing, or that are read here. Any other must be empty: a field of
a future PEFT that we do not know could change what the weights mean."""


@dataclass(frozen=True)
class AdapterWeights:
    """One adapter, whole and checked. Tensors are shared, never written."""

    name: str
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    """Linear -> (A (r, in), B (out, r)), fp32, on the CPU."""
    scalings: Mapping[str, float]
    """Linear -> s of h = W0 x + s B A x."""

    @property
    def rank(self) -> int:
        """The largest over its linears."""
        return max(a.shape[0] for a, _ in self.pairs.values())

    @property
    def size_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for pair in self.pairs.values() for tensor in pair)


@dataclass(frozen=True, eq=False)
class PlainFolder:
    """A PEFT folder without our manifest. Nothing in it says which base it was trained on: its owner must know."""

    name: str
    path: Path
    _files: Future[Mapping[str, FileRecord]]
    """Hashing takes as long as all else that opening does; only who reads the folder again waits for it."""

    @property
    def files(self) -> Mapping[str, FileRecord]:
        """As they were when the folder was opened; whoever reads it later gets these bytes or an error."""
        return self._files.result()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlainFolder):
            return NotImplemented
        return (self.name, self.path, self.files) == (other.name, other.path, other.files)


Source = StoredAdapter | PlainFolder


def base_linears(base: T5ForConditionalGeneration) -> dict[str, tuple[int, int]]:
    """The linears that an adapter may change: all of encoder and decoder, int8 or not; not the head."""
    from torch import nn

    return {
        name: (module.in_features, module.out_features)
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(("encoder.", "decoder."))
    }


def open_folder(name: str, path: Path) -> tuple[PlainFolder, AdapterFiles]:
    """A plain PEFT folder, to be served as ``name``, and its files as they were read and checked.

    Raises:
        AdapterError: the files are no plain LoRA update; the text says why.
        AdapterCorruptError: files are missing, pickled or damaged; the text lists every problem.
    """
    where = f"{path} is not an adapter that can be served as {name!r}"
    contents = {file: content for file in REQUIRED if (content := read_or_none(path / file)) is not None}
    problems = pickles(path) + [f"{file}: missing" for file in REQUIRED if file not in contents]
    if problems:
        raise corrupt(where, problems, _RESTORE)
    records: Future[Mapping[str, FileRecord]] = Future()
    start_new_thread(_record, (contents, records))  # `threading` would wait for it to run, up to a millisecond
    config = _parse_config(name, contents[CONFIG])
    check_plain(name, config)
    tensors, problems = checked_weights(contents[WEIGHTS], config)
    if problems:
        raise corrupt(where, problems, _RESTORE)
    return PlainFolder(name, path, records), AdapterFiles.of(config, tensors)


def read_adapter(source: Source) -> AdapterFiles:
    """The files of an opened adapter, from bytes whose sha256 is the one it was opened with.

    Raises:
        AdapterCorruptError: the files changed since the adapter was opened.
    """
    if isinstance(source, StoredAdapter):
        return read_published(source)
    return read_again(source.name, source.path, source.files, "Load it again.")


def land(name: str, files: AdapterFiles, linears: Linears) -> AdapterWeights:
    """What the files of an adapter add to each linear of a base.

    Raises:
        AdapterError: not a plain LoRA update; the text says why.
        AdapterMismatchError: a weight has no linear of its shape in this base, or a linear lacks its weights.
    """
    check_plain(name, files.config)
    pairs = _pairs(files.tensors)
    _check_landing(name, pairs, files.config, linears)
    return AdapterWeights(
        name,
        {module: (pair["A"], pair["B"]) for module, pair in pairs.items()},
        {module: module_scaling(module, files.config) for module in pairs},
    )


def check_plain(name: str, config: Mapping[str, Any]) -> None:
    """Refuse whatever is not h = W0 x + s B A x beside an untouched base. Raises AdapterError with the reasons."""
    reasons = []
    if config.get("peft_type") != "LORA":
        reasons.append(f"peft_type is {config.get('peft_type')!r}, expected 'LORA'")
    if config.get("use_dora"):
        reasons.append("use_dora: DoRA rescales whole columns of the base's weights, which B A x cannot express")
    if config.get("init_lora_weights") not in PLAIN_INITS:
        reasons.append(
            f"init_lora_weights {config['init_lora_weights']!r} changes the base itself, under every other adapter"
        )
    if config.get("bias", "none") != "none":
        reasons.append(f"bias is {config['bias']!r}: biases of the base are not part of a slot")
    known = _HARMLESS | {"use_dora", "bias"}
    reasons += [
        f"{key} is {value!r}: not supported" for key, value in sorted(config.items()) if key not in known and value
    ]
    missing = [key for key in ("r", "lora_alpha", "target_modules") if not config.get(key)]
    reasons += [f"{key} is missing" for key in missing if config.get("peft_type") == "LORA"]
    if reasons:
        raise AdapterError(
            f"adapter {name!r} cannot be served ({CONFIG}):\n{indented(reasons)}\n"
            "Serve LoRA or rsLoRA adapters; merge or convert this one with PEFT first."
        )


_RESTORE = "Restore the folder from its origin, or save it again with save_pretrained."


def _parse_config(name: str, content: bytes) -> dict[str, Any]:
    try:
        config = json.loads(content)
    except ValueError as error:
        raise corrupt(
            f"adapter {name!r} is damaged", [f"{CONFIG}: not readable as JSON: {error}"], _RESTORE
        ) from None
    if not isinstance(config, dict):
        problem = f"{CONFIG}: expected an object, got {type(config).__name__}"
        raise corrupt(f"adapter {name!r} is damaged", [problem], _RESTORE)
    return config


def _record(contents: Mapping[str, bytes], to: Future[Mapping[str, FileRecord]]) -> None:
    hashes = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    to.set_result({file: FileRecord(sha256=hashes[file], size_bytes=len(contents[file])) for file in contents})


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Module -> {"A", "B"}. Keys were checked when the adapter was published or opened."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = LORA_KEY.fullmatch(key)
        module, kind = (match["module"], match["kind"][0]) if match else (key, "?")
        pairs.setdefault(module, {})[kind] = tensor
    return pairs


def _check_landing(
    name: str, pairs: Mapping[str, Mapping[str, Tensor]], config: Mapping[str, Any], linears: Linears
) -> None:
    """Every weight has its linear, and every linear that the config names has its weights."""
    problems = []
    selects_layers = any(config.get(key) for key in ("layers_to_transform", "layers_pattern", "exclude_modules"))
    expected = set() if selects_layers else {module for module in linears if is_target(module, config)}
    for module in sorted(expected | pairs.keys()):
        shapes = {kind: tuple(tensor.shape) for kind, tensor in sorted(pairs.get(module, {}).items())}
        if module not in linears:
            problems.append(f"{module}: the file has {shapes}, the base no such linear")
            continue
        (features_in, features_out), rank = linears[module], module_rank(module, config)
        takes = {"A": (rank, features_in), "B": (features_out, rank)}
        if shapes != takes:
            problems.append(f"{module}: the file has {shapes or 'nothing'}, the base takes {takes}")
    if problems:
        raise AdapterMismatchError(
            f"the weights of adapter {name!r} do not land on this base ({len(problems)} differ):\n"
            f"{indented(problems)}\nServe the base it was trained on, or publish it again."
        )
