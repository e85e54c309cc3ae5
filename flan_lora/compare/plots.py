"""A comparison as pictures, drawn with the themes of `adapters.figures`.

Colours are Okabe and Ito's, which people with any colour vision tell apart; every series also has its own hatch or
marker, and heat maps change in lightness, so that grey prints say the same.

Source: Okabe and Ito, Color Universal Design (2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flan_lora.adapters.figures import LIGHT, Picture, Theme, check_matplotlib, picture, training_curve
from flan_lora.compare.comparison import Comparison, confusion, reliability
from flan_lora.compare.results import Results
from flan_lora.system.text import shorten
from flan_lora.tasks.scorers import number
from flan_lora.tasks.task import OutOfDomain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAME_CHARS = 28
HATCHES = ("", "////", "....", "xx", "--")
MARKERS = ("o", "s", "^", "D", "v")
DASHES = ("-", "--", "-.", ":", (0, (1, 1)))
MIN_BIN_ROWS = 5
"""Bins of fewer rows are not drawn: their share that is right is mostly luck."""


def draw_all(results: Results) -> list[Picture]:
    """Every picture that these answers allow, the overview first.

    Raises:
        FlanLoraError: matplotlib is not installed.
    """
    check_matplotlib()
    comparison, training_log = results.comparison, results.record.training_log
    has_labels = bool(comparison.task.labels)
    pictures = [_overview(comparison)]
    if has_labels:
        pictures += [_confusions(comparison), _f1_bars(comparison)]
        if any(reliability(item.predictions) for item in comparison.predictors):
            pictures.append(_reliabilities(comparison))
    else:
        pictures += [_histogram(comparison), _gains(comparison)]
    pictures.append(_lengths(comparison))
    if any("eval_loss" in entry or "loss" in entry for entry in training_log):
        pictures.append(training_curve(training_log, comparison.task.select_on))
    return pictures + [_out_of_domain(item.spec, item.comparison) for item in results.out_of_domain]


# Pictures of labels


def _confusions(comparison: Comparison) -> Picture:
    labels = list(comparison.task.labels)
    tables = [confusion(comparison.task, item.predictions) for item in comparison.predictors[:3]]
    has_invalid = any(row[-1] for table in tables for row in table)
    columns = [*labels, "(none)"] if has_invalid else labels

    def paint(figure: Figure, theme: Theme) -> None:
        for place, (axes, table) in enumerate(zip(_row(figure, len(tables)), tables, strict=True)):
            shares = [[count / max(sum(row), 1) for count in row[: len(columns)]] for row in table]
            axes.imshow(shares, cmap=theme.heat, vmin=0, vmax=1)
            for i, row in enumerate(shares):
                for j, share in enumerate(row):
                    if table[i][j]:
                        dark_cell = (share > 0.5) == (theme is LIGHT)
                        color = "#ffffff" if dark_cell else "#000000"
                        axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=color, fontsize=9)
            axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
            axes.set_yticks(range(len(labels)) if place == 0 else [], labels if place == 0 else [])
            axes.set(title=_short(comparison.predictors[place].name), xlabel="answer")
            axes.grid(visible=False)
            if place == 0:
                axes.set_ylabel("true label")

    right = [sum(row[i] for i, row in enumerate(table)) for table in tables]
    said = ", ".join(
        f"{item.name} has {count} on the diagonal"
        for item, count in zip(comparison.predictors, right, strict=False)
    )
    return picture(
        "confusion", "Confusion, % of each true label", f"Of {comparison.num_rows} rows {said}.", 4.2, paint
    )


def _f1_bars(comparison: Comparison) -> Picture:
    names = [f"f1_{label}" for label in comparison.task.labels]
    names = [name for name in names if name in comparison.scores[0]]
    if not names:
        names = [name for name in comparison.scores[0] if name.startswith(("f1", "accuracy"))]

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        _grouped_bars(axes, comparison, names, theme)
        axes.set_xticks(range(len(names)), [name.removeprefix("f1_") for name in names])
        axes.set(ylabel="F1", ylim=(0, 1.0))
        _legend_below(figure, axes)

    alt = "F1 by class: " + "; ".join(
        f"{name.removeprefix('f1_')} "
        + " against ".join(number(scores[name].value) for scores in comparison.scores)
        for name in names
    )
    return picture("f1", "F1 by class, with 95 % intervals", f"{alt}.", 3.4, paint)


def _reliabilities(comparison: Comparison) -> Picture:
    found = [reliability(item.predictions) for item in comparison.predictors]

    def paint(figure: Figure, theme: Theme) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        left.plot([0, 1], [0, 1], color=theme.ink, linewidth=1, linestyle=":", label="as right as sure")
        for place, (item, own) in enumerate(zip(comparison.predictors, found, strict=True)):
            if own is None:
                continue
            style = _line(theme, place)
            label = f"{_short(item.name)} (error {own.error:.3f})"
            drawn = [b for b in own.bins if b.num_rows >= MIN_BIN_ROWS]
            left.plot([b.confidence for b in drawn], [b.accuracy for b in drawn], label=label, **style)
            centres = [(b.low + b.high) / 2 for b in own.bins]
            right.plot(centres, [b.num_rows / comparison.num_rows for b in own.bins], **style)
        left.set(xlabel="confidence in the answer", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
        _legend_below(figure, left)
        right.set(xlabel="confidence in the answer", ylabel="share of rows", xlim=(0, 1), ylim=(0, None))

    said = ", ".join(
        f"{item.name} {own.error:.3f}"
        for item, own in zip(comparison.predictors, found, strict=True)
        if own is not None
    )
    return picture(
        "reliability", "Reliability of the probabilities", f"Expected calibration error: {said}.", 3.8, paint
    )


# Pictures of texts


def _histogram(comparison: Comparison) -> Picture:
    values = comparison.row_scores
    top = max(100.0, *(value for row in values for value in row))
    edges = [top * k / 20 for k in range(21)]
    score = comparison.task.select_on

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for place, (item, row) in enumerate(zip(comparison.predictors, values, strict=True)):
            color = _color(theme, place)
            axes.hist(row, bins=edges, histtype="step", linewidth=2, color=color, label=_short(item.name))
            axes.hist(row, bins=edges, alpha=0.25, color=color)
            axes.axvline(sum(row) / len(row), color=color, linestyle=("--", ":", "-.")[place % 3], linewidth=1.5)
        axes.set(xlabel=f"{score} of one row (broken lines: means)", ylabel="rows", xlim=(0, top))
        _legend_below(figure, axes)

    means = ", ".join(
        f"{item.name} {sum(row) / len(row):.1f}" for item, row in zip(comparison.predictors, values, strict=True)
    )
    return picture("histogram", f"{score}, row by row", f"Mean {score} of a row: {means}.", 3.6, paint)


def _gains(comparison: Comparison) -> Picture:
    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for place, pair in enumerate(comparison.pairwise, 1):
            ordered = sorted(pair.gains, reverse=True)
            axes.plot(range(1, len(ordered) + 1), ordered, color=_color(theme, place), label=_pair_label(pair))
            axes.fill_between(range(1, len(ordered) + 1), ordered, alpha=0.2, color=_color(theme, place))
        axes.axhline(0, color=theme.ink, linewidth=1)
        reference = comparison.predictors[0].name
        axes.set(xlabel="rows, best first", ylabel=f"gain in {comparison.task.select_on} over {reference}")
        _legend_below(figure, axes)

    said = "; ".join(
        f"{pair.name}: {len(pair.won)} rows better, {len(pair.lost)} worse" for pair in comparison.pairwise
    )
    return picture("gains", "Rows won and lost", f"{said}.", 3.4, paint)


# Pictures of any task


def _overview(comparison: Comparison) -> Picture:
    """The one for a README: the scores that matter, and what happened row by row."""
    names = headline_scores(comparison)
    top = 1.0 if all(scores[name].high <= 1 for scores in comparison.scores for name in names) else 100.0

    def paint(figure: Figure, theme: Theme) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _grouped_bars(left, comparison, names, theme, with_values=True)
        left.set_xticks(range(len(names)), names)
        highest = max(scores[name].high for scores in comparison.scores for name in names)
        left.set(ylim=(0, top * 1.08 if highest > 0.8 * top else highest * 1.3), title="scores, 95 % intervals")
        _legend_below(figure, left)
        _outcome_bars(right, comparison, theme)

    alt = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{item.name} {number(scores[name].value)}"
            for item, scores in zip(comparison.predictors, comparison.scores, strict=True)
        )
        for name in names
    )
    title = f"Task {comparison.task.name}, {comparison.num_rows:,} rows of {comparison.split}"
    return picture("overview", title, f"{alt}; {comparison.num_rows} rows.", 3.6, paint)


def headline_scores(comparison: Comparison) -> list[str]:
    """The scores to show first: what checkpoints are picked on, and up to two more of the task's."""
    preferred = ["accuracy", "macro_f1", "exact_match", "f1", "rouge_1", "rouge_l", "bleu", "ibleu", "meteor"]
    there = [name for name in preferred if all(name in scores for scores in comparison.scores)]
    chosen = [comparison.task.select_on, *(name for name in there if name != comparison.task.select_on)][:3]
    return [name for name in preferred if name in chosen] or chosen


def _outcome_bars(axes: Axes, comparison: Comparison, theme: Theme) -> None:
    """Rows won and lost of each pair; names only where there are several."""
    ticks: list[tuple[float, str]] = []
    for place, pair in enumerate(reversed(comparison.pairwise)):
        whose = f"{_short(pair.name, 16)} " if len(comparison.pairwise) > 1 else ""
        parts = ((len(pair.won), 1, "better"), (len(pair.lost), 0, "worse"))
        for height, (count, colored_as, what) in zip((0.21, -0.21), parts, strict=True):
            axes.barh(place + height, count, 0.38, color=_color(theme, colored_as), edgecolor=theme.paper)
            axes.text(count, place + height, f" {count:,}", va="center", color=theme.ink)
            ticks.append((place + height, f"{whose}{what}"))
    axes.set_yticks([height for height, _ in ticks], [name for _, name in ticks])
    axes.set_xlim(0, 1.25 * max(1, *(max(len(d.won), len(d.lost)) for d in comparison.pairwise)))
    axes.set_ylim(-0.6, len(comparison.pairwise) - 0.4)
    axes.set(title=f"rows against the {_short(comparison.predictors[0].name, 18)}", xlabel="rows")
    axes.xaxis.set_major_locator(_whole_numbers())
    axes.grid(visible=False, axis="y")


def _lengths(comparison: Comparison) -> Picture:
    """Score by length of the text (labels) or length of answers (texts), and latency where it was measured."""
    times = [[1000 * p.latency_s for p in i.predictions if p.latency_s] for i in comparison.predictors]
    is_timed = any(times)

    def paint(figure: Figure, theme: Theme) -> None:
        panels = _row(figure, 2 if is_timed else 1)
        if comparison.task.labels:
            _accuracy_by_length(panels[0], comparison, theme)
        else:
            _answer_lengths(panels[0], comparison, theme)
        if is_timed:
            names = [_short(item.name, 16) for item in comparison.predictors]
            _boxes(panels[1], names, times, theme)
            panels[1].set(title="latency of one row alone, ms", ylim=(0, None))

    def middle(values: Sequence[float]) -> str:
        return f"{sorted(values)[len(values) // 2]:.3g} ms" if values else "not measured"

    said = "; ".join(
        f"{item.name}: median latency {middle(time)}"
        for item, time in zip(comparison.predictors, times, strict=True)
    )
    return picture("length", "Length and latency", f"{said}.", 3.4, paint)


def _accuracy_by_length(axes: Axes, comparison: Comparison, theme: Theme) -> None:
    """Accuracy in each quarter of the rows, from short texts to long ones."""
    words = [len(item.source.split()) for item in comparison.predictors[0].predictions]
    order = sorted(range(len(words)), key=lambda row: words[row])
    num_parts = min(4, len(order))
    parts = [order[k * len(order) // num_parts : (k + 1) * len(order) // num_parts] for k in range(num_parts)]
    xs, lowest = range(num_parts), 1.0
    for place, (item, scores) in enumerate(zip(comparison.predictors, comparison.row_scores, strict=True)):
        ys = [sum(scores[row] for row in part) / len(part) for part in parts]
        axes.plot(xs, ys, label=_short(item.name), **_line(theme, place))
        lowest = min(lowest, *ys)
    axes.set_xticks(xs, [f"{words[part[0]]} to {words[part[-1]]}" for part in parts])
    axes.set(title="accuracy by length of the text", xlabel="words, a quarter of the rows each")
    axes.set_ylim(max(0.0, lowest - 0.25), 1.02)
    axes.legend(loc="lower left")


def _answer_lengths(axes: Axes, comparison: Comparison, theme: Theme) -> None:
    """Words of everybody's answers, the references' last."""
    lengths = [[len(p.prediction.split()) for p in item.predictions] for item in comparison.predictors]
    lengths.append([len(p.references[0].split()) for p in comparison.predictors[0].predictions])
    _boxes(axes, [*(_short(item.name, 16) for item in comparison.predictors), "reference"], lengths, theme)
    axes.set(title="words of an answer", ylim=(0, None))


def _out_of_domain(spec: OutOfDomain, comparison: Comparison) -> Picture:
    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        places = list(range(len(comparison.predictors)))[::-1]
        for place, row, scores in zip(range(len(places)), places, comparison.scores, strict=True):
            score = scores["accuracy"]
            ends = [[score.value - score.low], [score.high - score.value]]
            # base and adapter as everywhere else; who is asked for the other task's labels has a colour of its own
            hatch, color = (("xx", theme.series[3]), ("", theme.series[0]), ("////", theme.series[1]))[place]
            axes.barh(row, score.value, 0.6, color=color, hatch=hatch, edgecolor=theme.paper)
            axes.errorbar(score.value, row, xerr=ends, color=theme.ink, capsize=4, linewidth=1.3)
            axes.text(score.high + 0.015, row, f"{score.value:.3f}", va="center", color=theme.ink)
        axes.axvline(1 / len(spec.task.labels), color=theme.ink, linestyle=":", linewidth=1)
        axes.set_yticks(places, [_short(item.name, 34) for item in comparison.predictors])
        axes.set(xlim=(0, 1), xlabel="accuracy (dotted: chance), 95 % intervals")
        axes.grid(visible=False, axis="y")

    said = ", ".join(
        f"{item.name} {scores['accuracy'].value:.3f}"
        for item, scores in zip(comparison.predictors, comparison.scores, strict=True)
    )
    return picture(spec.name, spec.title, f"Accuracy on {comparison.num_rows} rows: {said}.", 2.6, paint)


# Pieces


def _grouped_bars(
    axes: Axes, comparison: Comparison, names: Sequence[str], theme: Theme, *, with_values: bool = False
) -> None:
    """Bars of each score side by side, intervals on top."""
    count = len(comparison.predictors)
    width = 0.8 / count
    for place, (item, scores) in enumerate(zip(comparison.predictors, comparison.scores, strict=True)):
        xs = [x + (place - (count - 1) / 2) * width for x in range(len(names))]
        values = [scores[name].value for name in names]
        ends = [
            [max(scores[name].value - scores[name].low, 0) for name in names],
            [max(scores[name].high - scores[name].value, 0) for name in names],
        ]
        hatch = HATCHES[place % len(HATCHES)]
        style: dict[str, Any] = {"color": _color(theme, place), "hatch": hatch, "edgecolor": theme.paper}
        axes.bar(xs, values, width * 0.94, label=_short(item.name), linewidth=0, **style)
        axes.grid(visible=False, axis="x")
        axes.errorbar(xs, values, yerr=ends, fmt="none", color=theme.ink, capsize=3, linewidth=1.2)
        if with_values:
            for x, name in zip(xs, names, strict=True):
                text = number(scores[name].value)
                axes.annotate(text, (x, scores[name].high), (0, 3), textcoords="offset points", ha="center")


def _boxes(axes: Axes, names: Sequence[str], values: Sequence[Sequence[float]], theme: Theme) -> None:
    """Median, quartiles, 5th and 95th percentile of each series."""
    filled = [list(row) or [0.0] for row in values]
    boxes = axes.boxplot(filled, whis=(5, 95), showfliers=False, patch_artist=True, widths=0.5)
    for place, box in enumerate(boxes["boxes"]):
        color = theme.faint if names[place] == "reference" else _color(theme, place)
        box.set(facecolor=color, edgecolor=theme.ink, hatch=HATCHES[place % len(HATCHES)])
    for part in ("whiskers", "caps", "medians"):
        for line in boxes[part]:
            line.set(color=theme.ink)
    for x, row in enumerate(values, 1):
        if row:
            middle = sorted(row)[len(row) // 2]
            axes.annotate(f"{middle:.3g}", (x + 0.29, middle), va="center", ha="left", color=theme.ink)
    axes.set_xticks(range(1, len(values) + 1), names)
    axes.set_xlim(0.5, len(values) + 0.75)
    axes.grid(visible=False, axis="x")


def _pair_label(pair: Any) -> str:
    return f"{_short(pair.name)}: {len(pair.won):,} better, {len(pair.lost):,} worse"


def _legend_below(figure: Figure, axes: Axes) -> None:
    """One legend under all panels, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, integer=True)


def _row(figure: Figure, count: int) -> list[Axes]:
    found = figure.subplots(1, count)
    return list(found) if count > 1 else [found]


def _color(theme: Theme, place: int) -> str:
    return theme.series[place % len(theme.series)]


def _line(theme: Theme, place: int) -> dict[str, Any]:
    """A predictor's line: colour, marker and dashes of its own, so that two that coincide both show."""
    return {
        "color": _color(theme, place),
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
        "markersize": 7 - 2 * (place % 2),
        "linewidth": 2.2 - 0.6 * (place % 2),
    }


def _short(name: str, limit: int = MAX_NAME_CHARS) -> str:
    """A name that a legend can hold; dollars would begin a formula."""
    return shorten(name, limit).replace("$", r"\$")
