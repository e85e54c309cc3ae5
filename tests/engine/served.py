"""One base with its adapters, in our engine and in PEFT, asked the same."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import T5ForConditionalGeneration

from flan_lora.adapters.weights import base_linears, open_folder
from flan_lora.base.decode import generation_config
from flan_lora.base.encode import Collator
from flan_lora.base.quantised import weight_of
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.request import Request, SequenceOutput
from tests.engine.running import ask, generate
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
GENERATE_TAKES = (
    "num_return_sequences", "min_new_tokens", "length_penalty", "early_stopping", "repetition_penalty",
    "no_repeat_ngram_size",
)  # fmt: skip


class Served:
    """One base with its adapters, in our engine and in PEFT."""

    def __init__(
        self,
        base: T5ForConditionalGeneration,
        path: Path,
        adapters: dict[str, dict[str, Any]],
        *,
        graphs: bool | None = None,
    ) -> None:
        self.base, self.path = base, path
        self.engine = ModelRunner(base, graphs=graphs)
        self.cache = AdapterCache(
            base_linears(base), fingerprint="x" * 64, device=base.device, weight_of=weight_of(base)
        )
        self.peft: dict[str | None, Any] = {None: base}
        for seed, (name, lora) in enumerate(adapters.items()):
            self.cache.add(*open_folder(name, self._save(path / name, seed, lora)))
            self.peft[name] = PeftModel.from_pretrained(copy.deepcopy(base), path / name).eval()

    def _save(self, path: Path, seed: int, lora: dict[str, Any]) -> Path:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = get_peft_model(copy.deepcopy(self.base), LoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, **lora))
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(path, save_embedding_layers=False)
        return path

    def ours(self, requests: Sequence[Request]) -> list[tuple[SequenceOutput, ...]]:
        with self.cache.lease([name for request in requests for name in request.mix]) as lease:
            return generate(self.engine, requests, lease)

    def theirs(self, request: Request, **settings: Any) -> list[list[int]]:
        """``generate`` for one request, alone: the ids of each returned sequence up to eos."""
        params = request.params
        config = generation_config(
            self.base.config,
            TOKENIZER,
            max_new_tokens=params.max_new_tokens,
            num_beams=params.num_beams,
        )
        config.min_length = None  # transformers warns of two least lengths
        for name in GENERATE_TAKES:
            setattr(config, name, getattr(params, name))
        batch = self.inputs(request)
        processors = [request.constraint] if request.constraint else None
        model = self.peft[next(iter(request.mix), None)]
        with torch.inference_mode():
            ids = model.generate(**batch, generation_config=config, logits_processor=processors, **settings)
        return [until_eos(row[1:]) for row in ids.tolist()]

    def inputs(self, request: Request) -> dict[str, torch.Tensor]:
        batch = Collator(0, 0)([{"input_ids": list(request.input_ids)}])
        return {name: tensor.to(self.base.device) for name, tensor in batch.items()}


def until_eos(ids: list[int]) -> list[int]:
    return ids[: ids.index(1) + 1] if 1 in ids else ids


def random_requests(seed: int, num: int, names: Sequence[str | None], **fields: Any) -> list[Request]:
    draw = random.Random(seed)
    requests = []
    for _ in range(num):
        length = draw.choice((1, 2, 5, 8, 9, 17, 40))
        ids = [draw.randrange(3, 128) for _ in range(length - 1)] + [1]
        name = draw.choice(names)
        limit = fields.get("max_new_tokens") or draw.choice((1, 2, 7, 12))
        mix = {} if name is None else {name: 1.0}
        requests.append(ask(ids, mix, limit, **{k: v for k, v in fields.items() if k != "max_new_tokens"}))
    return requests


def assert_equal_tokens(served: Served, requests: Sequence[Request]) -> None:
    answers = served.ours(requests)
    for request, found in zip(requests, answers, strict=True):
        expected = served.theirs(request)
        assert [list(answer.ids) for answer in found] == expected, (
            f"{request.mix}: {len(request.input_ids)} tokens"
        )


def assert_log_probs_are_the_models(served: Served, requests: Sequence[Request]) -> None:
    """Against the loss of PEFT's model on the same answer."""
    for request, (answer,) in zip(requests, served.ours(requests), strict=True):
        model = served.peft[next(iter(request.mix), None)]
        labels = torch.tensor([answer.ids], device=served.base.device)
        with torch.inference_mode():
            loss = model(**served.inputs(request), labels=labels).loss
        assert answer.log_prob == pytest.approx(-loss.item() * len(answer.ids), abs=1e-3)
