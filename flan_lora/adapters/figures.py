"""Pictures beside an adapter: PNG for light and dark pages, readable at the width of a README; the training curve.

matplotlib is the extra ``report``. Colours are Okabe and Ito's, which people with any colour vision tell apart.

Source: Okabe and Ito, Color Universal Design (2008).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flan_lora.adapters.training_log import curve
from flan_lora.errors import FlanLoraError
from flan_lora.tasks.scorers import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_INCHES = 8.4
DPI = 160
"""1,344 pixels wide: sharp at 2x on a README's 840 pixels or less."""


@dataclass(frozen=True)
class Theme:
    """Colours of one page background."""

    name: str
    paper: str
    ink: str
    faint: str
    """Grid lines and hints."""
    series: tuple[str, ...]
    """Of contestants, in order."""
    heat: str
    """matplotlib's name of the heat map's colours."""


LIGHT = Theme(
    "light", "#ffffff", "#1f2328", "#d0d7de", ("#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00"), "Blues"
)
DARK = Theme(
    "dark", "#0d1117", "#e6edf3", "#30363d", ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00"), "cividis"
)
THEMES = (LIGHT, DARK)


@dataclass(frozen=True)
class Picture:
    """One picture in both themes."""

    name: str
    """Stem of its files: <name>-light.png, <name>-dark.png."""
    title: str
    alt: str
    """What it shows, in a sentence with the numbers that matter."""
    png: Mapping[str, bytes]
    """Theme's name -> file."""


def has_matplotlib() -> bool:
    """Whether pictures can be drawn here."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def check_matplotlib() -> None:
    """Raise FlanLoraError with the remedy when pictures cannot be drawn here."""
    if not has_matplotlib():
        raise FlanLoraError(
            "pictures need matplotlib, which is not installed.\n"
            "Install it (pip install 'flan-lora[report]'), or do without pictures (--table-only)."
        )


def training_curve(training_log: Sequence[Mapping[str, Any]], select_on: str) -> Picture:
    """Validation score and losses by optimizer step."""
    score = curve(training_log, f"eval_{select_on}")
    loss, validation_loss = curve(training_log, "loss"), curve(training_log, "eval_loss")
    # the checkpoint that is published: the best, of equals the first
    best = max(zip(score.steps, score.values, strict=True), key=lambda point: point[1], default=None)

    def paint(figure: Figure, theme: Theme) -> None:
        left, right = figure.subplots(1, 2)
        left.plot(score.steps, score.values, color=theme.series[1], marker="o")
        if best is not None:
            label = f"{number(best[1])} at step {best[0]:,}"
            side = ("left", "center", "right")[min(2, 3 * best[0] // max(score.steps))]
            left.annotate(label, best, xytext=(0, 9), textcoords="offset points", ha=side)
        left.set(title=f"{select_on} on validation", xlabel="optimizer step")
        left.margins(y=0.35)
        left.set_xlim(left=0)
        right.plot(loss.steps, loss.values, color=theme.series[0], label="training", linewidth=1.4)
        right.plot(
            validation_loss.steps, validation_loss.values, color=theme.series[1], marker="o", label="validation"
        )
        right.set(title="loss per target token", xlabel="optimizer step")
        right.margins(y=0.12)  # room for a marker at the top
        right.set_ylim(bottom=0)
        right.legend()

    said = f" is best at step {best[0]:,}: {number(best[1])}" if best else " was not logged"
    return picture("training", "Score against training steps", f"{select_on} on validation{said}.", 3.1, paint)


def picture(
    name: str, title: str, alt: str, height_inches: float, paint: Callable[[Figure, Theme], None]
) -> Picture:
    return Picture(name, title, alt, {theme.name: _png(theme, title, height_inches, paint) for theme in THEMES})


def _png(theme: Theme, title: str, height_inches: float, paint: Callable[[Figure, Theme], None]) -> bytes:
    """Equal pictures give equal bytes: no date, no version inside."""
    from matplotlib.figure import Figure as NewFigure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with _styled(theme):
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
        figure = NewFigure(figsize=(WIDTH_INCHES, height_inches), layout=layout)
        figure.suptitle(title, fontsize=12, fontweight="bold")
        paint(figure, theme)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()


@contextmanager
def _styled(theme: Theme) -> Iterator[None]:
    """matplotlib's settings for one theme; the user's own are back afterwards."""
    from matplotlib import rc_context

    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    settings = {
        **dict.fromkeys(inks, theme.ink),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme.paper),
        "axes.edgecolor": theme.faint,
        "grid.color": theme.faint,
        "legend.frameon": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "hatch.color": theme.paper,
        "hatch.linewidth": 0.8,
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
        "font.size": 10,
    }
    with rc_context(settings):
        yield
