"""The command line: what it imports, what it prints, how it ends.

What the commands call is replaced by fakes here; tests/integration runs the true thing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from safetensors import SafetensorError

import flan_lora
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.cli import main
from flan_lora.cli.output import duration, format_table, percent, size
from flan_lora.errors import DataError, FlanLoraError, TrainingError
from flan_lora.recipe import Recipe
from flan_lora.system.text import shorten
from tests.published import HASH, make_manifest, make_metrics, stage

RECIPES = sorted(path.stem for path in Path("recipes").glob("*.yaml"))
HEAVY = {"torch", "transformers", "datasets", "pydantic", "peft", "numpy", "sklearn", "yaml"}


def run(*arguments: str, input: str | None = None, **options: Any) -> Result:
    """Run a command in this process; stdout and stderr apart."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=input, **options)


def succeed(*arguments: str, **options: Any) -> str:
    """Run a command that must end well, and return what it printed."""
    result = run(*arguments, **options)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def put_fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """Stand a fake in for a module that a command imports."""
    fake = ModuleType(f"flan_lora.{name}")
    vars(fake).update(members)
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    package, _, module = fake.__name__.rpartition(".")
    monkeypatch.setattr(import_module(package), module, fake, raising=False)


# Start-up


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["--version"], ["adapter", "list", "--help"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from flan_lora.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split("MODULES")[1].split()
    assert "click" in loaded
    assert HEAVY.isdisjoint(loaded), HEAVY & set(loaded)


def test_every_command_has_a_help_text_that_fits_a_line() -> None:
    def commands(command: Any, path: str) -> Any:
        yield path, command
        for name, child in getattr(command, "commands", {}).items():
            yield from commands(child, f"{path} {name}")

    found = list(commands(main, "flan-lora"))
    assert len(found) > 15
    for path, command in found[1:]:
        assert command.help, path
        assert not command.get_short_help_str(limit=72).endswith("..."), (
            f"{path}: {command.get_short_help_str(72)}"
        )


def test_version_is_the_packages() -> None:
    assert succeed("--version").strip() == flan_lora.__version__


def test_public_names_are_listed_once_and_unknown_ones_are_errors() -> None:
    assert set(flan_lora._HOMES) | {"__version__"} == set(flan_lora.__all__) == set(dir(flan_lora))
    assert flan_lora.Recipe is Recipe
    with pytest.raises(AttributeError, match="has no attribute 'Recipes'"):
        flan_lora.Recipes  # noqa: B018


# Errors


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        raise error

    return call


def test_what_a_user_can_fix_is_one_message_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    put_fake(monkeypatch, "training.doctor", examine=raising(FlanLoraError("no such thing.\nTry another.")))
    result = run("doctor")
    assert result.exit_code == 1
    assert result.stderr == "Error: no such thing.\nTry another.\n"
    assert result.stdout == ""


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    put_fake(monkeypatch, "training.doctor", examine=raising(FlanLoraError("no such thing")))
    monkeypatch.setenv("FLAN_LORA_DEBUG", "1")
    assert isinstance(run("doctor").exception, FlanLoraError)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(36, "File name too long", "x" * 5000),
        FileNotFoundError(2, "No such file or directory", "gone"),
        SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
    ],
    ids=["full", "long", "gone", "safetensors"],
)
def test_what_a_disk_refuses_is_one_message_whoever_wrote(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    put_fake(monkeypatch, "training.doctor", examine=raising(error))
    result = run("doctor")
    assert result.exit_code == 1 and len(result.stderr) < 500
    assert result.stderr.startswith("Error: a file cannot be written or read: ") and "Make room" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "emotion", "--dry-run", "--data"),
        ("train", "emotion", "--dry-run", "--data", "sample", "--base"),
        ("train", "emotion", "--dry-run", "--data", "sample", "--base", "./"),
        ("recipe", "schema", "-o"),
        ("generate", "text", "--adapter"),
        ("adapter", "list", "--adapters-dir"),
        ("eval", "emotion", "--data", "sample", "--predictions"),
    ],
    ids=lambda arguments: "-".join(arguments[:2] + arguments[-1:]),
)
def test_a_name_of_5000_characters_is_one_short_message(arguments: tuple[str, ...]) -> None:
    *before, last = arguments
    result = run(*before, f"{last}{'x' * 5000}") if last == "./" else run(*arguments, "x" * 5000)
    assert result.exit_code == 1 and len(result.stderr) < 1500 and "xxx" in result.stderr, result.output


def test_what_only_we_can_fix_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    put_fake(monkeypatch, "training.doctor", examine=raising(ZeroDivisionError()))
    assert isinstance(run("doctor").exception, ZeroDivisionError)


def test_ctrl_c_exits_with_130_and_no_traceback() -> None:
    code = (
        "import signal, sys, time, types; fake = types.ModuleType('flan_lora.training.doctor')\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # nohup and background jobs ignore it
        "def examine():\n    print('ready', flush=True); time.sleep(60)\n"
        "fake.examine = examine; sys.modules['flan_lora.training.doctor'] = fake\n"
        "from flan_lora.cli import main; main(['doctor'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.strip() == "Interrupted."


def test_an_interrupt_that_has_something_to_say_exits_with_130_too(monkeypatch: pytest.MonkeyPatch) -> None:
    error = TrainingError("interrupted at step 3 of 9; go on with --resume")
    error.__cause__ = KeyboardInterrupt()
    put_fake(monkeypatch, "training.doctor", examine=raising(error))
    result = run("doctor")
    assert result.exit_code == 130
    assert result.stderr == "Error: interrupted at step 3 of 9; go on with --resume\n"


def test_a_closed_pipe_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "flan_lora", "recipe", "schema"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode != 0


# Recipes


def test_recipe_list_has_all_six() -> None:
    lines = succeed("recipe", "list").splitlines()
    assert [line.split()[0] for line in lines[1:]] == RECIPES
    assert len(RECIPES) == 6


def test_recipes_ship_to_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert succeed("recipe", "list").count("\n") == 7
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "emotion.yaml").write_text("name: mine\ntask: emotion\ndata: {dataset: me/mine}\n")
    assert "me/mine" in succeed("recipe", "show", "emotion"), "a recipe of one's own wins"


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_show_prints_the_file_or_every_field(name: str) -> None:
    assert succeed("recipe", "show", name) == Path(f"recipes/{name}.yaml").read_text()
    resolved = yaml.safe_load(succeed("recipe", "show", name, "--resolved"))
    assert resolved == json.loads(succeed("recipe", "show", name, "--json"))
    assert Recipe.model_validate(resolved).name == name


def test_recipe_validate_reports_every_problem_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\ntask: emotion\ndata: {dataset: x/y}\nlora: {rank: 0}\n")
    (tmp_path / "b.yaml").write_text("name: b\ntask: emoton\ndata: {dataset: x/y}\n")
    result = run("recipe", "validate", tmp_path / "a.yaml", "emotion", tmp_path / "b.yaml")
    assert result.exit_code == 1
    assert "emotion: valid" in result.stdout
    assert "lora.rank" in result.stderr and "did you mean 'emotion'?" in result.stderr
    assert succeed("recipe", "validate").count("valid, fingerprint") == 6


def test_recipe_schema_is_json_and_describes_fields(tmp_path: Path) -> None:
    schema = json.loads(succeed("recipe", "schema"))
    assert schema["$defs"]["LoraSection"]["properties"]["rank"]["description"].startswith("Rank r")
    assert "for_base" in schema["properties"]
    assert succeed("recipe", "schema", "-o", tmp_path / "schema.json") == ""
    assert json.loads((tmp_path / "schema.json").read_text()) == schema


def test_an_unknown_recipe_names_the_near_one() -> None:
    result = run("recipe", "show", "emotoin")
    assert result.exit_code == 1
    assert "emotoin" in result.stderr and "emotion" in result.stderr


# Train


@dataclass
class FakeEstimate:
    """As much of an estimate as the command looks at."""

    num_trainable: int = 0

    def __str__(self) -> str:
        return "3,000 steps"


@dataclass
class FakeFactory:
    """Records how it is called."""

    calls: list[tuple[Any, dict[str, Any]]]

    def build_adapter(self, recipe: Recipe, source: Any, **options: Any) -> Path:
        options["echo"]("training")
        self.calls.append(((recipe, source), options))
        return Path(options["adapters_dir"]) / "mini" / recipe.name

    def plan(self, recipe: Recipe, source: Any) -> FakeEstimate:
        self.calls.append(((recipe, source), {}))
        return FakeEstimate()


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> FakeFactory:
    fake = FakeFactory([])
    put_fake(monkeypatch, "training.factory", build_adapter=fake.build_adapter, plan=fake.plan)
    return fake


def test_train_hands_everything_on(factory: FakeFactory, tmp_path: Path) -> None:
    options = "--base mini --data sample --set lora.rank=8 --resume --report-to tensorboard --name mine"
    assert "training" in succeed("train", "emotion", *options.split(), "--adapters-dir", tmp_path)
    (recipe, source), given = factory.calls[0]
    assert (recipe.base.model, recipe.lora.rank, recipe.name, source.kind) == ("mini", 8, "mine", "sample")
    assert (given["resume"], given["report_to"], given["adapters_dir"]) == (True, "tensorboard", tmp_path)
    assert given["run_dir"] == Path("runs/mini/mine")


def test_dry_run_trains_nothing(factory: FakeFactory) -> None:
    assert "3,000 steps" in succeed("train", "emotion", "--dry-run", "--data", "sample")
    assert [options for _, options in factory.calls] == [{}]


def test_json_output_holds_nothing_but_json(factory: FakeFactory) -> None:
    result = run("train", "emotion", "--data", "sample", "--json")
    assert json.loads(result.stdout) == {"path": "adapters/mini/emotion"}
    assert "training" in result.stderr


def test_another_base_drops_the_pinned_revision_and_its_own_is_kept(factory: FakeFactory, tmp_path: Path) -> None:
    pinned = tmp_path / "r.yaml"
    pinned.write_text("name: r\ntask: emotion\nbase: {model: a/b, revision: abc}\ndata: {dataset: x/y}\n")
    for options in ([], ["--base", "mini"], ["--base", "c/d", "--set", "base.revision=v1"]):
        succeed("train", pinned, "--data", "sample", *options)
    bases = [recipe.base for (recipe, _), _ in factory.calls]
    assert [(base.model, base.revision) for base in bases] == [("a/b", "abc"), ("mini", None), ("c/d", "v1")]


def test_a_strange_name_is_a_recipe_error(factory: FakeFactory) -> None:
    result = run("train", "emotion", "--data", "sample", "--name", 'x" y')
    assert result.exit_code == 1 and "name:" in result.stderr
    assert factory.calls == []


# Data


def test_data_inspect_and_lint_print_what_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = SimpleNamespace(problems=(), errors=(), raise_if_errors=lambda: None)
    put_fake(monkeypatch, "base.load", open_tokenizer=lambda spec: spec.model)
    put_fake(
        monkeypatch,
        "data.inspect",
        inspect=lambda recipe, source, tokenizer, num_examples: (tokenizer, num_examples),
    )
    put_fake(monkeypatch, "data.lint", lint=lambda recipe, source, tokenizer: clean)
    assert json.loads(
        succeed("data", "inspect", "qa", "--base", "mini", "-n", "5", "--data", "sample", "--json")
    ) == ["mini", 5]
    assert "namespace" in succeed("data", "lint", "qa", "--data", "sample")


def test_data_lint_fails_on_errors_in_both_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Report:
        errors: tuple[str, ...] = ("too many <unk>",)

        def raise_if_errors(self) -> None:
            raise DataError("too many <unk>")

    put_fake(monkeypatch, "base.load", open_tokenizer=lambda spec: None)
    put_fake(monkeypatch, "data.lint", lint=lambda *arguments: Report())
    plain, as_json = (
        run("data", "lint", "qa", "--data", "sample"),
        run("data", "lint", "qa", "--data", "sample", "--json"),
    )
    assert (plain.exit_code, as_json.exit_code) == (1, 1)
    assert plain.stderr == "Error: too many <unk>\n"
    assert json.loads(as_json.stdout) == {"errors": ["too many <unk>"]}


# Adapters


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = stage(tmp_path_factory.mktemp("staged"))
    (folder / "metrics.json").write_text(make_metrics().model_dump_json())
    return folder


@pytest.fixture
def adapters_dir(staged: Path, tmp_path: Path) -> Path:
    """Two bases: mini has emotion and mine, flan-t5-large has emotion."""
    for base, name in (("mini", "emotion"), ("mini", "mine"), ("google/flan-t5-large", "emotion")):
        manifest = make_manifest(
            name, base={"model": base}, base_scores={"accuracy": {"value": 0.3, "low": 0.2, "high": 0.4}}
        )
        Store(tmp_path / base.split("/")[-1]).publish(staged, manifest)
    return tmp_path


def test_adapter_list_shows_scores_beside_the_bare_base(adapters_dir: Path) -> None:
    lines = succeed("adapter", "list", "--adapters-dir", adapters_dir).splitlines()
    assert len(lines) == 4
    assert lines[2].split()[:2] == ["mini", "emotion"]
    assert len(succeed("adapter", "list", "--base", "mini", "--adapters-dir", adapters_dir).splitlines()) == 3
    listed = json.loads(succeed("adapter", "list", "--json", "--adapters-dir", adapters_dir))
    assert [(item["base"]["model"], item["name"]) for item in listed][1:] == [
        ("mini", "emotion"),
        ("mini", "mine"),
    ]


def test_adapter_list_names_the_damaged_and_the_empty(
    adapters_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (adapters_dir / "mini" / "mine" / "adapter_model.safetensors").write_bytes(b"cut")
    assert "mini/mine is damaged: adapter_model.safetensors" in succeed(
        "adapter", "list", "--adapters-dir", adapters_dir
    )
    assert "flan-lora train" in succeed("adapter", "list", "--adapters-dir", tmp_path_factory.mktemp("none"))


def test_adapter_show_needs_the_base_only_when_two_have_the_name(adapters_dir: Path) -> None:
    shown = succeed("adapter", "show", "mine", "--adapters-dir", adapters_dir)
    assert "rank 4, alpha 8, q v wi_0" in shown and "0.850 to 0.950" in shown and "12 min 34 s" in shown
    result = run("adapter", "show", "emotion", "--adapters-dir", adapters_dir)
    assert result.exit_code == 1 and "flan-t5-large, mini" in result.stderr and "--base" in result.stderr
    for which in (["emotion", "--base", "mini"], [str(adapters_dir / "mini" / "emotion")]):
        found = json.loads(succeed("adapter", "show", *which, "--json", "--adapters-dir", adapters_dir))
        assert found["base"] == {"model": "mini", "revision": None, "fingerprint": HASH, "quantization": "int8"}


@pytest.mark.parametrize("name", ["../mini/emotion", "/etc", "."])
def test_a_path_is_not_an_adapter_name(name: str, adapters_dir: Path) -> None:
    result = run("adapter", "show", name, "--adapters-dir", adapters_dir)
    assert result.exit_code == 1 and "is not an adapter name" in result.stderr


def test_an_unknown_adapter_lists_what_is_published(adapters_dir: Path) -> None:
    result = run("adapter", "show", "emotions", "--adapters-dir", adapters_dir)
    assert result.exit_code == 1
    assert "flan-t5-large/emotion, mini/emotion, mini/mine" in result.stderr


def test_adapter_verify_finds_an_altered_file(adapters_dir: Path) -> None:
    assert succeed("adapter", "verify", "--adapters-dir", adapters_dir).count("whole") == 3
    weights = adapters_dir / "mini" / "mine" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    result = run("adapter", "verify", "--adapters-dir", adapters_dir)
    assert result.exit_code == 1
    assert "mini/mine: damaged" in result.stdout and result.stdout.count("whole") == 2
    assert run("adapter", "verify", "mine", "--json", "--adapters-dir", adapters_dir).exit_code == 1


def test_adapter_remove_asks_first(adapters_dir: Path) -> None:
    folder = adapters_dir / "mini" / "mine"
    assert run("adapter", "remove", "mine", "--adapters-dir", adapters_dir, input="n\n").exit_code == 1
    assert folder.is_dir()
    succeed("adapter", "remove", "mine", "--yes", "--adapters-dir", adapters_dir)
    assert not folder.exists()


# Eval


def test_eval_prints_scores_with_intervals_and_saves_predictions(
    monkeypatch: pytest.MonkeyPatch, adapters_dir: Path, tmp_path: Path
) -> None:
    score = SimpleNamespace(value=0.5, low=0.4, high=0.6)
    asked: list[dict[str, Any]] = []

    def reevaluate(stored: StoredAdapter, source: Any, **options: Any) -> SimpleNamespace:
        asked.append({"name": stored.name, "source": source.kind, **options})
        return SimpleNamespace(
            name="mine",
            task="emotion",
            split="test",
            num_rows=2000,
            scores={"accuracy": score},
            seconds=1.5,
            predictions=("p",),
        )

    put_fake(monkeypatch, "training.reevaluate", reevaluate=reevaluate)
    put_fake(
        monkeypatch,
        "evaluation.predictions",
        write_predictions=lambda path, predictions: path.write_text(predictions[0]),
    )
    command = ("eval", "mine", "--data", "sample", "--adapters-dir", adapters_dir)
    assert "0.4 to 0.6" in succeed(*command, "--predictions", tmp_path / "p.jsonl")
    assert (tmp_path / "p.jsonl").read_text() == "p"
    printed = json.loads(succeed(*command, "--json", "--base-only", "--split", "validation"))
    assert printed["num_rows"] == 2000 and "predictions" not in printed
    assert [(call["role"], call["base_only"]) for call in asked] == [("test", False), ("validation", True)]

    asked.clear()
    (tmp_path / "mine.csv").write_text("body,mood\nx,joy\n")
    own = ("eval", "mine", "--data", tmp_path / "mine.csv", "--adapters-dir", adapters_dir)
    assert "2,000 rows of mine.csv" in succeed(*own, "--set", "data.columns.text=body")
    succeed(*own, "--split", "test")
    assert [(call["role"], call["overrides"]) for call in asked] == [
        (None, ("data.columns.text=body",)),
        ("test", ()),
    ]
    refused = run(*command, "--split", "all")
    assert refused.exit_code == 2 and "--split all is for a file of yours" in refused.output


# Doctor, mini and the printing


def test_doctor_gives_advice_for_what_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Finding:
        name: str
        value: str
        ok: bool
        advice: str

    found = [Finding("torch", "2.13", True, ""), Finding("int8", "fails", False, "Install bitsandbytes.")]
    put_fake(monkeypatch, "training.doctor", examine=lambda: found)
    printed = succeed("doctor")
    assert "int8: Install bitsandbytes." in printed and "torch:" not in printed
    assert json.loads(succeed("doctor", "--json"))[1]["ok"] is False


def test_mini_says_where_it_lies() -> None:
    assert Path(succeed("mini", "path").strip()).parts[-2:] == ("mini", "checkpoint")


def test_tables_align_numbers_right_and_text_left() -> None:
    table = format_table(("NAME", "SIZE"), [("a", "5.0 MB"), ("long name", "18.9 MB")])
    assert table == "NAME          SIZE\na           5.0 MB\nlong name  18.9 MB"
    assert format_table(("A", "B"), []) == "A  B"
    assert format_table(("", ""), [("x", "y z")]) == "x  y z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (size(999), "999 B"),
        (size(18_874_368), "18.9 MB"),
        (size(1_570_000_000), "1.57 GB"),
        (duration(4.25), "4.2 s"),
        (duration(200), "3 min 20 s"),
        (duration(7500), "2 h 05 min"),
        (percent(0.0316), "3.2 %"),
        (shorten("a\n b", 5), "a b"),
        (shorten("abcdefgh", 6), "abc..."),
    ],
)
def test_numbers_come_with_units(text: str, expected: str) -> None:
    assert text == expected
