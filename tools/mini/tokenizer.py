"""The tokenizer of ``mini``: a SentencePiece unigram model with T5's conventions.

pad 0, eos 1, unk 2, then the pieces, then the sentinels ``<extra_id_99>`` .. ``<extra_id_0>`` at the end, as
T5 lays them out. No byte fallback, like T5's; unlike T5's, every printable ASCII character is a piece, so
braces and angle brackets survive. 8,092 pieces + 100 sentinels = 8,192 rows, a multiple of 64.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.tasks.spelling import EMOJI
from tools.mini import corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NUM_PIECES = 8092
NUM_SENTINELS = 100
PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
ASCII = "".join(map(chr, range(33, 127)))
SIGNS = "“”‘’–—…é£€"  # noqa: RUF001
SPIECE_FILE = "spiece.model"


def sentinel_id(index: int, vocab_size: int) -> int:
    """Id of ``<extra_id_{index}>``: sentinels count down from the end of the vocabulary."""
    return vocab_size - 1 - index


def _lines(root: Path, max_chars_per_source: int, seed: int) -> Iterator[str]:
    """A bounded, seeded sample of every source's documents, so that no large text fills the pieces."""
    for entry in corpus.SOURCES:
        docs = list(corpus.documents(root, entry))
        random.Random(seed).shuffle(docs)
        taken = 0
        for doc in docs:
            yield doc[:4000]
            taken += len(doc[:4000])
            if taken > max_chars_per_source:
                break


def train_pieces(lines: Iterable[str], num_pieces: int = NUM_PIECES) -> bytes:
    """Train the SentencePiece unigram model and return it serialised."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="unigram",
        vocab_size=num_pieces,
        pad_id=PAD_ID,
        eos_id=EOS_ID,
        unk_id=UNK_ID,
        bos_id=-1,
        required_chars=ASCII + SIGNS + EMOJI,
        character_coverage=0.9999,
        split_digits=True,
        byte_fallback=False,
        num_threads=2,
        max_sentence_length=8000,
        input_sentence_size=120_000,
        shuffle_input_sentence=True,
        minloglevel=2,
    )
    return model.getvalue()


def wrap(spiece_path: Path) -> PreTrainedTokenizerBase:
    """The transformers tokenizer over a SentencePiece file, sentinels last."""
    from transformers import T5Tokenizer

    tokenizer: Any = T5Tokenizer.from_pretrained(str(spiece_path.parent), extra_ids=NUM_SENTINELS)
    return tokenizer


def build_tokenizer(
    root: Path,
    out: Path,
    *,
    num_pieces: int = NUM_PIECES,
    seed: int = 0,
    max_chars_per_source: int = 5_000_000,
) -> PreTrainedTokenizerBase:
    """Train on a sample of the corpus and write ``spiece.model`` and transformers' files into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    spiece = out / SPIECE_FILE
    spiece.write_bytes(train_pieces(_lines(root, max_chars_per_source, seed), num_pieces))
    return save_tokenizer(out)


def save_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Write transformers' files beside the ``spiece.model`` in `folder`."""
    tokenizer = wrap(folder / SPIECE_FILE)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(str(folder))
    return tokenizer


def load_or_build(
    root: Path, out: Path, *, num_pieces: int = NUM_PIECES, seed: int = 0, echo: Callable[[str], None]
) -> PreTrainedTokenizerBase:
    """The tokenizer in ``out``: trained once, then read back, so that a resumed run has the same one."""
    from transformers import AutoTokenizer

    if not (out / "tokenizer_config.json").exists():
        echo("training the tokenizer")
        build_tokenizer(root, out, num_pieces=num_pieces, seed=seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(str(out))
    return tokenizer
