"""docs/server.md and the Dockerfile are true: their commands run, their code answers, their files exist."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from flan_lora.cli import main
from tests.serving.openai.process import REPO, Process

pytestmark = pytest.mark.xdist_group("server")

TEXT = (REPO / "docs" / "server.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8000"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


@needs_curl
def test_the_requests_of_the_guide_are_answered(mini: Process, tmp_path: Path) -> None:
    (block,) = blocks("sh")
    train, serve, ready, models, completion = block.splitlines()
    assert train.startswith("make train-emotion BASE=mini") and serve == "make serve BASE=mini &"
    outputs = [json.loads(shell(line.replace(URL, mini.url), tmp_path)) for line in (ready, models, completion)]
    assert outputs[0] == {"status": "ready"} and "emotion" in str(outputs[1])
    assert outputs[2]["choices"][0]["text"] == "joy"


def test_the_code_of_the_guide_runs(mini: Process) -> None:
    (code,) = blocks("python")
    command = [sys.executable, "-c", code.replace(URL, mini.url)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "joy\nsadness"


def test_every_status_of_the_guide_is_one_that_the_server_gives() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (REPO / "flan_lora/serving/openai").glob("*.py"))
    listed = re.findall(r"^\| ([\d, ]+) \|", TEXT, re.MULTILINE)
    statuses = {status for row in listed for status in row.split(", ")}
    assert {"400", "401", "404", "409", "413", "422", "429", "503"} <= statuses
    assert all(re.search(rf"\b{status}\b", source) for status in statuses)
    given = set(re.findall(r"(?:ApiError|ErrorKind)\(\s*(\d{3})", source)) - {"500"}
    assert given <= statuses


def test_the_dockerfile_copies_what_there_is_and_starts_a_command_that_exists() -> None:
    lines = (REPO / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    ignored = (REPO / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert "flan_lora" in sources and all((REPO / source).exists() for source in sources)
    assert not set(sources) & set(ignored)
    (entry,) = [json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT")]
    assert CliRunner().invoke(main, [*entry[1:], "--help"]).exit_code == 0
    assert any(line.startswith("USER ") for line in lines), "the server does not run as root"


def test_the_image_gets_all_that_the_package_is_built_of() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    built = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
    folders = built["tool"]["setuptools"]["package-dir"]
    wanted = {folders.get(name, name.partition(".")[0]) for name in built["tool"]["setuptools"]["packages"]}
    lines = (REPO / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    assert wanted | {"pyproject.toml", built["project"]["readme"]} <= copied
    targets = [line.split() for line in lines if line.startswith("COPY")]
    assert all(words[-1] == f"/build/{words[1]}" for words in targets if len(words) == 3)
    assert set(built["project"]["optional-dependencies"]) >= set(re.findall(r"/build\[(\w+)\]", "\n".join(lines)))


@pytest.mark.slow
@needs_curl
def test_the_five_commands_go_from_nothing_to_an_answer(tmp_path: Path) -> None:
    """In a folder of their own, with the environment that runs this test."""
    bin_dir = Path(sys.prefix) / "bin"
    if not (bin_dir / "flan-lora").exists():
        pytest.skip("flan-lora is not installed beside this Python")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPO / name, tmp_path)
    shutil.copytree(REPO / ".ci", tmp_path / ".ci")
    make = f"make -o {sys.prefix}/.installed VENV={sys.prefix} "
    train, serve, *requests = blocks("sh")[0].splitlines()
    shell(train.replace("make ", make), tmp_path)
    serving = subprocess.Popen(
        ["sh", "-c", f"exec {serve.replace('make ', make).rstrip(' &')}"], cwd=tmp_path, start_new_session=True
    )
    try:
        *_, answer = [shell(line, tmp_path) for line in requests]
        assert json.loads(answer)["choices"][0]["text"]
    finally:
        serving.send_signal(signal.SIGTERM)
        end = time.monotonic() + 60
        while serving.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        assert serving.poll() is not None
