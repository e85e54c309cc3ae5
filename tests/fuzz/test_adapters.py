"""Adapter folders: whatever stands in manifest, config and weights, the store lists the others, and what `verify`
finds is what loading refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import BrokenAdapter
from flan_lora.adapters.weights import open_folder
from flan_lora.errors import FlanLoraError
from tests.fuzz.strategies import answer_or_error, changed, fuzz, values
from tests.published import make_manifest, manifest_values, stage, tiny_fingerprint

WEIGHTS, CONFIG, MANIFEST = "adapter_model.safetensors", "adapter_config.json", "manifest.json"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two adapters; `bad` is written anew by every example, from what stands in ``.whole``."""
    root, staged = tmp_path_factory.mktemp("fuzz") / "mini", stage(tmp_path_factory.mktemp("staged"))
    for name in ("bad", "good"):
        Store(root).publish(staged, make_manifest(name, base={"fingerprint": tiny_fingerprint()}))
    shutil.copytree(root / "bad", root.parent / "whole")
    return Store(root)


def write(store: Store, **contents: bytes) -> Path:
    """`bad` with some files replaced, and a manifest whose hashes are theirs unless it is one of them."""
    whole, folder = store.root.parent / "whole", store.root / "bad"
    files = {name: (whole / name).read_bytes() for name in (CONFIG, WEIGHTS, MANIFEST)}
    names = {"config": CONFIG, "weights": WEIGHTS, "manifest": MANIFEST}
    files |= {names[key]: content for key, content in contents.items()}
    if "manifest" not in contents:
        manifest = json.loads(files[MANIFEST])
        for name in (CONFIG, WEIGHTS):
            digest = hashlib.sha256(files[name]).hexdigest()
            manifest["files"][name] = {"sha256": digest, "size_bytes": len(files[name])}
        files[MANIFEST] = json.dumps(manifest).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def check(store: Store) -> None:
    """The neighbour stays, and `bad` is refused by all that read its weights, or by none."""
    listed = {item.name: item for item in store.list()}
    assert not isinstance(listed["good"], BrokenAdapter)
    problems = store.verify("bad")
    read = answer_or_error(lambda: store.read("bad"), "bad")
    assert bool(problems) == isinstance(read, FlanLoraError), (problems, read)
    if isinstance(listed["bad"], BrokenAdapter):
        assert problems and listed["bad"].problems
    answer_or_error(lambda: store.open("bad"), "bad")


def check_plain(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    answer_or_error(lambda: open_folder("plain", folder), "plain", "bad")


def dumped(value: Any) -> bytes:
    """As JSON, with Python's words for numbers that JSON does not have."""
    return json.dumps(value).encode()


@fuzz
@given(document=changed(json.loads(dumped(manifest_values("bad", base={"fingerprint": tiny_fingerprint()})))))
def test_a_manifest_with_other_values(store: Store, document: Any) -> None:
    if isinstance(document, dict) and isinstance(document.get("files"), dict):
        document["files"] |= json.loads((store.root.parent / "whole" / MANIFEST).read_bytes())["files"]
    write(store, manifest=dumped(document))
    check(store)


@fuzz
@given(content=st.one_of(st.binary(max_size=40), values().map(dumped)))
def test_a_manifest_of_anything(store: Store, content: bytes) -> None:
    write(store, manifest=content)
    check(store)


@fuzz
@given(data=st.data())
def test_a_config_with_other_values(store: Store, data: st.DataObject) -> None:
    config = json.loads((store.root.parent / "whole" / CONFIG).read_bytes())
    folder = write(store, config=dumped(data.draw(changed(config))))
    check(store)
    check_plain(folder)


@fuzz
@given(content=st.one_of(st.binary(max_size=40), values().map(dumped)))
def test_a_config_of_anything(store: Store, content: bytes) -> None:
    folder = write(store, config=content)
    check(store)
    check_plain(folder)


@fuzz
@given(data=st.data())
def test_weights_with_bytes_changed_or_cut(store: Store, data: st.DataObject) -> None:
    content = bytearray((store.root.parent / "whole" / WEIGHTS).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(content) - 1)))
        content[at : at + 1] = data.draw(st.binary(max_size=3))
    folder = write(store, weights=bytes(content[: data.draw(st.sampled_from([len(content), 100, 8, 7, 0]))]))
    check(store)
    check_plain(folder)


DTYPES = st.sampled_from("F32 F16 BF16 F64 I64 I32 U8 BOOL C64 F8_E4M3 F8_E5M2 F4 X".split())
SHAPES = st.lists(st.sampled_from([0, 1, 4, 32, 64, -1, 1 << 40, 1 << 62]), max_size=3)


@fuzz
@given(
    headers=st.lists(st.tuples(st.integers(0, 30), DTYPES, SHAPES), max_size=3),
    extra=st.sampled_from(["", "lm_head.weight", "base_model.model.x.lora_A.weight", "\n", "a" * 3000]),
)
def test_weights_whose_header_lies(store: Store, headers: list[tuple[int, str, list[int]]], extra: str) -> None:
    content = (store.root.parent / "whole" / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    keys = sorted(key for key in header if key != "__metadata__")
    for place, dtype, shape in headers:
        header[keys[place % len(keys)]] |= {"dtype": dtype, "shape": shape}
    if extra:
        header[extra] = header[keys[0]]
    text = dumped(header)
    folder = write(store, weights=struct.pack("<Q", len(text)) + text + content[8 + length :])
    check(store)
    check_plain(folder)


@fuzz
@given(place=st.integers(0, 30), value=st.floats(width=32), key=st.sampled_from(["", ".q.", "lora_A"]))
def test_weights_with_any_number(store: Store, place: int, value: float, key: str) -> None:
    tensors = load((store.root.parent / "whole" / WEIGHTS).read_bytes())
    name = sorted(tensors)[place % len(tensors)]
    array = tensors[name].copy()
    array.flat[0] = value
    tensors[name.replace(key, ".other.", 1) if key else name] = array
    folder = write(store, weights=save(tensors))
    check(store)
    check_plain(folder)
