"""(predictions, references, sources) -> scores with bootstrap intervals; wraps the official scorers.

Heavy packages are imported when first used.

A scorer works in two halves: ``statistics`` turns each row into numbers once (tokenising, stemming, matching:
slow), ``reduce`` turns any number of those rows into scores (fast). A bootstrap resample is then a choice of
rows, and corpus scores that are no means over rows (BLEU, macro-F1) stay exact in every resample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from flan_lora.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
from flan_lora.tasks.normalise import (
    NoWordNet,
    answer_normaliser,
    new_share,
    nltk_words,
    plain_words,
    split_sentences,
    token_f1,
    wordnet_or_none,
)

FloatArray: TypeAlias = "npt.NDArray[np.float64]"
References = Sequence[Sequence[str]]

BLEU_ORDER = 4
ROUGE_TYPES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL", "rouge_lsum": "rougeLsum"}
CONFIDENCE_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Scorer:
    """Row statistics and their reduction to named scores.

    Shapes (N rows, K statistics of this scorer):
        statistics  (predictions (N), references (N lists of >= 1), source texts (N)) -> (N, K) float64
        reduce      (M, K), M >= 1 -> scores by name, always finite

    ``names`` are those of the scores, for who must know them before there are rows.
    """

    statistics: Callable[[Sequence[str], References, Sequence[str]], FloatArray]
    reduce: Callable[[FloatArray], dict[str, float]]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A score and its 95 % bootstrap interval, in the score's own unit."""

    value: float
    low: float
    high: float


def score(
    scorers: Sequence[Scorer], predictions: Sequence[str], references: References, sources: Sequence[str]
) -> dict[str, float]:
    """All scores of all scorers over N rows.

    ``sources[i]`` is the text that copying refers to (the input sentence, the dialogue).

    Raises:
        DataError: no rows, or a row without a reference.
    """
    check_rows(predictions, references, sources)
    tables = [scorer.statistics(predictions, references, sources) for scorer in scorers]
    return reduce_all(scorers, tables)


def bootstrap(
    scorers: Sequence[Scorer],
    predictions: Sequence[str],
    references: References,
    sources: Sequence[str],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Score]:
    """Scores with 95 % percentile intervals from resampling rows with replacement; same seed, same interval.

    Every score sees the same resamples. The interval covers the choice of rows, not that of a training seed.

    Raises:
        DataError: no rows, or a row without a reference.
        ValueError: num_resamples < 1.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    import numpy as np

    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1 (got {num_resamples})")
    check_rows(predictions, references, sources)
    tables = [scorer.statistics(predictions, references, sources) for scorer in scorers]
    values = reduce_all(scorers, tables)
    generator = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(num_resamples):
        rows = generator.integers(0, len(predictions), len(predictions))
        for name, value in reduce_all(scorers, [table[rows] for table in tables]).items():
            draws[name].append(value)
    bounds = {name: np.percentile(drawn, CONFIDENCE_PERCENTILES) for name, drawn in draws.items()}
    return {name: Score(values[name], float(low), float(high)) for name, (low, high) in bounds.items()}


def classification(labels: Sequence[str]) -> Scorer:
    """accuracy, macro_f1, f1_<label> and invalid_share, all in [0, 1].

    A prediction that is no label is invalid: wrong, and a miss for its true class. macro_f1 averages over the
    labels that occur in references or predictions, scikit-learn's default without the invalid answers; the F1
    of a label that occurs nowhere is 0.
    """
    names = tuple(labels)
    num_labels = len(names)

    def reduce(rows: FloatArray) -> dict[str, float]:
        hits, predicted, actual = rows[:, : 3 * num_labels].sum(axis=0).reshape(3, num_labels)
        occurrences = predicted + actual
        f1 = 2 * hits / occurrences.clip(min=1)
        present = occurrences > 0
        scores = {"accuracy": float(hits.sum() / len(rows)), "macro_f1": float(f1[present].mean())}
        scores |= {f"f1_{name}": float(value) for name, value in zip(names, f1, strict=True)}
        return scores | {"invalid_share": float(rows[:, -1].mean())}

    scores = ("accuracy", "macro_f1", *(f"f1_{name}" for name in names), "invalid_share")
    return Scorer(lambda predictions, references, _: _confusion(names, predictions, references), reduce, scores)


def binary(labels: Sequence[str], positive: str) -> Scorer:
    """accuracy and f1 of the positive label, in [0, 1]; an answer that is no label is wrong."""
    if positive not in labels:
        raise ValueError(f"positive label {positive!r} is none of {list(labels)}")
    both = classification(labels)

    def reduce(rows: FloatArray) -> dict[str, float]:
        scores = both.reduce(rows)
        return {"accuracy": scores["accuracy"], "f1": scores[f"f1_{positive}"]}

    return Scorer(both.statistics, reduce, ("accuracy", "f1"))


def order_agreement() -> Scorer:
    """order_agreement: share of rows with the same answer in both orders, in [0, 1].

    The answers to the swapped inputs stand in the place of the references.
    """

    def statistics(predictions: Sequence[str], references: References, sources: Sequence[str]) -> FloatArray:
        import numpy as np

        pairs = zip(predictions, references, strict=True)
        return np.array([[answer == swapped[0]] for answer, swapped in pairs], dtype=np.float64)

    return Scorer(statistics, lambda rows: {"order_agreement": float(rows.mean())}, ("order_agreement",))


def squad(language: str = "en") -> Scorer:
    """exact_match and f1 (0..100), the best over the references of each row.

    language: ``en`` is SQuAD v1.1 (ASCII punctuation and a/an/the removed); ``mlqa-en`` and ``mlqa-hi`` are
    MLQA's (punctuation of every script removed; Hindi has no articles to remove).

    Source: SQuAD's evaluate-v1.1.py; https://github.com/facebookresearch/MLQA/blob/main/mlqa_evaluation_v1.py.
    """
    normalise = answer_normaliser(language)

    def row(prediction: str, references: Sequence[str], _: str) -> tuple[float, float]:
        answer, golds = normalise(prediction), [normalise(reference) for reference in references]
        return float(answer in golds), max(token_f1(answer.split(), gold.split()) for gold in golds)

    return _mean_scorer(("exact_match", "f1"), row)


def rouge() -> Scorer:
    """rouge_1, rouge_2, rouge_l and rouge_lsum: F-measures (0..100) of rouge_score with the Porter stemmer.

    The best reference counts, per score. rouge_lsum is scored sentence by sentence, as split by
    ``split_sentences`` (rouge_score would need NLTK's punkt data, a download). rouge_score keeps only a-z and
    0-9: text in another script scores 0.
    """
    engine: list[Any] = []  # built at first use: importing rouge_score takes 0.5 s

    def row(prediction: str, references: Sequence[str], _: str) -> list[float]:
        if not engine:
            from rouge_score.rouge_scorer import RougeScorer

            engine.append(RougeScorer(list(ROUGE_TYPES.values()), use_stemmer=True))
        lined = ["\n".join(split_sentences(reference)) for reference in references]
        best = engine[0].score_multi(lined, "\n".join(split_sentences(prediction)))
        return [best[kind].fmeasure for kind in ROUGE_TYPES.values()]

    return _mean_scorer(tuple(ROUGE_TYPES), row)


def bleu() -> Scorer:
    """bleu (0..100): sacrebleu's corpus BLEU-4 (13a, exp smoothing) from n-gram counts summed over rows."""

    def statistics(predictions: Sequence[str], references: References, _: Sequence[str]) -> FloatArray:
        return _bleu_statistics(predictions, references)

    return Scorer(statistics, lambda rows: {"bleu": _corpus_bleu(rows)}, ("bleu",))


def meteor() -> Scorer:
    """meteor (0..100): NLTK's METEOR, mean over rows, the best reference per row.

    Words match exactly, by Porter stem, and by WordNet synonym only where NLTK's WordNet data are installed:
    ``meteor_matching()`` says which. Quote it beside the score, the two are not comparable.

    Source: Lavie and Agarwal, METEOR (WMT 2007), as in nltk.translate.meteor_score.
    """

    def row(prediction: str, references: Sequence[str], _: str) -> tuple[float]:
        from nltk.translate.meteor_score import meteor_score

        golds = [nltk_words(reference) for reference in references]
        return (float(meteor_score(golds, nltk_words(prediction), wordnet=wordnet_or_none())),)

    return _mean_scorer(("meteor",), row)


def meteor_matching() -> str:
    """How ``meteor`` matches words on this machine: ``exact+stem``, plus ``+synonym`` with WordNet data."""
    return "exact+stem" if isinstance(wordnet_or_none(), NoWordNet) else "exact+stem+synonym"


def paraphrase(alpha: float = 0.9) -> Scorer:
    """bleu, self_bleu (BLEU against the source), ibleu (all 0..100), copy_share and changed_share (in [0, 1]).

    ibleu = alpha * bleu - (1 - alpha) * self_bleu: a copy of the source cannot win. copy_share counts answers
    with the same words as the source in the same order, whatever their case and punctuation. changed_share is the
    mean share of an answer's words that the source does not have (0 for an empty answer, and for other orders).

    Source: Sun and Zhou, Joint Learning of a Dual SMT System for Paraphrase Generation (ACL 2012).
    """
    width = 2 + 2 * BLEU_ORDER

    def statistics(predictions: Sequence[str], references: References, sources: Sequence[str]) -> FloatArray:
        import numpy as np

        pairs = [(plain_words(p), plain_words(s)) for p, s in zip(predictions, sources, strict=True)]
        copies = [[answer == source, new_share(answer, source)] for answer, source in pairs]
        against_source = _bleu_statistics(predictions, [[source] for source in sources])
        return np.hstack([_bleu_statistics(predictions, references), against_source, copies])

    def reduce(rows: FloatArray) -> dict[str, float]:
        against_reference = _corpus_bleu(rows[:, :width])
        against_source = _corpus_bleu(rows[:, width : 2 * width])
        mixed = alpha * against_reference - (1 - alpha) * against_source
        copy_share, changed_share = rows[:, -2:].mean(axis=0).tolist()
        scores = {"bleu": against_reference, "self_bleu": against_source, "ibleu": mixed}
        return scores | {"copy_share": copy_share, "changed_share": changed_share}

    return Scorer(statistics, reduce, ("bleu", "self_bleu", "ibleu", "copy_share", "changed_share"))


def check_rows(predictions: Sequence[str], references: References, sources: Sequence[str]) -> None:
    """Raise DataError for no rows or a row without a reference, ValueError for lists that do not pair up."""
    lengths = (len(predictions), len(references), len(sources))
    if len(set(lengths)) != 1:
        raise ValueError("{} predictions, {} reference lists and {} sources do not pair up".format(*lengths))
    if not predictions:
        raise DataError("there are no rows to score (got 0 predictions). Give at least one row.")
    empty = [index for index, row in enumerate(references) if not row]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(references)} rows have no reference answer to score against "
            f"(first: row {empty[0]}). Remove them or give their answers."
        )


def reduce_all(scorers: Sequence[Scorer], tables: Sequence[FloatArray]) -> dict[str, float]:
    """The scores of all scorers; two scorers must not claim one name."""
    merged: dict[str, float] = {}
    for scorer, table in zip(scorers, tables, strict=True):
        scores = scorer.reduce(table)
        assert not merged.keys() & scores.keys(), f"two scorers give {sorted(merged.keys() & scores.keys())}"
        merged |= scores
    return merged


def _mean_scorer(names: tuple[str, ...], row: Callable[[str, Sequence[str], str], Sequence[float]]) -> Scorer:
    """A scorer whose scores are 100 times the mean of per-row values in [0, 1]."""

    def statistics(predictions: Sequence[str], references: References, sources: Sequence[str]) -> FloatArray:
        import numpy as np

        rows = [row(*items) for items in zip(predictions, references, sources, strict=True)]
        return 100.0 * np.array(rows, dtype=np.float64).reshape(-1, len(names))

    def reduce(rows: FloatArray) -> dict[str, float]:
        return dict(zip(names, rows.mean(axis=0).tolist(), strict=True))

    return Scorer(statistics, reduce, names)


def _confusion(names: tuple[str, ...], predictions: Sequence[str], references: References) -> FloatArray:
    """(N, 3 L + 1): hit, predicted, actual as one-hot rows over L labels; then 1 for an invalid answer.

    A parser may lower its output, so "refund" is the label "Refund" as well; "Yes" is not the label "yes".
    """
    import numpy as np

    index = {name.lower(): position for position, name in enumerate(names)}
    index |= {name: position for position, name in enumerate(names)}
    unknown = sorted({row[0] for row in references} - set(names))
    if unknown:
        raise DataError(f"reference labels {unknown} are none of the task's labels {list(names)}.")
    rows = np.zeros((len(predictions), 3 * len(names) + 1), dtype=np.float64)
    for row, prediction, (actual, *_) in zip(rows, predictions, references, strict=True):
        found, truth = index.get(prediction), index[actual]
        row[2 * len(names) + truth] = 1.0
        row[-1 if found is None else len(names) + found] = 1.0
        row[truth] = found == truth
    return rows


def _bleu_statistics(predictions: Sequence[str], references: References) -> FloatArray:
    """(N, 10): hypothesis length, closest reference length, 4 matched and 4 total n-gram counts per row."""
    import numpy as np
    from sacrebleu.metrics.bleu import BLEU

    # effective_order only silences the advice for sentence BLEU: the counts that we keep ignore it
    engine = BLEU(effective_order=True, force=True, max_ngram_order=BLEU_ORDER)
    pairs = zip(predictions, references, strict=True)
    results = [engine.sentence_score(prediction, list(golds)) for prediction, golds in pairs]
    rows = [[result.sys_len, result.ref_len, *result.counts, *result.totals] for result in results]
    return np.array(rows, dtype=np.float64).reshape(-1, 2 + 2 * BLEU_ORDER)


def _corpus_bleu(rows: FloatArray) -> float:
    from sacrebleu.metrics.bleu import BLEU

    sys_len, ref_len, *counts = (int(value) for value in rows.sum(axis=0))
    matched, total = counts[:BLEU_ORDER], counts[BLEU_ORDER:]
    return float(BLEU.compute_bleu(matched, total, sys_len, ref_len, smooth_method="exp").score)


def number(value: float) -> str:
    """A score: shares in [0, 1] with three digits, scores up to 100 with one."""
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"


def signed(value: float) -> str:
    """A difference with its sign: three digits for shares, one for scores up to 100."""
    return f"{value:+.3f}" if abs(value) <= 1 else f"{value:+.1f}"
