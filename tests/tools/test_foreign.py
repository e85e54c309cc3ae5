"""Foreign rows: which sets there are, pairs that shared words do not tell apart, figures that reach the docs."""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from flan_lora.errors import DataError
from flan_lora.tasks import get_task
from tools.foreign import packages, sets
from tools.foreign.packages import Package, read_member
from tools.foreign.pairs import make_pairs, word_overlap
from tools.foreign.spoilt import long_vowels, typos

REPO = Path(__file__).resolve().parents[2]


def test_no_set_is_one_that_the_base_reads() -> None:
    from tools.mini import corpus

    read = {Path(source.path).name.split(".")[0] for source in corpus.SOURCES} | {
        Path(source.path).parts[0] for source in corpus.SOURCES
    }
    assert not read & {"facebook__mlqa", "xsum", "asset", "tweets", "hindi_question_answering"}
    assert "goemotions" in read, "the names must be those of files"
    assert all(source.terms in corpus.TERMS for source in corpus.SOURCES)


def test_every_set_has_a_task_and_scores_of_it() -> None:
    from flan_lora.tasks.task import score_names

    for one in sets.SETS:
        task = get_task(one.task)
        known = {*score_names(task), "auc"}
        assert set(one.headlines) <= known, one.name
        assert not one.as_sentiment or task.out_of_domain
    assert len({one.name for one in sets.SETS}) == len(sets.SETS)
    assert {one.task for one in sets.SETS} == {path.stem for path in (REPO / "recipes").glob("*.yaml")}


def test_an_unknown_set_lists_the_known() -> None:
    with pytest.raises(DataError, match=r"no foreign set is called toots\.\n  known  tweets, film reviews"):
        sets.chosen(["toots"])
    assert sets.chosen([]) == sets.SETS


def archive(folder: Path, **files: str) -> Package:
    path = folder / "thing-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"thing/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    import hashlib

    return Package("thing", "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), "MIT")


def test_a_file_is_read_from_its_archive_and_another_archive_refused(tmp_path: Path) -> None:
    package = archive(tmp_path, rows="one")
    with pytest.raises(DataError, match=r"no file thing/other"):
        read_member(tmp_path, package, "thing/other")
    assert read_member(tmp_path, package, "thing/rows") == "one"
    (tmp_path / package.file_name).unlink()
    assert read_member(tmp_path, package, "thing/rows") == "one", "kept beside"
    with pytest.raises(DataError, match=r"pip download .*thing==1\.0 -d"):
        read_member(tmp_path, package, "thing/other")
    archive(tmp_path, rows="two")
    with pytest.raises(DataError, match=rf"expected  {package.sha256}"):
        read_member(tmp_path, package, "thing/other")


REWRITES = [
    [f"In {1900 + n} the {word} line to Oslo was opened.", f"The Oslo {word} line opened in {1900 + n}."]
    for n, word in enumerate(["tram", "bus", "ferry", "rail", "metro", "cable", "night", "coast"] * 6)
]


def test_pairs_are_even_and_their_negatives_share_as_many_words() -> None:
    rows = make_pairs(REWRITES, 40)
    assert rows == make_pairs(REWRITES, 40) != make_pairs(REWRITES, 40, seed=1)
    assert len(rows) == 40
    assert abs(sum(row["label"] == "yes" for row in rows) - 20) <= 4
    overlap = {
        label: np.mean([word_overlap(r["sentence1"], r["sentence2"]) for r in rows if r["label"] == label])
        for label in ("yes", "no")
    }
    assert abs(overlap["yes"] - overlap["no"]) < 0.25
    texts = {text for group in REWRITES for text in group}
    assert all({row["sentence1"], row["sentence2"]} <= texts for row in rows if row["label"] == "yes")
    changed = [row for row in rows if not {row["sentence1"], row["sentence2"]} <= texts]
    assert changed and all(row["label"] == "no" for row in changed)


@pytest.mark.parametrize("way", [typos, long_vowels])
def test_spoilt_texts_keep_their_words_in_number_and_most_as_they_are(way: Any) -> None:
    text = "every morning the children walk along the river before lessons begin " * 20
    spoilt = way(text, random.Random(0))
    assert spoilt == way(text, random.Random(0)) != text
    pairs = list(zip(text.split(), spoilt.split(), strict=True))
    assert 0.03 < sum(a != b for a, b in pairs) / len(pairs) < 0.25
    assert all(a[0] == b[0] for a, b in pairs)


def test_auc_is_scikit_learns_with_ties_and_in_resamples() -> None:
    from sklearn.metrics import roc_auc_score

    from tools.foreign.measure import auc

    rng = random.Random(0)
    for _ in range(20):
        values = [rng.randrange(6) / 5 for _ in range(40)]
        truth = [rng.random() < 0.4 for _ in values]
        scorer = auc("yes")
        table = scorer.statistics(list(map(repr, values)), [("yes" if is_so else "no",) for is_so in truth], [])
        assert scorer.reduce(table)["auc"] == pytest.approx(roc_auc_score(truth, values))
    assert scorer.reduce(table[table[:, 1] > 0]) == {"auc": 0.5}


def test_a_set_is_measured_through_the_router_and_reaches_the_table(
    tmp_path: Path, refresh: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emotion rows as sentiments, and pairs with their probabilities, on the adapters that ship."""
    from tools.foreign.__main__ import run

    def few(one: sets.ForeignSet) -> sets.ForeignSet:
        return replace(one, examples=lambda places: _made(one))

    chosen = [few(one) for one in sets.SETS if one.name in ("tweets", "made pairs")]
    monkeypatch.setattr(sets, "SETS", tuple(chosen))
    out = tmp_path / "mini.json"
    run(sets.Places(tmp_path, tmp_path), REPO / "adapters" / "mini", "mini", out, 6, ())
    tweets, pairs = json.loads(out.read_text())["sets"]
    assert (tweets["num_rows"], pairs["num_rows"]) == (4, 4)
    assert (
        tweets["adapter"]["accuracy"]["value"] >= 0.75
        and tweets["baselines"]["majority"]["accuracy"]["value"] == 0.5
    )
    assert set(pairs["adapter"]) == set(pairs["bare_base"]) == {"auc", "accuracy"}
    assert pairs["baselines"]["word_overlap"]["auc"]["value"] == 1.0
    whole, short = refresh.foreign_table(out), refresh.foreign_table(out, in_short=True)
    assert "| `auc` |" in whole
    assert re.search(r"1\.000 \(\S+ to 1\.000\), word_overlap", whole.replace("**", ""))
    assert len(short.splitlines()) == 3 and "MIT" in whole and "MIT" not in short
    assert refresh.outdated_foreign(out, REPO / "adapters") == []
    tweets["adapter_sha256"] = "0" * 64
    out.write_text(json.dumps({"sets": [tweets, pairs]}))
    assert refresh.outdated_foreign(out, REPO / "adapters") == ["emotion"]


def _made(one: sets.ForeignSet) -> list[Any]:
    if one.as_sentiment:
        texts = [
            "so happy today, i love this",
            "i am furious and sad",
            "what a joy it was",
            "i hate him, so angry",
        ]
        return sets._sentiments([(text, ("positive", "negative")[n % 2]) for n, text in enumerate(texts)])
    same, other = "The train left Rome at noon.", "Nobody knows where cats sleep."
    rows = [(same, same, "yes"), (same, other, "no"), (other, other, "yes"), (other, same, "no")]
    task = get_task("similarity")
    return [e for a, b, label in rows for e in task.examples({"sentence1": a, "sentence2": b, "label": label})]


def test_the_best_of_a_line_is_bold_and_of_copies_the_least(refresh: ModuleType, tmp_path: Path) -> None:
    def score(value: float) -> dict[str, float]:
        return {"value": value, "low": value, "high": value}

    entry = {
        "name": "x", "task": "paraphrase", "kind": "others", "about": "rows", "licence": "MIT",
        "num_rows": 5, "adapter_sha256": "",
        "adapter": {"ibleu": score(9.0), "copy_share": score(0.2)},
        "bare_base": {"ibleu": score(7.0), "copy_share": score(0.1)},
        "baselines": {"copy": {"ibleu": score(16.0), "copy_share": score(1.0)}},
    }  # fmt: skip
    (tmp_path / "mini.json").write_text(json.dumps({"sets": [entry]}))
    *_, ibleu, copies = refresh.foreign_table(tmp_path / "mini.json").splitlines()
    assert "| 9.0 (9.0 to 9.0) | 7.0 (7.0 to 7.0) | **16.0** (16.0 to 16.0), copy |" in ibleu
    assert "| 0.200 (0.200 to 0.200) | **0.100** (0.100 to 0.100) | 1.000 (1.000 to 1.000), copy |" in copies
    assert refresh.foreign_table(tmp_path / "none.json") == "Not measured yet."


def test_the_packages_are_those_of_the_guide() -> None:
    guide = (REPO / "docs" / "foreign" / "README.md").read_text(encoding="utf-8")
    for package in (packages.BIG_BENCH, packages.VADER):
        assert f"{package.name}=={package.version}" in guide
