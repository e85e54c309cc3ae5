"""The HTML page: whole, without script or network, and no text of a row becomes markup."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flan_lora.compare.comparison import Predictor, verdict
from flan_lora.compare.html import page
from flan_lora.compare.plots import draw_all
from flan_lora.compare.report import write_report
from flan_lora.compare.results import PredictorRecord, PromptScoreRecord, Results, read_results, write_results
from tests.comparisons import labelled, make_record, save_emotion, written

ATTACK = """</td><script>alert("x")</script><img src=x onerror='alert(1)'>&amp; " ' {{7*7}} ${1}"""
VOID = {"meta", "img", "source", "br", "link"}
OURS = set(
    "html head meta title style body main header h1 h2 p ul li strong section figure picture source img figcaption"
    " div table caption thead tbody tr th td details summary".split()
)


class PageReader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("report")
    save_emotion(folder, out_of_domain=True)
    return read_results(folder)


@pytest.fixture(scope="module")
def read(results: Results) -> PageReader:
    return PageReader(page(results, draw_all(results)))


def test_the_page_is_whole_and_says_what_was_found(results: Results, read: PageReader) -> None:
    assert read.open == [] and set(read.tags) <= OURS
    text = " ".join(read.text)
    assert verdict(results.comparison, results.comparison.pairwise[0])[1:] in text
    for expected in (
        "bare base",
        "emotion adapter",
        "validation rows",
        "majority",
        "the base has read them",
        "Out of domain: film reviews, positive or negative",
        "An emotion stands for a sentiment",
        "fixed",
    ):
        assert expected in text
    assert "McNemar" in text and "bootstrap" in text and "Brier" in text


def test_nothing_is_loaded_from_anywhere(read: PageReader) -> None:
    for name in ("src", "srcset", "href", "data", "poster"):
        assert all(value.startswith("data:image/png;base64,") for value in read.values(name))
    policies = [value for tag, name, value in read.attributes if tag == "meta" and name == "content"]
    assert any("default-src 'none'" in policy and "script-src" not in policy for policy in policies)
    assert "url(" not in " ".join(read.text) and "@import" not in " ".join(read.text)


def test_pictures_have_words_and_tables_have_heads(read: PageReader) -> None:
    assert ("html", "lang", "en") in read.attributes
    pictures = [value for tag, name, value in read.attributes if tag == "img" and name == "alt"]
    assert len(pictures) == read.tags["img"] == 7 and all(pictures)
    assert read.tags["caption"] == read.tags["table"] and read.tags["h1"] == 1
    assert len(read.values("scope")) == read.tags["th"]
    assert sorted(read.values("aria-labelledby")) == sorted(read.values("id"))
    assert len(set(read.values("id"))) == len(read.values("id"))


def test_a_hostile_text_stays_text_wherever_it_stands(tmp_path: Path) -> None:
    def hostile(rows):  # type: ignore[no-untyped-def]
        return tuple(replace(row, source=ATTACK + row.source, raw=ATTACK) for row in rows)

    rows = [
        Predictor(f"a{ATTACK}".replace("/", ""), ATTACK, hostile(labelled(0.3, seed=1))),
        Predictor("b<b>", ATTACK, tuple(replace(r, prediction=ATTACK) for r in hostile(labelled(0.8, seed=2)))),
    ]
    record = make_record(
        adapter=ATTACK,
        base=ATTACK,
        origin=ATTACK,
        device=ATTACK,
        predictors=[PredictorRecord(name=item.name, about=item.about) for item in rows],
        prompt_scores=[PromptScoreRecord(prompt=ATTACK, example=ATTACK, score=0.1)],
        baselines={ATTACK: {"accuracy": 0.1}},
        versions={ATTACK: ATTACK},
    )
    write_results(tmp_path, record, rows)
    results = read_results(tmp_path)
    text = page(results, draw_all(results))
    read = PageReader(text)
    assert set(read.tags) <= OURS and read.open == []
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    assert "<script" not in text.lower() and "&lt;script&gt;" in text
    assert ATTACK in " ".join(read.text), "a reader sees the text as it is"


def test_long_lists_are_cut_and_say_so(tmp_path: Path) -> None:
    rows = [
        Predictor("bare base", "", labelled(0.0, num=300, seed=1)),
        Predictor("emotion adapter", "", labelled(1.0, num=300, seed=2)),
    ]
    write_results(tmp_path, make_record(), rows)
    read = PageReader(page(read_results(tmp_path), []))
    assert any("rows that emotion adapter fixed, 40 shown" in text for text in read.text)


def test_a_task_of_texts_shows_gains_and_pictures_of_an_earlier_report_go(tmp_path: Path) -> None:
    names = ("bare base", "summarization adapter")
    record = make_record(
        task="summarization", predictors=[PredictorRecord(name=name, about=name) for name in names]
    )
    rows = [Predictor(name, name, written(0.3 + 0.4 * k, seed=k)) for k, name in enumerate(names)]
    write_results(tmp_path, record, rows)
    (tmp_path / "stale-light.png").write_bytes(b"old")
    path = write_report(tmp_path, read_results(tmp_path))
    text = path.read_text(encoding="utf-8")
    assert "gain in rouge_l" in text and "rows that summarization adapter won" in text
    found = {file.name for file in tmp_path.glob("*.png")}
    assert {"overview-light.png", "overview-dark.png", "histogram-light.png"} <= found
    assert "stale-light.png" not in found
