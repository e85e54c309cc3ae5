"""A conversation over a true router on the tiny T5, and the commands around it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from itertools import count, takewhile
from pathlib import Path

import pytest
from click.testing import CliRunner

from flan_lora.adapters.store import Store
from flan_lora.base.load import open_base
from flan_lora.cli import main
from flan_lora.cli.chat import Chat, _completion
from flan_lora.serving.completion import Completion
from flan_lora.serving.router import Router
from flan_lora.serving.routing_profile import PROFILE
from flan_lora.system.text import shorten
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


def test_compare_is_one_mixed_batch(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [chat.router.generate("i am sad", name).text for name in (None, "emotion", "moods")]
    asked: list[object] = []
    generate = chat.router.generate

    def listen(texts: list[str], adapter: list[str | None], params: object) -> list[Completion]:
        asked.append(adapter)
        return generate(texts, adapter)

    monkeypatch.setattr(chat.router, "generate", listen)
    _, *lines = chat.answer("/compare i am sad").splitlines()
    assert asked == [[None, "emotion", "moods"]]
    assert [line.split(maxsplit=1)[1].rsplit(maxsplit=2)[0].strip() for line in lines] == [
        shorten(text, 60) for text in expected
    ]


def test_compare_names_the_inputs_of_adapters_that_take_several(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"emotion": ("text",), "moods": ("question", "context")}
    monkeypatch.setattr(chat.router, "inputs", inputs.__getitem__)
    *_, last = chat.answer("/compare i am sad").splitlines()
    assert re.split(r"  +", last) == ["moods", "takes question, context", "-"]


def test_a_task_of_several_inputs_asks_for_one_after_the_other(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def listen(text: object, adapter: str, params: object) -> Completion:
        asked.append((text, adapter))
        return Completion("42", adapter, 0.0, 1, 0.1)

    chat.answer("/use moods")
    monkeypatch.setattr(chat.router, "inputs", lambda name: ("context", "question"))
    monkeypatch.setattr(chat.router, "generate", listen)
    assert chat.prompt == "moods context" and chat.answer("a passage") == ""
    assert chat.prompt == "moods question" and chat.answer("who?").startswith("42\n")
    assert asked == [({"context": "a passage", "question": "who?"}, "moods")]
    chat.answer("half of it")
    assert chat.answer("/use emotion") and chat.prompt == "emotion context", "a command drops what was given"
    assert chat.answer("/base") == "base answers." and chat.prompt == "base"


def test_tab_completes_commands_and_adapters() -> None:
    words = [*Chat.COMMANDS, "/use emotion", "/use moods"]

    def all_ways(line: str) -> list[str]:
        begun = line.rpartition(" ")[2]
        return list(takewhile(bool, (_completion(line, begun, n, words) for n in count())))

    assert all_ways("/c") == ["/compare"]
    assert all_ways("/a") == ["/auto", "/adapters"]
    assert all_ways("/use m") == ["moods"] and all_ways("/use ") == ["emotion", "moods"]
    assert all_ways("hello") == []


def test_the_history_outlives_a_chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readline = pytest.importorskip("readline")
    chat_module = sys.modules["flan_lora.cli.chat"]
    monkeypatch.setattr(chat_module, "HISTORY", tmp_path / "history")
    saved = []
    monkeypatch.setattr(chat_module.atexit, "register", saved.append)
    try:
        chat_module._line_reader([])
        readline.clear_history()
        readline.add_history("i am sad")
        saved[0]()
        readline.clear_history()
        chat_module._line_reader([])
        assert readline.get_history_item(1) == "i am sad"
    finally:
        readline.clear_history()
        readline.set_completer(None)


def test_unknown_commands_show_the_help(chat: Chat) -> None:
    assert chat.answer("/nonsense") == chat.answer("/help") == chat.answer("/use")
    assert all(command in chat.answer("/help") for command in Chat.COMMANDS if command != "/help")
    assert "emotion" in chat.answer("/adapters")


def test_generation_parameters_are_set_and_forgotten(chat: Chat) -> None:
    before = chat.answer("i am so sad")
    assert chat.answer("/set max_new_tokens=2") == "Generation parameters: max_new_tokens=2."
    assert "[2 tokens" in chat.answer("i am so sad")
    assert chat.answer("/set temperature=0.5") == "Generation parameters: max_new_tokens=2 temperature=0.5."
    for wrong in ("/set num_bems=2", "/set max_new_tokens=-1", "/set max_new_tokens=two", "/set top_p", "/set =3"):
        assert chat.answer(wrong).startswith("Error: "), wrong
    assert chat.answer("/set temperature=null") == "Generation parameters: max_new_tokens=2."
    assert chat.answer("/set") == "Generation parameters: the adapter's own."
    assert chat.answer("i am so sad").split("[")[0] == before.split("[")[0]


def test_a_conversation_from_start_to_end(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["flan_lora.cli.chat"], "open_router", lambda adapters_dir, base: router)
    for ending in ("/quit\n", ""):
        lines = f"i am sad\n/use moods\njoy\n{ending}"
        result = CliRunner().invoke(main, ["chat", "--adapter", "emotion"], input=lines, catch_exceptions=False)
        assert result.exit_code == 0
        assert result.stdout.startswith("Adapters: emotion, moods. /help lists the commands.\nemotion answers (")
        assert "emotion> " in result.stdout and "moods> " in result.stdout


def test_an_adapter_with_a_routing_profile_is_found_by_content(repo: Path, tmp_path: Path) -> None:
    """With the embedded base and the bundled rows."""
    shutil.copytree(
        repo / "adapters" / "mini" / "emotion",
        tmp_path / "mini" / "emotion",
        ignore=shutil.ignore_patterns(PROFILE),
    )
    options = ["--adapters-dir", str(tmp_path)]

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, [*arguments, *options])
        return result.exit_code, result.output

    code, output = run("route", "i feel so happy today")
    assert code == 1 and "none has a routing profile" in output
    code, output = run("adapter", "fit-routing", "emotion", "--data", "sample")
    assert (
        code == 0
        and "Fitted the routing profile of emotion on" in output
        and "against 314 background texts" in output
        and "threshold from 150 of" in output
    )
    code, output = run("route", "--json", "i miss her every day and the house feels empty")
    assert code == 0 and json.loads(output)["adapter"] == "emotion"
    code, output = run("route", "<html><body>404 {} 12.5 %% 99/11</body></html>")
    assert code == 0 and output.startswith("none: most like emotion")
    (tmp_path / "foreign.txt").write_text(
        "<html>404 {} 12.5 %%</html>\ni miss her every day and the house feels empty\n", encoding="utf-8"
    )
    report = ["route", "--report", "--data", "sample", "--rows", "50"]
    code, output = run(*report, "--json", "--foreign", str(tmp_path / "foreign.txt"))
    found = json.loads(output)
    (share,) = found["adapters"]
    assert code == 0 and share["adapter"] == "emotion" and share["num_texts"] == 50
    assert share["right_share"] == found["accuracy"] > 0.8 and share["wrong_share"] == 0.0
    assert share["right_share"] + share["abstained_share"] == pytest.approx(1)
    assert found["accepted"] == {"i miss her every day and the house feels empty": "emotion"}
    assert found["false_accept_share"] == 0.5
    code, output = run(*report)
    assert code == 0 and "foreign texts taken" in output and output.startswith("ADAPTER")
    code, output = run("adapter", "sign", "emotion", "--data", "sample", "--rows", "20")  # the older name
    assert code == 0 and "on 20 texts" in output
    assert "sign" not in run("adapter", "--help")[1].split()
    code, output = run("route", "--report", "i feel so happy")
    assert code == 2 and "and not both" in output


def test_serving_needs_one_base_with_adapters(repo: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["route", "x", "--adapters-dir", str(tmp_path)])
    assert result.exit_code == 1 and f"no adapters under {tmp_path}" in result.output
    for slug in ("mini", "other"):
        shutil.copytree(repo / "adapters" / "mini" / "emotion", tmp_path / slug / "emotion")
    result = CliRunner().invoke(main, ["route", "x", "--adapters-dir", str(tmp_path)])
    assert result.exit_code == 1 and "2 bases have adapters: mini, other" in result.output
