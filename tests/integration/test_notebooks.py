"""The notebooks of docs/notebooks run from top to bottom, without a GPU and without the Hub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "docs" / "notebooks"
_EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(notebook)
resources = {"metadata": {"path": sys.argv[2]}}
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
nbformat.write(notebook, sys.argv[3])
"""


def run(name: str, folder: Path) -> list[str]:
    """What each code cell prints, the notebook run in an empty folder by a kernel of this interpreter."""
    spec = folder / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "", "language": "python"}))
    work, out = folder / "work", folder / "out.ipynb"
    work.mkdir()
    places = {
        "JUPYTER_PATH": folder / "jupyter",
        "JUPYTER_RUNTIME_DIR": folder,
        "IPYTHONDIR": folder,
        "TMPDIR": work,
    }
    environment = {**os.environ, "JUPYTER_PLATFORM_DIRS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {name: str(path) for name, path in places.items()}
    environment["PYTHONPATH"] = os.pathsep.join([str(REPO), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", _EXECUTE, str(FOLDER / f"{name}.ipynb"), str(work), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in json.loads(out.read_text())["cells"] if cell["cell_type"] == "code"]
    return ["".join("".join(output.get("text", "")) for output in cell["outputs"]) for cell in cells]


@pytest.mark.slow
def test_the_quickstart_trains_compares_swaps_and_serves(tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="nbclient is a dev extra")
    _, trained, compared, asked, swapped, served = run("quickstart", tmp_path)
    assert "trained 40 steps" in trained and "published" in trained
    assert re.findall(r"^(adapter|bare base|majority) +macro-F1 0\.\d{3}", compared, re.MULTILINE) == [
        "adapter",
        "bare base",
        "majority",
    ]
    assert asked.count("moods:") == 3
    assert "again: " in swapped and re.search(r"^similarity +(yes|no)$", swapped, re.MULTILINE)
    assert served.strip() in ("sadness", "joy", "love", "anger", "fear", "surprise")


def test_the_t4_notebook_falls_back_to_mini_and_says_so(tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="nbclient is a dev extra")
    found, _, cost, trained, files, answers, archive = run("flan-t5-large-on-a-t4", tmp_path)
    assert "no GPU: falling back to mini" in found
    assert "optimizer steps     4" in cost and "memory, estimated" in cost
    assert "trained 4 steps" in trained and "GB of this process at the peak" in trained
    assert "adapter_model.safetensors" in files and "README.md" in files
    assert answers.startswith("adapter ") and "\nbase " in answers
    assert archive.strip().endswith("summarization.zip")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)
