"""A merged model for other runtimes: CTranslate2, in 8 bit or fp32.

ctranslate2 is the extra ``export``. Its own converter reads the config through transformers 5, which says of
every T5 that its head is tied, and then scales the decoder's output: another model. Here it gets the model
itself, with the config set right.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flan_lora.adapters.merge import Merged, write_whole
from flan_lora.base.architecture import output_scale
from flan_lora.base.encode import encode_sources
from flan_lora.errors import FlanLoraError
from flan_lora.tasks.task import probe_examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Quantization = Literal["int8", "float32"]


@dataclass(frozen=True)
class Exported:
    """An exported folder, and how it answers."""

    folder: Path
    answers: tuple[str, ...]
    """Greedy, to the task's card examples; free of labels, which CTranslate2 knows nothing of."""
    num_equal_answers: int
    """Of them equal to what the merged model says in the same way."""


def check_ctranslate2() -> None:
    """Raise FlanLoraError with the remedy when CTranslate2 is not there."""
    try:
        import ctranslate2  # noqa: F401
    except ImportError as error:
        raise FlanLoraError(
            "this export needs ctranslate2, which is not installed.\n"
            "Install it (pip install 'flan-lora[export]'), or export plain safetensors (--to safetensors)."
        ) from error


def export_ctranslate2(merged: Merged, folder: Path, *, quantization: Quantization = "int8") -> Exported:
    """Convert, save with the tokenizer beside it, load it again and compare its answers.

    Raises:
        FlanLoraError: ctranslate2 is not installed, or the folder cannot be written.
    """
    check_ctranslate2()

    def write(place: Path) -> None:
        _converter(merged).convert(str(place), quantization=None if quantization == "float32" else quantization)
        merged.tokenizer.save_pretrained(place)

    write_whole(folder, write)
    prompts = [str(example.prompt) for example in probe_examples(merged.task)]
    limit = merged.task.max_new_tokens
    answers = answer_ctranslate2(folder, merged.tokenizer, prompts, max_new_tokens=limit)
    plain = _answer_plain(merged, limit)
    return Exported(folder, tuple(answers), sum(a == b for a, b in zip(answers, plain, strict=True)))


def answer_ctranslate2(
    folder: Path, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], *, max_new_tokens: int
) -> list[str]:
    """Greedy answers of an exported folder to whole prompts, on the CPU."""
    import ctranslate2

    translator = ctranslate2.Translator(str(folder), device="cpu", intra_threads=1)
    sources = [tokenizer.convert_ids_to_tokens(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    results = translator.translate_batch(sources, beam_size=1, max_decoding_length=max_new_tokens)
    return [
        str(tokenizer.decode(tokenizer.convert_tokens_to_ids(result.hypotheses[0]), skip_special_tokens=True))
        for result in results
    ]


def _converter(merged: Merged) -> Any:
    """CTranslate2's converter around a model in memory."""
    from ctranslate2.converters import Converter, transformers

    loaders = {"t5": transformers.T5Loader, "mt5": transformers.MT5Loader, "umt5": transformers.UMT5Loader}

    class InMemory(Converter):  # type: ignore[misc]
        def _load(self) -> Any:
            # a copy: the conversion to int8 writes into the weights that it is given
            model = copy.deepcopy(merged.model)
            model.config.tie_word_embeddings = output_scale(model.config) is not None  # what it scales by
            return loaders[model.config.model_type]()(model, merged.tokenizer)

    return InMemory()


def _answer_plain(merged: Merged, max_new_tokens: int) -> list[str]:
    """The merged model's own greedy answers, without labels to hold it."""
    import torch

    from flan_lora.base.decode import decode, generation_config

    config = generation_config(merged.model.config, merged.tokenizer, max_new_tokens=max_new_tokens, num_beams=1)
    answers = []
    for source in encode_sources(merged.tokenizer, [e.prompt for e in probe_examples(merged.task)], 512):
        with torch.inference_mode():
            ids = merged.model.generate(torch.tensor([source.input_ids]), generation_config=config)
        answers.append(decode(merged.tokenizer, ids[0].tolist()[1:]))
    return answers
