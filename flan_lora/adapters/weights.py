"""An adapter's tensors in CPU memory: read from a PEFT folder, checked, and matched to the linears of a base."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.adapters.lora_config import (
    CONFIG,
    is_target,
    module_rank,
    module_scaling,
    read_config,
)
from flan_lora.adapters.manifest import FileRecord
from flan_lora.adapters.servable import check_servable, describe_key
from flan_lora.adapters.validation import (
    LORA_KEY,
    MAX_PROBLEM_LINES,
    PICKLED_WEIGHTS,
    REQUIRED,
    WEIGHTS,
    StoredAdapter,
    corrupt,
    file_problems,
    read_contents,
)
from flan_lora.errors import AdapterError, AdapterMismatchError
from flan_lora.system.schema import indented
from flan_lora.system.text import shown

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import T5ForConditionalGeneration

    from flan_lora.base.quantised import WeightOf

MAX_WEIGHT = 1e4
"""Trained adapters stay below 100. With weights of 1e25 every answer is NaN, and nothing says why."""
_DTYPES = ("float32", "float16", "bfloat16", "float64")

Linears = Mapping[str, tuple[int, int]]
"""Path of a linear in the base -> (in, out) features."""


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """What the two files of PEFT say, read once and checked."""

    config: Mapping[str, Any]
    """adapter_config.json"""
    tensors: Mapping[str, Tensor]
    """Key of the file -> its tensor, fp32, on the CPU."""

    @staticmethod
    def of(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> AdapterFiles:
        """Of tensors in the dtype of their file."""
        return AdapterFiles(config, {key: tensor.float() for key, tensor in tensors.items()})


@dataclass(frozen=True)
class AdapterWeights:
    """One adapter, whole and checked. Tensors are shared, never written."""

    name: str
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    """Linear -> (A (r, in), B (out, r)), fp32, on the CPU."""
    scalings: Mapping[str, float]
    """Linear -> s of h = W0 x + s B A x."""
    rescales: Mapping[str, Tensor] = field(default_factory=dict)
    """Linear -> c - 1 (out,) of h = c (W0 x) + s B A x, fp32: DoRA's, whose B has c already."""

    @property
    def rank(self) -> int:
        """The largest over its linears."""
        return max(a.shape[0] for a, _ in self.pairs.values())

    @cached_property
    def size_bytes(self) -> int:
        """Of all tensors. Kept: every load asks it of all adapters in memory."""
        tensors = (*(tensor for pair in self.pairs.values() for tensor in pair), *self.rescales.values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


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
    found, problems = read_contents(path, REQUIRED)
    contents = {file: content for file, content in found.items() if content is not None}
    if problems := problems or [f"{file}: missing" for file in REQUIRED if file not in contents]:
        if WEIGHTS not in contents and (path / PICKLED_WEIGHTS).exists():
            problems.append(f"{PICKLED_WEIGHTS}: pickled weights are never loaded, only {WEIGHTS} is")
        raise corrupt(where, problems, _RESTORE)
    records: Future[Mapping[str, FileRecord]] = Future()
    threading.Thread(target=_record, args=(contents, records), name="adapter sha256", daemon=True).start()
    config, problems = read_config(contents[CONFIG])
    if problems:
        raise corrupt(where, problems, _RESTORE)
    check_servable(name, config)
    return PlainFolder(name, path, records), parsed(where, contents, _RESTORE)


def read_adapter(source: Source) -> AdapterFiles:
    """The files of an opened adapter, from bytes whose sha256 is the one it was opened with.

    Raises:
        AdapterCorruptError: the files changed since the adapter was opened.
    """
    if isinstance(source, StoredAdapter):
        return read_published(source)
    return read_again(source.name, source.path, source.files, "Load it again.")


def read_published(stored: StoredAdapter) -> AdapterFiles:
    """The files of an opened adapter, from the very bytes whose sha256 was checked again.

    Raises:
        AdapterCorruptError: the files changed since the adapter was opened.
    """
    next_step = "If it was published anew, open it again; else restore or retrain it."
    return read_again(stored.name, stored.path, stored.manifest.files, next_step)


def read_again(name: str, path: Path, records: Mapping[str, FileRecord], next_step: str) -> AdapterFiles:
    """PEFT's files of an opened adapter, from bytes whose sha256 is the one that was recorded then.

    Raises:
        AdapterCorruptError: they changed since; ``next_step`` ends the text.
    """
    contents, problems = read_contents(path, REQUIRED)
    problems += [line for file in REQUIRED for line in file_problems(file, contents[file], records.get(file))]
    if problems:
        raise corrupt(f"adapter {name!r} changed since it was opened", problems, next_step)
    return parsed(f"adapter {name!r} in {path.parent} is damaged", contents, _RESTORE)


def parsed(where: str, contents: Mapping[str, bytes | None], next_step: str) -> AdapterFiles:
    """PEFT's files, every check of `Store.verify` done: what is loaded is what was found sound.

    Raises:
        AdapterCorruptError: ``where``, the problems of config and tensors, ``next_step``.
    """
    config, problems = read_config(contents[CONFIG] or b"")
    if not problems:
        tensors, problems = checked_weights(contents[WEIGHTS] or b"", config)
    if problems:
        raise corrupt(where, problems, next_step)
    return AdapterFiles.of(config, tensors)


def bind_to_base(
    name: str, files: AdapterFiles, linears: Linears, weight_of: WeightOf | None = None
) -> AdapterWeights:
    """What the files of an adapter add to each linear of a base.

    Args:
        weight_of: the base's weights, whose rows DoRA measures.

    Raises:
        AdapterError: no update that can be served; the text says why.
        AdapterMismatchError: a weight has no linear of its shape in this base, or a linear lacks its weights.
    """
    check_servable(name, files.config)
    pairs = _pairs(files.tensors)
    _check_shapes(name, pairs, files.config, linears)
    scalings = {module: module_scaling(module, files.config) for module in pairs}
    if not files.config.get("use_dora"):
        return AdapterWeights(name, {module: (each["A"], each["B"]) for module, each in pairs.items()}, scalings)
    if weight_of is None:
        raise AdapterError(f"adapter {name!r} is a DoRA: it takes the base's weights to serve it.")
    rescales = {module: _dora_scale(each, scalings[module], weight_of(module)) for module, each in pairs.items()}
    return AdapterWeights(
        name,
        {module: (each["A"], each["B"] * rescales[module][:, None]) for module, each in pairs.items()},
        scalings,
        {module: rescale - 1 for module, rescale in rescales.items()},
    )


def _dora_scale(tensors: Mapping[str, Tensor], scaling: float, weight: Tensor) -> Tensor:
    """c (out,) = m / |W + s B A| per row, on the CPU.

    Source: DoRA, arXiv:2402.09353, equation 5; "columns" there are the rows of torch's weight.
    """
    import torch

    a, b = tensors["A"].to(weight.device), tensors["B"].to(weight.device)
    norm: Tensor = torch.linalg.vector_norm(weight.addmm(b, a, alpha=scaling), dim=1)
    return tensors["m"].flatten() / norm.cpu()


_RESTORE = "Restore the folder from its origin, or save it again with save_pretrained."


def _record(contents: Mapping[str, bytes], to: Future[Mapping[str, FileRecord]]) -> None:
    try:
        to.set_result({file: FileRecord.of(content) for file, content in contents.items()})
    except BaseException as error:  # whoever asks for the records must not wait for ever
        to.set_exception(error)


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Module -> {"A", "B"}. Keys were checked when the adapter was published or opened."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = LORA_KEY.fullmatch(key)
        module, kind = (match["module"], match["kind"][0]) if match else (key, "?")
        pairs.setdefault(module, {})[kind] = tensor
    return pairs


def _check_shapes(
    name: str, pairs: Mapping[str, Mapping[str, Tensor]], config: Mapping[str, Any], linears: Linears
) -> None:
    """Every weight has its linear, and every linear that the config names has its weights."""
    problems = []
    expected = {module for module in linears if is_target(module, config)}
    for module in sorted(expected | pairs.keys()):
        shapes = {kind: tuple(tensor.shape) for kind, tensor in sorted(pairs.get(module, {}).items())}
        if module not in linears:
            what = "no linear of a layer" if module == "lm_head" else "no such linear"
            problems.append(f"{module}: the file has {shapes}, the base {what}")
            continue
        (features_in, features_out), rank = linears[module], module_rank(module, config)
        takes: dict[str, tuple[int, ...]] = {"A": (rank, features_in), "B": (features_out, rank)}
        if config.get("use_dora"):
            takes["m"] = (features_out,)
        if shapes != takes:
            problems.append(f"{module}: the file has {shapes or 'nothing'}, the base takes {takes}")
    if problems:
        raise AdapterMismatchError(
            f"the weights of adapter {name!r} do not fit this base ({len(problems)} differ):\n"
            f"{indented(problems, MAX_PROBLEM_LINES)}\nServe the base it was trained on, or publish it again."
        )


# The tensors of adapter_model.safetensors


def weight_problems(weights: bytes, config: Mapping[str, Any]) -> list[str]:
    """What is wrong with the tensors: not safetensors, no floats, keys off pairs, shapes, sizes, never trained.

    Of target_modules none may be without weights: what is published names nothing in vain. ``config`` must have
    been checked (`lora_config.read_config`).
    """
    tensors, problems = checked_weights(weights, config)
    modules = {match["module"] for key in tensors if (match := LORA_KEY.fullmatch(key))}
    unused = _untouched(modules, config) if tensors else []
    return problems + [f"{WEIGHTS}: target module {name!r} has no weights" for name in unused]


def checked_weights(weights: bytes, config: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Key -> tensor, and `weight_problems`."""
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    if missing := [key for key in ("r", "lora_alpha", "target_modules") if not config.get(key)]:
        return {}, [f"{CONFIG}: {key} is missing" for key in missing]
    try:
        tensors = load_tensors(weights)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        return {}, [f"{WEIGHTS}: not readable as safetensors: {shown(str(error))[1:-1]}"]
    try:
        return tensors, _tensor_problems(tensors, config)
    except AdapterError as error:  # a pattern that takes too long
        return tensors, [f"{CONFIG}: {error}"]


def _tensor_problems(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> list[str]:
    matches = {key: LORA_KEY.fullmatch(key) for key in sorted(tensors)}
    problems = [f"{WEIGHTS}: {key} {describe_key(key)}" for key, match in matches.items() if match is None]
    problems += [f"{WEIGHTS}: {line}" for key in matches if (line := _value_problem(key, tensors[key]))]
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, match in matches.items():
        if match is not None:
            pairs.setdefault(match["module"], {})[match["kind"][0]] = tensors[key]
    for module, pair in pairs.items():
        problems += _pair_problems(module, pair, config)
    if not problems and not any(pair["B"].any() for pair in pairs.values()):
        return [f"{WEIGHTS}: every B is 0: training did not move the adapter, it answers as the bare base"]
    return problems


def _untouched(modules: Iterable[str], config: Mapping[str, Any]) -> list[str]:
    """Names in target_modules that no weight belongs to; a regex names nothing."""
    targets, found = config["target_modules"], tuple(modules)
    if isinstance(targets, str):
        return []
    return sorted(t for t in targets if not any(m == t or m.endswith(f".{t}") for m in found))


def _value_problem(key: str, tensor: Tensor) -> str:
    """What is wrong with the numbers of a tensor; empty when nothing is.

    The least and the largest tell all: two passes without a copy, where asking every number takes five times as
    long. By numpy, because torch's threads wait for each other once per tensor where cores are busy.
    """
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        return f"{key} is {dtype}, expected one of {', '.join(_DTYPES)}"
    if not tensor.numel():
        return f"{key} is empty: it has the shape {tuple(tensor.shape)}"
    numbers = tensor.float().numpy()
    largest = max(float(numbers.max()), -float(numbers.min()))  # NaN where there is one
    if largest <= MAX_WEIGHT:
        return ""
    if not math.isfinite(largest):
        return f"{key} holds NaN or infinity: the training diverged"
    return f"{key} holds {largest:.3g}, expected at most {MAX_WEIGHT:g}: it overflows in products with others"


def _pair_problems(module: str, pair: Mapping[str, Tensor], config: Mapping[str, Any]) -> list[str]:
    """A is (rank, in), B is (out, rank), DoRA's magnitude m is (out)."""
    kinds, rank = (["A", "B", "m"] if config.get("use_dora") else ["A", "B"]), module_rank(module, config)
    if sorted(pair) != kinds:
        return [f"{WEIGHTS}: {module} has {sorted(pair)}, expected {kinds} (lora_A, lora_B, magnitude vector)"]
    if not is_target(module, config):
        targets = config["target_modules"]
        named = targets if isinstance(targets, str) else sorted(targets)
        return [f"{WEIGHTS}: {module} is not one of the target modules {named}"]
    shapes = {kind: tuple(tensor.shape) for kind, tensor in sorted(pair.items())}
    agree = len(shapes["A"]) == len(shapes["B"]) == 2 and shapes["A"][0] == shapes["B"][1] == rank
    if agree and shapes.get("m", shapes["B"][:1]) == shapes["B"][:1]:
        return []
    return [f"{WEIGHTS}: {module} has shapes {shapes}, expected A ({rank}, in) and B (out, {rank})"]
