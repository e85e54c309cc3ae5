"""Shapes, edge cases and intervals of the metrics; values are held against official scorers in tests/parity."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from flan_lora.errors import DataError
from flan_lora.tasks import scorers as metrics
from flan_lora.tasks.normalise import split_sentences

LABELS = ("no", "yes")
SCORERS = {
    "classification": metrics.classification(LABELS),
    "binary": metrics.binary(LABELS, "yes"),
    "squad": metrics.squad(),
    "mlqa-hi": metrics.squad("mlqa-hi"),
    "rouge": metrics.rouge(),
    "bleu": metrics.bleu(),
    "meteor": metrics.meteor(),
    "paraphrase": metrics.paraphrase(),
}
each_scorer = pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS)


def label_rows(num_rows: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    generator = np.random.default_rng(seed)
    predictions = generator.choice([*LABELS, "maybe"], num_rows).tolist()
    return predictions, [[label] for label in generator.choice(LABELS, num_rows).tolist()]


@each_scorer
@pytest.mark.parametrize("prediction", ["", " ", "।", "...", "\n", "नमस्ते"])
def test_any_prediction_gives_finite_scores(scorer: metrics.Scorer, prediction: str) -> None:
    scores = metrics.bootstrap([scorer], [prediction] * 2, [["yes"], ["no"]], ["", "x"], num_resamples=5)
    assert all(np.isfinite([s.value, s.low, s.high]).all() for s in scores.values())


@each_scorer
def test_a_perfect_answer_gets_the_most(scorer: metrics.Scorer) -> None:
    most = 1.0 if scorer in (SCORERS["classification"], SCORERS["binary"]) else 100.0
    texts = ["yes", "yes"] if most == 1.0 else ["the old man sat down by the sea"] * 2
    scores = metrics.score([scorer], texts, [[text] for text in texts], ["something else"] * 2)
    less = {"f1_no", "invalid_share", "self_bleu", "copy_share", "changed_share", "ibleu"}
    # METEOR's fragmentation penalty leaves a perfect copy slightly below 100
    assert {name: value for name, value in scores.items() if name not in less} == pytest.approx(
        {name: most for name in scores if name not in less}, abs=0.2
    )


@each_scorer
def test_no_rows_is_an_error_that_says_so(scorer: metrics.Scorer) -> None:
    for compute in (metrics.score, metrics.bootstrap):
        with pytest.raises(DataError, match=r"no rows to score \(got 0 predictions\)"):
            compute([scorer], [], [], [])


def test_a_row_without_reference_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match=r"1 of 2 rows have no reference answer .*\(first: row 1\)"):
        metrics.score([metrics.bleu()], ["a", "b"], [["a"], []], ["", ""])


def test_columns_of_different_length_do_not_pair_up() -> None:
    with pytest.raises(ValueError, match="2 predictions, 1 reference lists and 2 sources do not pair up"):
        metrics.score([metrics.bleu()], ["a", "b"], [["a"]], ["", ""])


def test_a_reference_that_is_no_label_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match=r"reference labels \['maybe'\] are none of .*\['no', 'yes'\]"):
        metrics.score([metrics.classification(LABELS)], ["yes"], [["maybe"]], [""])


def test_arguments_that_only_we_can_get_wrong() -> None:
    with pytest.raises(ValueError, match="'maybe' is none of"):
        metrics.binary(LABELS, "maybe")
    with pytest.raises(ValueError, match=r"'fr' \(known: en, mlqa-en, mlqa-hi\)"):
        metrics.squad("fr")
    with pytest.raises(ValueError, match=r"num_resamples must be at least 1 \(got 0\)"):
        metrics.bootstrap([metrics.bleu()], ["a"], [["a"]], [""], num_resamples=0)
    with pytest.raises(AssertionError, match=r"two scorers give \['bleu'\]"):
        metrics.score([metrics.bleu(), metrics.paraphrase()], ["a"], [["a"]], [""])


def test_invalid_answers_are_counted_and_wrong() -> None:
    scores = metrics.score(
        [metrics.classification(LABELS)], ["yes", "Yes", "", "no"], [["yes"], ["yes"], ["no"], ["no"]], [""] * 4
    )
    assert scores["invalid_share"] == 0.5
    assert scores["accuracy"] == 0.5
    assert scores["f1_yes"] == pytest.approx(2 / 3)  # precision 1, recall 1/2


def test_a_label_that_occurs_nowhere_does_not_pull_macro_f1_down() -> None:
    scores = metrics.score([metrics.classification(("a", "b", "c"))], ["a", "b"], [["a"], ["b"]], ["", ""])
    assert (scores["macro_f1"], scores["f1_c"]) == (1.0, 0.0)


def test_bootstrap_repeats_with_its_seed_and_moves_with_another() -> None:
    predictions, references = label_rows(50)
    scorer = metrics.classification(LABELS)

    def intervals(seed: int) -> dict[str, metrics.Score]:
        return metrics.bootstrap([scorer], predictions, references, predictions, num_resamples=50, seed=seed)

    assert intervals(0) == intervals(0)
    assert intervals(0) != intervals(1)


def test_the_interval_is_that_of_scoring_every_resample_from_scratch() -> None:
    """For a score that is no mean over rows: macro-F1, recomputed from strings in each resample."""
    predictions, references = label_rows(30)
    scorer = metrics.classification(LABELS)
    fast = metrics.bootstrap([scorer], predictions, references, predictions, num_resamples=40, seed=3)
    generator = np.random.default_rng(3)
    slow = []
    for _ in range(40):
        rows = generator.integers(0, 30, 30)
        drawn, golds = [predictions[row] for row in rows], [references[row] for row in rows]
        slow.append(metrics.score([scorer], drawn, golds, drawn)["macro_f1"])
    low, high = np.percentile(slow, [2.5, 97.5])
    assert (fast["macro_f1"].low, fast["macro_f1"].high) == pytest.approx((low, high))
    assert low < fast["macro_f1"].value < high
    assert fast["macro_f1"].value == metrics.score([scorer], predictions, references, predictions)["macro_f1"]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Accuracy 0.7 from 60 rows, 100 times: a 95 % interval of 60 rows holds 0.7 in about 93 of 100."""
    generator = np.random.default_rng(0)
    scorer, hits = metrics.classification(LABELS), 0
    for trial in range(100):
        predictions = np.where(generator.random(60) < 0.7, "yes", "no").tolist()
        accuracy = metrics.bootstrap(
            [scorer], predictions, [["yes"]] * 60, predictions, num_resamples=200, seed=trial
        )["accuracy"]
        hits += accuracy.low <= 0.7 <= accuracy.high
    assert 85 <= hits <= 99


def test_one_row_has_an_interval_of_one_point() -> None:
    score = metrics.bootstrap([metrics.squad()], ["Denver"], [["the Denver"]], [""])["exact_match"]
    assert score == metrics.Score(100.0, 100.0, 100.0)


@pytest.mark.parametrize(
    ("answer", "source", "is_copy"),
    [
        ("Where is the cat?", "where is the cat", True),
        ("Where is  the cat?", "Where is the cat !", True),
        ("Where is the dog?", "Where is the cat?", False),
        ("is where the cat?", "Where is the cat?", False),
    ],
)
def test_a_copy_is_the_same_words_in_the_same_order(answer: str, source: str, is_copy: bool) -> None:
    scores = metrics.score([metrics.paraphrase()], [answer], [["Anything else, really."]], [source])
    assert scores["copy_share"] == is_copy


@pytest.mark.parametrize(
    ("answer", "changed"),
    [
        ("Where is the cat?", 0.0),
        ("is where, The Cat", 0.0),
        ("Where is the dog?", 0.25),
        ("the the cat", 1 / 3),
        ("", 0.0),
    ],
)
def test_changed_words_are_those_that_the_source_does_not_have(answer: str, changed: float) -> None:
    scores = metrics.score([metrics.paraphrase()], [answer], [["Anything else"]], ["Where is the cat?"])
    assert scores["changed_share"] == pytest.approx(changed)


def test_copying_costs_ibleu() -> None:
    source, gold = "how can i learn to play the piano", "how do i learn to play the piano well"
    copy = metrics.score([metrics.paraphrase(0.8)], [source], [[gold]], [source])
    honest = metrics.score([metrics.paraphrase(0.8)], [gold], [[gold]], [source])
    assert copy["self_bleu"] == pytest.approx(100)
    assert copy["ibleu"] == pytest.approx(0.8 * copy["bleu"] - 20)
    assert honest["ibleu"] > copy["ibleu"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Tom is late. Anna waits!  Why?", ["Tom is late.", "Anna waits!", "Why?"]),
        ("Mr. Lee met Dr. Ng. They left.", ["Mr. Lee met Dr. Ng.", "They left."]),
        ('He said "no." She left.', ['He said "no."', "She left."]),
        ("one\n\ntwo three\n", ["one", "two three"]),
        ("It costs 3.50 at example.com", ["It costs 3.50 at example.com"]),
        ("  ", []),
    ],
)
def test_sentences_split(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_meteor_says_how_it_matches_and_uses_stems() -> None:
    assert metrics.meteor_matching() in ("exact+stem", "exact+stem+synonym")
    scores = metrics.score([metrics.meteor()], ["running dogs bark"], [["run dog bark"]], [""])
    assert scores["meteor"] > 90  # without stems one word of three would match


def test_importing_metrics_imports_nothing_heavy() -> None:
    code = (
        "import sys, flan_lora.tasks.scorers; "
        "heavy = {'numpy', 'sklearn', 'nltk', 'rouge_score', 'sacrebleu', 'torch'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_order_agreement_is_the_share_of_rows_answered_alike_both_ways():
    scores = metrics.bootstrap(
        [metrics.order_agreement()], ["yes", "no", "yes", "no"], [["yes"], ["yes"], ["yes"], ["no"]], [""] * 4
    )
    found = scores["order_agreement"]
    assert found.value == 0.75 and 0 <= found.low <= 0.75 <= found.high <= 1
