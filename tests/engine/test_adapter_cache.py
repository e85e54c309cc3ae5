"""Slots, leases and tiers: what is in a slot is exactly the adapter asked for, and stays while it is used."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch

from flan_lora.adapters.store import Store
from flan_lora.adapters.weights import PlainFolder, base_linears, bind_to_base, open_folder, read_adapter
from flan_lora.engine.adapter_cache import BARE, AdapterCache
from flan_lora.engine.lease import AdapterState
from flan_lora.errors import AdapterCorruptError, AdapterError, AdapterMismatchError, UnknownAdapterError
from tests.published import make_manifest, stage, tiny_fingerprint, tiny_peft
from tests.tiny import tiny_t5

LINEARS = base_linears(tiny_t5())
Q = "encoder.block.0.layer.0.SelfAttention.q"
WO = "decoder.block.1.layer.2.DenseReluDense.wo"


def folder(path: Path, name: str = "one", seed: int = 0, **lora: object) -> PlainFolder:
    """A plain PEFT folder on the tiny T5, opened."""
    return open_folder(name, stage(path / name, seed, **lora))[0]


def make_cache(*sources: PlainFolder, num_slots: int = 4, **settings: int) -> AdapterCache:
    cache = AdapterCache(LINEARS, fingerprint=tiny_fingerprint(), num_slots=num_slots, **settings)
    for source in sources:
        cache.add(source)
    return cache


def edit_config(path: Path, **changes: object) -> Path:
    file = path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return path


def peft_deltas(seed: int, **lora: object) -> dict[str, torch.Tensor]:
    """PEFT's own B A * scaling for every adapted linear."""
    from peft.tuners.lora import LoraLayer

    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in tiny_peft(seed, **lora).named_modules()
        if isinstance(module, LoraLayer)
    }


def slot_deltas(cache: AdapterCache, name: str, linears: list[str]) -> dict[str, torch.Tensor]:
    """What the cache adds for one row of an adapter, as weights: the identity goes in."""
    with cache.lease([name]) as lease:
        lora = lease.gather([{name: 1.0}, {}])
        found = {}
        for linear in linears:
            features_in, features_out = LINEARS[linear]
            x = torch.eye(features_in).expand(2, -1, -1)
            added = lora.add_lora(linear, x, torch.zeros(2, features_in, features_out))
            assert not added[1].any(), "the bare row beside it got something"
            found[linear] = added[0].T
        return found


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
        ({"use_dora": True}, "DoRA rescales whole columns"),
        ({"init_lora_weights": "pissa"}, "'pissa' changes the base"),
        ({"init_lora_weights": "olora"}, "'olora' changes the base"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "biases of the base"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is True: not supported"),
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
    (path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(AdapterCorruptError, match="pickled weights"):
        open_folder("one", path)
    (path / "adapter_model.bin").unlink()
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


# Who stays and who leaves


def resident(cache: AdapterCache) -> list[str]:
    return [status.name for status in cache.status() if status.state is AdapterState.RESIDENT]


def use(cache: AdapterCache, *names: str) -> None:
    with cache.lease(names):
        pass


def test_the_least_recently_used_leaves(tmp_path: Path) -> None:
    cache = make_cache(*(folder(tmp_path, name, seed) for seed, name in enumerate("abcd")), num_slots=3)
    use(cache, "a"), use(cache, "b"), use(cache, "a"), use(cache, "c")
    assert resident(cache) == ["a", "c"]
    expected = peft_deltas(2)[Q]
    torch.testing.assert_close(slot_deltas(cache, "c", [Q])[Q], expected, rtol=1e-5, atol=1e-5)


def test_pins_and_leases_are_never_evicted(tmp_path: Path) -> None:
    cache = make_cache(*(folder(tmp_path, name, seed) for seed, name in enumerate("abcd")), num_slots=4)
    cache.pin("a")
    with cache.lease(["b"]):
        use(cache, "c"), use(cache, "d")
        assert resident(cache) == ["a", "b", "d"]
    use(cache, "c"), use(cache, "d")
    assert resident(cache) == ["a", "c", "d"]
    cache.unpin("a")
    use(cache, "b")
    assert "a" not in resident(cache)


def test_asking_for_more_than_can_ever_fit_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    cache = make_cache(*(folder(tmp_path, name, seed) for seed, name in enumerate("abcd")), num_slots=3)
    with pytest.raises(AdapterError, match="3 adapters in one batch, but only 2 slots"):
        use(cache, "a", "b", "c")
    cache.pin("a")
    with pytest.raises(AdapterError, match="cannot pin 'b'"):
        cache.pin("b")
    with pytest.raises(AdapterError, match="2 adapters in one batch, but only 1 slots"):
        use(cache, "b", "c")


def test_who_finds_no_slot_waits_until_one_is_given_back(tmp_path: Path) -> None:
    cache = make_cache(*(folder(tmp_path, name, seed) for seed, name in enumerate("abc")), num_slots=3)
    with cache.lease(["a", "b"]):
        waiting = threading.Thread(target=use, args=(cache, "c"))
        waiting.start()
        time.sleep(0.05)
        assert waiting.is_alive() and resident(cache) == ["a", "b"]
    waiting.join(timeout=5)
    assert not waiting.is_alive() and "c" in resident(cache)


def test_unload_waits_for_leases_lets_no_new_one_in_and_frees(tmp_path: Path) -> None:
    cache = make_cache(folder(tmp_path, "one", 1), folder(tmp_path, "two", 2))
    use(cache, "one", "two")
    with cache.lease(["one"]):
        with pytest.raises(AdapterError, match="1 requests still use it"):
            cache.unload("one", timeout_s=0.01)
        unloading = threading.Thread(target=cache.unload, args=("one",))
        unloading.start()
        while cache.status()[0].state is not AdapterState.LEAVING:
            time.sleep(0.001)
        with pytest.raises(UnknownAdapterError):
            use(cache, "one")
        assert unloading.is_alive()
    unloading.join(timeout=5)
    assert cache.names() == ["two"] == [status.name for status in cache.status()]
    with cache.lease(["two"]):  # its slot is free for others, who need not wait
        for seed, name in enumerate(("three", "four"), 3):
            cache.add(folder(tmp_path, name, seed))
        with cache.lease(["two", "three", "four"]) as lease:
            assert sorted(resident.slot for resident in lease.residents.values()) == [1, 2, 3]


def test_an_unloaded_name_can_be_loaded_anew(tmp_path: Path) -> None:
    cache = make_cache(folder(tmp_path / "a", "one", 1))
    use(cache, "one")
    cache.unload("one")
    cache.add(folder(tmp_path / "b", "one", 2))
    torch.testing.assert_close(slot_deltas(cache, "one", [Q])[Q], peft_deltas(2)[Q], rtol=1e-5, atol=1e-5)


def test_a_name_that_is_being_unloaded_can_be_added_again_and_stays(tmp_path: Path) -> None:
    source = folder(tmp_path, "one", 1)
    cache = make_cache(source)
    with cache.lease(["one"]):
        unloading = threading.Thread(target=cache.unload, args=("one",))
        unloading.start()
        while cache.status()[0].state is not AdapterState.LEAVING:
            time.sleep(0.001)
        adding = threading.Thread(target=cache.add, args=(source,))
        adding.start()
        time.sleep(0.02)
        assert adding.is_alive() and cache.names() == []
    for thread in (unloading, adding):
        thread.join(timeout=5)
    assert cache.names() == ["one"]


def test_cpu_memory_is_bounded_and_the_disk_is_read_again(tmp_path: Path) -> None:
    names = "abcd"
    sources = [folder(tmp_path, name, seed) for seed, name in enumerate(names)]
    size = bind_to_base("a", read_adapter(sources[0]), LINEARS).size_bytes
    cache = make_cache(*sources, num_slots=3, max_cpu_bytes=2 * size)
    for name in names:
        use(cache, name)
    assert [status.state.value for status in cache.status()] == ["disk", "disk", "resident", "resident"]
    torch.testing.assert_close(slot_deltas(cache, "a", [Q])[Q], peft_deltas(0)[Q], rtol=1e-5, atol=1e-5)
    assert [(s.name, s.state.value) for s in cache.status()] == [
        ("a", "resident"),
        ("b", "disk"),
        ("c", "disk"),
        ("d", "resident"),
    ]


def test_a_load_that_fails_leaves_the_bank_as_usable_as_before(tmp_path: Path) -> None:
    sources = [folder(tmp_path, name, seed) for seed, name in enumerate("abc")]
    cache = make_cache(*sources, num_slots=3)
    (sources[1].path / "adapter_model.safetensors").write_bytes(b"gone bad")
    for _ in range(3):
        with pytest.raises(AdapterCorruptError):
            use(cache, "a", "b")
    use(cache, "a", "c")
    assert resident(cache) == ["a", "c"] and not any(status.num_leases for status in cache.status())


def test_slot_0_stays_empty(tmp_path: Path) -> None:
    cache = make_cache(*(folder(tmp_path, name, seed) for seed, name in enumerate("abc")), num_slots=3)
    use(cache, "a", "b"), use(cache, "c")
    assert cache.pool is not None and not cache.pool.rows[BARE].any()
