"""``flan-lora adapter``: what is published, whether it is whole, passing it on, and taking it away."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flan_lora.adapters.stores import find_store, shown_root, stores
from flan_lora.cli.options import (
    adapter_argument,
    adapters_dir_option,
    data_option,
    json_option,
    store_base_option,
)
from flan_lora.cli.output import duration, print_json, print_table, size

if TYPE_CHECKING:
    from flan_lora.adapters.ctranslate2 import Quantization
    from flan_lora.adapters.manifest import Manifest, ScoreRecord, Scores
    from flan_lora.adapters.merge import Dtype, Merged
    from flan_lora.adapters.validation import StoredAdapter


@click.group()
def adapter() -> None:
    """The published adapters: list, verify, merge, export, push, remove."""


@adapter.command("list")
@store_base_option
@adapters_dir_option
@json_option
def list_(base: str | None, adapters_dir: Path, as_json: bool) -> None:
    """List the published adapters and their scores.

    The score is the one that picked the checkpoint, on the test rows, beside the bare base's.
    """
    from flan_lora.adapters.validation import StoredAdapter

    found = [(store.root.name, item) for store in stores(adapters_dir, base) for item in store.list()]
    whole = [(slug, item) for slug, item in found if isinstance(item, StoredAdapter)]
    broken = [(slug, item) for slug, item in found if not isinstance(item, StoredAdapter)]
    if as_json:
        print_json([item.manifest if isinstance(item, StoredAdapter) else item for _, item in found])
        return
    if whole:
        print_table(
            ("BASE", "ADAPTER", "TASK", "SCORE", "VALUE", "BARE BASE", "RANK", "SIZE", "CREATED"),
            [_row(slug, item) for slug, item in whole],
        )
    for slug, item in broken:
        click.echo(f"{slug}/{item.name} is damaged: {item.problems[0]}")
    if not found:
        click.echo(f"No adapters under {shown_root(adapters_dir)}. Train one: flan-lora train RECIPE")


@adapter.command()
@adapter_argument
@store_base_option
@adapters_dir_option
@json_option
def show(adapter_name: str, base: str | None, adapters_dir: Path, as_json: bool) -> None:
    """Print what an adapter is: base, data, training and scores."""
    store, name = find_store(adapter_name, adapters_dir, base)
    stored = store.open(name)
    if as_json:
        print_json(stored.manifest)
        return
    manifest = stored.manifest
    print_table(("", ""), _facts(stored))
    click.echo()
    print_table(*_score_table(manifest))


@adapter.command()
@click.argument("adapter_names", metavar="[ADAPTER]...", nargs=-1)
@store_base_option
@adapters_dir_option
@json_option
def verify(adapter_names: tuple[str, ...], base: str | None, adapters_dir: Path, as_json: bool) -> None:
    """Check every file of an adapter against its manifest.

    Without arguments, of every adapter. Exit code 1 when one is damaged.
    """
    chosen = [find_store(name, adapters_dir, base) for name in adapter_names] or [
        (store, item.name) for store in stores(adapters_dir, base) for item in store.list()
    ]
    problems = {f"{store.root.name}/{name}": store.verify(name) for store, name in chosen}
    if as_json:
        print_json(problems)
    else:
        for name, lines in problems.items():
            click.echo(f"{name}: {'whole' if not lines else 'damaged'}")
            for line in lines:
                click.echo(f"  {line}")
    if any(problems.values()):
        raise click.exceptions.Exit(1)


@adapter.command()
@adapter_argument
@store_base_option
@adapters_dir_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def remove(adapter_name: str, base: str | None, adapters_dir: Path, yes: bool) -> None:
    """Delete a published adapter."""
    store, name = find_store(adapter_name, adapters_dir, base)
    if not yes:
        click.confirm(f"Delete {store.root / name}?", abort=True)
    store.remove(name)
    click.echo(f"Removed {store.root / name}")


@adapter.command()
@adapter_argument
@store_base_option
@data_option
@click.option("--rows", "max_rows", type=click.IntRange(min=20), default=1000, show_default=True, help="At most.")
@click.option(
    "--background",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Texts that belong to no adapter, beside the 314 that ship: one a line, or JSON lines of text.",
)
@click.option(
    "--reject-share",
    type=click.FloatRange(0, 0.5),
    help="Of the adapter's own validation texts. [default: 0.07; 0.02 of an adapter with several inputs]",
)
@adapters_dir_option
def fit_routing(
    adapter_name: str,
    base: str | None,
    data_spec: str | None,
    max_rows: int,
    background: Path | None,
    reject_share: float | None,
    adapters_dir: Path,
) -> None:
    """Fit the routing profile by which a text finds its adapter.

    It is fitted on training texts of the adapter's recipe against background texts that belong to no adapter,
    its threshold on validation texts, and saved beside the adapter; `flan-lora route` and the router's "auto" need
    it. The more kinds of text you add that your users may send and no adapter is for, the fewer are taken.
    """
    from flan_lora.data.sources import open_source
    from flan_lora.data.splits import load_split
    from flan_lora.serving.auto_route import own_bodies
    from flan_lora.serving.background import BUNDLED, read_background
    from flan_lora.serving.router import Router
    from flan_lora.tasks import get_task

    store, name = find_store(adapter_name, adapters_dir, base)
    stored = store.open(name)
    source = open_source(data_spec)
    train, validation = (
        load_split(stored.recipe, role, source, max_rows=max_rows) for role in ("train", "validation")
    )
    router = Router.open(store.root, stored.open_serving_base(base))
    bodies = [own_bodies(split.examples, get_task(stored.manifest.task)) for split in (train, validation)]
    files = [BUNDLED, *([] if background is None else [background])]
    foreign = [item.text for path in files for item in read_background(path)]
    router.fit_routing(name, *bodies, background=foreign, reject_share=reject_share)
    click.echo(
        f"Fitted the routing profile of {name} on {len(bodies[0]):,} texts from {train.origin} against "
        f"{len(foreign):,} background texts, threshold from {len(bodies[1]):,} of {validation.origin}"
    )


sign = copy(fit_routing)
sign.name, sign.hidden = "sign", True  # the older name
adapter.add_command(sign)


out_option = click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="A new or empty folder for the model.",
)


@adapter.command()
@adapter_argument
@out_option
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Of the merged weights; bf16 halves the file and rounds.",
)
@store_base_option
@adapters_dir_option
@json_option
def merge(
    adapter_name: str, folder: Path, dtype: Dtype, base: str | None, adapters_dir: Path, as_json: bool
) -> None:
    """Fold an adapter into its base: one plain T5 checkpoint.

    The base is dequantised first, because those are the weights that the adapter was trained against. What the
    fold changes is measured and printed.
    """
    from flan_lora.adapters.merge import check_new_folder, save_merged
    from flan_lora.adapters.merge import merge as merge_adapter

    check_new_folder(folder)  # before the work, not after it
    store, name = find_store(adapter_name, adapters_dir, base)
    merged = merge_adapter(store.open(name), base=base, dtype=dtype)
    save_merged(merged, folder)
    _print_merged(merged, {"path": folder, "dtype": dtype}, as_json)


@adapter.command()
@adapter_argument
@out_option
@click.option(
    "--to",
    "runtime",
    type=click.Choice(["ctranslate2", "safetensors"]),
    default="ctranslate2",
    show_default=True,
    help="safetensors: the merged checkpoint, as `adapter merge` writes it.",
)
@click.option(
    "--quantization",
    type=click.Choice(["int8", "float32"]),
    default="int8",
    show_default=True,
    help="Of the CTranslate2 weights.",
)
@store_base_option
@adapters_dir_option
@json_option
def export(
    adapter_name: str,
    folder: Path,
    runtime: str,
    quantization: Quantization,
    base: str | None,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Merge an adapter and convert the model for another runtime.

    The exported model is loaded again, and its answers are held against those of the merged one.
    """
    from flan_lora.adapters.ctranslate2 import check_ctranslate2, export_ctranslate2
    from flan_lora.adapters.merge import check_new_folder, save_merged
    from flan_lora.adapters.merge import merge as merge_adapter

    check_new_folder(folder)  # before the work, not after it
    if runtime == "ctranslate2":
        check_ctranslate2()
    store, name = find_store(adapter_name, adapters_dir, base)
    merged = merge_adapter(store.open(name), base=base)
    if runtime == "safetensors":
        save_merged(merged, folder)
        _print_merged(merged, {"path": folder}, as_json)
        return
    exported = export_ctranslate2(merged, folder, quantization=quantization)
    facts: dict[str, object] = {"path": folder, "quantization": quantization}
    facts["num_equal_to_merged"] = exported.num_equal_answers
    _print_merged(merged, facts, as_json)


@adapter.command()
@adapter_argument
@click.argument("repo_id", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make the repository private, if it is new.")
@click.option("--dry-run", is_flag=True, help="Check the adapter and list what would be sent; no network.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@store_base_option
@adapters_dir_option
@json_option
def push(
    adapter_name: str,
    repo_id: str,
    private: bool,
    dry_run: bool,
    yes: bool,
    base: str | None,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Send an adapter to the Hugging Face Hub.

    Only files that the manifest lists are sent, in one commit; the token is the one of `hf auth login`.
    """
    from flan_lora.adapters.upload import prepare_upload
    from flan_lora.adapters.upload import push as push_to_hub

    store, name = find_store(adapter_name, adapters_dir, base)
    upload = prepare_upload(store, name, repo_id, private=private)
    if not as_json:
        print_table(("FILE", "SIZE"), [(file, size(count)) for file, count in upload.files.items()])
        for note in upload.notes:
            click.echo(f"note: {note}")
    if not dry_run and not yes:
        click.confirm(f"Send {size(upload.size_bytes)} to {repo_id}?", abort=True, err=as_json)
    address = None if dry_run else push_to_hub(upload)
    if as_json:
        facts = {"repo_id": repo_id, "files": upload.files, "notes": upload.notes}
        print_json({**facts, "sent": address is not None, "address": address})
    else:
        click.echo(f"Sent to {address}" if address else f"Nothing was sent: {size(upload.size_bytes)} would go.")


def _print_merged(merged: Merged, facts: dict[str, object], as_json: bool) -> None:
    """Where it lies, and how far it is from the adapter as it is served."""
    drift = merged.drift
    if as_json:
        print_json({"name": merged.name, **facts, "drift": drift})
        return
    click.echo(f"{merged.name}, merged into its base: {facts['path']}")
    click.echo(
        f"logits move by {drift.max_logit_delta:.3g} at most (largest logit {drift.logit_scale:.3g}); "
        f"{drift.num_equal_answers} of {drift.num_prompts} answers are those of the served adapter"
    )
    if "num_equal_to_merged" in facts:
        equal = f"{facts['num_equal_to_merged']} of {drift.num_prompts}"
        click.echo(f"CTranslate2, {facts['quantization']}: {equal} answers equal the merged model's")


def _row(slug: str, stored: StoredAdapter) -> tuple[object, ...]:
    """One line of `adapter list`."""
    manifest = stored.manifest
    chosen = _selected_on(manifest)
    return (
        slug,
        manifest.name,
        manifest.task,
        chosen,
        _value(manifest.scores, chosen),
        _value(manifest.base_scores, chosen),
        manifest.recipe["lora"]["rank"],
        size(stored.size_bytes),
        manifest.created_at[:10],
    )


def _facts(stored: StoredAdapter) -> list[tuple[str, str]]:
    """The upper half of `adapter show`."""
    manifest = stored.manifest
    base, training, lora = manifest.base, manifest.training, manifest.recipe["lora"]
    revision = f", revision {base.revision}" if base.revision else ""
    return [
        ("adapter", f"{manifest.name}, task {manifest.task} (prompt version {manifest.task_version})"),
        ("folder", str(stored.path)),
        ("base", f"{base.model} @ {base.fingerprint[:8]}, trained in {base.quantization}{revision}"),
        ("lora", f"rank {lora['rank']}, alpha {lora['alpha']}, {' '.join(lora['target_modules'])}"),
        ("data", f"{manifest.data.origin}, {manifest.data.num_train_rows:,} examples"),
        *(("also", f"{item.origin}, {item.num_rows:,} rows") for item in manifest.data.also if item.num_rows),
        ("training", f"best of {training.num_steps:,} steps at {training.best_step:,}, seed {training.seed}"),
        ("took", f"{duration(training.seconds)} on {training.device} in {training.precision}"),
        ("size", size(stored.size_bytes)),
        ("created", manifest.created_at),
    ]


def _score_table(manifest: Manifest) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Scores of the adapter with their intervals, beside the bare base and the trivial baselines."""
    baselines = sorted(manifest.baseline_scores)
    header = ("SCORE", "ADAPTER", "95 % INTERVAL", "BARE BASE", *(name.upper() for name in baselines))
    return header, [
        (
            name,
            _number(score.value),
            f"{_number(score.low)} to {_number(score.high)}",
            _value(manifest.base_scores, name),
            *(_value(manifest.baseline_scores[baseline], name) for baseline in baselines),
        )
        for name, score in manifest.scores.items()
    ]


def _selected_on(manifest: Manifest) -> str:
    """The score to read first."""
    from flan_lora.tasks import get_task

    return manifest.training.select_on or get_task(manifest.task).select_on


def _value(scores: Scores, name: str) -> str:
    """One score as text, '-' where it was not measured."""
    score: ScoreRecord | None = scores.get(name)
    return "-" if score is None else _number(score.value)


def _number(value: float) -> str:
    """Shares in [0, 1] with three digits, scores up to 100 with one."""
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"
