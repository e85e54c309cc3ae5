"""``flan-lora bench router``: measures run, equal weights give equal answers, medians and ratios are right."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flan_lora.bench.apart import Apart, Here, Turn, Watched
from flan_lora.bench.router import Finding, Options, _agreement, _compared, _partings, run
from flan_lora.bench.stage import make_sources, open_staged, set_up, spread, zipf
from flan_lora.bench.systems import Peft
from flan_lora.cli import main
from flan_lora.errors import BaseModelError

SMALL = ["--rounds", "1", "--rows", "3", "--source-tokens", "6", "--new-tokens", "3", "--requests", "20"]


def here(measure: str, **options: Any) -> Options:
    """One measure, without starting a process for each system."""
    return Options(measures=(measure,), rounds=1, apart=False, **options)


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "router", *SMALL, *arguments], catch_exceptions=False)


def test_the_table_ends_in_one_line_of_json_that_can_be_saved(tmp_path: Path) -> None:
    saved = tmp_path / "results" / "run.json"
    result = bench("--only", "load", "--save", str(saved))
    assert result.exit_code == 0
    *table, line = result.stdout.splitlines()
    assert table[0].split() == ["MEASURE", "OURS", "AGAINST", "THEIRS", "RATIO", "NOTE"] and len(table) == 2
    report = json.loads(line)
    assert saved.read_text(encoding="utf-8") == f"{line}\n"
    assert report["options"]["rows"] == 3 and report["options"]["measures"] == ["load"]
    assert {"torch", "peft", "transformers", "bitsandbytes", "python"} == report["versions"].keys()
    (finding,) = report["findings"]
    assert len(finding["runs"]["peft"]) == 1 and finding["ours"] > 0 and finding["ratio"] > 1


def test_adapters_are_activated_one_after_the_other() -> None:
    findings = list(run(here("activate")))
    assert [finding.measure for finding in findings] == ["activate, 6 resident", "activate, 16 resident"]
    assert all(finding.ours > 0 and finding.ratio is not None and finding.ratio > 1 for finding in findings)


def test_mixed_batches_write_what_peft_writes() -> None:
    findings = list(run(here("mixed", rows=4, source_tokens=9, new_tokens=6, adapters=(1, 4))))
    assert [f.measure for f in findings] == ["4 rows, U=1"] * 2 + ["4 rows, U=4"] * 2 + ["cost of U=4 over U=1"]
    notes = [f.note for f in findings if f.against == "PEFT, same int8 base"]
    assert len(notes) == 2 and all(largest_lead(note) < 0.1 for note in notes), notes


def largest_lead(note: str) -> float:
    """How far PEFT's token leads ours where they part, in nats; processors round near ties differently."""
    if note == "4 of 4 rows the same tokens":
        return 0.0
    same, lead = re.fullmatch(r"(\d) of 4 rows the same tokens; .* nats, ([\d.]+) at most", note).groups()  # type: ignore[union-attr]
    assert int(same) >= 2, note
    return float(lead)


def test_more_adapters_than_slots_are_served() -> None:
    first, second = run(here("zipf", rows=1, source_tokens=6, new_tokens=2, num_requests=20, on_disk=(2, 40)))
    assert second.measure == "p95 latency, 40 on disk" and second.ours > 0 and "over 2" in second.note
    assert "+0.0 %" in first.note


def test_merged_models_are_compared_at_the_right_scale() -> None:
    """CTranslate2 in int8 rounds differently, but answers like the model it was made from."""
    pytest.importorskip("ctranslate2")
    _, finding = run(here("merged", rows=8, source_tokens=20, new_tokens=2))
    same, _, num, *_ = finding.note.split()
    assert int(num) == 8 and int(same) >= 4


def test_without_ctranslate2_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    result = bench("--only", "merged")
    assert result.exit_code == 1 and "pip install 'flan-lora[bench]'" in result.stderr
    assert bench("--only", "nonsense").stderr.startswith("Error: no measure 'nonsense': there are activate, load")


def test_ratios_say_how_many_times_better_ours_is() -> None:
    speeds = {"ours": [30.0, 20.0, 50.0], "theirs": [10.0, 10.0, 90.0]}
    assert _compared("a", speeds, "tokens/s", "b") == Finding("a", 30.0, "tokens/s", "b", 10.0, 3.0, "", speeds)
    times = {"ours": [0.002], "theirs": [0.01]}
    found = _compared("a", times, "ms", "b")
    assert (found.ours, found.theirs, found.ratio) == (2.0, 10.0, 5.0)
    assert _agreement([[1], [2, 3]], [[1], [2, 4]]) == "1 of 2 rows the same tokens"


def test_a_parting_is_judged_at_the_first_token_that_differs():
    class Fake:
        def call(self, method, *arguments):
            assert (method, *arguments) == ("lead", [7, 1], 2, [4], 5, 6)
            return Turn(1.0, 0.03)

    note = _partings(Fake(), [[9, 1], [7, 1]], [0, 2], [[1, 2], [4, 6]], [[1, 2], [4, 5]])
    assert note == "; where others part, PEFT's token leads by 0.03 nats, 0.03 at most"
    assert _partings(Fake(), [[9, 1]], [0], [[1, 2]], [[1, 2]]) == ""


def test_peft_names_the_lead_of_its_own_choice(tmp_path):
    stage = set_up("mini", tmp_path)
    peft, sources = Peft(open_staged(stage), stage, num_adapters=2), make_sources(1, 12)
    (written,) = peft.generate(sources, [1], 4)
    leads = [peft.lead(sources[0], 1, written[:3], written[3], other) for other in range(50, 80)]
    assert min(leads) >= 0 and max(leads) > 0


def test_adapters_are_spread_evenly_or_by_popularity() -> None:
    assert spread(6, 4) == [0, 1, 2, 3, 0, 1]
    drawn = zipf(4000, 100)
    assert drawn.count(0) > 1.5 * drawn.count(1) > 0 and max(drawn) > 50 and drawn == zipf(4000, 100)


class Doomed:
    """A system that fails, or is gone."""

    def __len__(self) -> int:
        return 7

    def fail(self) -> None:
        raise ValueError("of its own")

    def vanish(self) -> None:
        os._exit(3)


def test_a_system_apart_passes_its_errors_on_and_its_end_is_explained() -> None:
    with Apart(Doomed) as system, pytest.raises(ValueError, match="of its own"):
        system.call("fail")
    with Apart(Doomed) as system, pytest.raises(BaseModelError, match=r"exit code 3; .*\n.*--shape"):
        system.call("vanish")


class Spender:
    """Takes memory, and gives it back."""

    def spend(self, megabytes: int) -> None:
        array = bytearray(b"1") * (megabytes << 20)
        time.sleep(0.1)
        del array


def test_the_most_memory_of_a_process_counts_though_it_gave_it_back() -> None:
    with Watched(Spender) as system:
        before = system.memory()
        system.call("spend", 500)
        spent = system.memory() - before
        assert 450 < spent.peak / 1e6 < 650 and spent.now / 1e6 < 100


def test_a_system_here_is_called_as_one_apart() -> None:
    with Here(Doomed) as system:
        turn = system.call("__len__")
        assert turn.result == 7 and 0 < turn.seconds < 1
        with pytest.raises(ValueError, match="of its own"):
            system.call("fail")


def test_memory_is_that_of_a_process_which_answers() -> None:
    pytest.importorskip("ctranslate2")
    sizes = {"rows": 2, "source_tokens": 6, "new_tokens": 2, "in_memory": (2, 40)}
    found = list(run(Options(measures=("memory",), **sizes)))
    for few, many in (found[0::2], found[1::2]):
        assert 20 < few.ours < many.ours < 2_000  # MB; mini's int8 weights alone take 13
        assert many.ratio is not None and few.ratio is not None and many.ratio > few.ratio
