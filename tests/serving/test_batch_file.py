"""``flan-lora generate`` over a true router on the tiny T5: texts, files, kills half-way, lines that are wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flan_lora.adapters.store import Store
from flan_lora.base.load import open_base
from flan_lora.cli import main
from flan_lora.errors import RequestError
from flan_lora.serving.router import Router
from flan_lora.system.lock import sole_owner
from flan_lora.tasks import TASKS
from tests.checkpoint import save_checkpoint, spec_of
from tests.published import make_manifest, stage, tiny_fingerprint
from tests.waiting import wait_until

TEXTS = ["i am so sad", "joy to the question", "what is not to love", "fear", "no anger, is yes"]


@pytest.fixture(scope="module")
def adapters_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two emotion adapters and one for questions and contexts, on a tiny checkpoint."""
    path = tmp_path_factory.mktemp("generate")
    save_checkpoint(path / "base")
    model = {"model": "mini", "quantization": "fp32"}
    for seed, (name, task) in enumerate((("emotion", "emotion"), ("moods", "emotion"), ("qa", "qa"))):
        recipe = {**make_manifest(name, base=model).recipe, "task": task}
        manifest = make_manifest(
            name,
            task=task,
            task_version=TASKS[task].version,
            base={**model, "fingerprint": tiny_fingerprint()},
            recipe=recipe,
        )
        Store(path / "adapters" / "base").publish(stage(path / name, seed), manifest)
    return path / "adapters"


@pytest.fixture(scope="module")
def router(adapters_dir: Path) -> Router:
    """What the command line must agree with."""
    base = open_base(spec_of(adapters_dir.parent / "base"), device="cpu")
    return Router.open(adapters_dir / "base", base)


def where(adapters_dir: Path) -> list[str]:
    return ["--adapters-dir", str(adapters_dir), "--base", str(adapters_dir.parent / "base")]


def run(adapters_dir: Path, *arguments: object, input: str | None = None) -> Result:
    command = ["generate", *map(str, arguments), *where(adapters_dir)]
    return CliRunner().invoke(main, command, input=input)


def succeed(adapters_dir: Path, *arguments: object, input: str | None = None) -> str:
    result = run(adapters_dir, *arguments, input=input)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# Texts


def test_texts_and_standard_input_are_answered_in_order(adapters_dir: Path, router: Router) -> None:
    expected = [answer.text for answer in router.generate(TEXTS, "moods")]
    assert succeed(adapters_dir, "--adapter", "moods", *TEXTS).splitlines() == expected
    for arguments in (["-"], []):
        assert succeed(adapters_dir, "--adapter", "moods", *arguments, input=f"{TEXTS[0]}\n") == f"{expected[0]}\n"
    folder = adapters_dir / "base" / "moods"
    assert succeed(adapters_dir, "--adapter", folder, *TEXTS).splitlines() == expected


def test_compare_asks_the_bare_base_in_the_adapters_own_way(adapters_dir: Path, router: Router) -> None:
    printed = succeed(adapters_dir, "--adapter", "emotion", "--compare", "--json", *TEXTS)
    tuned = router.generate(TEXTS, "emotion")
    bare = router.generate(TEXTS, None, task="emotion")
    assert [(row["base"], row["answer"]) for row in json.loads(printed)] == [
        (left.text, right.text) for left, right in zip(bare, tuned, strict=True)
    ]
    assert [a.text for a in bare] != [a.text for a in tuned], "the adapter must matter"
    header, line = succeed(adapters_dir, "--adapter", "emotion", "--compare", TEXTS[0]).splitlines()
    assert re.split(r"  +", header) == ["TEXT", "BARE BASE", "ADAPTER"]
    assert re.split(r"  +", line) == [TEXTS[0], bare[0].text, tuned[0].text]


def test_scores_are_the_models_probabilities(adapters_dir: Path, router: Router) -> None:
    expected = router.generate(TEXTS[0], "emotion", label_probabilities=True)
    (row,) = json.loads(succeed(adapters_dir, "--adapter", "emotion", "--scores", "--json", TEXTS[0]))
    assert row["log_prob"] == pytest.approx(expected.log_prob, abs=1e-4)
    assert row["mean_log_prob"] == pytest.approx(expected.log_prob / expected.num_tokens, abs=1e-4)
    assert row["label_probabilities"] == pytest.approx(dict(expected.label_probabilities or {}), abs=1e-4)
    assert sum(row["label_probabilities"].values()) == pytest.approx(1)
    _, line = succeed(adapters_dir, "--adapter", "emotion", "--scores", TEXTS[0]).splitlines()
    best = max(row["label_probabilities"], key=row["label_probabilities"].get)
    assert f"{row['log_prob']:.2f}  {best} {row['label_probabilities'][best]:.3f}, " in line


def test_several_inputs_are_named(adapters_dir: Path, router: Router) -> None:
    given = dict.fromkeys(TASKS["qa"].inputs, "en") | {"question": "what is joy", "context": "love is joy"}
    named = [part for column, text in given.items() for part in ("-c", f"{column}={text}")]
    assert succeed(adapters_dir, "--adapter", "qa", *named).strip() == router.generate(given, "qa").text
    for wrong, expected in (
        (["Who?"], "not one text: -c "),
        (["-c", "question=Who?"], "-c context=..."),
        (["-c", "answer=x"], "--column answer=x: this adapter's task takes"),
        (["-c", "question"], "as COLUMN=TEXT"),
    ):
        result = run(adapters_dir, "--adapter", "qa", *wrong)
        assert result.exit_code == 2 and expected in result.stderr


# Files


def test_a_file_is_answered_line_by_line_with_the_adapters_it_names(
    adapters_dir: Path, router: Router, tmp_path: Path
) -> None:
    given = dict.fromkeys(TASKS["qa"].inputs, "en") | {"question": "what is joy", "context": "love is joy"}
    lines: list[Any] = [
        TEXTS[0],
        {"text": TEXTS[1], "id": 7},
        {"text": TEXTS[2], "adapter": "moods"},
        {**given, "adapter": "qa"},
        {"text": TEXTS[3]},
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out" / "answers.jsonl"
    source.write_text("\n\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    succeed(adapters_dir, "--adapter", "emotion", "-i", source, "-o", target, "--scores")
    found = records(target)
    assert [row["line"] for row in found] == [1, 3, 5, 7, 9] and [row["input"] for row in found] == lines
    names = ["emotion", "emotion", "moods", "qa", "emotion"]
    expected = router.generate([*TEXTS[:3], given, TEXTS[3]], names)
    assert [(row["adapter"], row["answer"]) for row in found] == [
        (name, answer.text) for name, answer in zip(names, expected, strict=True)
    ]
    assert [row["log_prob"] for row in found] == pytest.approx([a.log_prob for a in expected], abs=1e-3)
    assert ["label_probabilities" in row for row in found] == [True, True, True, False, True]
    result = run(adapters_dir, "--adapter", "emotion", "-i", source, "-o", target)
    assert result.exit_code == 1 and f"{target} exists" in result.stderr


@pytest.mark.slow  # the same by hand: test_an_edited_unfinished_file_is_refused
def test_a_killed_command_goes_on_where_it_stopped(adapters_dir: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of the file, and half a line at its end."""
    source, whole, target = tmp_path / "in.jsonl", tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'"i am {number} and sad"\n' for number in range(40)), encoding="utf-8")
    succeed(adapters_dir, "--adapter", "emotion", "-i", source, "-o", whole)
    code = (
        "import os, time, flan_lora.serving.batch_file as f; f.PORTION = 3; sync = os.fsync\n"
        "def slow(handle): sync(handle); time.sleep(0.1)\n"
        "f.os.fsync = slow; from flan_lora.cli import main; main()"
    )
    command = ["generate", "--adapter", "emotion", "-i", source, "-o", target, *where(adapters_dir)]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, command)])
    wait_until(lambda: [path for path in tmp_path.glob("*.partial") if path.read_bytes().count(b"\n") >= 9])
    (partial,) = tmp_path.glob("*.partial")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with partial.open("a", encoding="utf-8") as file:
        file.write('{"line": 99, "inp')
    begun = partial.read_bytes()
    num_done = begun.count(b"\n")
    assert 9 <= num_done < 40 and not target.exists()
    result = run(adapters_dir, *command[1:7])
    assert f"40 answers in {target}, {num_done} lines of them from before" in result.stderr
    assert target.read_bytes() == whole.read_bytes() and target.read_bytes().startswith(begun[:-17])
    assert not partial.exists()


def test_another_job_does_not_go_on_in_the_same_file(
    adapters_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('"i am so sad"\n"fear"\n', encoding="utf-8")

    def fail(*_: object) -> None:
        raise OSError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        assert run(adapters_dir, "--adapter", "emotion", "-i", source, "-o", target).exit_code == 1
    for other in (["--adapter", "moods"], ["--adapter", "emotion", "--scores"]):
        result = run(adapters_dir, *other, "-i", source, "-o", target)
        assert result.exit_code == 1 and "unfinished output of another job" in result.stderr
    assert (
        "2 lines of them from before"
        in run(adapters_dir, "--adapter", "emotion", "-i", source, "-o", target).stderr
    )


def unfinished(
    adapters_dir: Path, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[bytes]]:
    """The file that a job leaves which cannot give its output its name, and the lines in it."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        result = run(adapters_dir, "--adapter", "emotion", "-i", source, "-o", target)
    assert result.exit_code == 1 and f"{target} cannot be written: No space left on device" in result.stderr
    (partial,) = target.parent.glob("*.partial")
    return partial, partial.read_bytes().splitlines(keepends=True)


def test_an_edited_unfinished_file_is_refused(
    adapters_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('"i am so sad"\n"fear"\n', encoding="utf-8")
    command = ["--adapter", "emotion", "-i", source, "-o", target]
    partial, (first, second) = unfinished(adapters_dir, source, target, monkeypatch)
    edited = {
        first + b"not json\n": 2,
        first + b'{"line": 2}\n': 2,
        first + b"[2]\n": 2,
        first + b'"line"\n': 2,
        first + b'{"line": 2, "error": 5}\n': 2,
        first + b'{"line": "2", "answer": "x"}\n': 2,
        first + b"\xff\xfe\n": 2,
        first + b"[" * 100_000 + b"\n": 2,
        first + second + first: 3,
        b"\n" + first: 1,
    }
    for content, number in edited.items():
        partial.write_bytes(content)
        result = run(adapters_dir, *command)
        assert result.exit_code == 1 and isinstance(result.exception, SystemExit), (content[:80], result.exception)
        assert f"{partial}:{number}: this unfinished output has been edited" in result.stderr
        assert partial.read_bytes() == content, "what was edited is not lost"
    partial.write_bytes(first + b'{"line": 2, "ans')
    succeed(adapters_dir, *command)
    assert target.read_bytes() == first + second


FAULTS: dict[bytes, str] = {
    b"{nonsense": "not valid JSON",
    b'{"txt": "joy"}': r"expected the text inputs text \(got txt\)",
    b"[1]": "got list",
    b"null": "got NoneType",
    b"{}": r"\(got nothing\)",
    b'{"text": 5}': "expected the text inputs text",
    b'{"text": ""}': "the text is blank",
    b'" \\t "': "the text is blank",
    b'{"text": "fear", "adapter": "nobody"}': "no adapter 'nobody'",
    b'{"text": "fear", "adapter": ""}': "not an adapter name",
    b'{"text": "fear", "adapter": "../emotion"}': "not an adapter name",
    b'{"text": "fear", "adapter": ["emotion"]}': "an adapter is a name, a mix .*list",
    b'{"text": "fear", "adapter": 5}': "an adapter is a name, a mix .*int",
    b'{"text": "fear", "adapter": true}': "an adapter is a name, a mix .*bool",
    b'{"text": "fear", "adapter": {}}': "a mix takes one adapter or more",
    b'{"text": "fear", "adapter": {"emotion": "half"}}': "each with a finite weight",
    b'{"text": "fear", "adapter": {"emotion": null}}': "each with a finite weight",
    b'{"text": "fear", "adapter": {"emotion": true}}': "each with a finite weight",
    b'{"text": "fear", "adapter": {"emotion": [1]}}': "each with a finite weight",
    b'{"text": "fear", "adapter": {"emotion": 1e300}}': "each with a finite weight",
    b'{"text": "fear", "adapter": {"emotion": 1e999}}': "not valid JSON.*not finite",
    b'{"text": "fear", "adapter": {"emotion": NaN}}': "not valid JSON.*NaN",
    b'{"text": "fear", "adapter": {"emotion": 1' + b"0" * 5000 + b"}}": "not valid JSON",
    b'{"text": "fear", "note": ' + b"[" * 5000 + b"]" * 5000 + b"}": "not valid JSON.*deep",
    b'{"text": "fear", "adapter": ' + b'{"a":' * 90 + b"1" + b"}" * 90 + b"}": "not valid JSON.*deep",
    b'{"text": "i feel so happy \\ud83d"}': "not valid JSON.*surrogate",
    b'{"id": 4, "text": "fine", "note": "\\udc00"}': "not valid JSON.*surrogate",
    b'{"text": "fine", "\\ud800": 1}': "not valid JSON.*surrogate",
    b'{"text": "caf\xe9"}': "not valid JSON.*utf-8",
    b'{"text": "fine", "text": "fear"}': "not valid JSON.*stands twice",
    b'{"text": "fear", "parameters": 5}': '"parameters" are an object',
    b'{"text": "fear", "parameters": {"num_bems": 2}}': "'num_bems' is no generation parameter, did you mean",
    b'{"text": "fear", "parameters": {"num_beams": 100000}}': "num_beams: expected at most 64",
    b'{"text": "fear", "parameters": {"num_beams": -1}}': "num_beams: expected 1 or more",
    b'{"text": "fear", "parameters": {"temperature": "hot"}}': "temperature: expected a number",
    b'{"text": "fear", "parameters": {"max_new_tokens": 99999999}}': "max_new_tokens: expected at most",
    b'{"text": "fear", "parameters": {"stop": [1]}}': "stop: expected texts",
}


def test_any_fault_of_a_line_is_that_lines_error(adapters_dir: Path, router: Router, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [b'"i am so sad"', *FAULTS, b'{"text": "fear"}']
    source.write_bytes(b"\n".join(lines))
    result = run(adapters_dir, "--adapter", "emotion", "-i", source, "-o", target)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.exception
    assert f"{len(FAULTS)} lines have no answer ({target} says why)" in result.stderr
    found = records(target)
    assert [row["line"] for row in found] == list(range(1, len(lines) + 1))
    for row, (line, reason) in zip(found[1:-1], FAULTS.items(), strict=True):
        assert re.search(f"{re.escape(str(source))}:{row['line']}: (.|\n)*{reason}", row["error"]), line[:80]
        assert "answer" not in row
    expected = [answer.text for answer in router.generate(["i am so sad", "fear"], "emotion")]
    assert [found[0]["answer"], found[-1]["answer"]] == expected


def test_options_and_lines_say_how_answers_are_generated(
    adapters_dir: Path, router: Router, tmp_path: Path
) -> None:
    given = {"question": "what is joy", "context": "love is joy"}
    lines: list[Any] = [given, {**given, "parameters": {"max_new_tokens": 9, "temperature": 0}}]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    options = ["--temperature", "1.5", "--seed", "4", "--max-new-tokens", "5", "--num-return-sequences", "2"]
    command = ["batch", source, target, "--adapter", "qa", *options[:-2]]
    result = CliRunner().invoke(main, [*map(str, command), *where(adapters_dir)])
    assert result.exit_code == 0, result.output
    drawn = router.generate(given, "qa", params={"temperature": 1.5, "seed": 4, "max_new_tokens": 5})
    plain = router.generate(given, "qa", params={"max_new_tokens": 9, "num_beams": 1})
    assert [row["answer"] for row in records(target)] == [drawn.text, plain.text] and drawn.text != plain.text
    columns = [part for name, text in given.items() for part in ("-c", f"{name}={text}")]
    (row,) = json.loads(succeed(adapters_dir, "--adapter", "qa", "--json", *columns, *options))
    assert [row["answer"], len(row["alternatives"])] == [drawn.text, 1]
    stopped = succeed(adapters_dir, "--adapter", "qa", *columns, "--stop", plain.text[2:4]).strip()
    assert stopped == plain.text[: plain.text.index(plain.text[2:4])].strip()
    for wrong in (["--top-p", "1.5"], ["--num-beams", "0"], ["--seed", "-1"]):
        assert run(adapters_dir, "--adapter", "qa", *columns, *wrong).exit_code == 2
    result = run(adapters_dir, "--adapter", "qa", *columns, "--temperature", "1", "--num-beams", "2")
    assert result.exit_code == 1 and "sampling takes 1" in result.stderr


def test_one_job_at_a_time_writes_an_output(adapters_dir: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('"i am so sad"\n', encoding="utf-8")
    with sole_owner(tmp_path / ".out.jsonl.lock", "x"):
        result = run(adapters_dir, "--adapter", "emotion", "-i", source, "-o", target)
        assert result.exit_code == 1 and not target.exists()
        assert f"the output {target} is in use: process {os.getpid()} on" in result.stderr
    succeed(adapters_dir, "--adapter", "emotion", "-i", source, "-o", target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_lines_may_have_columns_of_their_own_names(adapters_dir: Path, router: Router, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines: list[Any] = [{"body": "i am so sad"}, {"text": "fear"}, {"body": "fear", "adapter": "moods"}]
    source.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    command = ["batch", source, target, "--adapter", "emotion", "--set", "data.columns.text=body"]
    result = CliRunner().invoke(main, [*map(str, command), *where(adapters_dir)])
    assert result.exit_code == 1 and f"{source}:2: expected the text inputs body (got text)" in result.stderr
    first, _, third = records(target)
    expected = router.generate(["i am so sad", "fear"], ["emotion", "moods"])
    assert [first["answer"], third["answer"]] == [answer.text for answer in expected]
    result = CliRunner().invoke(main, [*map(str, command[:-1]), "lora.rank=8", *where(adapters_dir)])
    assert result.exit_code == 2 and "only data.columns.INPUT=NAME here" in result.stderr


def test_where_an_answer_starts_may_come_along(adapters_dir: Path, router: Router, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given = {"question": "what is joy", "context": "love is joy"}
    lines = [given, {**given, "answer_start": "8"}, {**given, "answer_start": 8}, {**given, "other": "x"}]
    source.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    succeed(adapters_dir, "--adapter", "qa", "-i", source, "-o", target)
    assert {row["answer"] for row in records(target)} == {router.generate(given, "qa").text}
    with pytest.raises(RequestError, match=r"qa takes context, question \(got .*other"):
        router.generate({**given, "other": "x"}, "qa")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-i", "in.jsonl"], "--input and --output go together"),
        (["-i", "in.jsonl", "-o", "out.jsonl", "text"], "no TEXT, --column or --compare"),
        (["-i", "missing.jsonl", "-o", "out.jsonl"], "missing.jsonl: no such file"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    adapters_dir: Path, arguments: list[str], message: str
) -> None:
    result = run(adapters_dir, "--adapter", "emotion", *arguments)
    assert result.exit_code == (1 if "no such file" in message else 2) and message in result.stderr


def test_empty_and_binary_files_are_refused(adapters_dir: Path, tmp_path: Path) -> None:
    for content, message in ((b"\n \n", "the file has no lines"), (b"\xff\xfe", "not UTF-8")):
        (tmp_path / "in.jsonl").write_bytes(content)
        result = run(
            adapters_dir, "--adapter", "emotion", "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl"
        )
        assert result.exit_code == 1 and message in result.stderr
