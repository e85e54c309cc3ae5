"""Training as a user runs it, in real processes: killed and resumed, interrupted, on two processes at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flan_lora.adapters.store import Store
from flan_lora.data.sources import open_source
from flan_lora.mini import MINI_PATH
from flan_lora.recipe_file import load_recipe
from flan_lora.training.factory import build_adapter

pytestmark = pytest.mark.slow

SETTINGS = (
    "data.max_train_rows=96",
    "data.max_validation_rows=12",
    "evaluation.max_test_rows=24",
    "training.epochs=3",
    "training.evals_per_epoch=2",
    "training.patience=null",
    "training.precision=fp32",
    "lora.dropout=0.1",
)


def train_command(folder: Path, *settings: str, resume: bool = False) -> list[str]:
    """`train emotion` on the embedded base and the bundled sample, 18 steps of 16 examples."""
    overrides = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    places = ["--adapters-dir", str(folder / "adapters"), "--run-dir", str(folder / "run")]
    flags = ["--resume"] if resume else []
    return ["train", "emotion", "--set", "base.model=mini", "--data", "sample", *overrides, *places, *flags]


def run_cli(repo: Path, command: list[str], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flan_lora", *command], cwd=repo, capture_output=True, text=True, **options
    )


def start_cli(repo: Path, command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flan_lora", *command],
        cwd=repo,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process: subprocess.Popen[str], timeout_s: float = 180.0) -> None:
    """Until ``condition()`` holds; fails when the process ends or the time is over."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"ended too early with {process.returncode}:\n{process.communicate()}")
        assert time.monotonic() < end_s, "too slow"
        time.sleep(0.01)


def published(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapters" / "mini" / "emotion" / "adapter_model.safetensors")


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("path", sorted(Path("recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_trains_evaluates_and_publishes(tmp_path, path):
    limits = ("data.max_train_rows=60", "data.max_validation_rows=6", "evaluation.max_test_rows=8")
    overrides = [*limits, "base.model=mini", "training.max_steps=3", "evaluation.batch_size=8"]
    folder = build_adapter(
        load_recipe(path, overrides),
        open_source("sample"),
        adapters_dir=tmp_path / "adapters",
        run_dir=tmp_path / "run",
        echo=lambda line: None,
    )
    store = Store(folder.parent)
    assert store.verify(path.stem) == []
    manifest = store.open(path.stem).manifest
    assert manifest.task == path.stem and manifest.training.num_steps == 3
    assert manifest.scores.keys() == manifest.base_scores.keys() and manifest.baseline_scores


@pytest.fixture(scope="module")
def whole(repo, tmp_path_factory) -> Path:
    """A run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_cli(repo, train_command(folder))
    assert done.returncode == 0, done.stderr
    assert "published" in done.stdout
    return folder


@pytest.mark.parametrize("checkpoint", ["checkpoint-3", "checkpoint-9"])
def test_a_killed_run_resumes_to_the_same_bits(repo, whole, tmp_path, checkpoint):
    process = start_cli(repo, train_command(tmp_path))
    wait_for((tmp_path / "run" / "checkpoints" / checkpoint).is_dir, process)
    process.kill()  # SIGKILL, while the checkpoint is being written or just after
    process.communicate()
    assert not (tmp_path / "adapters").exists(), "nothing half-trained is published"
    done = run_cli(repo, train_command(tmp_path, resume=True))
    assert done.returncode == 0, done.stderr
    ours, theirs = published(tmp_path), published(whole)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    evaluations = [entry["step"] for entry in log_of(tmp_path) if "eval_loss" in entry]
    assert evaluations == [3, 6, 9, 12, 15, 18]


def test_ctrl_c_saves_and_the_printed_way_on_works(repo, whole, tmp_path):
    process = start_cli(repo, train_command(tmp_path))
    wait_for((tmp_path / "run" / "checkpoints" / "checkpoint-3").is_dir, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted at step" in stderr and "--resume" in stderr and "Traceback" not in stderr
    done = run_cli(repo, train_command(tmp_path, resume=True))
    assert done.returncode == 0, done.stderr
    ours, theirs = published(tmp_path), published(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_two_processes_learn_what_one_learns(repo, tmp_path):
    """Same rows per step on one process and on two (gloo): same loss, same adapter, one publisher."""
    base = mini_without_dropout(tmp_path / "mini")  # two processes draw other dropout masks than one
    settings = ("lora.dropout=0.0", "training.epochs=2", f"base.model={base}")
    alone = run_cli(repo, train_command(tmp_path / "one", *settings))
    assert alone.returncode == 0, alone.stderr
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(free_port())]
    launch += [
        "--num_cpu_threads_per_process",
        "1",
        "-m",
        "flan_lora",
        *train_command(tmp_path / "two", *settings),
    ]
    together = subprocess.run(
        [sys.executable, *launch], cwd=repo, capture_output=True, text=True, env=without_threads()
    )
    assert together.returncode == 0, together.stderr[-3000:]
    losses = [[entry["loss"] for entry in log_of(tmp_path / name) if "loss" in entry] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    validation = [[e["eval_loss"] for e in log_of(tmp_path / name) if "eval_loss" in e] for name in ("one", "two")]
    assert validation[1] == pytest.approx(validation[0], rel=2e-3)
    one, two = published(tmp_path / "one"), published(tmp_path / "two")
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=0.05, atol=2e-4)
    assert together.stdout.count("published") == 1


def mini_without_dropout(folder: Path) -> Path:
    shutil.copytree(MINI_PATH, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dropout_rate": 0.0}))
    return folder


def without_threads() -> dict[str, str]:
    """accelerate sets the threads of each process itself."""
    return {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
