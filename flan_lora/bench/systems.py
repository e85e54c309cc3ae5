"""The systems that are compared: our engine, PEFT, CTranslate2. Token ids in, token ids out."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from flan_lora.adapters.weights import base_linears, open_folder
from flan_lora.base.decode import generation_config
from flan_lora.base.encode import Collator
from flan_lora.base.load import Base
from flan_lora.bench.apart import Memory
from flan_lora.bench.stage import Stage, never_end
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.engine import Engine
from flan_lora.engine.generation import results
from flan_lora.engine.generation_params import GenerationParams
from flan_lora.engine.request import Request
from flan_lora.engine.scheduler import EngineLimits
from flan_lora.errors import BaseModelError

Ids = list[list[int]]


class Switching(ABC):
    """What can make another resident adapter the one that answers."""

    @abstractmethod
    def activate(self, number: int) -> None:
        """All that a batch needs before its first product."""

    def activate_each(self, num_adapters: int) -> None:
        """One after the other."""
        for number in range(num_adapters):
            self.activate(number)


class Ours(Switching):
    """An engine and its adapters on one frozen base, as `Router` holds them."""

    def __init__(self, base: Base, stage: Stage, *, num_adapters: int, num_slots: int, max_rows: int) -> None:
        linears = base_linears(base.model)
        self.cache = AdapterCache(linears, fingerprint=base.fingerprint, num_slots=num_slots, device=base.device)
        limits = EngineLimits(max_running=max_rows, max_waiting=None)
        self._engine = Engine(base.model, self.cache, limits=limits)
        for number in range(num_adapters):
            self.cache.add(open_folder(str(number), stage.adapter(number))[0])
        for number in range(min(num_adapters, num_slots - 1)):
            self.activate(number)

    def generate(self, sources: Ids, adapters: Sequence[int | None], new_tokens: int) -> Ids:
        """Rows in any mix of adapters; None is the bare base."""
        mixes = [{} if number is None else {str(number): 1.0} for number in adapters]
        params = GenerationParams(max_new_tokens=new_tokens)
        requests = [Request(ids, mix, params) for ids, mix in zip(sources, mixes, strict=True)]
        return [list(output.sequences[0].ids) for output in results(self._engine.submit_many(requests))]

    def activate(self, number: int) -> None:
        """All that a batch needs before its first product."""
        with self.cache.lease([str(number)]) as lease:
            lease.gather([{str(number): 1.0}])

    def gpu_memory(self) -> Memory:
        """Of the tensors of this process on the GPU."""
        return Memory(torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated())

    def load(self, name: str, path: Path) -> None:
        """From disk into service."""
        self.cache.add(*open_folder(name, path))
        with self.cache.lease([name]):
            pass

    def unload(self, name: str) -> None:
        """Out again."""
        self.cache.unload(name)


class Peft(Switching):
    """PeftModel on a base of its own."""

    def __init__(self, base: Base, stage: Stage, *, num_adapters: int, batch_size: int | None = None) -> None:
        """
        Args:
            batch_size: rows at once, in the order in which they come; None is all.
        """
        from peft import PeftModel

        self._base, self._batch_size = base, batch_size
        self._model = PeftModel.from_pretrained(base.model, stage.adapter(0), adapter_name="0").eval()
        for number in range(1, num_adapters):
            self.load(str(number), stage.adapter(number))
        self._collate = Collator(0, 0)

    def generate(self, sources: Ids, adapters: Sequence[int], new_tokens: int) -> Ids:
        """Mixed batches by ``adapter_names``; rows of one adapter take PEFT's faster way, the active adapter."""
        answers: Ids = []
        size = self._batch_size or len(sources)
        for start in range(0, len(sources), size):
            part = slice(start, start + size)
            answers += self._batch(sources[part], adapters[part], new_tokens)
        return answers

    @torch.inference_mode()
    def _batch(self, sources: Ids, adapters: Sequence[int], new_tokens: int) -> Ids:
        config = generation_config(
            self._base.model.config, self._base.tokenizer, max_new_tokens=new_tokens, num_beams=1
        )
        batch = self._inputs(sources)
        names = [str(number) for number in adapters]
        if len(set(names)) == 1:
            self.activate(adapters[0])
            ids = self._model.generate(**batch, generation_config=config)
        else:
            ids = self._model.generate(**batch, generation_config=config, adapter_names=names)
        return [row[1:] for row in ids.tolist()]

    @torch.inference_mode()
    def lead(self, source: list[int], adapter: int, written: list[int], token: int, other: int) -> float:
        """How much likelier, in nats, a token is than another one after what was written."""
        self.activate(adapter)
        begun = torch.tensor([[0, *written]], device=self._base.device)
        logits = self._model(**self._inputs([source]), decoder_input_ids=begun).logits[0, -1].float()
        return float(logits[token] - logits[other])

    def _inputs(self, sources: Ids) -> dict[str, torch.Tensor]:
        batch = self._collate([{"input_ids": ids} for ids in sources])
        return {name: tensor.to(self._base.device) for name, tensor in batch.items()}

    def activate(self, number: int) -> None:
        """Walk the model and switch."""
        self._model.set_adapter(str(number), inference_mode=True)

    def load(self, name: str, path: Path) -> None:
        """From disk into service."""
        self._model.load_adapter(path, adapter_name=name)

    def unload(self, name: str) -> None:
        """Out again."""
        self._model.delete_adapter(name)


class Merged:
    """CTranslate2 int8, one whole model per adapter, ours merged into the unquantised base."""

    def __init__(self, paths: Sequence[Path], *, batch_size: int = 16, num_threads: int | None = None) -> None:
        """
        Args:
            num_threads: of every model; None is one or all, whichever is faster. More models are loaded for that.
        """
        self._batch_size = batch_size
        threads = num_threads or _faster(paths[0], (1, torch.get_num_threads()))
        self._models = [_translator(path, threads) for path in paths]
        vocabulary = json.loads((paths[0] / "shared_vocabulary.json").read_text(encoding="utf-8"))
        self._tokens: list[str] = vocabulary
        self._ids = {token: number for number, token in enumerate(vocabulary)}

    def generate(self, sources: Ids, adapters: Sequence[int], new_tokens: int) -> Ids:
        """Rows grouped by adapter, each group in batches through its own model."""
        answers: Ids = [[] for _ in sources]
        for number in sorted(set(adapters)):
            places = [place for place, adapter in enumerate(adapters) if adapter == number]
            results = self._models[number].translate_batch(
                [[self._tokens[token] for token in sources[place]] for place in places],
                beam_size=1,
                max_batch_size=self._batch_size,
                min_decoding_length=new_tokens,
                max_decoding_length=new_tokens,
                return_end_token=True,
            )
            for place, result in zip(places, results, strict=True):
                answers[place] = [self._ids[token] for token in result.hypotheses[0]]
        return answers


def _translator(path: Path, num_threads: int) -> Any:
    return import_ctranslate2().Translator(str(path), device="cpu", inter_threads=1, intra_threads=num_threads)


def _faster(path: Path, choices: tuple[int, ...]) -> int:
    """The number of threads with which a batch takes the least time: small models lose by a second one."""
    seconds: dict[int, float] = {}
    for num_threads in choices:
        model, times = _translator(path, num_threads), []
        for _ in range(4):
            start = time.perf_counter()
            model.translate_batch([["▁a"] * 64] * 16, beam_size=1, min_decoding_length=16, max_decoding_length=16)
            times.append(time.perf_counter() - start)
        seconds[num_threads] = min(times)
    return min(seconds, key=seconds.__getitem__)


def merge(stage: Stage, number: int, folder: Path, *, quantization: str = "int8") -> Path:
    """Merge an adapter into the bf16 base's fp32 weights, and convert the whole for CTranslate2."""
    from peft import PeftModel
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    converters = import_ctranslate2().converters
    base = T5ForConditionalGeneration.from_pretrained(stage.base_path, dtype=torch.float32)
    base.config.tie_word_embeddings = False  # transformers 5 says true of every T5
    merged = PeftModel.from_pretrained(base, stage.adapter(number)).merge_and_unload()
    never_end(merged)
    plain = folder / f"merged-{number}"
    merged.save_pretrained(plain)
    AutoTokenizer.from_pretrained(stage.base_path).save_pretrained(plain)
    config = json.loads((plain / "config.json").read_text(encoding="utf-8"))
    config["tie_word_embeddings"] = False  # else CTranslate2 would scale the outputs
    (plain / "config.json").write_text(json.dumps(config), encoding="utf-8")
    target = folder / f"ct2-{number}-{quantization}"
    converters.TransformersConverter(str(plain), copy_files=[]).convert(str(target), quantization=quantization)
    (plain / "model.safetensors").unlink()
    return target


def import_ctranslate2() -> Any:
    """CTranslate2, which only this comparison needs. Raises BaseModelError with the command that installs it."""
    try:
        import ctranslate2
        import ctranslate2.converters
    except ImportError:
        raise BaseModelError(
            "the comparison with merged models needs CTranslate2: pip install 'flan-lora[bench]'\n"
            "Or leave it out: --skip merged --skip traffic --skip memory."
        ) from None
    return ctranslate2
