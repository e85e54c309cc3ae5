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
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

import flan_lora
from flan_lora.cli import main
from flan_lora.cli.output import duration, format_table, percent, size
from flan_lora.errors import FlanLoraError, TrainingError
from flan_lora.recipe import Recipe
from flan_lora.system.text import shorten
from tests.cli.running import put_fake, run, succeed

HEAVY = {"torch", "transformers", "datasets", "pydantic", "peft", "numpy", "sklearn", "yaml"}


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
