"""``benchmarks/gpu.sh``: every part runs, on the CPU in the smallest shapes; a failing one takes no other down."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_gpu", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


gpu = load_script()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Of the smallest shapes, whose files are there."""
    settings = gpu.Settings.tiny("cpu", str(tmp_path_factory.mktemp("stage")))
    list(gpu.prepare(settings))
    return settings


NUM_FINDINGS = {"tests": 1, "mixed": 5, "kernels": 4, "captured": 15, "train-int8": 2, "train-bf16": 2}


SLOW = {"mixed", "train-int8", "train-bf16"}
"""What takes 20 s each, in processes of its own."""


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.slow] * (part in SLOW)) for part in NUM_FINDINGS]
)
def test_every_part_runs_in_the_smallest_shapes(
    settings: object, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    findings = list(gpu.PARTS[part](settings))
    assert len(findings) == NUM_FINDINGS[part]
    assert all(json.loads(json.dumps(each)) == each for each in findings)
    if part != "tests":
        assert all(each["ours"] > 0 for each in findings if "cost" not in each["measure"])
    table = gpu.table([gpu.Outcome(part, "ok", 1.0, findings)]).splitlines()
    assert len(table) == 2 + len(findings) and {line.count("|") for line in table} == {8}


def test_the_parts_take_less_than_nine_minutes() -> None:
    assert sum(gpu.LIMITS_S.values()) <= 9 * 60 and gpu.LIMITS_S.keys() == gpu.PARTS.keys()


def outcome_of(code: str, limit_s: float = 20) -> object:
    return gpu.run_part("mixed", [sys.executable, "-c", code], limit_s, "cpu")


def test_a_part_that_fails_keeps_what_it_found_and_says_why() -> None:
    outcome = outcome_of(
        "print('{\"measure\": \"a\"}', flush=True); print('noise'); raise ValueError('no kernels')"
    )
    assert outcome.status == "failed: ValueError: no kernels"
    assert outcome.findings == [{"measure": "a"}]


def test_a_part_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time; time.sleep(1.5); open({str(alive)!r}, 'w')"
    code = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n"
    outcome = outcome_of(f'{code}print(\'{{"measure": "a"}}\', flush=True); time.sleep(60)', limit_s=1)
    assert outcome.status == "stopped after 1 s" and outcome.seconds < 10
    assert outcome.findings in ([{"measure": "a"}], [])  # a slow machine may not have come so far
    time.sleep(2)
    assert not alive.exists()


def test_the_command_writes_a_table_and_its_numbers(tmp_path: Path) -> None:
    command = [ROOT / "benchmarks" / "gpu.sh", "--device", "cpu", "--tiny", "--only", "kernels", "--out", tmp_path]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    (report_file,), (table_file,) = tmp_path.glob("*-gpu-tiny-cpu.json"), tmp_path.glob("*-gpu-tiny-cpu.md")
    report = json.loads(report_file.read_text(encoding="utf-8"))
    assert [(part["part"], part["status"]) for part in report["parts"]] == [("prepare", "ok"), ("kernels", "ok")]
    assert {"torch", "transformers", "peft", "bitsandbytes", "python", "cuda", "triton"} == report[
        "versions"
    ].keys()
    assert report["settings"]["folder"] == ""
    assert done.stdout.strip() in table_file.read_text(encoding="utf-8")


def test_a_device_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(Exception, match=r"no cuda device(?s:.*)--device cpu --tiny"):
        gpu.describe("cuda")


def test_settings_survive_the_way_to_a_part() -> None:
    settings = gpu.Settings("cuda", "somewhere")
    assert gpu.settings_of(json.dumps(asdict(settings))) == settings
