"""T5's tokenizer from a tokenizer.json, without transformers, for serving: what of its calls serving makes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers, processors

_CLASSES = {"T5Tokenizer", "T5TokenizerFast"}
_EOS, _UNK, _PAD = "</s>", "<unk>", "<pad>"


class FastTokenizer:
    """Texts to ids and back as transformers' T5Tokenizer does it, which a test compares."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id, self.unk_token_id, self.pad_token_id = map(tokenizer.token_to_id, (_EOS, _UNK, _PAD))

    def __call__(
        self, texts: Sequence[str], *, return_attention_mask: bool = False, verbose: bool = False
    ) -> dict[str, list[list[int]]]:
        """The ids of whole texts, eos last."""
        return {"input_ids": [each.ids for each in self._tokenizer.encode_batch(list(texts))]}

    def decode(
        self, ids: Sequence[int], *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """The text of ids."""
        assert not clean_up_tokenization_spaces, "serving never cleans up"
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """The pieces of ids."""
        return [str(self._tokenizer.id_to_token(each)) for each in ids]

    def __len__(self) -> int:
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size


def read_fast_tokenizer(folder: Path) -> FastTokenizer | None:
    """The tokenizer of a checkpoint's folder; None where it is not plainly T5's, which transformers may know."""
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        content = (folder / "tokenizer.json").read_text(encoding="utf-8")
        if not _is_plain(settings, json.loads(content)):
            return None
        tokenizer = Tokenizer.from_str(content)
    except Exception:  # tokenizers raises bare Exceptions; who reads it in full says what is wrong with the file
        return None
    # what T5Tokenizer sets, whatever the file says
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", _EOS], special_tokens=[(_EOS, tokenizer.token_to_id(_EOS))]
    )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return FastTokenizer(tokenizer)


def _is_plain(settings: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    """Whether T5's own class reads it, and every special token that it would add is already there."""
    model, normalizer = content["model"], content["normalizer"] or {"type": "Precompiled"}
    names = {"eos_token": _EOS, "unk_token": _UNK, "pad_token": _PAD}
    special = {each["content"] for each in content["added_tokens"] if each["special"] and not each["normalized"]}
    num_extra = settings.get("extra_ids", 100)
    wanted = {_EOS, _UNK, _PAD, *(f"<extra_id_{number}>" for number in range(num_extra))}
    others = {each["content"] for each in content["added_tokens"]} - wanted
    return (
        settings.get("tokenizer_class") in _CLASSES
        and all(_text(settings.get(key, name)) == name for key, name in names.items())
        and model["type"] == "Unigram"
        and model["unk_id"] == 2
        and not model.get("byte_fallback")
        and normalizer["type"] == "Precompiled"
        and wanted <= special
        and not others
    )


def _text(token: Any) -> Any:
    """A token that is written as a text or, by older releases, as an object."""
    return token.get("content") if isinstance(token, Mapping) else token
