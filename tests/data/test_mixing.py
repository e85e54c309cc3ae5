"""Auxiliary sources add training rows, and never an article of validation or test."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from flan_lora.data.encoding import encode_split
from flan_lora.data.lint import lint
from flan_lora.data.sources import DataSource, open_source
from flan_lora.data.splits import ROLES, load_split
from flan_lora.errors import DataError, RecipeError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.recipe_file import load_recipe
from tests.tiny import tiny_tokenizer

REPO = Path(__file__).resolve().parents[2]
NUM_ARTICLES, ROWS_EACH = 20, 3


def qa_row(key: str, title: str, context: str, question: str = "what is it") -> dict[str, Any]:
    return {
        "id": key,
        "title": title,
        "context": context,
        "question": question,
        "answers": {"text": [context.split()[0]]},
    }


def language(name: str, more: int = 0) -> list[dict[str, Any]]:
    """Articles in one language; ids are those of every other language, titles and texts are not."""
    return [
        qa_row(f"{article}-{row}", f"{name} title {article}", f"{name} {article} paragraph {row}")
        for article in range(NUM_ARTICLES)
        for row in range(ROWS_EACH + more)
    ]


def write(root: Path, dataset: str, config: str, split: str, rows: list[dict[str, Any]]) -> None:
    path = root / dataset.replace("/", "__") / config / f"{split}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def recipe_of(*also: dict[str, Any], **data: Any) -> Recipe:
    """Hindi rows of one split for all roles, divided by title."""
    splits = dict.fromkeys(ROLES, "all")
    section = {"dataset": "o/mlqa", "config": "hi", "splits": splits, "group_by": "title", "also": list(also)}
    return parse_recipe({"name": "x", "task": "qa", "data": section | data}, where="test")


@pytest.fixture
def root(tmp_path: Path) -> DataSource:
    """hi: the recipe's own; en: the same articles with more rows; other: a set of its own."""
    write(tmp_path, "o/mlqa", "hi", "all", language("hi"))
    write(tmp_path, "o/mlqa", "en", "all", language("en", more=2))
    write(tmp_path, "o/other", "default", "train", [qa_row(f"{n}-0", "", f"free {n} text") for n in range(50)])
    return DataSource("local", tmp_path)


EN = {"dataset": "o/mlqa", "config": "en", "split": "all"}
OTHER = {"dataset": "o/other"}


def articles(recipe: Recipe, role: str, source: DataSource) -> set[str]:
    examples = load_split(recipe, role, source).examples  # type: ignore[arg-type]
    return {e.inputs["context"].split()[1] for e in examples if not e.inputs["context"].startswith("free")}


def test_a_translated_article_follows_its_ids_and_takes_its_other_rows_along(root: DataSource) -> None:
    """en has rows that hi lacks: of a held-out article they are left out too, through the English title."""
    recipe = recipe_of(EN)
    held_out = articles(recipe, "validation", root) | articles(recipe, "test", root)
    train = load_split(recipe, "train", root)
    assert held_out and not articles(recipe, "train", root) & held_out
    [addition] = train.also
    free = NUM_ARTICLES - len(held_out)
    assert (addition.num_rows, addition.num_held_out) == (free * (ROWS_EACH + 2), len(held_out) * (ROWS_EACH + 2))
    assert train.num_rows == len(train.examples) == free * (2 * ROWS_EACH + 2)


def test_validation_and_test_are_what_they_are_without(root: DataSource) -> None:
    for role in ("validation", "test"):
        assert load_split(recipe_of(EN, OTHER), role, root) == load_split(recipe_of(), role, root)  # type: ignore[arg-type]


def test_an_article_is_known_in_another_dataset_by_title_and_by_text(tmp_path: Path, root: DataSource) -> None:
    """Ids of another dataset say nothing; a title that only en tells does, as SQuAD would spell it."""
    recipe = recipe_of(EN, {"dataset": "o/squad"})
    held_out = sorted(articles(recipe_of(), "test", root))[0]
    rows = [
        qa_row(f"{held_out}-0", "Elsewhere", "another text"),
        qa_row("s1", f"En_title_{held_out}", "some paragraph of that article"),
        qa_row("s2", "Else", f"hi {held_out}  paragraph 0"),
        qa_row("s3", "Else", "tied to the former by its title"),
    ]
    write(tmp_path, "o/squad", "default", "train", rows)
    _, squad = load_split(recipe, "train", root).also
    assert (squad.num_rows, squad.num_held_out) == (1, 3)


def test_rows_of_a_source_that_is_trains_own_count_once(root: DataSource) -> None:
    recipe = recipe_of({**EN, "config": "hi"}, EN, EN)
    own, first, second = load_split(recipe, "train", root).also
    assert own.num_rows == second.num_rows == 0 and first.num_rows > 0
    assert own.num_repeated == load_split(recipe_of(), "train", root).num_rows
    assert second.num_repeated == first.num_rows
    assert "that train has already" in str(second)


def test_without_sources_nothing_changes_and_with_them_the_hashes_do(root: DataSource, tmp_path: Path) -> None:
    plain, more = (load_split(recipe, "train", root) for recipe in (recipe_of(), recipe_of(EN)))
    assert plain.also == () and more.examples[: len(plain.examples)] == plain.examples
    assert plain.content_hash != more.content_hash and plain.origin == more.origin
    keys = [encode_split(s, recipe_of(), tiny_tokenizer(), cache_dir=tmp_path).content_hash for s in (plain, more)]
    assert keys[0] != keys[1]


def test_max_rows_is_a_sample_and_max_train_rows_the_whole(root: DataSource) -> None:
    few, fewer = (load_split(recipe_of({**OTHER, "max_rows": n}), "train", root) for n in (20, 10))
    assert (few.also[0].num_rows, fewer.also[0].num_rows) == (20, 10)
    assert {e.key for e in fewer.examples} < {e.key for e in few.examples}
    assert load_split(recipe_of(OTHER), "train", root, max_rows=30).num_rows == 30


def test_a_file_and_the_sample_have_no_auxiliary_rows(tmp_path: Path) -> None:
    recipe = recipe_of({"dataset": "no/such"})
    write(tmp_path, "a", "b", "mine", language("hi"))
    file = DataSource("file", tmp_path / "a" / "b" / "mine.jsonl")
    assert load_split(recipe, "train", file).also == ()
    assert load_split(load_recipe("qa"), "train", open_source("sample")).also == ()


def test_a_missing_source_is_an_error_unless_optional(root: DataSource, caplog: pytest.LogCaptureFixture) -> None:
    gone = {"dataset": "o/gone", "config": "x"}
    with pytest.raises(DataError, match="no rows at"):
        load_split(recipe_of(gone), "train", root)
    with caplog.at_level(logging.WARNING):
        split = load_split(recipe_of({**gone, "optional": True}, OTHER), "train", root)
    assert [(item.is_missing, item.num_rows) for item in split.also] == [(True, 0), (False, 50)]
    assert "o/gone/x:train adds no training rows: it is optional, and not there (no rows at" in caplog.text
    assert str(split.also[0]) == "o/gone/x:train (local root): not there, optional"


def test_keep_takes_rows_by_the_beginning_of_a_column(root: DataSource) -> None:
    kept = load_split(recipe_of({**OTHER, "keep": {"id": "1"}}), "train", root).also[0]
    assert kept.num_rows == 11  # 1-0, 10-0 to 19-0
    with pytest.raises(DataError, match=r"no row has \{'id': 'klingon'\}"):
        load_split(recipe_of({**OTHER, "keep": {"id": "klingon"}}), "train", root)


def test_an_unusable_row_is_named_with_its_file(tmp_path: Path, root: DataSource) -> None:
    write(
        tmp_path,
        "o/bad",
        "default",
        "train",
        [qa_row("1", "", "fine text"), {**qa_row("2", "", "x y"), "answers": []}],
    )
    with pytest.raises(DataError, match=r"of .*o__bad.*train\.jsonl, row 2: task qa, row '2'"):
        load_split(recipe_of({"dataset": "o/bad"}), "train", root)


def test_an_error_in_a_source_is_named_by_its_place() -> None:
    with pytest.raises(RecipeError, match=r"data\.also\.1\.max_row: unknown key, did you mean 'max_rows'\?"):
        recipe_of(OTHER, {**OTHER, "max_row": 3})
    with pytest.raises(
        RecipeError, match=r"data\.also\.0\.question_from\.splits: unknown key, did you mean 'split'"
    ):
        recipe_of({**OTHER, "question_from": {"dataset": "x", "splits": "train"}})


# Questions of another dataset


def translated(tmp_path: Path, num_partners: int) -> Recipe:
    """Ten Hindi rows; some have an English partner of the same id."""
    write(tmp_path, "o/mlqa", "tt", "train", [qa_row(f"q{n}", "", f"paath {n}", "kya hai") for n in range(10)])
    partners = [qa_row(f"q{n}", "", "text", f"what is {n}") for n in range(num_partners)] + [qa_row("z", "", "t")]
    write(tmp_path, "o/squad", "default", "train", partners)
    return recipe_of({"dataset": "o/mlqa", "config": "tt", "question_from": {"dataset": "o/squad"}})


def test_questions_come_from_the_partner_of_the_same_id(tmp_path: Path, root: DataSource) -> None:
    split = load_split(translated(tmp_path, 8), "train", root)
    added = {e.key: e.inputs for e in split.examples if e.key.startswith("q")}
    assert {key: (row["context"], row["question"]) for key, row in added.items()} == {
        f"q{n}": (f"paath {n}", f"what is {n}") for n in range(8)
    }
    [addition] = split.also
    assert (addition.num_rows, addition.num_unmatched) == (8, 2)
    assert addition.datasets == ("o/mlqa", "o/squad")
    assert str(addition) == (
        "o/mlqa/tt:train (local root), questions of o/squad/default:train (local root): 8 rows "
        "(left out: 2 without a partner)"
    )


def test_with_few_partners_the_rows_keep_their_questions(
    tmp_path: Path, root: DataSource, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        split = load_split(translated(tmp_path, 4), "train", root)
    assert {e.inputs["question"] for e in split.examples if e.key.startswith("q")} == {"kya hai"}
    assert "only 4 of 10 rows have their id in" in caplog.text
    assert split.also[0].num_rows == 10 and split.also[0].datasets == ("o/mlqa",)


def test_the_lint_reads_auxiliary_rows(tmp_path: Path, root: DataSource) -> None:
    write(tmp_path, "o/emoji", "default", "train", [qa_row(str(n), "", f"{'<' * 60} {n}") for n in range(60)])
    assert "source_truncated_share" not in {p.check for p in lint(recipe_of(), root, tiny_tokenizer()).problems}  # type: ignore[arg-type]
    found = lint(recipe_of({"dataset": "o/emoji"}, max_source_tokens=160), root, tiny_tokenizer())  # type: ignore[arg-type]
    assert "source_truncated_share" in {problem.check for problem in found.problems}


# Real rows


@pytest.mark.parametrize("config", ["mlqa.hi.en", "mlqa.hi.hi", "mlqa.en.hi", "mlqa.en.en"])
def test_no_held_out_article_of_mlqa_is_trained_on_in_any_language(shared_data: Path, config: str) -> None:
    """Checked without the module's rule: ids of held-out rows -> titles in all four configs -> all their rows."""
    recipe, source = load_recipe("qa", [f"data.config={config}"]), DataSource("local", shared_data)
    splits = {role: load_split(recipe, role, source) for role in ROLES}
    rows = [
        json.loads(line)
        for other in ("hi.en", "hi.hi", "en.hi", "en.en")
        for line in (shared_data / f"facebook__mlqa/mlqa.{other}/validation.jsonl").read_text("utf-8").splitlines()
    ]
    held_out = {e.key for role in ("validation", "test") for e in splits[role].examples}
    titles = {row["title"] for row in rows if row["id"] in held_out}
    forbidden = {row["id"] for row in rows if row["title"] in titles}
    texts = {row["context"] for row in rows if row["title"] in titles}
    assert len(titles) > 100 and forbidden >= held_out
    trained = splits["train"].examples
    assert not forbidden & {e.key.partition("#")[0] for e in trained}
    assert not texts & {e.inputs["context"] for e in trained}
    added = {item.origin.partition(":")[0]: item for item in splits["train"].also}
    english = added["facebook/mlqa/mlqa.en.en"]
    assert english.num_rows + english.num_repeated > 300 and english.num_held_out > 200
    assert added["facebook/mlqa/mlqa-translate-train.hi"].is_missing
    assert added["rajpurkar/squad/plain_text"].num_rows == 4000
