"""A comparison as one HTML page: no script, no network, pictures inside, every text of a row escaped.

Rows come from data sets and models, so any of them may hold markup: whatever is not a constant of this file
goes through `html.escape`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from flan_lora.adapters.figures import DARK, LIGHT, Picture
from flan_lora.compare.comparison import Comparison, PairwiseResult, p_text, reliability, verdict
from flan_lora.compare.results import RECORD, OutOfDomainResult, PromptScoreRecord, Results
from flan_lora.tasks.scorers import number, signed

MAX_SHOWN_ROWS = 40
"""Of each list of won and lost rows."""
MAX_TEXT_CHARS = 1200

_STYLE = """
:root { --paper: #ffffff; --ink: #1f2328; --muted: #59636e; --line: #d0d7de; --shade: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #0d1117; --ink: #e6edf3; --muted: #9198a1; --line: #30363d; --shade: #151b23; }
}
body { background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; margin: 0; }
main { max-width: 54rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
p.lead { font-size: 1.08rem; }
.muted { color: var(--muted); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: .6rem 0; }
caption { text-align: left; color: var(--muted); padding-bottom: .4rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { background: var(--shade); }
tbody th { font-weight: normal; }
figure { margin: 1.2rem 0; }
img { max-width: 100%; height: auto; border-radius: 4px; }
figcaption { color: var(--muted); font-size: .92rem; }
summary { cursor: pointer; font-weight: 600; padding: .4rem 0; }
summary:focus-visible, a:focus-visible { outline: 2px solid #0072B2; outline-offset: 2px; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
code { background: var(--shade); padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere; }
"""

# The page may load nothing and run nothing, whatever a row says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(results: Results, pictures: Sequence[Picture]) -> str:
    """The whole page as text."""
    record, comparison = results.record, results.comparison
    title = f"{record.adapter} on {record.base}: base against fine-tuned"
    by_name = {picture.name: picture for picture in pictures}
    others = {item.spec.name for item in results.out_of_domain}
    sections = [
        _opening(results, title, by_name.get("overview")),
        _section("scores", "Scores", _scores(comparison) + _differences(comparison)),
        _section("asked", "How the base was asked", _prompts(results)),
        *(
            _section(picture.name, picture.title, _figure(picture) + _note(picture.name, comparison))
            for picture in pictures
            if picture.name != "overview" and picture.name not in others
        ),
        *(
            _section(f"rows-{place}", f"Rows: {pair.name}", _rows(comparison, pair))
            for place, pair in _pairs(comparison)
        ),
    ]
    sections += [
        _section(item.spec.name, item.spec.title, _out_of_domain(item, by_name.get(item.spec.name)))
        for item in results.out_of_domain
    ]
    sections.append(_section("made", "How this was made", _making(results)))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _opening(results: Results, title: str, overview: Picture | None) -> str:
    record, comparison = results.record, results.comparison
    verdicts = "".join(
        f'<p class="lead">{escape(_upper_first(verdict(comparison, d)))}</p>' for d in comparison.pairwise
    )
    predictors = "".join(
        f"<li><strong>{escape(item.name)}</strong>: {escape(item.about)}</li>" for item in comparison.predictors
    )
    where = f"{comparison.num_rows:,} {record.role} rows, {record.origin}; the same rows for everybody."
    return (
        f"<header><h1>{escape(title)}</h1>{verdicts}</header>"
        f'<ul>{predictors}</ul><p class="muted">{escape(where)}</p>{_figure(overview) if overview else ""}'
    )


def _scores(comparison: Comparison) -> str:
    header = ["score", *(f"{item.name} (95 % interval)" for item in comparison.predictors)]
    rows = [
        [
            name,
            *(
                f"{number(s[name].value)} ({number(s[name].low)} to {number(s[name].high)})"
                for s in comparison.scores
            ),
        ]
        for name in comparison.scores[0]
    ]
    caption = "Intervals: 1,000 bootstrap resamples of the rows; they hold the luck of the rows, not of a seed."
    return _table(caption, header, rows)


def _differences(comparison: Comparison) -> str:
    header = ["score", *(f"{pair.name} minus {comparison.predictors[0].name}" for pair in comparison.pairwise)]
    rows = []
    for name in comparison.scores[0]:
        found = [pair.differences[name] for pair in comparison.pairwise]
        cells = [f"{signed(d.value)} ({signed(d.low)} to {signed(d.high)}), {p_text(d.p_value)}" for d in found]
        rows.append([name, *cells])
    tested = [
        f"{pair.name}: exact McNemar on {pair.mcnemar_score}, {p_text(pair.mcnemar_p)}"
        for pair in comparison.pairwise
        if pair.mcnemar_p is not None
    ]
    caption = "Differences on the same resamples (paired bootstrap, two-sided). " + "; ".join(tested)
    return _table(caption, header, rows)


def _prompts(results: Results) -> str:
    record = results.record
    said = (
        f"The bare base was tried in {len(record.prompt_scores)} wordings on {record.num_prompt_rows} validation "
        "rows, and got the best of them here. The adapter is asked in the one prompt that it was trained with."
    )
    return f"<p>{escape(said)}</p>" + _prompt_table(record.prompt_scores, results.comparison.task.select_on)


def _prompt_table(prompt_scores: Sequence[PromptScoreRecord], score: str) -> str:
    rows = [[item.prompt, number(item.score), _cut(item.example, 300)] for item in prompt_scores]
    return _table("Wordings for the base, best first", ["prompt", f"{score} on validation", "an example"], rows)


def _note(name: str, comparison: Comparison) -> str:
    """What a reader must know about one picture."""
    if name == "length":
        said = (
            "Latency: one row at a time, base and adapter in turns on the same machine. Prompts differ in length, "
            "and so does their time."
        )
    elif name == "reliability":
        briers = [
            f"{item.name} {found.brier:.3f}"
            for item in comparison.predictors
            if (found := reliability(item.predictions)) is not None
        ]
        said = (
            "Answers in ten bins of confidence (none of fewer than five rows is drawn); on the dotted line an "
            f"answer is right as often as it claims. Brier score of the answer: {', '.join(briers)}."
        )
    else:
        return ""
    return f'<p class="muted">{escape(said)}</p>'


def _rows(comparison: Comparison, pair: PairwiseResult) -> str:
    has_labels = bool(comparison.task.labels)
    won, lost = ("fixed", "broken") if has_labels else ("won", "lost")
    return _row_list(comparison, pair, pair.won, won) + _row_list(comparison, pair, pair.lost, lost)


def _row_list(comparison: Comparison, pair: PairwiseResult, places: Sequence[int], what: str) -> str:
    """One folded table of texts."""
    own = next(item for item in comparison.predictors if item.name == pair.name)
    reference = comparison.predictors[0]
    rows = []
    for place in places[:MAX_SHOWN_ROWS]:
        item = reference.predictions[place]
        row = [item.source, " / ".join(item.references[:3]), item.prediction, own.predictions[place].prediction]
        gain = [] if comparison.task.labels else [signed(pair.gains[place])]
        rows.append([*(_cut(text, MAX_TEXT_CHARS) for text in row), *gain])
    header = ["text", "reference", reference.name, pair.name]
    if not comparison.task.labels:
        header.append(f"gain in {comparison.task.select_on}")
    shown = f", {MAX_SHOWN_ROWS} shown" if len(places) > MAX_SHOWN_ROWS else ""
    summary = f"{len(places):,} rows that {pair.name} {what}{shown}"
    body = _table(summary, header, rows) if rows else "<p>None.</p>"
    return f"<details{' open' if rows else ''}><summary>{escape(summary)}</summary>{body}</details>"


def _out_of_domain(result: OutOfDomainResult, picture: Picture | None) -> str:
    comparison, record = result.comparison, result.record
    origin = f"{comparison.num_rows:,} rows, {record.origin}. {record.note}"
    verdicts = "".join(f"<p>{escape(_upper_first(verdict(comparison, pair)))}</p>" for pair in comparison.pairwise)
    drawn = _figure(picture) if picture else ""
    return (
        f'<p>{escape(result.spec.about)}</p><p class="muted">{escape(origin)}</p>{drawn}{verdicts}'
        + _scores(comparison)
        + _prompt_table(record.prompt_scores, comparison.task.select_on)
    )


def _making(results: Results) -> str:
    record = results.record
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()))
    facts = [
        ["base", f"{record.base}, {record.quantization}, fingerprint {record.base_fingerprint}"],
        ["adapter", f"{record.adapter}, weights sha256 {record.adapter_sha256}"],
        ["rows", f"{record.origin}, sha256 {record.content_hash}"],
        ["trivial baselines", "; ".join(_baseline(name, scores) for name, scores in record.baselines.items())],
        ["device", record.device],
        ["versions", versions],
        ["answered", record.created_at],
    ]
    return _table(f"From {RECORD} and the saved answers beside this page", ["", ""], [f for f in facts if f[1]])


def _baseline(name: str, scores: dict[str, float]) -> str:
    return f"{name}: " + ", ".join(f"{key} {number(value)}" for key, value in scores.items())


# Pieces of HTML


def _pairs(comparison: Comparison) -> Iterable[tuple[int, PairwiseResult]]:
    return enumerate(comparison.pairwise)


def _section(name: str, title: str, body: str) -> str:
    anchor = escape(name, quote=True)
    return f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(title)}</h2>{body}</section>'


def _figure(picture: Picture) -> str:
    """Both themes; the browser takes the one that fits the reader's."""
    light, dark = (_data_uri(picture.png[theme.name]) for theme in (LIGHT, DARK))
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(picture.alt, quote=True)}"></picture>'
        f"<figcaption>{escape(picture.alt)}</figcaption></figure>"
    )


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column heads its rows; every cell is escaped."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    head = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    lines = []
    for first, *others in rows:
        cells = "".join(f'<td class="text">{escape(cell)}</td>' for cell in others)
        lines.append(f'<tr><th scope="row" class="text">{escape(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>{head}'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]
