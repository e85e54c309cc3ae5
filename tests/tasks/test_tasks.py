"""The six tasks: prompts that T5 can hold and that never change unnoticed, examples, parsers, baselines."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flan_lora.errors import DataError, FlanLoraError
from flan_lora.tasks import TASKS, Example, Task, get_task, question_generation
from flan_lora.tasks.emotion import bare_words
from flan_lora.tasks.qa import is_hindi
from flan_lora.tasks.scorers import score
from flan_lora.tasks.task import score_names
from flan_lora.tasks.text import plain, untokenise

GOLDEN = Path(__file__).parents[1] / "golden" / "prompts"
UPDATE = os.environ.get("FLAN_LORA_UPDATE_GOLDEN") == "1"

PINNED = {
    "emotion": (2, "bbf1e98f8798afc63a86a007f659e2a717e04ce816c4e69bd61b00ec5b449cdb"),
    "qa": (2, "bef188fccce66d7d87cdeaedd874d1f160e04afa22454ade82e6d5b5620bd941"),
    "question-generation": (1, "a63edc0d3f792859cebdf3917717a8e87b7563c31b50ea2904f86f84f5ba4513"),
    "paraphrase": (1, "8ecc432962d50910bc3929de3f94c3e0223c4508b180ca829e80bede1fd6a4d3"),
    "summarization": (1, "461f08ff142db08ded2ae9d02c134b743595fe0297651d2563b4deaf0a4615fb"),
    "similarity": (1, "f32341643ce48954efe6615b9a19456093e76f369f88e54ec257a1cb100f182d"),
}
"""Task -> (version, sha256 of its golden file): a manifest's version must mean one prompt for ever."""

ROWS: dict[str, dict[str, Any]] = {
    "emotion": {"text": "i feel  like dancing\nall night <3", "label": 1},
    "qa": {
        "id": "q7",
        "context": "आगरा (Agra) यमुना नदी के किनारे बसा है।\nताजमहल १६५३ में पूरा हुआ।",
        "question": "When was the Taj Mahal completed?",
        "answers": {"text": ["१६५३ में", "१६५३"], "answer_start": [47, 47]},
    },
    "question-generation": {
        "id": "g1",
        "context": "Ada met Bo in Oslo. They moved to Bern. In Bern, Ada opened a shop that sells {old} maps.",
        "question": "Where did Ada open a shop?",
        "answers": {"text": ["Bern"], "answer_start": [43]},
    },
    "paraphrase": {
        "id": 4,
        "sentence1": "The `` Nordic Star '' sailed in May , it did n't stop ( twice ) .",
        "sentence2": "In May , the `` Nordic Star '' sailed and never stopped .",
        "label": 1,
    },
    "summarization": {
        "id": "s2",
        "dialogue": "Mia: are you up?\r\nLeo: yes :) <file_gif>\r\n\r\nMia: train leaves at 9 {sharp}",
        "summary": "Mia and Leo take a train at 9.",
    },
    "similarity": {
        "id": 9,
        "sentence1": "Rio beat Lima in 1990 .",
        "sentence2": "Lima beat Rio in 1990 .",
        "label": 0,
    },
}
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def make(name: str, **changes: Any) -> list[Example]:
    """Examples of the handmade row, some columns changed."""
    return TASKS[name].examples({**ROWS[name], **changes})


def render(task: Task) -> str:
    """What a golden file holds: all that a prompt version promises."""
    lines = [f"version: {task.version}", f"labels: {', '.join(task.labels)}"]
    for item in task.examples(ROWS[task.name]):
        head, body, tail = item.prompt.head, item.prompt.body, item.prompt.tail
        lines += ["", f"key: {item.key}", f"head: [{head}]", f"body: [{body}]", f"tail: [{tail}]"]
        lines += [f"target: [{item.target}]", f"references: {json.dumps(item.references, ensure_ascii=False)}"]
        lines += [f"parsed: [{task.parse(f' {item.target} ')}]"]
    return "\n".join(lines) + "\n"


# --- prompts -------------------------------------------------------------------------------------------------


@each_task
def test_prompt_is_the_golden_one(task: Task) -> None:
    file = GOLDEN / f"{task.name}.txt"
    if UPDATE:
        file.write_text(render(task), encoding="utf-8")
    assert render(task) == file.read_text(encoding="utf-8"), (
        "the prompt changed: raise Task.version, run with FLAN_LORA_UPDATE_GOLDEN=1, then pin version and hash"
    )


@each_task
def test_a_changed_prompt_has_a_new_version(task: Task) -> None:
    digest = hashlib.sha256((GOLDEN / f"{task.name}.txt").read_bytes()).hexdigest()
    assert PINNED[task.name] == (task.version, digest), (
        "adapters published for this version would get another prompt: raise Task.version, then pin the new pair"
    )


@each_task
def test_prompt_survives_t5(task: Task) -> None:
    """No character that T5 drops or lacks, nothing that space collapsing would change."""
    for item in task.examples(ROWS[task.name]):
        for text in (str(item.prompt), item.target):
            assert re.search(r"[<>{}~^`\\\n\t]|  ", text) is None
            assert text == text.strip()


@each_task
@given(st.text(min_size=1).filter(str.strip))
@settings(max_examples=40, deadline=None)
def test_any_input_gives_a_prompt_on_one_line(task: Task, text: str) -> None:
    prompt = str(task.prompt(dict.fromkeys(task.inputs, text)))
    assert re.search(r"[<>{}~^`\\]", prompt) is None
    assert len(prompt.splitlines()) == 1


@each_task
def test_only_the_body_holds_the_long_input(task: Task) -> None:
    """What may be cut is the user's text; instruction, classes and question stand outside it."""
    long_input = task.inputs[0] if task.name != "similarity" else "sentence2"
    inputs = {name: "word" for name in task.inputs} | {long_input: "long " * 500}
    prompt = task.prompt(inputs)
    assert len(prompt.head) + len(prompt.tail) < 200
    assert len(prompt.body) > 2000


def test_class_lists_stand_in_the_prompt_in_label_order() -> None:
    for task in (TASKS["emotion"], TASKS["similarity"]):
        prompt = str(task.prompt(dict.fromkeys(task.inputs, "x")))
        assert prompt.endswith("OPTIONS: " + " ".join(f"- {label}" for label in task.labels))


# --- text ----------------------------------------------------------------------------------------------------


@given(st.text())
@example("ą\u030cx")
@example("\uff1cb\uff1e \u00b4")
@settings(deadline=None)
def test_plain_text_is_one_tidy_line_and_stays(text: str) -> None:
    once = plain(text)
    assert plain(once) == once
    assert re.search(r"[<>{}~^`\\\n\t]|  ", once) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<file_gif>", "[file_gif]"),
        ("a\r\n\tb", "a b"),
        ("Michał Čapek née Müller", "Michal Capek née Müller"),
        ("don\u00b4t, 3 \u2212 1 \u2260 4", "don't, 3 - 1 \u2260 4"),
        ("½ kg \U0001f642", "1/2 kg \U0001f642"),
        ("की", "की"),
    ],
)
def test_plain_replaces_only_what_t5_lacks(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A , b ; c : d .", "A, b; c: d."),
        ("He said `` no way '' twice", 'He said "no way" twice'),
        ("it 's what they do n't", "it's what they don't"),
        ("x ( y ) z", "x (y) z"),
        ("grew 5 % in a .5 world", "grew 5% in a .5 world"),
        ("Already fine, isn't it (yes)?", "Already fine, isn't it (yes)?"),
    ],
)
def test_treebank_spacing_is_undone(text: str, expected: str) -> None:
    assert untokenise(text) == expected
    assert untokenise(expected) == expected


# --- rows and errors -----------------------------------------------------------------------------------------


@each_task
def test_every_column_is_needed(task: Task) -> None:
    for column in task.columns:
        row = {name: value for name, value in ROWS[task.name].items() if name != column}
        with pytest.raises(DataError) as caught:
            task.examples(row)
        assert f"task {task.name}, row" in str(caught.value)
        assert f"column {column!r}: no such column" in str(caught.value)


@each_task
@pytest.mark.parametrize("value", [None, "", " \n", 17.5, float("nan"), [], {"text": []}, ["x", None]], ids=repr)
def test_a_bad_value_is_named_never_dropped(task: Task, value: Any) -> None:
    for column in task.columns:
        if column == "dialogue" and value in (None, "", " \n"):
            continue  # documented: SAMSum has an empty dialogue, which is skipped
        with pytest.raises(DataError, match=re.escape(f"column {column!r}: got {value!r}")):
            make(task.name, **{column: value})


def test_error_text_is_complete() -> None:
    with pytest.raises(DataError) as caught:
        make("similarity", label="perhaps" * 30)
    assert str(caught.value) == (
        "task similarity, row 9: column 'label': got "
        + repr("perhaps" * 30)[:77]
        + "....\n  expected  0..1 or one of no, yes\n"
        "Correct or remove the row, or map another column to it (data.columns in the recipe)."
    )


@pytest.mark.parametrize("label", [4, "4", " 4 ", 4.0, "fear", "Fear "])
def test_a_label_may_be_index_or_word(label: Any) -> None:
    (item,) = make("emotion", label=label)
    assert (item.target, item.references) == ("fear", ("fear",))


@pytest.mark.parametrize("label", [-1, 6, "6", 1.5, "happy", True + 5, 10**400])
def test_a_label_outside_the_list_is_an_error(label: Any) -> None:
    with pytest.raises(DataError, match=r"expected  0\.\.5 or one of sadness, joy"):
        make("emotion", label=label)


def test_keys_are_ids_or_hashes_of_the_row() -> None:
    assert [item.key for item in make("paraphrase")] == ["4-0", "4-1"]
    assert make("emotion")[0].key == make("emotion")[0].key
    assert make("emotion")[0].key != make("emotion", label=2)[0].key


@each_task
def test_examples_hold_the_inputs_that_made_the_prompt(task: Task) -> None:
    """Training and serving share one path: the prompt of an example is the prompt of its inputs."""
    for item in task.examples(ROWS[task.name]):
        assert set(task.inputs) <= item.inputs.keys()
        assert item.prompt == task.prompt(item.inputs)


# --- parse, scores, baselines --------------------------------------------------------------------------------


@each_task
@given(st.text() | st.text(st.sampled_from("#'=|aeikg yes joy\n")))
@settings(max_examples=60, deadline=None)
def test_parse_is_total(task: Task, output: str) -> None:
    assert isinstance(task.parse(output), str)


@each_task
def test_target_parses_to_an_answer_that_scores_full_marks(task: Task) -> None:
    items = task.examples(ROWS[task.name])
    answers = [task.parse(item.target) for item in items]
    scores = scores_of(task, items, answers)
    best = {"accuracy": 1.0, "f1": 100.0, "exact_match": 100.0, "rouge_l": 100.0, "bleu": 100.0}
    wanted = {name: value for name, value in best.items() if name in scores and task.name != "similarity"}
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted)


@each_task
def test_the_score_that_selects_exists(task: Task) -> None:
    items = task.examples(ROWS[task.name])
    scores = scores_of(task, items, [item.target for item in items])
    assert task.select_on in scores and score_names(task) == tuple(scores)


@each_task
def test_baselines_are_deterministic_and_answer_every_row(task: Task) -> None:
    items = task.examples(ROWS[task.name]) * 2
    for baseline in task.baselines:
        answers = baseline.predict(items, items)
        assert len(answers) == len(items)
        assert answers == baseline.predict(items, items)
        scores_of(task, items, answers)
    assert task.baselines


def scores_of(task: Task, items: list[Example], answers: list[str]) -> dict[str, float]:
    sources = [item.inputs[task.inputs[0]] for item in items]
    return score(task.scorers, answers, [item.references for item in items], sources)


def test_majority_counts_the_training_rows() -> None:
    task = TASKS["emotion"]
    train = [make("emotion", label=label)[0] for label in (2, 2, 4, 4, 0)]
    assert task.baselines[0].predict(train, train[:2]) == ["fear", "fear"]  # tie: first in the alphabet
    assert task.baselines[0].predict([], train[:1]) == [""]


# --- the tasks one by one ------------------------------------------------------------------------------------


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


# --- the dictionary ------------------------------------------------------------------------------------------


def test_unknown_task_names_the_nearest() -> None:
    assert get_task("emotion") is TASKS["emotion"]
    with pytest.raises(FlanLoraError, match="unknown task 'sumarization', did you mean 'summarization'"):
        get_task("sumarization")
    with pytest.raises(FlanLoraError, match=r"\(known: emotion, qa, question-generation, paraphrase, summ"):
        get_task("zzz")


def test_import_pulls_in_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'transformers', 'nltk', 'sklearn', 'sacrebleu', 'rouge_score'}"
    code = f"import sys, flan_lora.tasks; print({heavy} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


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
