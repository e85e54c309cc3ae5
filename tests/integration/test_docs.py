"""The documentation is true: its commands and code run, its numbers are the published ones, its links lead on."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from flan_lora.cli import main
from flan_lora.cli.chat import Chat
from flan_lora.serving.router import Router
from flan_lora.tasks import TASKS

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
MAKEFILE = (REPO / "Makefile").read_text(encoding="utf-8")
DOCS = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    """Fenced blocks of README. `python` and `bash` run here; `console` needs a GPU, the Hub or an hour."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


FEWER_ROWS = {
    "train": "--set data.max_train_rows=64 --set data.max_validation_rows=24 --set evaluation.max_test_rows=24",
    "eval": "--set evaluation.max_test_rows=24",
    "compare": "--rows 20",
    "adapter fit-routing": "--rows 60",
    "route --report": "--rows 20",
}
"""What a command of a guide is given besides, so that it reads less; all else is as it stands there."""


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a comparison, 12 rows choose the base's wording, and 4 are timed."""
    monkeypatch.setattr("flan_lora.compare.run.NUM_PROMPT_ROWS", 12)
    monkeypatch.setattr("flan_lora.compare.run.NUM_TIMED_ROWS", 4)


def run_command(line: str) -> str:
    """A command of a guide, in this process; what it prints."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "flan-lora"
    fewer = [more for command, more in FEWER_ROWS.items() if shlex.join(arguments).startswith(command)]
    result = CliRunner().invoke(main, [*arguments, *" ".join(fewer).split()], catch_exceptions=False)
    assert result.exit_code == 0, f"{line}\n{result.output}"
    return result.stdout


def run_code(code: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Code of a guide, with nothing but its own names; what it prints."""
    capsys.readouterr()
    exec(compile(code, "a guide", "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out


def test_the_tour_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # recipes come with the package; adapters/ and runs/ land here
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) >= 8
    outputs = {line.split()[1]: run_command(line) for line in commands}
    assert any(label in outputs["generate"] for label in TASKS["emotion"].labels)
    assert "moods" in outputs["adapter"]
    answers = [json.loads(line) for line in (tmp_path / "moods.jsonl").read_text().splitlines()]
    assert len(answers) == 24 and {answer["prediction"] for answer in answers} <= set(TASKS["emotion"].labels)


@pytest.mark.parametrize("code", blocks("python"), ids=["plain-peft", "router"])
def test_the_code_of_the_readme_runs(
    code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPO)
    printed = run_code(code, capsys)
    assert any(label in printed for label in TASKS["emotion"].labels), printed


def test_the_conversation_in_the_readme_is_a_true_one() -> None:
    """Every line that is typed in it, over the published adapters: the same prompts and answers, times aside."""
    (shown,) = [block for block in blocks("text") if block.startswith("$ flan-lora chat --base mini\n")]
    _, greeting, *lines = shown.splitlines()
    chat = Chat(Router.open(REPO / "adapters" / "mini", "mini"))
    assert greeting == f"Adapters: {', '.join(chat.router.published())}. /help lists the commands."
    said: list[str] = []
    for line in lines:
        prompt, is_typed, text = line.partition("> ")
        if not is_typed:
            assert said and _timeless(line) == _timeless(said.pop(0)), line
            continue
        assert not said and prompt == chat.prompt
        said = chat.answer(text).splitlines()
    assert not said


def _timeless(line: str) -> str:
    return re.sub(r"\d+\.\d+ (?=m?s)", "", line).rstrip()


def test_the_prompt_in_the_readme_is_the_tasks_own() -> None:
    plain, *_ = blocks("python")
    prompt = eval(re.search(r"prompt = (\(.*?^\))", plain, re.DOTALL | re.MULTILINE)[1])  # type: ignore[index]
    assert prompt == str(TASKS["emotion"].prompt({"text": "i feel so happy today"}))


def test_generated_parts_are_fresh(refresh: ModuleType) -> None:
    assert refresh.stale_files() == [], "run make docs and commit the result"


def test_a_stale_part_is_found(refresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "results_table", lambda adapters_dir: "| 0.999 |")
    assert refresh.stale_files() == ["README.md"]
    assert refresh.main(["--check"]) == 1


def test_the_results_table_is_read_from_metrics(refresh: ModuleType, tmp_path: Path) -> None:
    from tests.published import HASH, make_manifest, make_metrics

    folder = tmp_path / "mini" / "emotion"
    folder.mkdir(parents=True)
    scores = {name: {"value": 0.9, "low": 0.85, "high": 0.95} for name in ("accuracy", "macro_f1")}
    (folder / "metrics.json").write_text(make_metrics(adapter=scores).model_dump_json())
    files = {"adapter_model.safetensors": {"sha256": HASH, "size_bytes": 2_234_000}}
    (folder / "manifest.json").write_text(make_manifest(scores=scores, files=files).model_dump_json())
    *_, first, second = refresh.results_table(tmp_path).splitlines()
    assert first.startswith(
        "| mini | emotion | `accuracy` | **0.900** (0.850 to 0.950) | 0.300 (0.280 to 0.320) | 0.350 (majority) |"
    )
    assert "2,000 rows of" in first and "3,000 steps, 13 min, int8, 2.2 MB" in first
    assert second.startswith("|  |  | `macro_f1` | **0.900** (0.850 to 0.950) | - | - |")


def test_the_readme_fits_and_its_links_and_jobs_exist() -> None:
    assert len(README.splitlines()) < 200
    for path in DOCS:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    targets |= {f"{verb}-{task}" for verb in ("train", "eval") for task in TASKS}
    named = set(re.findall(r"(?:^|[`$] ?| {4})make ([a-z-]+)", README, re.MULTILINE))
    assert len(named) > 4
    assert named <= targets


def test_bare_make_lists_every_job() -> None:
    listed = subprocess.run(["make"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    jobs = set(re.findall(r"^([a-z<>-]+):.*##", MAKEFILE, re.MULTILINE))
    assert {"demo", "test", "check", "train-<task>", "train-all"} <= jobs
    assert all(f"make {job} " in listed for job in jobs)
    assert all(task in listed for task in TASKS)


# Guides


def commands_in(text: str) -> list[list[str]]:
    """Words of every command in `bash` and `console` blocks, comments and prompts left out."""
    blocks = re.findall(r"^```(?:bash|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def check_command(words: list[str]) -> None:
    """A flan-lora command as far as click can tell without running it: names, options, number of arguments."""
    command: click.Command = main
    context = click.Context(main, info_name="flan-lora")
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"no command {name!r} in {command.name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.parse_args(context, list(words))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_command_in_the_docs_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    targets |= {f"{verb}-{task}" for verb in ("train", "eval") for task in TASKS}
    for words in commands_in(path.read_text(encoding="utf-8")):
        if words[:1] == ["accelerate"]:
            words = words[words.index("flan_lora") :]
        program, *arguments = words
        if program in ("flan-lora", "flan_lora"):
            check_command(arguments)
        elif program == "make":
            assert arguments[0] in targets, shlex.join(words)
        else:
            is_script = (REPO / program).is_file()  # such as benchmarks/gpu.sh
            assert is_script or program in ("pip", "python"), shlex.join(words)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("comprae emotion", AssertionError),
        ("compare --nonsense", click.NoSuchOption),
        ("adapter show", click.UsageError),
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_command(command.split())


def test_the_guides_are_linked_from_the_readme() -> None:
    for path in (REPO / "docs").glob("*.md"):
        assert f"docs/{path.name}" in README, f"nobody finds docs/{path.name}"


@pytest.mark.parametrize("name", ["compare.md", "downstream.md"])
def test_the_cheap_commands_of_the_guides_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(REPO / "adapters" / "mini" / "emotion", tmp_path / "adapters" / "mini" / "emotion")
    monkeypatch.chdir(tmp_path)
    text = (REPO / "docs" / name).read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    assert lines
    for line in lines:
        run_command(line)


@pytest.mark.parametrize("name", ["downstream.md", "router.md"])
def test_the_code_of_the_guides_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPO)
    text = (REPO / "docs" / name).read_text(encoding="utf-8")
    for code in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        printed = run_code(code, capsys)
        assert ("print(" in code) == bool(printed.strip())
        if "predict(" in code:
            assert any(label in printed for label in TASKS["emotion"].labels), printed


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported; they, and the tasks that they register, are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = set(TASKS)
    yield tmp_path
    for name in set(TASKS) - known:
        del TASKS[name]
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_a_task_of_ones_own_goes_from_csv_to_adapter_to_router(
    own_modules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (REPO / "docs" / "your-task.md").read_text(encoding="utf-8")
    [rows] = re.findall(r"^```text\n(text,label\n.*?)^```", text, re.DOTALL | re.MULTILINE)
    [recipe] = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    task, train, serve = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    header, *lines = rows.splitlines()
    # the guide shows three rows; a shop has more of the same kinds
    more = [f"{line.rpartition(',')[0]} number {k},{line.rpartition(',')[2]}" for k in range(30) for line in lines]
    Path("tickets.csv").write_text("\n".join([header, *more]) + "\n")
    Path("tickets.yaml").write_text(recipe)
    Path("tickets.py").write_text(task)
    assert "adapters/mini/tickets" in run_code(train, capsys)
    assert [line.split()[0] for line in run_code(serve, capsys).splitlines()] == ["delivery", "account"]
    card = Path("adapters/mini/tickets/README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-classification" in card and "tickets.csv" in card
    assert "It names one of three topics" in card and "| the courier never came | delivery |" in card
