"""The fields of a request, checked, and what they mean for a T5 with adapters.

Unknown fields and fields that cannot be honoured are errors that say so, never ignored. ``null`` is as good as
absent everywhere: clients send it.
"""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flan_lora.recipe import MAX_LENGTH_PENALTY
from flan_lora.serving.openai.errors import ApiError, refused

Body = TypeVar("Body", bound=BaseModel)
NonEmpty = Annotated[str, Field(min_length=1)]
MAX_CANDIDATES = 64

_NOT_HONOURED = {
    "suffix": "an encoder-decoder does not fill in the middle of a text",
    "logit_bias": "biases on single tokens are not implemented; `label_probabilities` weighs a task's labels",
    "presence_penalty": "0 only; use `repetition_penalty`",
    "frequency_penalty": "0 only; use `repetition_penalty`",
    "tools": "FLAN-T5 calls no tools",
    "tool_choice": "FLAN-T5 calls no tools",
    "functions": "FLAN-T5 calls no functions",
    "function_call": "FLAN-T5 calls no functions",
    "response_format": "text only; a classification's answers are held to its labels without it",
    "modalities": "text only",
    "audio": "text only",
    "prediction": "not implemented",
    "reasoning_effort": "FLAN-T5 does not reason apart from its answer",
    "verbosity": "not implemented; `max_tokens` limits an answer",
    "web_search_options": "the server reaches nothing outside",
    "store": "nothing is stored",
    "echo": "an encoder-decoder reads the prompt and does not continue it, so there is nothing to echo",
    "dimensions": "the base's own width only",
}
"""Fields of OpenAI's that mean something to their models and nothing here: refused unless they ask for nothing."""
_ASKS_FOR_NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {}, "none", "auto", {"type": "text"}, ["text"])
_WITHOUT_EFFECT = frozenset(
    ("user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls")
)
"""Fields about the caller and its bill, which change no answer anywhere."""


_PARAMS = ("early_stopping", "length_penalty", "no_repeat_ngram_size", "num_beams", "repetition_penalty")
"""Fields that are `GenerationParams`' own, as they are."""


class Section(BaseModel):
    """Strict about types, names and numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StreamOptions(Section):
    """OpenAI's."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GenerationBody(Section):
    """What completions and chat share."""

    model: NonEmpty
    max_tokens: int | None = Field(None, ge=1, le=4096)
    n: int | None = Field(None, ge=1, le=MAX_CANDIDATES)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: NonEmpty | list[NonEmpty] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    # ours
    inputs: dict[str, str] | None = None
    """Inputs of a task that takes several; the one that is missing is the prompt or the user's message."""
    adapter_mix: dict[str, float] | None = Field(None, min_length=1)
    """Adapter -> weight, in place of one adapter."""
    task: str | None = None
    """Whose prompt, limits and parser to use, in place of the adapter's own; for the base, which has none."""
    abstain: Literal["error", "base"] | None = None
    """What ``auto`` does with a text that is like those of no adapter."""
    label_probabilities: bool | None = None
    early_stopping: bool | Literal["never"] | None = None
    length_penalty: float | None = Field(None, ge=-MAX_LENGTH_PENALTY, le=MAX_LENGTH_PENALTY)
    min_tokens: int | None = Field(None, ge=0, le=4096)
    no_repeat_ngram_size: int | None = Field(None, ge=0, le=4096)
    num_beams: int | None = Field(None, ge=1, le=MAX_CANDIDATES)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    top_k: int | None = Field(None, ge=0)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Raises ApiError for more than OpenAI's four."""
        stop = () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if len(stop) > 4:
            raise refused(f"stop: at most 4 strings (got {len(stop)}).", "stop")
        return stop

    @property
    def num_answers(self) -> int:
        """Answers to return for each text."""
        return self.n or 1

    @property
    def num_candidates(self) -> int:
        """Answers to generate for each text."""
        return self.num_answers

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with a chunk of counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def params(self, max_tokens: int | None) -> dict[str, Any]:
        """In `GenerationParams`' names, as far as they are given.

        A model of OpenAI's samples at temperature 1 where nothing is said; an adapter was evaluated without
        sampling, and its scores are those of that way. So only who asks for it gets it.
        """
        own = {name: value for name in _PARAMS if (value := getattr(self, name)) is not None}
        own |= {"max_new_tokens": max_tokens, "min_new_tokens": self.min_tokens}
        if self.num_candidates > 1:
            own["num_return_sequences"] = self.num_candidates
        if self.is_sampled:
            seed = secrets.randbits(32) if self.seed is None else self.seed % 2**32
            return _given({**own, "do_sample": True, "top_p": self.top_p, "top_k": self.top_k, "seed": seed,
                           "temperature": 1.0 if self.temperature is None else self.temperature})  # fmt: skip
        if self.num_candidates > 1:  # without drawing, several answers are the best beams
            own["num_beams"] = max(self.num_candidates, self.num_beams or 1)
        return _given(own)

    @property
    def is_sampled(self) -> bool:
        """Whether a value is there that only sampling reads, and that changes something."""
        if self.temperature is not None:
            return self.temperature > 0
        return (self.top_p or 1.0) < 1.0 or bool(self.top_k)


class CompletionBody(GenerationBody):
    """`POST /v1/completions`."""

    prompt: str | list[str] | None = None
    best_of: int | None = Field(None, ge=1, le=MAX_CANDIDATES)
    logprobs: int | None = Field(None, ge=0, le=5)

    @property
    def num_candidates(self) -> int:
        """Raises ApiError for fewer candidates than answers."""
        if self.best_of is not None and self.best_of < self.num_answers:
            raise refused(f"best_of: at least n = {self.num_answers} (got {self.best_of}).", "best_of")
        return self.best_of or self.num_answers


class ContentPart(Section):
    """A part of a message; only text is read."""

    type: str
    text: str | None = None


class Message(Section):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None


class ChatBody(GenerationBody):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, le=4096)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def num_log_probs(self) -> int | None:
        """As completions ask for them. Raises ApiError for a number without the switch, as OpenAI does."""
        if self.top_logprobs is not None and not self.logprobs:
            raise refused("top_logprobs: only with `logprobs: true`.", "top_logprobs")
        return self.top_logprobs or 0 if self.logprobs else None


class EmbeddingBody(Section):
    """`POST /v1/embeddings`."""

    model: NonEmpty
    input: NonEmpty | Annotated[list[NonEmpty], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = None


class AdapterBody(Section):
    """`POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`."""

    lora_name: NonEmpty
    lora_path: str | None = None
    """vLLM's field; here a name of the adapter root, never a path."""
    lora_int_id: int | None = None


def parse(schema: type[Body], raw: bytes) -> Body:
    """The body of a request.

    Raises:
        ApiError: 400 with every problem: it is not JSON, has unknown fields, or wrong types.
    """
    import pydantic_core

    try:
        values = pydantic_core.from_json(raw)
    except ValueError as error:
        raise refused(f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(values, dict):
        raise refused(f"the body is a JSON object (got {type(values).__name__}).", code="invalid_json")
    values = _without_idle_fields(schema, values)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise _problems(schema, values, error) from error


def _without_idle_fields(schema: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what changes no answer. Raises ApiError for what cannot be honoured."""
    kept = {}
    for name, value in values.items():
        if name in schema.model_fields:
            kept[name] = value
        elif name in _NOT_HONOURED:
            if not any(value == nothing and type(value) is type(nothing) for nothing in _idle_values(value)):
                raise refused(f"{name} cannot be honoured: {_NOT_HONOURED[name]}.", name, "unsupported_field")
        elif name not in _WITHOUT_EFFECT:
            kept[name] = value
    return kept


def _idle_values(value: Any) -> Sequence[Any]:
    return (*_ASKS_FOR_NOTHING, 0.0) if isinstance(value, float) else _ASKS_FOR_NOTHING


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _problems(schema: type[BaseModel], values: Mapping[str, Any], error: ValidationError) -> ApiError:
    """All of them in one message; the first one's field is OpenAI's ``param``."""
    lines: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        lines.setdefault(name, _line(schema, name, item["msg"], values.get(name)))
    first = next(iter(lines))
    return refused("\n".join(lines.values()), first or None)


def _line(schema: type[BaseModel], name: str, message: str, value: Any) -> str:
    if name == "prompt" and isinstance(value, list) and any(isinstance(each, (int, list)) for each in value):
        return "prompt: a text or a list of texts; token ids belong to another tokenizer than this base's."
    if name == "input" and isinstance(value, list) and any(isinstance(each, (int, list)) for each in value):
        return (
            "input: a text or a list of texts; token ids belong to another tokenizer than this base's "
            "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))."
        )
    if name not in schema.model_fields:
        close = difflib.get_close_matches(name, schema.model_fields, n=1, cutoff=0.8)
        return f"{name}: unknown field{f', did you mean {close[0]!r}' if close else ''}."
    return f"{name}: {message} (got {_shown(value)})."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
