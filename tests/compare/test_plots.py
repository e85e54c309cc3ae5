"""Pictures: the right ones for a task, in both themes, in words too, and repeatable."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from flan_lora.adapters.figures import DARK, LIGHT, THEMES, WIDTH_INCHES, training_curve
from flan_lora.compare.comparison import Comparison, Predictor, compare
from flan_lora.compare.plots import MAX_NAME_CHARS, draw_all
from flan_lora.compare.results import OutOfDomainRecord, OutOfDomainResult, Results
from flan_lora.errors import FlanLoraError
from flan_lora.tasks import TASKS
from tests.comparisons import TRAINING_LOG, labelled, make_record, written


def results_of(comparison: Comparison, *others: OutOfDomainResult, **record: Any) -> Results:
    """A comparison as it is read back."""
    return Results(make_record(**record), comparison, others)


def emotion(*extra: Predictor) -> Comparison:
    predictors = [
        Predictor("bare base", "", labelled(0.5, seed=1)),
        Predictor("adapter", "", labelled(0.8, seed=2)),
    ]
    return compare(TASKS["emotion"], [*predictors, *extra], split="test", origin="")


def summaries(quality: float = 0.7) -> Comparison:
    predictors = [Predictor("bare base", "", written(0.3)), Predictor("adapter", "", written(quality, seed=1))]
    return compare(TASKS["summarization"], predictors, split="test", origin="")


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from a PNG's header."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and png[12:16] == b"IHDR"
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def test_a_task_with_labels_gets_its_pictures_in_both_themes() -> None:
    names = ("bare base, for the sentiment", "bare base, by emotion", "adapter, by emotion")
    [spec] = TASKS["emotion"].out_of_domain
    sides = [Predictor(n, "", labelled(0.7, seed=k, labels=spec.task.labels)) for k, n in enumerate(names)]
    record = OutOfDomainRecord(name=spec.name, folder=spec.name, origin="", predictors=[], prompt_scores=[])
    reviews = OutOfDomainResult(spec, record, compare(spec.task, sides, split=spec.name, origin=""))
    third = Predictor("a name that is much too long for any legend $x$", "", labelled(0.6, seed=4))
    pictures = draw_all(results_of(emotion(third), reviews))
    expected = ["overview", "confusion", "f1", "reliability", "length", "training", "film-reviews"]
    assert [picture.name for picture in pictures] == expected
    for picture in pictures:
        assert set(picture.png) == {theme.name for theme in THEMES}
        assert picture.png["light"] != picture.png["dark"]
        width, height = size_of(picture.png["light"])
        assert width > 1200 and 300 < height < width, f"{picture.name} would be unreadable at a README's width"
        assert any(character.isdigit() for character in picture.alt), "the words hold the numbers"
        assert max(map(len, picture.png.values())) < 400_000


def test_a_task_with_texts_gets_histogram_and_gains_instead() -> None:
    pictures = draw_all(results_of(summaries(), training_log=[]))
    assert [picture.name for picture in pictures] == ["overview", "histogram", "gains", "length"]
    gains = next(picture for picture in pictures if picture.name == "gains")
    assert "rows better" in gains.alt and "rows worse" not in gains.alt


def test_equal_answers_give_equal_files_and_other_answers_do_not() -> None:
    pictures = draw_all(results_of(summaries(), training_log=[]))
    assert draw_all(results_of(summaries(), training_log=[])) == pictures
    first = pictures[0].png["light"]
    assert b"Software" not in first and b"tEXtDate" not in first
    assert draw_all(results_of(summaries(0.5), training_log=[]))[0].png["light"] != first


def test_a_legend_has_room_for_the_adapters_of_our_tasks() -> None:
    assert max(len(f"{name} adapter") for name in TASKS) <= MAX_NAME_CHARS


def test_the_training_curve_names_the_last_score() -> None:
    picture = training_curve(TRAINING_LOG, "macro_f1")
    assert picture.alt == "macro_f1 on validation is best at step 4: 0.700."
    assert size_of(picture.png["dark"])[0] == round(WIDTH_INCHES * 160)


def luminance(color: str) -> float:
    """Relative luminance in [0, 1] (WCAG 2.2)."""
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_words_and_bars_stand_out_from_the_paper(theme: Any) -> None:
    okabe_ito = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert contrast(theme.ink, theme.paper) > 7
    assert set(theme.series) <= okabe_ito and len(set(theme.series)) == 5
    assert all(contrast(color, theme.paper) > 2 for color in theme.series)
    assert contrast(theme.series[0], theme.series[1]) > 1.1 or theme is DARK
    assert LIGHT.paper == "#ffffff"


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FlanLoraError, match=r"pip install 'flan-lora\[report\]'") as caught:
        draw_all(results_of(emotion()))
    assert "--table-only" in str(caught.value)
