"""The lint stops bad data with a number, a limit and a remedy; the inspection shows what the model sees."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flan_lora.data.encoding import EncodedSplit, encode_split
from flan_lora.data.inspect import inspect, label_shares, measure, percentile
from flan_lora.data.lint import LintProblem, LintReport, lint, lint_splits
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import ROLES, Split, load_split, max_rows_of
from flan_lora.errors import DataError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.recipe_file import load_recipe
from flan_lora.tasks import TASKS
from flan_lora.tasks.task import Example, Prompt
from tests.tiny import tiny_tokenizer

LABELS = TASKS["emotion"].labels
TOKENIZER = tiny_tokenizer()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "cache"))


def recipe_of(task: str = "emotion", **data: Any) -> Recipe:
    section = {"dataset": "owner/name", "max_source_tokens": 400, "max_target_tokens": 20, **data}
    return parse_recipe({"name": "x", "task": task, "data": section}, where="test")


def split_of(role: str, pairs: Sequence[tuple[str, str]]) -> Split:
    examples = tuple(
        Example(f"{role}-{number}", Prompt("Text: ", text, " what"), target, (target,), {"text": text})
        for number, (text, target) in enumerate(pairs)
    )
    return Split(role, examples, "made up", len(examples), "0" * 64)


def clean(role: str, num_rows: int = 60) -> list[tuple[str, str]]:
    return [(f"{role} day {number}", LABELS[number % 6]) for number in range(num_rows)]


def lint_pairs(
    train: Sequence[tuple[str, str]],
    validation: Sequence[tuple[str, str]] = (),
    recipe: Recipe | None = None,
) -> LintReport:
    recipe = recipe or recipe_of()
    validation = validation or [(text, "joy") for text, _ in clean("validation")]
    splits = {"train": split_of("train", train), "validation": split_of("validation", validation)}
    return lint_splits(recipe, splits, encode_split(splits["train"], recipe, TOKENIZER), TOKENIZER)  # type: ignore[arg-type]


def only(report: LintReport) -> LintProblem:
    assert len(report.problems) == 1, str(report)
    return report.problems[0]


def test_clean_data_has_no_problems() -> None:
    report = lint_pairs(clean("train"))
    assert str(report) == "no problems found"
    report.raise_if_errors()


# bad rows among 200, and the level they reach: both sides of each limit
@pytest.mark.parametrize(
    ("check", "num_bad", "level"),
    [
        ("source_truncated_share", 10, None),
        ("source_truncated_share", 11, "warning"),
        ("source_truncated_share", 100, "warning"),
        ("source_truncated_share", 101, "error"),
        ("target_truncated_share", 0, None),
        ("target_truncated_share", 1, "warning"),
        ("target_truncated_share", 10, "warning"),
        ("target_truncated_share", 11, "error"),
        ("empty_target_share", 1, "error"),
    ],
)
def test_each_limit_has_two_sides(check: str, num_bad: int, level: str | None) -> None:
    bad = {
        "source_truncated_share": ("joy " * 80, "joy"),
        "target_truncated_share": ("day", "joy " * 30),
        "empty_target_share": ("day", " "),
    }[check]
    pairs = [(f"{number} {bad[0]}", bad[1]) for number in range(num_bad)]
    pairs += [(f"good {number}", f"joy {number}") for number in range(200 - num_bad)]
    report = lint_pairs(pairs, recipe=recipe_of("summarization", max_source_tokens=60, max_target_tokens=20))
    if level is None:
        assert report.problems == ()
    else:
        problem = only(report)
        assert (problem.check, problem.level, problem.value) == (check, level, pytest.approx(num_bad / 200))
        assert problem.value > problem.limit


@pytest.mark.parametrize(("num_bad", "level"), [(1, None), (3, "warning")])
@pytest.mark.parametrize("text", ["it&#39;s day {}", "me &amp; you {}", "one<br />two {}"])
def test_the_source_of_web_pages_is_reported(text: str, num_bad: int, level: str | None) -> None:
    plain = [
        (f"train day {number} & <3 &c; 5 < 6", label) for number, (_, label) in enumerate(clean("train", 200))
    ]
    rows = [(text.format(n), label) if n < num_bad else (other, label) for n, (other, label) in enumerate(plain)]
    problems = [problem for problem in lint_pairs(rows).problems if problem.check == "markup_share"]
    assert [problem.level for problem in problems] == ([level] if level else [])
    if level:
        assert problems[0].value == num_bad / 200 and "html.unescape" in str(problems[0])
        assert "hold HTML: &" in problems[0].text or "hold HTML: <br />" in problems[0].text


def test_a_column_of_another_spelling_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("Text,LABEL\n" + "".join(f"good day {n},{LABELS[n % 6]}\n" for n in range(90)))
    report = str(lint(recipe_of(), DataSource("file", path), TOKENIZER))
    assert "note     column 'Text' is read as 'text'\nnote     column 'LABEL' is read as 'label'" in report


def test_the_remedy_for_cut_text_is_a_limit_that_passes() -> None:
    pairs = [
        (f"{number} " + "joy " * (number % 20 + 30 * (number % 10 == 0)), "joy " * 3) for number in range(200)
    ]
    recipe = recipe_of("summarization", max_source_tokens=30, max_target_tokens=3)
    report = lint_pairs(pairs, recipe=recipe)
    assert [problem.level for problem in report.problems] == ["error", "warning"]
    overrides = {}
    for problem in report.problems:
        assert problem.remedy.startswith("--set data.max_")
        name, _, value = problem.remedy.split()[1].removeprefix("data.").partition("=")
        overrides[name] = int(value)
    assert lint_pairs(pairs, recipe=recipe_of("summarization", **overrides)).problems == ()


@pytest.mark.parametrize(
    ("side", "share", "level"),
    [
        ("target", 0.01, None),
        ("target", 0.011, "error"),
        ("source", 0.02, None),
        ("source", 0.021, "warning"),
        ("source", 0.2, "warning"),
        ("source", 0.201, "error"),
    ],
)
def test_unknown_pieces_are_reported_with_the_characters(side: str, share: float, level: str | None) -> None:
    recipe = recipe_of("summarization")
    train = split_of(
        "train", [(f"{number} {{joy}} {{", "love अ" if side == "target" else "love") for number in range(60)]
    )
    encoded = encode_split(train, recipe, TOKENIZER)
    shares = {"unk_share_source": 0.0, "unk_share_target": 0.0, f"unk_share_{side}": share}
    encoded = dataclasses.replace(encoded, **shares)  # type: ignore[arg-type]
    report = lint_splits(recipe, {"train": train}, encoded, TOKENIZER)
    if level is None:
        assert report.problems == ()
    else:
        problem = only(report)
        assert (problem.level, problem.check, problem.value) == (level, f"{side}_unk_share", share)
        characters = "अ" if side == "target" else "{ }"
        assert problem.remedy == (
            f"The base has no pieces for: {characters}. Replace them in the rows, or use another base."
        )
        assert problem.text == f"{share:.1%} of the {side} tokens are <unk>"


def test_small_splits_are_reported() -> None:
    report = lint_pairs(clean("train", 49), clean("validation", 49))
    assert [(p.level, p.check, p.value, p.limit) for p in report.problems] == [
        ("warning", "num_train_examples", 49, 50),
        ("warning", "num_validation_examples", 49, 50),
    ]
    assert lint_pairs(clean("train", 50), clean("validation", 50)).problems == ()


def test_one_label_only_is_an_error() -> None:
    problem = only(lint_pairs([(text, "joy") for text, _ in clean("train")]))
    assert (problem.level, problem.check, problem.value) == ("error", "num_labels", 1)
    assert problem.text == "every training target is 'joy'"
    assert problem.remedy == "Add rows of the other labels (sadness, love, anger, fear, surprise)."


def test_rare_and_missing_labels_are_warnings() -> None:
    pairs = [(f"day {number}", LABELS[number % 4]) for number in range(400)] + [("one", "fear")] * 3
    report = lint_pairs(pairs)
    assert [(p.level, p.check) for p in report.problems] == [
        ("warning", "label_share_fear"),
        ("warning", "label_share_surprise"),
    ]
    assert [p.text for p in report.problems] == [
        "label 'fear' is 0.7% of the training targets",
        "label 'surprise' is missing",
    ]


@pytest.mark.parametrize(("num_twice", "level"), [(0, None), (1, "warning"), (5, "warning"), (6, "error")])
def test_validation_texts_that_train_has_are_reported(num_twice: int, level: str | None) -> None:
    train = clean("train", 100)
    validation = [(text, "surprise") for text, _ in train[:num_twice]] + clean("validation", 100 - num_twice)
    report = lint_pairs(train, validation)
    if level is None:
        assert report.problems == ()
    else:
        problem = only(report)
        assert (problem.level, problem.check) == (level, "duplicate_share")
        assert problem.value == pytest.approx(num_twice / 100)
        assert "'train day 0'" in problem.remedy
        assert "data.group_by" in problem.remedy
        assert problem.text.startswith(
            f"{num_twice} of 100 validation examples ({num_twice}.0%) stand in train too"
        )


def test_a_second_reference_for_a_known_source_is_no_duplicate_in_generation() -> None:
    train = [(f"dialogue {number}", f"summary {number}") for number in range(60)]
    validation = [(text, f"other {text}") for text, _ in train]
    problem = only(lint_pairs(train, validation, recipe_of("summarization")))
    assert (problem.level, problem.check, problem.value) == ("warning", "seen_source_share", 1.0)
    again = only(lint_pairs(train, train, recipe_of("summarization")))
    assert (again.level, again.check, again.value) == ("error", "duplicate_share", 1.0)


def test_the_test_split_is_checked_as_well() -> None:
    train = clean("train")
    splits = {"train": split_of("train", train), "test": split_of("test", train)}
    encoded = encode_split(splits["train"], recipe_of(), TOKENIZER)
    problem = only(lint_splits(recipe_of(), splits, encoded, TOKENIZER))  # type: ignore[arg-type]
    assert problem.text == "60 of 60 test examples (100.0%) stand in train too"


def test_one_text_with_two_labels_is_a_warning_for_classification_only() -> None:
    pairs = [*clean("train"), ("train day 0", "joy"), ("train day 1", "joy")]
    problem = only(lint_pairs(pairs))
    assert (problem.level, problem.check, problem.value) == ("warning", "conflict_share", pytest.approx(2 / 62))
    assert problem.text == "2 training rows have a twin with another label"
    assert problem.remedy == "Decide on one label for each text: 'train day 0', 'train day 0'."
    assert lint_pairs(pairs, recipe=recipe_of("summarization")).problems == ()


def test_errors_raise_with_every_problem_and_come_first() -> None:
    pairs = [(text, "joy") for text, _ in clean("train", 20)]
    report = lint_pairs(pairs)
    with pytest.raises(DataError) as failure:
        report.raise_if_errors()
    assert str(failure.value) == (
        "the data does not pass the lint (1 error):\n"
        "error    every training target is 'joy'\n"
        "         Add rows of the other labels (sadness, love, anger, fear, surprise).\n"
        "warning  train has only 20 examples\n"
        "         Add rows, or raise data.max_train_rows."
    )


def test_warnings_alone_do_not_stop_a_run() -> None:
    report = lint_pairs(clean("train", 20))
    assert report.problems and not report.errors
    report.raise_if_errors()


def test_long_lists_of_rows_are_shortened() -> None:
    train = [(f"{number} " + "long " * 20, LABELS[number % 6]) for number in range(60)]
    problem = only(lint_pairs(train, [(text, "joy") for text, _ in train]))
    assert problem.remedy.endswith("and 57 more.")
    assert max(map(len, problem.remedy.split("'"))) < 90


# From a source


def sample_root(folder: Path) -> DataSource:
    for role, num_rows in (("train", 120), ("validation", 60), ("test", 60)):
        path = folder / "owner__name" / "default" / f"{role}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = ({"text": f"{role} joy {'joy ' * (n % 40)}", "label": n % 6} for n in range(num_rows))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSource("local", folder)


def test_the_lint_reads_the_tokens_that_training_will_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, recipe = sample_root(tmp_path / "root"), recipe_of()
    report = lint(recipe, source, TOKENIZER)
    assert [problem.level for problem in report.problems] == ["warning"]  # equal texts with other labels
    train = load_split(recipe, "train", source, max_rows=max_rows_of(recipe, "train"))
    monkeypatch.setattr("flan_lora.data.encoding.encode_for_training", lambda *args: pytest.fail("encoded again"))
    assert len(encode_split(train, recipe, TOKENIZER)) == 120


def test_the_bundled_sample_passes_the_lint(repo: Path) -> None:
    from flan_lora.data.sources import open_source

    for path in sorted((repo / "recipes").glob("*.yaml")):
        recipe = load_recipe(path)
        splits = {
            role: load_split(recipe, role, open_source("sample"), max_rows=max_rows_of(recipe, role))
            for role in ROLES
        }
        # tokens of no tokenizer in particular: lengths and <unk> depend on the base
        size = len(splits["train"].examples)
        encoded = EncodedSplit([[5, 1]] * size, [[5, 1]] * size, 0, 0, 0.0, 0.0, "", [0] * size, [0] * size)
        assert lint_splits(recipe, splits, encoded, TOKENIZER).problems == (), path.stem


# Inspection


def test_an_inspection_shows_prompts_as_the_model_sees_them(tmp_path: Path) -> None:
    source = sample_root(tmp_path / "root")
    train = {example.key: example for example in load_split(recipe_of(), "train", source).examples}
    full = sorted(len(TOKENIZER(str(example.prompt))["input_ids"]) for example in train.values())
    inspection = inspect(recipe_of(max_source_tokens=full[90]), source, TOKENIZER, num_examples=40)
    assert len(inspection.examples) == 40
    for shown in inspection.examples:
        ids = TOKENIZER(str(train[shown.key].prompt))["input_ids"]
        assert shown.num_source_tokens + shown.num_dropped_tokens == len(ids)
        if not shown.num_dropped_tokens:
            assert shown.source == TOKENIZER.decode(ids)
        assert shown.source.endswith("</s>")
        assert shown.target == f"{train[shown.key].target}</s>"
    assert any(shown.num_dropped_tokens for shown in inspection.examples)
    assert (inspection.source_tokens.p50, inspection.source_tokens.max) == (full[59], full[-1])
    assert inspection.source_tokens.truncated_share == pytest.approx(sum(n > full[90] for n in full) / 120)
    assert inspection.label_shares == {label: pytest.approx(1 / 6) for label in LABELS}


def test_an_inspection_prints_roles_lengths_and_balance(tmp_path: Path) -> None:
    text = str(inspect(recipe_of(), sample_root(tmp_path / "root"), TOKENIZER, num_examples=1))
    assert "train          120 examples  owner/name/default:train (local root)" in text
    assert "tokens         p50    p90    p95    p99    max  limit  truncated   <unk>" in text
    assert "surprise     16.7% of training targets" in text
    assert str(tmp_path) not in text


def test_an_inspection_may_show_no_example_or_more_than_there_are(tmp_path: Path) -> None:
    source = sample_root(tmp_path / "root")
    assert inspect(recipe_of(), source, TOKENIZER, num_examples=0).examples == ()
    assert len(inspect(recipe_of(), source, TOKENIZER, num_examples=500).examples) == 120


def test_unknown_characters_show_as_unk(tmp_path: Path) -> None:
    path = tmp_path / "root" / "owner__name" / "default"
    path.mkdir(parents=True)
    for role in ROLES:
        (path / f"{role}.jsonl").write_text(json.dumps({"text": "अ joy", "label": 1}) + "\n")
    inspection = inspect(recipe_of(), DataSource("local", tmp_path / "root"), TOKENIZER)
    assert "<unk> joy" in inspection.examples[0].source


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_percentiles_are_by_nearest_rank(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


def test_lengths_are_those_before_the_cut() -> None:
    lengths = measure([[1] * 3, [1] * 5, [1] * 5], [0, 0, 7], limit=5)
    assert (lengths.p50, lengths.max, lengths.limit) == (5, 12, 5)
    assert lengths.truncated_share == pytest.approx(1 / 3)


def test_label_shares_keep_the_tasks_order_and_name_missing_ones() -> None:
    split = split_of("train", [("a", "joy"), ("b", "joy"), ("c", "fear"), ("d", "joy")])
    assert label_shares(split, ("fear", "love", "joy")) == {"fear": 0.25, "love": 0.0, "joy": 0.75}
    assert label_shares(split, ()) == {}


def test_answers_that_stand_nowhere_in_their_context_are_counted() -> None:
    """What a CSV makes of SQuAD's answers would else be trained on as the answer's words."""
    row = {"context": "The red bridge was opened in 1900.", "question": "When?", "answers": "1900"}
    good = TASKS["qa"].examples(row)[0]
    bad = dataclasses.replace(good, references=("in the year 1900",))
    for num_bad, level in ((0, None), (1, "warning"), (30, "warning"), (31, "error")):
        examples = tuple(
            dataclasses.replace(example, key=str(number), prompt=Prompt(f"{number} ", "x"))
            for number, example in enumerate([bad] * num_bad + [good] * (60 - num_bad))
        )
        split = Split("train", examples, "made up", 60, "0" * 64)
        recipe = recipe_of("qa")
        report = lint_splits(recipe, {"train": split}, encode_split(split, recipe, TOKENIZER), TOKENIZER)  # type: ignore[arg-type]
        found = [(p.level, p.value) for p in report.problems if p.check == "absent_answer_share"]
        assert found == ([] if level is None else [(level, num_bad / 60)])
    assert "31 of 60 training answers stand nowhere in their context" in str(report)
    assert "'in the year 1900' (0)" in str(report)
