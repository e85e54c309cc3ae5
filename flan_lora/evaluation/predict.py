"""Answers of a PeftModel or a bare T5 to examples: greedy or beam search, label probabilities."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from flan_lora.base.decode import LabelConstraint, decode, generation_config, label_constraint
from flan_lora.base.encode import IGNORED_LABEL, Collator, encode_sources
from flan_lora.base.sliding_window import WindowedPrompt, best, encode_windows
from flan_lora.errors import BaseModelError
from flan_lora.evaluation.calibration import averaged
from flan_lora.tasks.task import swapped

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedTokenizerBase, T5ForConditionalGeneration

    from flan_lora.recipe import EvaluationSection
    from flan_lora.tasks.task import Example, Task


def predict(
    model: PeftModel | T5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    *,
    evaluation: EvaluationSection,
    max_source_tokens: int,
    progress: bool = False,
) -> list[str]:
    """The task's answer to each example, in the order given, from greedy or beam search.

    ``model`` is a PeftModel or a bare T5 on any device and keeps its modes; with ``evaluation.constrained`` every
    answer to a task with labels is one of them. An answer does not depend on its neighbours in the batch, beyond
    float noise. A row that does not fit is cut, or read in windows if the task says so (`base.sliding_window`).
    ``progress`` shows a bar when stderr is a terminal.

    Raises:
        DataError: a prompt does not fit, or the tokenizer cannot spell the labels.
        BaseModelError: out of memory; the text names the dial.
    """
    outputs = generate(model, tokenizer, task, examples, evaluation, max_source_tokens, progress)
    return [task.answer(output, example.inputs) for output, example in zip(outputs, examples, strict=True)]


def label_probabilities(
    model: PeftModel | T5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    *,
    batch_size: int,
    max_source_tokens: int,
) -> list[dict[str, float]]:
    """The probability of each label of each example, as the router gives it before any temperature.

    The spellings are read to their eos; of a task with ``swap`` both orders are read, and averaged.

    Raises:
        DataError: a prompt does not fit, or the tokenizer cannot spell the labels.
    """
    constraint = label_constraint(tokenizer, task.labels)
    prompts = [example.prompt for example in examples]
    if task.swap is not None:
        prompts += [swapped(task, example).prompt for example in examples]
    sources = [{"input_ids": source.input_ids} for source in encode_sources(tokenizer, prompts, max_source_tokens)]
    order = sorted(range(len(sources)), key=lambda row: (-len(sources[row]["input_ids"]), row))
    collate = Collator(int(tokenizer.pad_token_id), int(model.config.decoder_start_token_id))
    found: list[dict[str, float]] = [{} for _ in sources]
    with _eval_mode(model), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            rows = _label_batch(model, collate, [sources[place] for place in places], list(constraint.labels))
            for place, row in zip(places, rows, strict=True):
                found[place] = dict(zip(constraint.labels.values(), row, strict=True))
    if task.swap is None:
        return found
    return [averaged(one, other) for one, other in zip(found, found[len(examples) :], strict=False)]


def generate(
    model: PeftModel | T5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    evaluation: EvaluationSection,
    max_source_tokens: int,
    progress: bool,
) -> list[str]:
    """The text that the model writes for each example, before the task parses it."""
    constraint = label_constraint(tokenizer, task.labels) if task.labels and evaluation.constrained else None
    windows = encode_windows(
        tokenizer,
        WindowedPrompt.of(task),
        [example.prompt for example in examples],
        [example.inputs for example in examples],
        max_source_tokens,
    )
    owners = [row for row, own in enumerate(windows) for _ in own]
    sources = [{"input_ids": source.input_ids} for own in windows for source in own]
    # longest first: memory runs out in the first batch or never, and the bar's estimate errs on the safe side
    order = sorted(range(len(sources)), key=lambda row: (-len(sources[row]["input_ids"]), row))
    collate = Collator(int(tokenizer.pad_token_id), int(model.config.decoder_start_token_id))
    config = generation_config(model.config, tokenizer, **_search(task, evaluation, constraint))
    found: list[list[WindowAnswer]] = [[] for _ in examples]
    with _eval_mode(model), torch.inference_mode(), _bar(len(order), task.name, progress) as bar:
        for start in range(0, len(order), evaluation.batch_size):
            places = order[start : start + evaluation.batch_size]
            generated = _generate_batch(model, collate([sources[place] for place in places]), config, constraint)
            rivals = [n for n, place in enumerate(places) if len(windows[owners[place]]) > 1]
            items = [{**sources[places[n]], "labels": _ended(generated[n], tokenizer)} for n in rivals]
            scores = dict(zip(rivals, mean_log_probs(model, collate, items), strict=True))
            for n, (place, ids) in enumerate(zip(places, generated, strict=True)):
                found[owners[place]].append(
                    WindowAnswer(place, decode(tokenizer, ids, constraint), scores.get(n, 0.0))
                )
            bar.update(len(places))
    return [surest_answer(own) for own in found]


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's and the CPU allocator's ways of saying it."""
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError)
        and any(words in text for words in ("out of memory", "can't allocate memory", "not enough memory"))
    )


@dataclass(frozen=True, slots=True)
class WindowAnswer:
    """What the model writes for one window."""

    place: int
    """Among all windows, in the order of the texts."""
    text: str
    mean_log_prob: float
    """0 for a row of one window, which has no rivals."""


def surest_answer(found: Sequence[WindowAnswer]) -> str:
    ordered = sorted(found, key=lambda item: item.place)
    return ordered[best([item.mean_log_prob for item in ordered])].text


def _ended(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Generated ids up to eos: what follows is padding."""
    eos = tokenizer.eos_token_id
    return list(ids[: ids.index(eos) + 1]) if eos in ids else list(ids)


def mean_log_probs(
    model: PeftModel | T5ForConditionalGeneration, collate: Collator, items: Sequence[Mapping[str, list[int]]]
) -> list[float]:
    """Per token of each answer ("labels"), eos included: one more pass, for sources that are windows of a text."""
    if not items:
        return []
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in collate(items).items()}
    labels = batch.pop("labels")
    num_tokens = labels.ne(IGNORED_LABEL).sum(1)
    means: list[float] = (_sequence_log_probs(model(**batch).logits, labels) / num_tokens).tolist()
    return means


def _label_batch(
    model: PeftModel | T5ForConditionalGeneration,
    collate: Collator,
    sources: Sequence[Mapping[str, list[int]]],
    spellings: Sequence[tuple[int, ...]],
) -> list[list[float]]:
    """(rows, labels) probabilities; each source passes the encoder once."""
    from transformers.modeling_outputs import BaseModelOutput

    num_labels = len(spellings)
    items = [{**source, "labels": list(ids)} for source in sources for ids in spellings]
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in collate(items).items()}
    input_ids, mask = batch.pop("input_ids")[::num_labels], batch["attention_mask"][::num_labels]
    states = model.get_encoder()(input_ids=input_ids, attention_mask=mask).last_hidden_state
    repeated = BaseModelOutput(last_hidden_state=states.repeat_interleave(num_labels, dim=0))
    log_probs = _sequence_log_probs(model(**batch, encoder_outputs=repeated).logits, batch["labels"])
    # double: a label that is unlikely beyond fp32 still has a logarithm
    probabilities: list[list[float]] = log_probs.double().view(-1, num_labels).softmax(dim=-1).tolist()
    return probabilities


def _sequence_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """(B): natural logarithm of each row of labels, summed over its tokens."""
    own = logits.float().log_softmax(dim=-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    return (own * labels.ne(IGNORED_LABEL)).sum(1)


def _search(task: Task, evaluation: EvaluationSection, constraint: LabelConstraint | None) -> dict[str, Any]:
    """How answers are generated. Labels decide where they end, and are spelt as they are spelt."""
    if constraint is not None:
        params = {name: evaluation.generation_params[name] for name in ("num_beams", "length_penalty")}
        return {**params, "early_stopping": evaluation.early_stopping, "max_new_tokens": constraint.max_new_tokens}
    return {"max_new_tokens": task.max_new_tokens, **evaluation.generation_params}


def _generate_batch(
    model: PeftModel | T5ForConditionalGeneration,
    batch: Mapping[str, Tensor],
    config: GenerationConfig,
    constraint: LabelConstraint | None,
) -> list[list[int]]:
    """Ids of each row without the start token."""
    device = next(model.parameters()).device
    inputs = {name: tensor.to(device) for name, tensor in batch.items()}
    try:
        ids = model.generate(
            **inputs, generation_config=config, logits_processor=[constraint] if constraint else None
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        num_rows, num_tokens = batch["input_ids"].shape
        raise BaseModelError(
            f"out of memory while generating for {num_rows} sources of up to {num_tokens} tokens, "
            f"{config.num_beams} beam{'s' if config.num_beams > 1 else ''}.\n"
            f"  --set evaluation.batch_size={max(num_rows // 2, 1)}   same answers, half the memory"
        ) from error
    return [row[1:] for row in ids.tolist()]


@contextmanager
def _eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, then each module's own mode again: a frozen base may mix them on purpose."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def _bar(total: int, name: str, progress: bool) -> Any:
    from tqdm import tqdm

    visible = progress and sys.stderr.isatty()
    return tqdm(total=total, desc=name, unit="row", disable=not visible, leave=False)
