"""The fields of an answer, as OpenAI's clients read them, and ours beside them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

from flan_lora.serving.openai.served import Answered, Answering, Candidate, ModelInfo, ScoredToken

Kind = Literal["completion", "chat"]
_OBJECTS = {
    ("completion", False): "text_completion",
    ("completion", True): "text_completion",
    ("chat", False): "chat.completion",
    ("chat", True): "chat.completion.chunk",
}


@dataclass(frozen=True, slots=True)
class Head:
    """What all parts of one answer have in common."""

    kind: Kind
    model: str
    """Who answered: of ``auto``, the adapter that was chosen."""
    fingerprint: str
    """OpenAI's ``system_fingerprint``: equal seeds give equal answers while it stays."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def body(self, choices: Sequence[Mapping[str, Any]], *, is_chunk: bool, **fields: Any) -> dict[str, Any]:
        """An answer, or one chunk of it."""
        prefix = "chatcmpl" if self.kind == "chat" else "cmpl"
        return {
            "id": f"{prefix}-{self.id}",
            "object": _OBJECTS[self.kind, is_chunk],
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": list(choices),
            **fields,
        }


def choice(kind: Kind, index: int, candidate: Candidate, extra: Mapping[str, Any]) -> dict[str, Any]:
    """One of the choices of a whole answer."""
    said: dict[str, Any]
    if kind == "chat":
        said = {"message": {"role": "assistant", "content": candidate.text, "refusal": None}}
    else:
        said = {"text": candidate.text}
    return {
        "index": index,
        **said,
        "logprobs": None if candidate.tokens is None else log_probs(kind, candidate.tokens),
        "finish_reason": candidate.finish_reason,
        "mean_log_prob": round(candidate.mean_log_prob, 6),
        **extra,
    }


def delta(
    kind: Kind, index: int, text: str, finish_reason: str | None = None, *, is_first: bool = False,
    tokens: Sequence[ScoredToken] | None = None, extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One of the choices of a chunk; the last one holds ``tokens`` of all."""
    said: dict[str, Any] = {"text": text}
    if kind == "chat":
        content = {"content": text} if text or is_first else {}
        said = {"delta": {**({"role": "assistant"} if is_first else {}), **content}}
    scored = None if tokens is None else log_probs(kind, tokens)
    return {"index": index, **said, "logprobs": scored, "finish_reason": finish_reason, **(extra or {})}


def log_probs(kind: Kind, tokens: Sequence[ScoredToken]) -> dict[str, Any]:
    """Single tokens' log-probabilities in the form of either endpoint."""
    if kind == "chat":
        content = [
            {**_chat_token(each.text, each.log_prob), "top_logprobs": [_chat_token(*other) for other in each.top]}
            for each in tokens
        ]
        return {"content": content, "refusal": None}
    starts = accumulate((len(each.text) for each in tokens), initial=0)
    has_top = any(each.top for each in tokens)
    return {
        "tokens": [each.text for each in tokens],
        "token_logprobs": [round(each.log_prob, 6) for each in tokens],
        "top_logprobs": [_by_text(each.top) for each in tokens] if has_top else None,
        "text_offset": list(starts)[:-1],
    }


def _by_text(top: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Of two tokens that are spelled alike the likelier one, which comes first."""
    found: dict[str, float] = {}
    for text, log_prob in top:
        found.setdefault(text, round(log_prob, 6))
    return found


def _chat_token(text: str, log_prob: float) -> dict[str, Any]:
    return {"token": text, "logprob": round(log_prob, 6), "bytes": list(text.encode("utf-8"))}


def extras(answering: Answering, answered: Answered) -> dict[str, Any]:
    """Ours beside OpenAI's: label probabilities and how ``auto`` chose, where there are any."""
    found: dict[str, Any] = {}
    if answered.label_probabilities is not None:
        found["label_probabilities"] = dict(answered.label_probabilities)
    if answering.route is not None:
        found["route"] = dict(answering.route)
    return found


def usage(answerings: Sequence[Answering], answers: Sequence[Answered]) -> dict[str, int]:
    """Tokens that the base read and wrote, all windows and candidates counted."""
    num_prompt = sum(answering.num_prompt_tokens for answering in answerings)
    num_completion = sum(answered.num_completion_tokens for answered in answers)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
    }


def model_body(info: ModelInfo, base: ModelInfo, slug: str) -> dict[str, Any]:
    """One line of `/v1/models`: ``parent`` and ``root`` as in vLLM's, without a path of the machine."""
    is_base = info is base
    return {
        "id": info.name,
        "object": "model",
        "created": info.created,
        "owned_by": "flan-lora",
        "root": slug if is_base else f"{slug}/{info.name}",
        "parent": None if is_base else base.name,
        "digest": info.digest,
        "task": info.task,
        "inputs": list(info.inputs),
        "labels": list(info.labels),
        "summary": info.summary,
        "routable": info.is_routable,
    }
