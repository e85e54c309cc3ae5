"""The tasks one by one, and on real rows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flan_lora.tasks import TASKS, Example, Task, question_generation
from flan_lora.tasks.emotion import bare_words
from flan_lora.tasks.qa import is_hindi
from flan_lora.tasks.scorers import score
from tests.tasks.rows import each_task, make, scores_of


def test_qa_reads_hindi_in_latin_letters_and_answers_in_devanagari() -> None:
    (item,) = make("qa")
    assert str(item.prompt).isascii()
    assert item.target == "# =1653 meng"
    assert item.references == ("१६५३ में", "१६५३")
    assert TASKS["qa"].parse(item.target) == "१६५३ में"


@pytest.mark.parametrize("answers", ["Bern", ["Bern"], ("Bern", "Bern"), {"text": ["Bern"]}, {"text": "Bern"}])
def test_answers_may_come_in_any_usual_shape(answers: Any) -> None:
    (item,) = make("qa", answers=answers)
    assert (item.target, item.references) == ("Bern", ("Bern",))


def test_qa_normalises_for_the_language_of_the_context() -> None:
    """English drops articles; Hindi keeps them, even in a Latin answer."""
    task = TASKS["qa"]
    english, hindi = "A tale of the sea.", "यह The Sea की कहानी है।"
    for source, exact in ((english, 100.0), (hindi, 0.0)):
        assert score(task.scorers, ["sea"], [["The Sea"]], [source])["exact_match"] == exact
    both = score(task.scorers, ["sea"] * 2, [["The Sea"]] * 2, [english, hindi])
    assert both["exact_match"] == 50.0


@pytest.mark.parametrize(
    ("text", "hindi"),
    [("", False), ("12 ?", False), ("Delhi (दिल्ली) is the capital of India", False), ("EFS NTFS वोल्यूम पर", True)],
)
def test_language_of_a_context(text: str, hindi: bool) -> None:
    assert is_hindi(text) == hindi


def test_random_span_comes_from_the_context_and_depends_on_the_key() -> None:
    items = [make("qa", id=f"row {index}")[0] for index in range(30)]
    spans = TASKS["qa"].baselines[0].predict([], items)
    assert all(
        span and span in " ".join(item.inputs["context"].split()) for span, item in zip(spans, items, strict=True)
    )
    assert len(set(spans)) > 5


def test_question_generation_marks_the_occurrence_that_was_asked_about() -> None:
    (item,) = make("question-generation")
    assert "Sentence: In * Bern *, Ada opened a shop" in item.prompt.body
    (first,) = make("question-generation", answers="Bern")
    assert "Sentence: They moved to * Bern *. Passage: Ada met" in first.prompt.body


@pytest.mark.parametrize("start", [0, 44, -1, 10_000])
def test_a_wrong_answer_start_falls_back_to_the_first_occurrence(start: int) -> None:
    (item,) = make("question-generation", answers={"text": ["Bern"], "answer_start": [start]})
    assert "They moved to * Bern *." in item.prompt.body


def test_a_late_answer_stands_at_the_front_of_the_body() -> None:
    context = "Nothing to see here. " * 200 + 'She said: "Ask for Rosa at the desk." Then she left.'
    prompt = TASKS["question-generation"].prompt({"context": context, "answer": "Rosa"})
    assert prompt.head.endswith('whose answer is "Rosa". ')
    assert prompt.body.startswith('Sentence: She said: "Ask for * Rosa * at the desk." Passage: Nothing to see')


def test_a_sentence_without_end_is_narrowed_around_the_answer() -> None:
    context = "la " * 1000 + "Rosa" + " li" * 1000
    sentence = question_generation.marked_sentence({"context": context, "answer": "Rosa"})
    assert sentence.startswith("la la ") and sentence.endswith(" li li")
    assert "la * Rosa * li" in sentence
    assert len(sentence) < 420


def test_an_answer_that_the_passage_lacks_is_still_stated() -> None:
    prompt = TASKS["question-generation"].prompt({"context": "A cat sat.", "answer": "a dog"})
    assert str(prompt).startswith(
        'Write a question about the passage whose answer is "a dog". Passage: A cat sat.'
    )


def test_an_answer_is_found_as_whole_words_first() -> None:
    inputs = {"context": "It was warm. The war ended.", "answer": "war"}
    assert question_generation.marked_sentence(inputs) == "The * war * ended."
    inputs = {"context": "It was warm.", "answer": "arm"}
    assert question_generation.marked_sentence(inputs) == "It was w* arm *."


def test_paraphrase_learns_positives_in_both_directions() -> None:
    first, second = make("paraphrase")
    assert first.inputs["sentence"] == second.references[0]
    assert second.inputs["sentence"] == first.references[0]
    assert make("paraphrase", label=0) == make("paraphrase", label="no") == []


def test_a_copy_does_not_look_like_a_paraphrase() -> None:
    task = TASKS["paraphrase"]
    items = [*make("paraphrase"), *make("paraphrase", sentence2="Sailing in May , it went without any stop .")]
    copies = task.baselines[0].predict([], items)
    copied, honest = scores_of(task, items, copies), scores_of(task, items, [item.target for item in items])
    assert copied["copy_share"] == 1.0
    assert copied["ibleu"] < honest["ibleu"] / 2


@pytest.mark.parametrize("dialogue", [None, "", " \r\n \n"])
def test_an_empty_dialogue_is_skipped(dialogue: str | None) -> None:
    assert make("summarization", dialogue=dialogue) == []


def test_turns_stay_visible() -> None:
    (item,) = make("summarization")
    assert item.prompt.body == "Mia: are you up? | Leo: yes :) [file_gif] | Mia: train leaves at 9 (sharp)"


# --- real rows -----------------------------------------------------------------------------------------------

REAL = {
    "emotion": "dair-ai__emotion/split",
    "qa": "facebook__mlqa/mlqa.hi.en",
    "question-generation": "rajpurkar__squad/plain_text",
    "paraphrase": "google-research-datasets__paws/labeled_final",
    "summarization": "knkarthick__samsum/default",
    "similarity": "google-research-datasets__paws/labeled_final",
}


@pytest.fixture(scope="module")
def real_examples(shared_data: Path) -> Callable[[str, str], list[Example]]:
    """Every example of a task's real split."""

    def load(name: str, split: str) -> list[Example]:
        lines = (shared_data / REAL[name] / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        return [item for line in lines for item in TASKS[name].examples(json.loads(line))]

    return load


@each_task
def test_real_rows_fit_t5_and_the_generation_limit(
    task: Task, shared_data: Path, real_examples: Callable[[str, str], list[Example]]
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    t5 = sentencepiece.SentencePieceProcessor(model_file=str(shared_data / "t5" / "spiece.model"))
    items = real_examples(task.name, "validation")
    targets, prompts = t5.encode([i.target for i in items]), t5.encode([str(i.prompt) for i in items[:150]])
    assert len(items) >= 500
    for ids, limit in ((targets, 0.001), (prompts, 0.005)):
        assert sum(row.count(t5.unk_id()) for row in ids) <= limit * sum(map(len, ids))
    assert sum(len(row) + 1 > task.max_new_tokens for row in targets) <= 0.01 * len(targets)


def test_lead_3_has_its_known_rouge_on_samsum(real_examples: Callable[[str, str], list[Example]]) -> None:
    task, items = TASKS["summarization"], real_examples("summarization", "test")
    scores = scores_of(task, items, task.baselines[0].predict([], items))
    known = {"rouge_1": 31.3, "rouge_2": 8.7, "rouge_l": 24.2}
    assert {name: round(scores[name], 1) for name in known} == known


def test_copying_paws_scores_a_third_of_the_true_paraphrase(
    real_examples: Callable[[str, str], list[Example]],
) -> None:
    task, items = TASKS["paraphrase"], real_examples("paraphrase", "validation")[:400]
    without_rouge = dataclasses.replace(task, scorers=task.scorers[:1])  # slow, and not asked for here
    copied = scores_of(without_rouge, items, task.baselines[0].predict([], items))
    honest = scores_of(without_rouge, items, [item.target for item in items])
    assert copied["bleu"] > 60  # what makes plain BLEU useless here
    assert copied["ibleu"] < honest["ibleu"] / 2.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I'm SO happy!!! #blessed @ann https://t.co/x1", "im so happy blessed"),
        ("don\u2019t care :( #SoSad", "dont care sad face so sad"),
        ("it works :-) <3", "it works happy face love heart"),
        ("\U0001f602 ok 10/10", "face with tears of joy ok 10 10"),
        (
            "\u092e\u0948\u0902 \u0916\u0941\u0936 \u0939\u0942\u0901!",
            "\u092e\u0948\u0902 \u0916\u0941\u0936 \u0939\u0942\u0901",
        ),
        ("!!! 123", "123"),
        ("?!", "?!"),
    ],
)
def test_emotion_reads_tweets_as_the_words_that_its_data_set_would_hold(text, words):
    assert bare_words(text) == words == bare_words(words)


def test_emotion_changes_no_row_of_its_data_set(shared_data):
    rows = [
        json.loads(line)["text"]
        for split in ("train", "validation")
        for line in (shared_data / f"dair-ai__emotion/split/{split}.jsonl").read_text().splitlines()
    ]
    assert [bare_words(text) for text in rows] == [" ".join(text.split()) for text in rows]
