"""Adapter folders that somebody else filled: one error where one is asked for, and the others stay in use.

What `verify` finds is what loading refuses, in the store and in a plain folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import BrokenAdapter, StoredAdapter
from flan_lora.adapters.weights import open_folder
from flan_lora.cli import main
from flan_lora.errors import AdapterCorruptError, AdapterError
from tests.published import make_manifest, stage, tiny_fingerprint

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
KEY = "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_B.weight"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two adapters, `good` and `bad`; copied, and then `bad` is what its name says."""
    root = tmp_path_factory.mktemp("store") / "adapters" / "mini"
    staged = stage(tmp_path_factory.mktemp("staged"))
    for name in ("bad", "good"):
        Store(root).publish(staged, make_manifest(name, base={"fingerprint": tiny_fingerprint()}))
    return root


@pytest.fixture
def store(published: Path, tmp_path: Path) -> Store:
    shutil.copytree(published.parent, tmp_path / "adapters")
    return Store(tmp_path / "adapters" / "mini")


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / "manifest.json").read_text())
    change(values)
    (folder / "manifest.json").write_text(json.dumps(values))


def rehash(folder: Path) -> None:
    """Make the manifest's hashes those of the files, as a hostile author would."""
    contents = {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    records = {n: {"sha256": hashlib.sha256(c).hexdigest(), "size_bytes": len(c)} for n, c in contents.items()}
    edit_manifest(folder, lambda values: values["files"].update(records))


def edit_weights(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors[KEY] = change(tensors[KEY]).contiguous()
    save_file(tensors, folder / WEIGHTS)


def filled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor[0, 0] = value
        return tensor

    return change


def cast(dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.to(dtype)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (filled(float("nan")), "holds NaN or infinity"),
        (filled(float("inf")), "holds NaN or infinity"),
        (filled(-float("inf")), "holds NaN or infinity"),
        (filled(3e38), "holds 3e+38, expected at most 10000"),
        (filled(-1e25), "holds 1e+25, expected at most 10000"),
        (cast(torch.int64), "is int64, expected one of float32"),
        (cast(torch.int8), "is int8, expected one of"),
        (cast(torch.bool), "is bool, expected one of"),
        (cast(torch.complex64), "is complex64, expected one of"),
        (cast(torch.float8_e4m3fn), "is float8_e4m3fn, expected one of"),
        (lambda tensor: tensor[:0], "is empty"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_weights_that_would_answer_nonsense_are_refused_by_verify_and_by_loading_alike(
    store: Store, change: Callable[[torch.Tensor], torch.Tensor], problem: str
) -> None:
    folder = store.root / "bad"
    edit_weights(folder, change)
    rehash(folder)
    assert [line for line in store.verify("bad") if problem in line]
    with pytest.raises(AdapterCorruptError) as error:
        store.read("bad")
    assert problem in str(error.value) and KEY in str(error.value)
    (folder / "manifest.json").unlink()
    with pytest.raises(AdapterCorruptError) as error:
        open_folder("plain", folder)
    assert problem in str(error.value)
    assert store.verify("good") == [] and store.read("good")[0].name == "good"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_other_widths_are_read(store: Store, dtype: torch.dtype) -> None:
    edit_weights(store.root / "bad", cast(dtype))
    rehash(store.root / "bad")
    assert store.verify("bad") == []
    assert {tensor.dtype for tensor in store.read("bad")[1].tensors.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lora_alpha": float("nan")}, "NaN is no number of JSON"),
        ({"lora_alpha": 1e30}, "lora_alpha is 1e+30, expected a number up to 1e+06, not 0"),
        ({"lora_alpha": "8"}, "lora_alpha is '8', expected a number"),
        ({"r": True}, "r is True, expected a whole number"),
        ({"r": [4]}, "r is [4], expected a whole number"),
        ({"target_modules": {"q": 1}}, "target_modules is {'q': 1}, expected a text"),
        ({"target_modules": [["q"]]}, "target_modules is [['q']], expected a text"),
        ({"target_modules": "(("}, "is no regular expression"),
        ({"target_modules": "(.*)*" * 300}, "takes too long to match|expected \\['q'"),
        ({"rank_pattern": {"(x+x+)+y": 4}}, "rank_pattern is|shapes|A \\(4"),
        ({"x": json.loads("[" * 60 + "]" * 60)}, "nested more than 32 deep"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_config_that_means_nothing_is_refused_by_verify_and_by_loading_alike(
    store: Store, changes: dict[str, Any], problem: str
) -> None:
    folder = store.root / "bad"
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))
    rehash(folder)
    problem = problem if "|" in problem else re.escape(problem)
    with pytest.raises(AdapterError, match=problem):
        store.read("bad")
    assert store.verify("bad")
    (folder / "manifest.json").unlink()
    if changes.keys() == {"rank_pattern"}:  # it matches nothing, in no time: rank 4 stays
        assert open_folder("plain", folder)
        return
    with pytest.raises(AdapterError):
        open_folder("plain", folder)


def set_at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    *above, last = path.split(".")

    def change(values: dict[str, Any]) -> None:
        for key in above:
            values = values[key]
        values[last] = value

    return change


MANIFESTS = {
    "recipe is a list": set_at("recipe", []),
    "recipe is empty": set_at("recipe", {}),
    "lora is a text": set_at("recipe.lora", "rank alpha target_modules use_dora use_rslora"),
    "modules are numbers": set_at("recipe.lora.target_modules", [1, 2]),
    "modules are null": set_at("recipe.lora.target_modules", None),
    "rank is a text": set_at("recipe.lora.rank", "four"),
    "rank is true": set_at("recipe.lora.rank", True),
    "many beams": set_at("recipe.evaluation.num_beams", 100_000),
    "beams below zero": set_at("recipe.evaluation.num_beams", -1),
    "source of a million tokens": set_at("recipe.data.max_source_tokens", 1_000_000),
    "base is a list": set_at("recipe.base.model", ["mini"]),
    "another task in the recipe": set_at("recipe.task", "qa"),
    "unknown task": set_at("task", "no-such-task"),
    "task is a number": set_at("task", 7),
    "task version is huge": set_at("task_version", 10**18),
    "temperature is nothing": set_at("label_temperature", 1e-300),
    "temperature is a text": set_at("label_temperature", "hot"),
    "name is another": set_at("name", "good"),
    "name is a path": set_at("name", "../good"),
    "files is a list": set_at("files", []),
    "files is empty": set_at("files", {}),
    "a file outside": set_at("files", {"../x": {"sha256": "0" * 64, "size_bytes": 1}}),
    "size is negative": set_at("files", {CONFIG: {"sha256": "0" * 64, "size_bytes": -1}}),
    "scores are null": set_at("scores", None),
    "a score is infinite": set_at("scores", {"accuracy": {"value": 1e999, "low": 0, "high": 0}}),
    "format of the future": set_at("format_version", 99),
    "format is true": set_at("format_version", True),
    "half a character": set_at("data.origin", "\ud83d"),
    "a local path": set_at("data.origin", "/home/me/rows.csv"),
    "depth": set_at("recipe.data.x", json.loads("[" * 80 + "]" * 80)),
    "a thousand keys": lambda values: values.update({f"k{n}": n for n in range(1000)}),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_hostile_manifest_ends_in_one_error_wherever_it_is_read(
    store: Store, change: Callable[[dict[str, Any]], object]
) -> None:
    edit_manifest(store.root / "bad", change)
    check_bad_among_good(store)


def text_instead(text: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "manifest.json").write_bytes(text) and None


def fifo(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def link(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def link_to_itself(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.name)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("good/manifest.json")


def deep_folders(folder: Path) -> None:
    place = folder
    for _ in range(60):
        place = place / "d"
        place.mkdir()


def huge(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(1 << 40)  # sparse: it takes no disk, and would take all of the memory

    return change


FOLDERS = {
    "manifest of depth": text_instead(b'{"a":' * 100_000),
    "manifest of lists": text_instead(b"[" * 100_000),
    "manifest is binary": text_instead(b"\xff\xfe\x00"),
    "manifest is null": text_instead(b"null"),
    "manifest is empty": text_instead(b""),
    "manifest with a number of 5,000 digits": text_instead(b'{"format_version": ' + b"9" * 5000 + b"}"),
    "manifest with one key twice": text_instead(b'{"format_version": 1, "format_version": 1}'),
    "manifest is a pipe": fifo("manifest.json"),
    "config is a pipe": fifo(CONFIG),
    "weights are a pipe": fifo(WEIGHTS),
    "weights are endless": link(WEIGHTS, "/dev/zero"),
    "manifest is endless": link("manifest.json", "/dev/zero"),
    "weights are a link to themselves": link(WEIGHTS, WEIGHTS),
    "a link out of the store": link("notes", "/etc"),
    "weights of a terabyte": huge(WEIGHTS),
    "manifest of a terabyte": huge("manifest.json"),
    "a link to itself": link_to_itself,
    "a link to a file": a_file,
    "deep folders": deep_folders,
    "config of depth": lambda folder: (folder / CONFIG).write_text("[" * 100_000),
    "a pickle": lambda folder: (folder / "extra.bin").touch(),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes and devices of POSIX")
@pytest.mark.parametrize("change", FOLDERS.values(), ids=FOLDERS)
def test_a_hostile_folder_ends_in_one_error_wherever_it_is_read(
    store: Store, change: Callable[[Path], object]
) -> None:
    change(store.root / "bad")
    check_bad_among_good(store)


def check_bad_among_good(store: Store) -> None:
    """List, verify, open, read and the command line: `bad` is named, `good` stays in use, nothing hangs."""
    bad, good = store.list()
    assert isinstance(bad, BrokenAdapter) and bad.name == "bad" and bad.problems
    assert isinstance(good, StoredAdapter) and good.name == "good"
    assert store.verify("bad") and store.verify("good") == []
    for read in (store.open, store.read):
        with pytest.raises(AdapterError, match="bad"):
            read("bad")
    places = ["--adapters-dir", str(store.root.parent)]
    for command in (["list"], ["verify"], ["show", "bad"]):
        result = CliRunner().invoke(main, ["adapter", *command, *places])
        assert result.exit_code == (0 if command[0] == "list" else 1), result.output
        assert "bad" in result.output and (result.exception is None or isinstance(result.exception, SystemExit))
        assert len(result.output) < 20_000


@pytest.mark.parametrize("name", ["x" * 5000, "../x", "x\ny", "", "a/b", "auto", "x\0y"], ids=lambda n: n[:6])
def test_a_name_that_is_none_is_one_short_error(store: Store, name: str) -> None:
    for read in (store.open, store.read, store.verify, store.remove):
        with pytest.raises(AdapterError) as error:
            read(name)
        assert len(str(error.value)) < 1000
    places = ["--adapters-dir", str(store.root.parent)]
    result = CliRunner().invoke(main, ["adapter", "show", name, *places])
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit) and "rror: " in result.output
