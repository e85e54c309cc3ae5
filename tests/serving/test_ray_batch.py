"""`flan-lora batch --ray` on a real cluster writes what one machine writes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("ray", reason="Ray is not installed here")

from ray.cluster_utils import Cluster

from flan_lora.cli import main
from flan_lora.data.file_formats import read_rows

pytestmark = pytest.mark.xdist_group("server")

WORDS = "i feel so happy sad angry afraid loved surprised that the whole family came and nobody called me".split()


def write_rows(path: Path, number: int) -> None:
    """Texts for three adapters, among them one line in a hundred that has no answer."""
    draw, lines = random.Random(5), []
    for place in range(number):
        text = " ".join(draw.choices(WORDS, k=draw.randint(4, 14)))
        adapter = draw.choices(["emotion", "paraphrase", "nobody"], [0.95, 0.04, 0.01])[0]
        parameters = {"max_new_tokens": 8, "num_beams": 1} if adapter == "paraphrase" else {}
        lines.append(json.dumps({"text": f"{text} {place}", "adapter": adapter, "parameters": parameters}))
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize("number", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_actors_write_byte_for_byte_what_one_machine_writes(
    cluster: Cluster, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    source = tmp_path / "in.jsonl"
    write_rows(source, number)
    common = ["--adapter", "emotion", "--base", "mini", "--adapters-dir", str(repo / "adapters")]
    for target, more in (("alone.jsonl", []), ("ray.jsonl", ["--ray", "--actors", "2"])):
        result = CliRunner().invoke(main, ["batch", str(source), str(tmp_path / target), *common, *more])
        assert result.exit_code == 1 and "lines have no answer" in result.stderr, result.stderr[-2000:]
    alone, on_ray = (tmp_path / name for name in ("alone.jsonl", "ray.jsonl"))
    assert alone.read_bytes() == on_ray.read_bytes()
    records = read_rows(alone)
    assert len(records) == number and 0 < sum("error" in record for record in records) < number // 20
    assert not list(tmp_path.glob("*.partial"))
