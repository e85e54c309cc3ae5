"""Base and adapter in one batch: each answers as it does alone, and the base gets its best wording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from flan_lora.adapters.store import Store
from flan_lora.base.load import Base, open_base
from flan_lora.compare.answers import AnswerCollector, Query
from flan_lora.compare.results import read_results
from flan_lora.compare.run import report_folder, run_comparison
from flan_lora.data.sources import open_source
from flan_lora.errors import AdapterMismatchError, DataError
from flan_lora.serving.router import Router
from flan_lora.tasks import TASKS, Example, Prompt
from flan_lora.tasks.task import PromptVariant, all_prompts
from tests.checkpoint import save_checkpoint, spec_of
from tests.published import make_manifest, stage, tiny_fingerprint
from tests.serving.stores import TEXTS

TASK = TASKS["emotion"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, and a store with an adapter on it."""
    folder = tmp_path_factory.mktemp("comparison")
    save_checkpoint(folder / "base")
    manifest = make_manifest("emotion", base={"fingerprint": tiny_fingerprint()})
    Store(folder / "adapters" / "mini").publish(stage(folder / "staged", seed=3), manifest)
    return folder


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return open_base(spec_of(folder / "base"), device="cpu")


@pytest.fixture(scope="module")
def collector(folder: Path, base: Base) -> AnswerCollector:
    return AnswerCollector(base, Store(folder / "adapters" / "mini").open("emotion"))


def examples(references: Sequence[str] = ("joy",) * len(TEXTS)) -> list[Example]:
    return [
        Example(str(key), TASK.prompt({"text": text}), reference, (reference,), {"text": text})
        for key, (text, reference) in enumerate(zip(TEXTS, references, strict=True))
    ]


BARE = Query("bare", {}, TASK.prompt)


def test_base_and_adapter_answer_as_the_router_lets_them(
    folder: Path, base: Base, collector: AnswerCollector
) -> None:
    router = Router.open(folder / "adapters" / "mini", base)
    bare, tuned = collector.answer(TASK, [BARE, collector.own(TASK)], examples())
    for rows, adapter in ((bare, None), (tuned, "emotion")):
        served = router.generate(TEXTS, adapter, task="emotion", label_probabilities=True)
        assert [row.prediction for row in rows] == [completion.text for completion in served]
        for row, completion in zip(rows, served, strict=True):
            assert row.label_probabilities == pytest.approx(completion.label_probabilities)
            assert row.num_tokens == completion.num_tokens
    assert [row.prediction for row in bare] != [row.prediction for row in tuned], "else a mix-up would not show"
    assert [row.source for row in bare] == list(TEXTS) and bare[0].references == ("joy",)


def test_an_answer_does_not_depend_on_who_shares_the_batch(collector: AnswerCollector) -> None:
    queries = [
        Query("bare", {}, TASK.prompt),
        collector.own(TASK),
        Query("other", {}, all_prompts(TASK)[1].prompt),
    ]
    together = collector.answer(TASK, queries, examples(), probabilities=False)
    for query, rows in zip(queries, together, strict=True):
        alone = [collector.answer(TASK, [query], [example], probabilities=False)[0][0] for example in examples()]
        assert list(rows) == alone


def test_other_words_for_labels_come_back_as_the_labels(collector: AnswerCollector) -> None:
    variant = all_prompts(TASK)[1]
    assert variant.spellings["joy"] == "happy"
    [rows] = collector.answer(TASK, [Query("bare", {}, variant.prompt, variant.spellings)], examples())
    for row in rows:
        assert row.raw in variant.spellings.values() and variant.spellings[row.prediction] == row.raw
        assert row.label_probabilities is not None and set(row.label_probabilities) == set(TASK.labels)
        assert sum(row.label_probabilities.values()) == pytest.approx(1)


def test_the_wording_that_does_best_on_validation_comes_first(collector: AnswerCollector) -> None:
    for wanted in all_prompts(TASK)[:3]:
        [rows] = collector.answer(TASK, [Query("x", {}, wanted.prompt, wanted.spellings)], examples())
        prompt_scores = collector.score_prompts(TASK, examples([row.prediction for row in rows]))
        assert prompt_scores[0].score == max(s.score for s in prompt_scores) == 1.0
        assert wanted.name in [s.variant.name for s in prompt_scores if s.score == 1.0]
        assert TEXTS[0] in prompt_scores[0].example
        assert len(prompt_scores) == len(all_prompts(TASK))


def test_of_equal_wordings_the_first_is_taken(collector: AnswerCollector) -> None:
    twins = [PromptVariant("a", TASK.prompt), PromptVariant("b", TASK.prompt)]
    assert [prompt_score.variant.name for prompt_score in collector.score_prompts(TASK, examples(), twins)] == [
        "a",
        "b",
    ]


def test_latency_is_measured_for_the_rows_asked_and_changes_no_answer(collector: AnswerCollector) -> None:
    queries = [BARE, collector.own(TASK)]
    answered = collector.answer(TASK, queries, examples())
    timed = collector.time(TASK, queries, examples()[1:3], answered)
    for before, after in zip(answered, timed, strict=True):
        assert [row.latency_s is not None for row in after] == [False, True, True, False, False]
        assert all(row.latency_s is None or row.latency_s > 0 for row in after)
        assert [row.prediction for row in after] == [row.prediction for row in before]


def test_a_task_of_texts_is_answered_freely(folder: Path, base: Base) -> None:
    manifest = make_manifest("notes", task="summarization", base={"fingerprint": tiny_fingerprint()})
    store = Store(folder / "adapters" / "other")
    store.publish(stage(folder / "staged-notes", seed=4), manifest)
    collector = AnswerCollector(base, store.open("notes"))
    summary = TASKS["summarization"]
    rows = [Example("1", Prompt("", "x"), "yes", ("yes",), {"dialogue": "a: joy\nb: fear"})]
    [[answer]] = collector.answer(summary, [collector.own(summary)], rows)
    assert answer.label_probabilities is None and answer.num_tokens and answer.num_tokens <= summary.max_new_tokens


# The whole job


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 rows choose the wording, and 8 are timed."""
    monkeypatch.setattr("flan_lora.compare.run.NUM_PROMPT_ROWS", 20)
    monkeypatch.setattr("flan_lora.compare.run.NUM_TIMED_ROWS", 8)


@pytest.mark.usefixtures("few_rows")
def test_a_comparison_is_saved_whole_and_taken_again_only_when_asked(folder: Path, tmp_path: Path) -> None:
    stored = Store(folder / "adapters" / "mini").open("emotion")
    report, said = report_folder(tmp_path, stored), list[str]()
    assert report == tmp_path / "mini-emotion"
    options = {"base": str(folder / "base"), "max_rows": 24, "echo": said.append}
    run_comparison(stored, open_source("sample"), report, **options)  # type: ignore[arg-type]
    results = read_results(report)
    names = [item.name for item in results.comparison.predictors]
    assert names == ["bare base", "emotion adapter"] and results.comparison.num_rows == 24
    assert not results.out_of_domain, "the sample has no film reviews"
    record = results.record
    assert (
        record.prompt_scores[0].prompt in said[0] and record.prompt_scores[0].prompt in record.predictors[0].about
    )
    assert record.num_prompt_rows == 20 and "sample" in record.origin
    for item in results.comparison.predictors:
        assert sum(row.latency_s is not None for row in item.predictions) == 8
    before = record.created_at, (report / "results.json").stat().st_mtime_ns
    run_comparison(stored, open_source("sample"), report, reuse=True, **options)  # type: ignore[arg-type]
    assert (read_results(report).record.created_at, (report / "results.json").stat().st_mtime_ns) == before
    assert "saved answers" in said[-1]
    run_comparison(stored, open_source("sample"), report, reuse=True, **{**options, "max_rows": 10})  # type: ignore[arg-type]
    assert read_results(report).comparison.num_rows == 10, "other rows are answered anew"


@pytest.mark.usefixtures("few_rows")
def test_of_a_file_of_ones_own_all_rows_are_scored_but_those_that_choose_the_wording(
    folder: Path, tmp_path: Path
) -> None:
    """Under the user's own column names, as training reads them."""
    file = tmp_path / "mine.jsonl"
    labels = TASK.labels
    lines = [f'{{"body": "i am {k} and {labels[k % 6]}", "feeling": "{labels[k % 6]}"}}\n' for k in range(60)]
    file.write_text("".join(lines))
    stored = Store(folder / "adapters" / "mini").open("emotion")
    columns = ["data.columns.text=body", "data.columns.label=feeling"]
    options = {"base": str(folder / "base"), "echo": lambda line: None, "overrides": columns}
    run_comparison(stored, open_source(str(file)), tmp_path / "all", role=None, **options)  # type: ignore[arg-type]
    results = read_results(tmp_path / "all")
    assert results.record.role == "all" and results.record.num_prompt_rows == 6
    assert results.comparison.num_rows == 60 - 6
    run_comparison(stored, open_source(str(file)), tmp_path / "test", role="test", **options)  # type: ignore[arg-type]
    assert read_results(tmp_path / "test").comparison.num_rows == 6
    with pytest.raises(DataError):
        run_comparison(stored, open_source(str(file)), tmp_path / "x", **{**options, "overrides": ()})  # type: ignore[arg-type]


@pytest.mark.usefixtures("few_rows")
def test_film_reviews_are_compared_where_they_are_at_hand(folder: Path, tmp_path: Path, repo: Path) -> None:
    root = tmp_path / "data"
    sample = repo / "flan_lora" / "samples" / "dair-ai__emotion" / "split"
    target = root / "dair-ai__emotion" / "split"
    target.mkdir(parents=True)
    for role in ("validation", "test"):
        (target / f"{role}.jsonl").write_bytes((sample / f"{role}.jsonl").read_bytes())
    [spec] = TASK.out_of_domain
    reviews = root / spec.dataset.replace("/", "__") / spec.config
    reviews.mkdir(parents=True)
    lines = [f'{{"text": "the film {k} is {("sad", "joy")[k % 2]}", "label": {k % 2}}}\n' for k in range(60)]
    (reviews / "train.jsonl").write_text("".join(lines))
    stored = Store(folder / "adapters" / "mini").open("emotion")
    options = {"base": str(folder / "base"), "max_rows": 20, "echo": lambda line: None}
    run_comparison(stored, open_source(str(root)), tmp_path / "report", **options)  # type: ignore[arg-type]
    results = read_results(tmp_path / "report")
    [found] = results.out_of_domain
    assert found.comparison.num_rows == 40, "20 of 60 choose the prompt"
    assert [item.name for item in found.comparison.predictors] == [
        "bare base, for the sentiment",
        "bare base, by emotion",
        "emotion adapter, by emotion",
    ]
    assert {row.prediction for item in found.comparison.predictors for row in item.predictions} <= {
        "positive",
        "negative",
    }
    assert "read these rows" in found.record.note, "mini learned from the train split"


def test_another_base_is_refused(folder: Path, tmp_path: Path) -> None:
    from tests.tiny import tiny_t5

    save_checkpoint(tmp_path / "other", tiny_t5(seed=9))
    stored = Store(folder / "adapters" / "mini").open("emotion")
    with pytest.raises(AdapterMismatchError):
        run_comparison(
            stored, open_source("sample"), tmp_path / "r", base=str(tmp_path / "other"), max_rows=4, echo=str
        )
