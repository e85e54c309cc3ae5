"""A conversation over a true router on the tiny T5, and the commands around it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flan_lora.base import open_base
from flan_lora.cli import main
from flan_lora.cli.chat import Chat
from flan_lora.router import Router
from flan_lora.store import Store
from flan_lora.tasks import TASKS
from tests.checkpoint import save_checkpoint, spec_of
from tests.published import make_manifest, stage, tiny_fingerprint

LABELS = TASKS["emotion"].labels


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Router:
    path = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("emotion", "moods")):
        manifest = make_manifest(name, base={"fingerprint": tiny_fingerprint()})
        Store(path / "store").publish(stage(path / name, seed), manifest)
    return Router.open(path / "store", open_base(spec_of(save_checkpoint(path / "base")), device="cpu"))


@pytest.fixture
def chat(router: Router) -> Chat:
    return Chat(router)


def test_use_switches_the_adapter_and_says_how_long_it_took(chat: Chat) -> None:
    assert chat.prompt == "base"
    for name in ("emotion", "moods", "emotion"):
        assert re.fullmatch(rf"{name} answers \(switched in \d+\.\d ms\)\.", chat.answer(f"/use {name}"))
        assert chat.prompt == name
        expected = chat.router.generate("i am sad", name).text
        assert re.fullmatch(rf"{expected}\n  \[\d+ tokens, \d\.\d\d s\]", chat.answer("i am sad"))
    chat.answer("/base")
    assert chat.prompt == "base" and chat.answer("i am sad").splitlines()[0] not in LABELS


def test_an_error_is_printed_and_the_adapter_stays(chat: Chat) -> None:
    chat.answer("/use moods")
    assert "did you mean 'emotion'" in chat.answer("/use emotoin")
    assert chat.prompt == "moods"
    chat.answer("/auto")
    assert chat.answer("i am sad").startswith("Error: no adapter")


def test_compare_shows_every_adapter_beside_the_base(chat: Chat) -> None:
    header, *lines = chat.answer("/compare i am sad").splitlines()
    assert header.split() == ["ADAPTER", "ANSWER", "TIME"]
    assert [line.split()[0] for line in lines] == ["base", "emotion", "moods"]
    assert all(line.split()[1] in LABELS for line in lines[1:])


def test_unknown_commands_show_the_help(chat: Chat) -> None:
    assert chat.answer("/nonsense") == chat.answer("/help") == chat.answer("/use")
    assert all(command in chat.answer("/help") for command in Chat.COMMANDS if command != "/help")
    assert "emotion" in chat.answer("/adapters")


def test_a_conversation_from_start_to_end(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["flan_lora.cli.chat"], "open_router", lambda adapters_dir, base: router)
    for ending in ("/quit\n", ""):
        lines = f"i am sad\n/use moods\njoy\n{ending}"
        result = CliRunner().invoke(main, ["chat", "--adapter", "emotion"], input=lines, catch_exceptions=False)
        assert result.exit_code == 0
        assert result.stdout.startswith("Adapters: emotion, moods. /help lists the commands.\nemotion answers (")
        assert "emotion> " in result.stdout and "moods> " in result.stdout


def test_a_signed_adapter_is_found_by_content(repo: Path, tmp_path: Path) -> None:
    """With the embedded base and the bundled rows."""
    shutil.copytree(repo / "adapters" / "mini" / "emotion", tmp_path / "mini" / "emotion")
    options = ["--adapters-dir", str(tmp_path)]

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, [*arguments, *options])
        return result.exit_code, result.output

    code, output = run("route", "i feel so happy today")
    assert code == 1 and "none has a signature" in output
    code, output = run("adapter", "sign", "emotion", "--data", "sample", "--rows", "60")
    assert code == 0 and "Signed emotion with 60 texts" in output
    code, output = run("route", "--json", "i feel so happy today and thankful for my friends")
    assert code == 0 and json.loads(output)["adapter"] == "emotion"
    code, output = run("route", "<html><body>404 {} 12.5 %% 99/11</body></html>")
    assert code == 0 and output.startswith("none: most like emotion")


def test_serving_needs_one_base_with_adapters(repo: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["route", "x", "--adapters-dir", str(tmp_path)])
    assert result.exit_code == 1 and f"no adapters under {tmp_path}" in result.output
    for slug in ("mini", "other"):
        shutil.copytree(repo / "adapters" / "mini" / "emotion", tmp_path / slug / "emotion")
    result = CliRunner().invoke(main, ["route", "x", "--adapters-dir", str(tmp_path)])
    assert result.exit_code == 1 and "2 bases have adapters: mini, other" in result.output
