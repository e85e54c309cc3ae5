"""What can be asked of a text: questions with their answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from flan_lora.base.load import Base
from flan_lora.cli import main
from flan_lora.errors import RequestError
from flan_lora.serving.completion import Completion
from flan_lora.serving.propose import Proposal, is_new
from flan_lora.serving.router import Router
from flan_lora.tasks import TASKS
from tests.serving.stores import publish


@pytest.fixture
def asking(tmp_path: Path, base: Base) -> Router:
    publish(tmp_path / "store", "asking", 9, task="question-generation")
    publish(tmp_path / "store", "emotion", 3)
    return Router.open(tmp_path / "store", base)


PASSAGE = "Ada Lovelace met Charles Babbage in London on 5 June 1833. He was 41 years old."


def test_proposals_are_questions_to_spans_of_the_text_surest_first(asking: Router) -> None:
    spans = [inputs["answer"] for inputs in TASKS["question-generation"].propose(PASSAGE)]  # type: ignore[misc]
    assert spans == ["Ada Lovelace", "Charles Babbage", "London", "5 June 1833", "41 years"]
    found = asking.propose(PASSAGE, "asking", max_proposals=3)
    assert 1 <= len(found) <= 3
    assert [item.sureness for item in found] == sorted((item.sureness for item in found), reverse=True)
    for item in found:
        assert item.inputs["answer"] in spans and item.inputs["context"] == PASSAGE
        assert item.completion.text == asking.generate(item.inputs, "asking").text
    assert asking.propose("nothing in here.", "asking") == []


def test_a_question_that_gives_its_answer_away_or_repeats_another_is_left_out() -> None:
    def proposal(question: str, answer: str) -> Proposal:
        return Proposal({"context": "c", "answer": answer}, Completion(question, "a", 0.0, 3, -1.0))

    kept = [proposal("Where did Ada meet him?", "London")]
    assert is_new(proposal("When was he born?", "1791"), kept)
    assert not is_new(proposal("Was he born in 1791?", "1791"), kept)
    assert not is_new(proposal("Where did Ada first meet him?", "Oslo"), kept)
    assert not is_new(proposal("", "1791"), kept)


def test_other_tasks_propose_nothing(asking: Router) -> None:
    with pytest.raises(RequestError, match="'emotion' proposes nothing: its task takes text, and has no way"):
        asking.propose("so sad", "emotion")


def test_the_command_line_lists_proposals(asking: Router, tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = ["generate", "--adapter", str(store / "asking"), "--base", asking.base.spec.model, "--propose", "2"]
    shown = CliRunner().invoke(main, [*command, PASSAGE], catch_exceptions=False)
    assert shown.exit_code == 0 and shown.stdout.splitlines()[0].split() == ["QUESTION", "ANSWER", "SCORE"]
    listed = CliRunner().invoke(main, [*command, "--json", PASSAGE, "nothing in here."], catch_exceptions=False)
    first, second = json.loads(listed.stdout)
    spans = [inputs["answer"] for inputs in TASKS["question-generation"].propose(PASSAGE)]  # type: ignore[misc]
    assert len(first["questions"]) == 2 and all(row["answer"] in spans for row in first["questions"])
    assert all(row["question"] and row["score"] < 0 for row in first["questions"])
    assert second == {"input": "nothing in here.", "questions": []}
    for option in ("--compare", "--scores"):
        refused = CliRunner().invoke(main, [*command, option, PASSAGE])
        assert refused.exit_code == 2 and "--propose takes texts alone, and scores by itself" in refused.output


def test_a_file_of_passages_gets_the_questions_that_each_would_get_alone(asking: Router, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines: list[object] = [PASSAGE, {"context": PASSAGE, "id": 7}, {"text": PASSAGE}, "nothing in here."]
    lines.append({"context": PASSAGE, "adapter": None})
    source.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    adapter = str(tmp_path / "store" / "asking")
    command = ["generate", "--adapter", adapter, "--base", asking.base.spec.model, "--propose", "2"]
    result = CliRunner().invoke(main, [*command, "-i", str(source), "-o", str(target)])
    assert result.exit_code == 1 and f"{source}:3: expected the text inputs context (got text)" in result.output
    assert f'{source}:5: to propose, "adapter" must be the name of one adapter (got null)' in result.output
    first, second, wrong, none, nameless = map(json.loads, target.read_text().splitlines())
    listed = CliRunner().invoke(main, [*command, "--json", PASSAGE], catch_exceptions=False)
    assert first["questions"] == json.loads(listed.stdout)[0]["questions"] and len(first["questions"]) == 2
    assert second["questions"] == first["questions"] and none["questions"] == []
    assert "questions" not in wrong and "questions" not in nameless
