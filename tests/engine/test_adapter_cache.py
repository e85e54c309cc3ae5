"""What is in a slot is exactly the adapter asked for; what cannot be one is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from flan_lora.adapters.store import Store
from flan_lora.adapters.weights import bind_to_base, open_folder, read_adapter
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.lease import AdapterState
from flan_lora.errors import AdapterCorruptError, AdapterError, AdapterMismatchError, UnknownAdapterError
from tests.engine.caches import LINEARS, Q, folder, make_cache, peft_deltas, slot_deltas, use
from tests.published import make_manifest, stage, tiny_fingerprint

WO = "decoder.block.1.layer.2.DenseReluDense.wo"


def edit_config(path: Path, **changes: object) -> Path:
    file = path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return path


ADAPTERS = [
    {},
    {"use_rslora": True, "lora_alpha": 3},
    {"r": 2, "target_modules": ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]},
    {"target_modules": ["q", "v"], "rank_pattern": {"SelfAttention.q": 7}, "alpha_pattern": {"v": 1}},
    {"target_modules": r"decoder\..*\.(q|wo)"},
    {"target_modules": ["q", "v"], "layers_to_transform": [1]},
]


@pytest.mark.parametrize(
    "lora", ADAPTERS, ids=["plain", "rslora", "all linears", "patterns", "regex", "one layer"]
)
def test_a_slot_adds_what_peft_adds_whatever_else_is_resident(tmp_path: Path, lora: dict[str, object]) -> None:
    others = folder(tmp_path, "other", 5, r=3, target_modules=["k", "wo"]), folder(tmp_path, "wide", 6, r=9)
    cache = make_cache(folder(tmp_path, "one", 1, **lora), *others)
    expected = peft_deltas(1, **lora)
    for resident in ([], ["other"], ["wide"]):  # the layout grows under the adapter's feet
        with cache.lease(resident):
            pass
        found = slot_deltas(cache, "one", sorted(LINEARS))
        for linear in LINEARS:
            wanted = expected.get(linear, torch.zeros(LINEARS[linear][1], LINEARS[linear][0]))
            torch.testing.assert_close(found[linear], wanted, rtol=1e-5, atol=1e-5)


def test_a_row_of_one_adapter_alone_gets_the_same_without_a_copy(tmp_path: Path) -> None:
    cache = make_cache(folder(tmp_path, "one", 1), folder(tmp_path, "two", 2))
    x, out = torch.randn(3, 5, 32), torch.randn(3, 5, 32)
    with cache.lease(["one", "two"]) as lease:
        alone = lease.gather([{"one": 1.0}] * 3).add_lora(Q, x, out.clone())
        mixed = lease.gather([{"one": 1.0}, {"two": 1.0}, {"one": 1.0}]).add_lora(Q, x, out.clone())
    torch.testing.assert_close(alone[[0, 2]], mixed[[0, 2]], rtol=1e-5, atol=1e-5)
    assert (alone[1] - mixed[1]).abs().max() > 0.1


def test_a_mix_is_the_weighted_sum_of_the_updates(tmp_path: Path) -> None:
    cache = make_cache(folder(tmp_path, "one", 1), folder(tmp_path, "two", 2, target_modules=["q"]))
    x, zeros = torch.randn(3, 5, 32), torch.zeros(3, 5, 32)
    with cache.lease(["one", "two"]) as lease:
        one, two = (lease.gather([{name: 1.0}] * 3).add_lora(Q, x, zeros.clone()) for name in ("one", "two"))
        mixed = lease.gather([{"one": 0.7, "two": -0.3}, {"two": 2.0}, {}]).add_lora(Q, x, zeros.clone())
        shared = lease.gather([{"two": 0.5}] * 3).add_lora(Q, x, zeros.clone())
    expected = torch.stack([0.7 * one[0] - 0.3 * two[0], 2 * two[1], zeros[2]])
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shared, 0.5 * two, rtol=1e-5, atol=1e-5)


def test_beams_of_a_row_share_its_adapter(tmp_path: Path) -> None:
    cache = make_cache(folder(tmp_path, "one", 1))
    x = torch.randn(6, 1, 32)
    with cache.lease(["one"]) as lease:
        alone = lease.gather([{"one": 1.0}]).add_lora(Q, x, torch.zeros(6, 1, 32))
        beams = lease.gather([{"one": 1.0}, {}]).add_lora(Q, x, torch.zeros(6, 1, 32))
    torch.testing.assert_close(beams[:3], alone[:3], rtol=1e-5, atol=1e-5)
    assert not beams[3:].any()


# Refusals


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"init_lora_weights": "pissa"}, "'pissa' changes the base"),
        ({"init_lora_weights": "olora"}, "'olora' changes the base"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "biases of the base"),
        ({"alora_invocation_tokens": [3]}, "aLoRA"),
        ({"a_field_of_the_future": 3}, "a_field_of_the_future is 3: not supported"),
    ],
)
def test_what_is_no_plain_update_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    path = edit_config(stage(tmp_path / "one"), **changes)
    with pytest.raises(AdapterError, match=reason):
        open_folder("one", path)


def test_pickles_and_damage_are_refused(tmp_path: Path) -> None:
    path = stage(tmp_path / "one")
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")
    with pytest.raises(AdapterCorruptError, match="pickled weights"):
        open_folder("one", path)
    (path / "adapter_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(AdapterCorruptError, match="not readable as safetensors"):
        open_folder("one", path)


def test_weights_that_do_not_land_touch_no_slot(tmp_path: Path) -> None:
    source = folder(tmp_path)
    narrow = {name: (16, out) if name == Q else (features_in, out) for name, (features_in, out) in LINEARS.items()}
    cache = AdapterCache(narrow, fingerprint="x" * 64)
    cache.add(source)
    with (
        pytest.raises(AdapterMismatchError, match=rf"{Q}: the file has .*32.*the base takes .*16"),
        cache.lease(["one"]),
    ):
        pass
    (status,) = cache.status()
    assert status.num_leases == 0 and cache.pool is None


def test_a_linear_without_its_weights_is_refused(tmp_path: Path) -> None:
    more = {**LINEARS, "encoder.block.9.layer.0.SelfAttention.q": (32, 32)}
    with pytest.raises(AdapterMismatchError, match=r"block\.9.*the file has nothing"):
        bind_to_base("one", read_adapter(folder(tmp_path)), more)


def test_a_folder_that_changed_is_refused(tmp_path: Path) -> None:
    source = folder(tmp_path)
    stage(source.path, seed=9)
    with pytest.raises(AdapterCorruptError, match="changed since it was opened"):
        read_adapter(source)


def test_nothing_of_an_evicted_adapter_is_left_under_a_smaller_one(tmp_path: Path) -> None:
    wide, narrow = {"r": 6, "target_modules": ["q", "wo"]}, {"r": 2, "target_modules": ["q"]}
    sources = [folder(tmp_path, "wide", 1, **wide), folder(tmp_path, "narrow", 2, **narrow)]
    cache = make_cache(*sources, num_slots=2)
    use(cache, "wide"), use(cache, "narrow")
    assert cache.pool is not None and cache.pool.layout.rank == 6
    torch.testing.assert_close(
        slot_deltas(cache, "narrow", [Q])[Q], peft_deltas(2, **narrow)[Q], rtol=1e-5, atol=1e-5
    )
    layout = cache.pool.layout
    a, b = layout.views(layout.part(cache.pool.rows[1:], Q), Q)
    assert a[0, :2].any() and not a[0, 2:].any() and not b[0, 2:].any()
    assert not layout.part(cache.pool.rows[1:], WO).any()


def test_what_was_read_when_it_was_opened_is_not_read_again(tmp_path: Path) -> None:
    path = stage(tmp_path / "one")
    opened = open_folder("one", path)
    shutil.rmtree(path)
    cache = make_cache()
    cache.add(*opened)
    assert cache.status()[0].state is AdapterState.CPU
    torch.testing.assert_close(slot_deltas(cache, "one", [Q])[Q], peft_deltas(0)[Q], rtol=1e-5, atol=1e-5)


def test_what_was_read_leaves_cpu_memory_and_its_folder_is_held_against_it(tmp_path: Path) -> None:
    path = stage(tmp_path / "one")
    source, files = open_folder("one", path)
    cache = make_cache(num_slots=2, max_cpu_bytes=1)
    cache.add(source, files)
    cache.add(*open_folder("two", stage(tmp_path / "two", 2)))
    assert [status.state for status in cache.status()] == [AdapterState.DISK, AdapterState.CPU]
    stage(path, seed=9)
    with pytest.raises(AdapterCorruptError, match="changed since it was opened"):
        use(cache, "one")


def test_files_that_do_not_land_are_not_made_known(tmp_path: Path) -> None:
    opened = open_folder("one", stage(tmp_path / "one"))
    cache = AdapterCache({**LINEARS, Q: (16, 32)}, fingerprint="x" * 64)
    with pytest.raises(AdapterMismatchError, match="do not fit this base"):
        cache.add(*opened)
    assert cache.names() == [] == cache.status()


def test_a_folder_opened_again_is_the_same_only_with_the_same_files(tmp_path: Path) -> None:
    first = folder(tmp_path)
    cache = make_cache(first)
    cache.add(folder(tmp_path))
    with pytest.raises(AdapterError, match="already loaded"):
        cache.add(folder(tmp_path, seed=9))


def test_a_published_adapter_is_held_against_the_base(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.publish(stage(tmp_path / "staged"), make_manifest(base={"fingerprint": tiny_fingerprint()}))
    stored = store.open("emotion")
    cache = make_cache()
    cache.add(stored)
    assert slot_deltas(cache, "emotion", [Q])[Q].any()
    with pytest.raises(AdapterMismatchError, match="does not fit this base"):
        AdapterCache(LINEARS, fingerprint="cd" * 32).add(stored)


def test_an_unknown_name_lists_close_ones(tmp_path: Path) -> None:
    cache = make_cache(folder(tmp_path, "emotion"))
    with pytest.raises(UnknownAdapterError, match="did you mean 'emotion'"), cache.lease(["emotoin"]):
        pass


def test_two_folders_cannot_have_one_name(tmp_path: Path) -> None:
    cache = make_cache(folder(tmp_path / "a", "one"))
    with pytest.raises(AdapterError, match="already loaded"):
        cache.add(folder(tmp_path / "b", "one", 3))
