"""Who stays in a slot and who leaves, who waits and for how long: what is used stays while it is used."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from flan_lora.adapters.weights import PlainFolder, bind_to_base, read_adapter
from flan_lora.engine.adapter_cache import BARE, AdapterCache
from flan_lora.engine.lease import AdapterState, Lease, Reservation, WaitingLeases
from flan_lora.errors import AdapterCorruptError, AdapterError, UnknownAdapterError
from tests.engine.caches import LINEARS, Q, folder, make_cache, peft_deltas, resident, slot_deltas, use
from tests.waiting import wait_until

WAIT_S = 60.0


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


class Caller:
    """A thread that leases adapters, and a test that knows when it has found no slot."""

    def __init__(self, cache: AdapterCache, *names: str) -> None:
        self.cache, self.names = cache, names
        self.has_leased, self._has_tried = threading.Event(), threading.Event()
        self.error: AdapterError | None = None
        self._thread = threading.Thread(target=self._lease)

    def start(self) -> None:
        """Until it has asked in vain."""
        plain = self.cache.try_lease

        def try_lease(reservation: Reservation) -> Lease | None:
            lease = plain(reservation)
            if threading.current_thread() is self._thread:
                self._has_tried.set()
            return lease

        self.cache.try_lease = try_lease  # type: ignore[method-assign]
        self._thread.start()
        assert self._has_tried.wait(WAIT_S)

    def join(self) -> None:
        """Until it has had its lease, or an error."""
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive() and self.has_leased.is_set() is (self.error is None)

    def _lease(self) -> None:
        try:
            with self.cache.lease(self.names):
                self.has_leased.set()
        except AdapterError as error:
            self.error = error


def test_who_finds_no_slot_waits_until_one_is_given_back(tmp_path: Path) -> None:
    cache = make_cache(*(folder(tmp_path, name, seed) for seed, name in enumerate("abc")), num_slots=3)
    waiting = Caller(cache, "c")
    with cache.lease(["a", "b"]):
        waiting.start()
        assert not waiting.has_leased.is_set() and resident(cache) == ["a", "b"]
    waiting.join()
    assert "c" in resident(cache)


def test_who_waits_is_overtaken_only_so_often(tmp_path: Path) -> None:
    """As the engine under steady traffic: there is always a lease on the only slot, and one is taken after it."""
    cache = make_cache(folder(tmp_path, "a", 1), folder(tmp_path, "b", 2), num_slots=2, max_overtaken=5)
    waiting, held = Caller(cache, "b"), cache.try_lease(cache.reserve(["a"]))
    waiting.start()
    for _ in range(5):
        following = cache.try_lease(cache.reserve(["a"]))
        assert held is not None and following is not None and not waiting.has_leased.is_set()
        cache.release(held)
        held = following
    barred = cache.reserve(["a"])
    assert cache.try_lease(barred) is None, "though it is resident: all wait for the one that waited longest"
    assert held is not None
    cache.release(held)
    waiting.join()
    lease = cache.try_lease(barred)
    assert lease is not None
    cache.release(lease)


def test_a_reservation_that_is_given_up_bars_nobody() -> None:
    waiting, (first, second) = WaitingLeases(max_overtaken=1), (Reservation(()), Reservation(()))
    waiting.add(first)
    assert not waiting.is_barred(second)
    waiting.leased(second)
    assert waiting.is_barred(second) and not waiting.is_barred(first)
    waiting.remove(first)
    assert not waiting.is_barred(second)


def test_who_waits_for_slots_that_are_pinned_meanwhile_is_told(tmp_path: Path) -> None:
    cache = make_cache(*(folder(tmp_path, name, seed) for seed, name in enumerate("abc")), num_slots=3)
    waiting = Caller(cache, "b", "c")
    with cache.lease(["a"]):
        waiting.start()
        cache.pin("a")
    waiting.join()
    assert "2 adapters in one batch, but only 1 slots" in str(waiting.error)


def test_unload_waits_for_leases_lets_no_new_one_in_and_frees(tmp_path: Path) -> None:
    cache = make_cache(folder(tmp_path, "one", 1), folder(tmp_path, "two", 2))
    use(cache, "one", "two")
    with cache.lease(["one"]):
        with pytest.raises(AdapterError, match="1 requests still use it"):
            cache.unload("one", timeout_s=0.01)
        unloading = threading.Thread(target=cache.unload, args=("one",))
        unloading.start()
        wait_until(lambda: cache.status()[0].state is AdapterState.LEAVING)
        with pytest.raises(UnknownAdapterError):
            use(cache, "one")
        assert unloading.is_alive()
    unloading.join(WAIT_S)
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


class Watched:
    """An opened adapter, and whether the cache has asked it for anything: it does so under its lock."""

    def __init__(self, source: PlainFolder) -> None:
        self._source, self.is_asked = source, threading.Event()

    def __getattr__(self, name: str) -> object:
        self.is_asked.set()
        return getattr(self._source, name)


def test_a_name_that_is_being_unloaded_can_be_added_again_and_stays(tmp_path: Path) -> None:
    source = folder(tmp_path, "one", 1)
    cache = make_cache(source)
    with cache.lease(["one"]):
        unloading = threading.Thread(target=cache.unload, args=("one",))
        unloading.start()
        wait_until(lambda: cache.status()[0].state is AdapterState.LEAVING)
        watched = Watched(source)
        adding = threading.Thread(target=cache.add, args=(watched,))
        adding.start()
        assert watched.is_asked.wait(WAIT_S)
        assert cache.names() == []  # the cache's lock is free again: the one who adds waits
    for thread in (unloading, adding):
        thread.join(WAIT_S)
    assert cache.names() == ["one"], "added before the other one had left, it would be gone with it"


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
