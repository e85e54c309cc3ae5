"""A sentence in other words (the positive pairs of PAWS)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flan_lora.tasks.scorers import paraphrase, rouge
from flan_lora.tasks.task import (
    Baseline,
    CardExample,
    CardInfo,
    DataSize,
    Example,
    Inputs,
    Prompt,
    PromptVariant,
    Row,
    Task,
)
from flan_lora.tasks.text import label_field, plain, row_key, text_field, untokenise

IBLEU_ALPHA = 0.7
"""Weight of BLEU against self-BLEU in iBLEU (Sun and Zhou, ACL 2012, advise 0.7 to 0.9).

PAWS pairs share nearly all their words: a copy has BLEU 66 there. At 0.9 a copy scores 49 and beats any honest
rewrite; at 0.7 it scores 16, an empty answer 0, the other sentence of the pair 50.
"""
PAIR_LABELS = ("no", "yes")
"""In the order of the data set's indices: 1 = paraphrases of each other."""


def _prompt(inputs: Inputs) -> Prompt:
    """The instruction first, so that it survives any cut; PAWS' spaced punctuation becomes ordinary text."""
    instruction = "Write a paraphrase of this sentence, with the same meaning in different words. Sentence: "
    return Prompt(instruction, plain(untokenise(inputs["sentence"])), " Paraphrase:")


def _examples(row: Row) -> list[Example]:
    """Positives only, both directions: none for a pair that means different things, else two.

    The Treebank spacing of PAWS is undone in inputs, target and reference alike, so that a copy of the
    input is a copy to the metrics as well.
    """
    pair = [text_field(row, name, "paraphrase") for name in ("sentence1", "sentence2")]
    if label_field(row, "label", "paraphrase", PAIR_LABELS) == "no":
        return []
    first, second = map(untokenise, pair)
    key = row_key(row)
    return [_example(f"{key}-0", first, second), _example(f"{key}-1", second, first)]


def _example(key: str, source: str, reference: str) -> Example:
    """One direction of a pair."""
    inputs = {"sentence": source}
    return Example(key, _prompt(inputs), plain(reference), (reference,), inputs)


def _copy(train: Sequence[Example], examples: Sequence[Example]) -> list[str]:
    """The input itself: high BLEU, and what iBLEU is there to punish."""
    return [example.inputs["sentence"] for example in examples]


def _after(head: str) -> Callable[[Inputs], Prompt]:
    """The sentence behind an instruction."""
    return lambda inputs: Prompt(head, plain(untokenise(inputs["sentence"])))


_CARD = CardInfo(
    pipeline_tag="text-generation",
    limits="Other words can change the meaning, above all names, numbers and negations; and it may repeat the "
    "sentence as it is. copy_share says how often it does (case and punctuation aside), changed_share how many of "
    "an answer's words are new, self_bleu how near the wording stays to the sentence.",
    sample_inputs={"sentence": "The flight from Berlin was delayed by two hours ."},
    examples=(
        CardExample(
            {"sentence": "The flight from Berlin was delayed by two hours ."},
            "The Berlin flight came in two hours late.",
        ),
        CardExample(
            {"sentence": "In 1998 she moved to Oslo , where she opened a small bakery ."},
            "She opened a small bakery in Oslo after moving there in 1998.",
        ),
    ),
)

TASK = Task(
    name="paraphrase",
    version=1,
    summary="Say a sentence in other words",
    inputs=("sentence",),
    columns=("sentence1", "sentence2", "label"),
    prompt=_prompt,
    examples=_examples,
    scorers=(paraphrase(IBLEU_ALPHA), rouge()),
    select_on="ibleu",
    max_new_tokens=80,
    baselines=(Baseline("copy", _copy),),
    answer_labels={"label": PAIR_LABELS},
    public_data=DataSize(43_658, 52, 28),
    augment=dict.fromkeys(("case", "punctuation", "contractions"), ("sentence1", "sentence2")),
    card=_CARD,
    prompt_variants=(
        PromptVariant("in other words", _after("Say this in other words: ")),
        PromptVariant("one word", _after("paraphrase: ")),
    ),
)
