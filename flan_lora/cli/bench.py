"""``flan-lora bench``: how fast serving is here, beside the ways it replaces."""

from __future__ import annotations

from pathlib import Path

import click

from flan_lora.cli.options import adapters_dir_option
from flan_lora.cli.output import print_table
from flan_lora.system.files import check_writable_file, replace_file


@click.group()
def bench() -> None:
    """Measure this machine: router and server, beside PEFT and CTranslate2."""


@bench.command()
@click.option(
    "--shape",
    type=click.Choice(["mini", "base", "large"]),
    default="mini",
    show_default=True,
    help="Of the base: mini as it ships; flan-t5's shapes with random weights.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Default: the GPU when there is one.")
@click.option(
    "--targets",
    type=click.Choice(["qv", "all"]),
    default="qv",
    show_default=True,
    help="Linears of the adapters: q and v, or all as in the recipes.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Turns of every system.")
@click.option("--rows", type=click.IntRange(min=1), default=16, show_default=True, help="Of a batch.")
@click.option("--source-tokens", type=click.IntRange(min=2), default=64, show_default=True)
@click.option("--new-tokens", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--requests", type=click.IntRange(min=20), default=96, show_default=True, help="Of mixed traffic.")
@click.option(
    "--only", "measures", multiple=True, metavar="MEASURE", help="Measure this and no other. Repeatable."
)
@click.option("--skip", "skipped", multiple=True, metavar="MEASURE", help="Leave this out. Repeatable.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON line here too.")
def router(
    shape: str,
    device: str | None,
    targets: str,
    rounds: int,
    rows: int,
    source_tokens: int,
    new_tokens: int,
    requests: int,
    measures: tuple[str, ...],
    skipped: tuple[str, ...],
    save: Path | None,
) -> None:
    """Measure the router on random adapters: a table, then JSON.

    \b
      activate  another resident adapter                   against PEFT set_adapter
      load      an adapter from disk into service          against PEFT load_adapter
      mixed     16 rows, 1 to 16 adapters                  against PEFT adapter_names, int8 and bf16
      merged    one adapter                                against CTranslate2 int8
      traffic   rows of six tasks as they come             against six models of CTranslate2's
      zipf      6, 100 and 1,000 adapters on disk          p95 latency
      memory    the base with 6 and 100 adapters           against as many merged models

    On a CPU merged, traffic and memory need CTranslate2: pip install 'flan-lora[bench]'. On a GPU there is no
    merged, traffic is held against PEFT, and memory against copies of the int8 base.
    """
    if save is not None:
        check_writable_file(save)  # before the work, not after it
    from flan_lora.bench.router import MEASURES, Options, has_merged, run, to_json
    from flan_lora.errors import DataError
    from flan_lora.system.devices import choose_device

    if unknown := [name for name in (*measures, *skipped) if name not in MEASURES]:
        raise DataError(f"no measure {unknown[0]!r}: there are {', '.join(MEASURES)}.")
    _quiet_transformers()
    kind = choose_device("int8", device)[0].type
    chosen = tuple(name for name in measures or MEASURES if name not in skipped)
    if not has_merged(kind):
        chosen = tuple(name for name in chosen if name != "merged")
    options = Options(shape, kind, targets, rows, source_tokens, new_tokens, rounds, requests, measures=chosen)
    findings = []
    for finding in run(options):
        findings.append(finding)
        click.echo(f"{finding.measure}: {_figure(finding.ours, finding.unit)}", err=True)
    print_table(
        ("MEASURE", "OURS", "AGAINST", "THEIRS", "RATIO", "NOTE"),
        [
            (
                finding.measure,
                _figure(finding.ours, finding.unit),
                finding.against,
                "-" if finding.theirs is None else _figure(finding.theirs, finding.unit),
                "-" if finding.ratio is None else f"{finding.ratio:.2f}x",
                finding.note,
            )
            for finding in findings
        ],
    )
    line = to_json(options, findings)
    click.echo(line)
    if save is not None:
        replace_file(save, f"{line}\n".encode())


@bench.command()
@click.option("--base", metavar="BASE", default="mini", show_default=True, help="Whose published adapters.")
@adapters_dir_option
@click.option("--clients", type=click.IntRange(min=1), default=16, show_default=True, help="At once, closed loop.")
@click.option("--requests", type=click.IntRange(min=2), default=200, show_default=True, help="Of every turn.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Turns of every system.")
@click.option("--no-plain", is_flag=True, help="Without the PEFT server.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON line here too.")
def server(
    base: str, adapters_dir: Path, clients: int, requests: int, rounds: int, no_plain: bool, save: Path | None
) -> None:
    """Measure the HTTP server: a table, then JSON.

    Questions for all published adapters of a base, mixed, against the engine without HTTP and against a server of
    one PeftModel with set_adapter behind a lock. Closed loop, then open loop at 0.7 of what closed loop found.
    Needs: pip install 'flan-lora[bench]'.
    """
    from flan_lora.adapters.stores import stores
    from flan_lora.bench.server import ServerOptions, run, to_json

    _quiet_transformers()
    (store,) = stores(adapters_dir, base)
    options = ServerOptions(store.root, clients, requests, rounds, with_plain=not no_plain)
    rows = run(options)
    alone = rows[0]
    print_table(
        (
            "SYSTEM",
            "REQUESTS/S",
            "OF ENGINE",
            "CPU",
            "OF ENGINE",
            "TOKENS/S",
            "FIRST P50",
            "P50",
            "P95",
            "P99",
            "ERRORS",
        ),
        [
            (
                row.system,
                f"{row.requests_per_s:.1f}",
                f"{row.requests_per_s / alone.requests_per_s:.2f}",
                f"{1000 * row.cpu_s_per_request:.1f} ms",
                f"{row.cpu_s_per_request / alone.cpu_s_per_request:.2f}",
                f"{row.tokens_per_s:.0f}",
                *(f"{1000 * value:.0f} ms" for value in (row.first_p50_s, row.p50_s, row.p95_s, row.p99_s)),
                row.num_errors,
            )
            for row in rows
        ],
    )
    line = to_json(options, rows)
    click.echo(line)
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(line + "\n", encoding="utf-8")


def _figure(value: float, unit: str) -> str:
    digits = 3 if abs(value) < 1 else 1
    return f"{value:,.{digits}f} {unit}"


def _quiet_transformers() -> None:
    """No bars and no advice about the checkpoints that are only made to be measured."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
