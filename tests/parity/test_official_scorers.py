"""Our row statistics and reductions against the packages and published definitions that they wrap."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer
from nltk.translate.meteor_score import meteor_score
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.scoring import BootstrapAggregator
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from flan_lora.tasks import scorers as metrics

LABELS = ("sadness", "joy", "love")
WORDS = "the a cat cats sat on mat looked at dog dogs, barked. Why? Mr. 3.5 U.S. its it's running ran".split()

short_text = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
row = st.tuples(short_text, st.lists(short_text, min_size=1, max_size=3))
corpus = st.lists(row, min_size=1, max_size=8)
quick = settings(max_examples=60, deadline=None)


def scored(scorer: metrics.Scorer, rows: Sequence[tuple[str, Sequence[str]]]) -> dict[str, float]:
    predictions, references = zip(*rows, strict=True)
    return metrics.score([scorer], predictions, references, predictions)


@given(pairs=st.lists(st.tuples(st.sampled_from([*LABELS, "nonsense", ""]), st.sampled_from(LABELS)), min_size=1))
@quick
def test_classification_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    predicted, actual = ([*side] for side in zip(*pairs, strict=True))
    scores = metrics.score([metrics.classification(LABELS)], predicted, [[label] for label in actual], predicted)
    present = sorted(set(LABELS) & {*predicted, *actual})
    assert scores["accuracy"] == pytest.approx(accuracy_score(actual, predicted))
    assert scores["macro_f1"] == pytest.approx(
        f1_score(actual, predicted, labels=present, average="macro", zero_division=0)
    )
    each = precision_recall_fscore_support(actual, predicted, labels=LABELS, zero_division=0)[2]
    assert [scores[f"f1_{label}"] for label in LABELS] == pytest.approx(each.tolist())


@given(pairs=st.lists(st.tuples(st.sampled_from(["yes", "no", "?"]), st.sampled_from(["yes", "no"])), min_size=1))
@quick
def test_binary_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    predicted, actual = ([*side] for side in zip(*pairs, strict=True))
    scores = metrics.score([metrics.binary(("no", "yes"), "yes")], predicted, [[a] for a in actual], predicted)
    truth, guess = ([label == "yes" for label in side] for side in (actual, predicted))
    assert scores["f1"] == pytest.approx(f1_score(truth, guess, zero_division=0))
    assert scores["accuracy"] == pytest.approx(accuracy_score(actual, predicted))


@given(rows=corpus)
@quick
def test_bleu_equals_sacrebleu_with_reference_sets_of_any_size(rows: list[tuple[str, list[str]]]) -> None:
    widest = max(len(references) for _, references in rows)
    columns = [[(refs[k] if k < len(refs) else None) for _, refs in rows] for k in range(widest)]
    official = sacrebleu.corpus_bleu([prediction for prediction, _ in rows], columns, force=True)
    assert scored(metrics.bleu(), rows)["bleu"] == pytest.approx(official.score)


def test_bleu_of_a_bootstrap_resample_equals_sacrebleu_on_the_drawn_rows() -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, 12)) for _ in range(20)]
    pairs = list(zip(texts[:10], texts[10:], strict=True))
    table = metrics.bleu().statistics(texts[:10], [[gold] for gold in texts[10:]], texts[:10])
    drawn = generator.integers(0, 10, 10)
    predictions, golds = zip(*(pairs[index] for index in drawn), strict=True)
    official = sacrebleu.corpus_bleu(predictions, [golds], force=True).score
    assert official > 0
    assert metrics.bleu().reduce(table[drawn])["bleu"] == pytest.approx(official)


@given(rows=corpus)
@quick
def test_ibleu_is_made_of_two_sacrebleu_scores(rows: list[tuple[str, list[str]]]) -> None:
    predictions, golds, sources = [p for p, _ in rows], [r[0] for _, r in rows], [r[-1] for _, r in rows]
    scores = metrics.score([metrics.paraphrase(0.8)], predictions, [[gold] for gold in golds], sources)
    bleu = sacrebleu.corpus_bleu(predictions, [golds], force=True).score
    self_bleu = sacrebleu.corpus_bleu(predictions, [sources], force=True).score
    assert scores["bleu"] == pytest.approx(bleu)
    assert scores["self_bleu"] == pytest.approx(self_bleu)
    assert scores["ibleu"] == pytest.approx(0.8 * bleu - 0.2 * self_bleu)


@given(rows=corpus)
@quick
def test_rouge_equals_the_mean_of_rouge_score(rows: list[tuple[str, list[str]]]) -> None:
    official = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    each = [official.score_multi(references, prediction) for prediction, references in rows]
    scores = scored(metrics.rouge(), rows)
    for ours, theirs in {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}.items():
        assert scores[ours] == pytest.approx(100 * np.mean([row[theirs].fmeasure for row in each]))


def test_rouge_stands_inside_the_interval_of_rouge_scores_own_aggregator() -> None:
    generator = np.random.default_rng(1)
    rows = [(" ".join(generator.choice(WORDS, 12)), [" ".join(generator.choice(WORDS, 12))]) for _ in range(40)]
    official = RougeScorer(["rougeL"], use_stemmer=True)
    np.random.seed(0)  # the aggregator draws from numpy's global state
    aggregator = BootstrapAggregator(n_samples=2000)
    for prediction, references in rows:
        aggregator.add_scores(official.score_multi(references, prediction))
    low, mid, high = (100 * bound.fmeasure for bound in aggregator.aggregate()["rougeL"])
    predictions, references = zip(*rows, strict=True)
    ours = metrics.bootstrap([metrics.rouge()], predictions, references, predictions)["rouge_l"]
    assert ours.value == pytest.approx(mid, abs=0.3)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.6)


def test_rouge_lsum_equals_rouge_score_on_one_sentence_per_line() -> None:
    prediction = "Anna will bring cake. Tom is late! Is Mr. Lee coming?"
    reference = "Tom is late. Mr. Lee and Anna will bring cake."
    official = RougeScorer(["rougeLsum"], use_stemmer=True).score(
        "Tom is late.\nMr. Lee and Anna will bring cake.",
        "Anna will bring cake.\nTom is late!\nIs Mr. Lee coming?",
    )
    scores = scored(metrics.rouge(), [(prediction, [reference])])
    assert scores["rouge_lsum"] == pytest.approx(100 * official["rougeLsum"].fmeasure)
    assert scores["rouge_lsum"] > scores["rouge_l"]


class NoSynonyms:
    """WordNet without words."""

    def synsets(self, word: str) -> list[str]:
        return []


@given(rows=corpus)
@quick
def test_meteor_equals_nltk(rows: list[tuple[str, list[str]]]) -> None:
    if metrics.meteor_matching() != "exact+stem":
        pytest.skip("NLTK's WordNet is installed here: synonyms count too")
    tokens = NLTKWordTokenizer().tokenize
    each = [
        meteor_score([tokens(r) for r in references], tokens(prediction), wordnet=NoSynonyms())
        for prediction, references in rows
    ]
    assert scored(metrics.meteor(), rows)["meteor"] == pytest.approx(100 * np.mean(each))


def reference_normalise(text: str) -> list[str]:
    """SQuAD v1.1's definition, written down a second time by other means than in the package."""
    table = str.maketrans("", "", string.punctuation)
    return re.sub(r"(?<!\w)(a|an|the)(?!\w)", " ", text.lower().translate(table)).split()


def reference_f1(prediction: str, gold: str) -> float:
    left, remaining = reference_normalise(prediction), reference_normalise(gold)
    sizes, num_same = (len(left), len(remaining)), 0
    for token in left:
        if token in remaining:
            remaining.remove(token)
            num_same += 1
    if not num_same:
        return 0.0
    precision, recall = num_same / sizes[0], num_same / sizes[1]
    return 2 * precision * recall / (precision + recall)


answer = st.text(alphabet="aAnthe THE.,'-$ é९\t", max_size=12)


@given(rows=st.lists(st.tuples(answer, st.lists(answer, min_size=1, max_size=3)), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_squad_equals_the_definition_of_v1_1(rows: list[tuple[str, list[str]]]) -> None:
    scores = scored(metrics.squad(), rows)
    f1 = [max(reference_f1(prediction, gold) for gold in golds) for prediction, golds in rows]
    exact = [
        any(reference_normalise(prediction) == reference_normalise(gold) for gold in golds)
        for prediction, golds in rows
    ]
    assert scores["f1"] == pytest.approx(100 * np.mean(f1))
    assert scores["exact_match"] == pytest.approx(100 * np.mean(exact))


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "f1"),
    [
        ("The Denver Broncos!", "Denver Broncos", 100.0, 100.0),
        ("an apple a day", "apple day", 100.0, 100.0),
        ("in 1998 and 1999", "1998", 0.0, 40.0),  # 1 of 4 against 1 of 1
        ("Theodore", "odore", 0.0, 0.0),  # "the" goes only as a word
        ("“Denver”", "Denver", 0.0, 0.0),  # curly quotes are not ASCII punctuation
        ("", "the", 100.0, 0.0),  # both empty: equal, but v1.1's F1 of nothing shared is 0
        ("$5", "5", 100.0, 100.0),
    ],
)
def test_squad_on_cases_worked_by_hand(prediction: str, gold: str, exact: float, f1: float) -> None:
    assert scored(metrics.squad("en"), [(prediction, [gold])]) == pytest.approx({"exact_match": exact, "f1": f1})


@pytest.mark.parametrize(
    ("language", "prediction", "gold", "exact", "f1"),
    [
        # the danda ends a Hindi sentence and is punctuation (category Po)
        ("mlqa-hi", "दिल्ली में।", "दिल्ली में", 100.0, 100.0),
        ("mlqa-hi", "भारत की राजधानी", "राजधानी", 0.0, 50.0),  # 1 of 3 against 1 of 1
        ("mlqa-hi", "“ताज महल”", "ताज महल", 100.0, 100.0),
        ("mlqa-hi", "the ताज", "ताज", 0.0, 200 / 3),  # no articles in Hindi, so "the" is a word
        ("mlqa-hi", "कि", "की", 0.0, 0.0),  # vowel signs are marks, not punctuation: they stay
        ("mlqa-hi", "₹५०", "५०", 0.0, 0.0),  # a currency sign outside ASCII is category Sc and stays
        ("mlqa-hi", "$५०", "५०", 100.0, 100.0),  # one of ASCII goes: string.punctuation has it
        ("mlqa-en", "the “Denver”", "Denver", 100.0, 100.0),
        ("en", "दिल्ली में।", "दिल्ली में", 0.0, 50.0),  # SQuAD's own normaliser keeps the danda
    ],
)
def test_mlqa_on_cases_worked_by_hand(language: str, prediction: str, gold: str, exact: float, f1: float) -> None:
    """After https://github.com/facebookresearch/MLQA/blob/main/mlqa_evaluation_v1.py (normalize_answer)."""
    scores = scored(metrics.squad(language), [(prediction, [gold])])
    assert scores == pytest.approx({"exact_match": exact, "f1": f1})


def test_the_best_reference_counts() -> None:
    scores = scored(metrics.squad(), [("Denver", ["Carolina", "Denver Broncos", "denver"])])
    assert scores == {"exact_match": 100.0, "f1": 100.0}
