"""Resident adapters as stacked tensors: who is in which slot, who is using it, and who has to leave.

Three tiers: slots (on the base's device, ready for a batch), CPU memory (checked weights), disk (a folder). A name
stands for its latest version; one that was replaced is served to those who asked for it before.

One lock guards the bookkeeping and is never held while a file is read or weights are copied. What a batch uses is
immutable: slots that nobody writes while a lease is on them, in a pool that is swapped whole when it grows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from flan_lora.adapters.validation import StoredAdapter, check_fits
from flan_lora.adapters.weights import AdapterFiles, Linears, Source, bind_to_base, read_adapter
from flan_lora.base.quantised import WeightOf
from flan_lora.engine.lease import (
    AdapterStatus,
    AdapterVersion,
    CacheStats,
    Lease,
    Reservation,
    WaitingLeases,
    not_loaded,
)
from flan_lora.engine.memory_pool import LoraMemoryPool
from flan_lora.engine.tiers import CpuTier, SlotTier
from flan_lora.errors import AdapterError
from flan_lora.system.listeners import Listeners

BARE = 0
"""The slot of the bare base: all zeros, never given away."""


class AdapterCache:
    """The adapters that one base can serve. Any number of threads may use it."""

    def __init__(
        self,
        linears: Linears,
        *,
        fingerprint: str,
        num_slots: int = 9,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        max_cpu_bytes: int = 1 << 30,
        max_overtaken: int = 64,
        weight_of: WeightOf | None = None,
    ) -> None:
        """
        Args:
            linears: of the base (`weights.base_linears`).
            fingerprint: of the base; adapters with a manifest are held against it.
            num_slots: slot 0 included. Memory grows with it: 73 MB each at flan-t5-large, rank 16, all linears.
            max_cpu_bytes: of weights kept beside the slots; of those nobody waits for, the oldest leave first.
            max_overtaken: how often others are leased adapters while a caller of `lease` waits; then they wait.
            weight_of: the base's weights (`quantised.weight_of`), without which no DoRA adapter can be served.
        """
        assert num_slots >= 2, "slot 0 is the bare base: serving adapters takes two slots at least"
        self._linears, self._fingerprint, self._num_slots = linears, fingerprint, num_slots
        self._device, self._dtype = torch.device(device), dtype
        self._bind = partial(bind_to_base, linears=linears, weight_of=weight_of)
        self._changed = threading.Condition()
        self._write_lock = threading.Lock()  # sole writer of slots; taken without, or before, `_changed`
        self._pool: LoraMemoryPool | None = None
        self._latest: dict[str, AdapterVersion] = {}
        self._in_slots, self._in_cpu = SlotTier(range(num_slots - 1, BARE, -1)), CpuTier(max_cpu_bytes)
        self._waiting = WaitingLeases(max_overtaken)
        self._stats = CacheStats()
        self._listeners = Listeners()

    @property
    def stats(self) -> CacheStats:
        """What has been done so far."""
        return self._stats

    @property
    def pool(self) -> LoraMemoryPool | None:
        """The slots as they are now; None until an adapter has been brought in."""
        return self._pool

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call a bound method, for as long as its object lives, whenever a slot may have become free."""
        self._listeners.add(listener)

    # What is known

    def add(self, source: Source, files: AdapterFiles | None = None) -> None:
        """Make an opened adapter known. One of that name that is being unloaded is awaited.

        Args:
            files: as they were read when it was opened; without them they are read when they are first needed.

        Raises:
            AdapterError: the name is taken by another folder, or ``files`` are no plain LoRA update.
            AdapterMismatchError: trained on another base or prompt version, or ``files`` do not fit this base.
        """
        version = self._version(source, files)
        with self._changed:
            self._changed.wait_for(lambda: not self._is_leaving(source.name))
            known = self._latest.get(source.name)
            if known is None:
                self._make_latest(version)
            elif known.source != source:
                raise AdapterError(
                    f"adapter {source.name!r} is already loaded, from {known.source.path} (asked for: "
                    f"{source.path}).\nUnload it first, or load this one under another name."
                )

    def replace(self, source: Source, files: AdapterFiles | None = None) -> None:
        """As `add`, but whoever asks from now on gets this version, whatever the name stood for before.

        Who has asked already gets the old one; it leaves when the last of them has been answered. A pin passes on.
        """
        version = self._version(source, files)
        with self._changed:
            self._changed.wait_for(lambda: not self._is_leaving(source.name))
            if (known := self._latest.get(source.name)) is not None and known.source == source:
                return
            self._make_latest(version)
            if known is not None:
                version.is_pinned, known.is_pinned, known.is_latest = known.is_pinned, False, False
                self._forget_if_unused(known)
                self._changed.notify_all()
        self._listeners.tell()

    def read_in(self, name: str) -> None:
        """Have an adapter's weights in memory before a request for it waits: its files may be replaced meanwhile.

        Raises:
            UnknownAdapterError: not known.
            AdapterCorruptError, AdapterMismatchError: the weights cannot be used.
        """
        with self._changed:
            self._check_known([name])
            version = self._latest[name]
            if version.weights is not None or version.resident is not None:
                return
        weights = self._bind(name, read_adapter(version.source))
        with self._changed:
            if version.is_latest and version.weights is None:
                version.weights = weights
                self._in_cpu.keep(version)

    def source(self, name: str) -> Source | None:
        """What a name stands for; None if it is not known."""
        with self._changed:
            return None if (found := self._latest.get(name)) is None else found.source

    def names(self) -> list[str]:
        """Adapters that may be asked for, sorted."""
        with self._changed:
            return self._names()

    def status(self) -> list[AdapterStatus]:
        """Every known adapter by name."""
        with self._changed:
            return [version.status() for _, version in sorted(self._latest.items())]

    # In and out of the slots

    def reserve(self, names: Iterable[str]) -> Reservation:
        """Fix which versions of adapters will be used, before there are slots for them.

        It ends in `cancel`, or in the lease that `try_lease` gives for it.

        Raises:
            UnknownAdapterError: a name is not known, or is being unloaded.
            AdapterError: more adapters than there are slots that are not pinned by others.
        """
        with self._changed:
            wanted = tuple(dict.fromkeys(names))
            self._check_known(wanted)
            reservation = Reservation(tuple(self._latest[name] for name in wanted))
            self._check_fits(reservation)
            for version in reservation.versions:
                version.num_waiting += 1
        return reservation

    def cancel(self, reservation: Reservation) -> None:
        """Nobody will lease these versions for it any more."""
        with self._changed:
            self._waiting.remove(reservation)
            for version in reservation.versions:
                version.num_waiting -= 1
                self._forget_if_unused(version)
            self._changed.notify_all()
        self._listeners.tell()

    def try_lease(self, reservation: Reservation) -> Lease | None:
        """Keep the reserved versions in slots; those that are not there are brought in first.

        None while there is no room for all of them, or another thread is bringing one in: who waits holds none, so
        no two wait for each other. The lease ends in `release`; an error ends the reservation.

        Raises:
            AdapterError: more adapters than there are slots that are not pinned.
            AdapterCorruptError, AdapterMismatchError: the weights cannot be used; no slot has changed.
        """
        try:
            with self._changed:
                self._check_fits(reservation)
                slots = self._take_slots(reservation)
        except BaseException:
            self.cancel(reservation)
            raise
        if slots is None:
            return None
        lease_of = Lease(None, {}, reservation.versions)
        try:
            for version in list(slots):
                self._bring_in(version, slots[version])
                del slots[version]
        except BaseException:
            with self._changed:
                self._in_slots.give_back(slots.values())
                for version in slots:
                    version.is_loading = False
            self.release(lease_of)
            raise
        with self._changed:
            pool = self._pool
        residents = {version.name: version.resident for version in reservation.versions if version.resident}
        return replace(lease_of, pool=pool if residents else None, residents=residents)

    def release(self, lease: Lease) -> None:
        """Give a lease back."""
        with self._changed:
            for version in lease.versions:
                version.num_leases -= 1
                self._forget_if_unused(version)
            self._changed.notify_all()
        self._listeners.tell()

    @contextmanager
    def lease(self, names: Sequence[str]) -> Iterator[Lease]:
        """`reserve` and `try_lease`, again and again until there is room; nobody starves (``max_overtaken``).

        Do not ask for a second lease inside.

        Raises what both raise.
        """
        reservation = self.reserve(names)
        while (lease := self.try_lease(reservation)) is None:
            try:
                with self._changed:
                    self._waiting.add(reservation)
                    # a pin made meanwhile may leave it no room for ever: asking again says so
                    self._changed.wait_for(lambda: self._has_slots(reservation) or not self._fits(reservation))
            except BaseException:  # Ctrl-C
                self.cancel(reservation)
                raise
        try:
            yield lease
        finally:
            self.release(lease)

    def pin(self, name: str) -> None:
        """Bring an adapter in and keep it until ``unpin``. Raises what ``lease`` raises."""
        with self.lease([name]) as lease, self._changed:
            pinned = {each.name for each in self._latest.values() if each.is_pinned}
            if len(pinned | {name}) >= self._num_slots - 1 and self._num_slots > 2:
                raise AdapterError(
                    f"cannot pin {name!r}: {len(pinned)} of {self._num_slots - 1} slots are pinned, and one "
                    "must stay free for the others. Unpin one, or open the router with more slots."
                )
            for version in lease.versions:
                version.is_pinned = version.is_latest

    def unpin(self, name: str) -> None:
        """Let an adapter be evicted again."""
        with self._changed:
            self._check_known([name])
            self._latest[name].is_pinned = False
            self._changed.notify_all()
        self._listeners.tell()

    def unload(self, name: str, *, timeout_s: float | None = None) -> None:
        """Forget an adapter: nobody new; when all who asked have been answered, its slot and memory are freed.

        Raises:
            UnknownAdapterError: not known.
            AdapterError: still in use after ``timeout_s``; it stays.
        """
        with self._changed:
            self._check_known([name])
            version = self._latest[name]
            version.is_leaving = True
            if not self._changed.wait_for(lambda: version.num_users == 0, timeout_s):
                version.is_leaving = False
                raise AdapterError(
                    f"adapter {name!r} stays: {version.num_users} requests still use it after {timeout_s} s."
                )
            del self._latest[name]
            version.is_latest = False
            self._forget_if_unused(version)
            self._changed.notify_all()
        self._listeners.tell()

    # Bookkeeping, under the lock

    def _version(self, source: Source, files: AdapterFiles | None) -> AdapterVersion:
        """Of an opened adapter, checked as far as it has been read. Without the lock."""
        if isinstance(source, StoredAdapter):
            check_fits(source.manifest, self._fingerprint)
        weights = None if files is None else self._bind(source.name, files)
        return AdapterVersion(source, weights)

    def _make_latest(self, version: AdapterVersion) -> None:
        self._latest[version.name] = version
        if version.weights is not None:
            self._in_cpu.keep(version)

    def _names(self) -> list[str]:
        return sorted(name for name, version in self._latest.items() if not version.is_leaving)

    def _is_leaving(self, name: str) -> bool:
        return name in self._latest and self._latest[name].is_leaving

    def _check_known(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._latest and not self._is_leaving(name):
                continue
            raise not_loaded(name, self._names())

    def _num_usable(self, reservation: Reservation) -> int:
        """Slots that are not pinned by others than its versions."""
        pinned = {version.name for version in self._latest.values() if version.is_pinned}
        return self._num_slots - 1 - len(pinned - {version.name for version in reservation.versions})

    def _fits(self, reservation: Reservation) -> bool:
        return len(reservation.versions) <= self._num_usable(reservation)

    def _check_fits(self, reservation: Reservation) -> None:
        if not self._fits(reservation):
            num_usable = self._num_usable(reservation)
            raise AdapterError(
                f"{len(reservation.versions)} adapters in one batch, but only {num_usable} slots that are not "
                "pinned by others.\nAsk for fewer at once, unpin some, or open the router with more slots."
            )

    def _has_slots(self, reservation: Reservation) -> bool:
        """Whether all of its versions could be leased now."""
        if any(version.is_loading for version in reservation.versions) or self._waiting.is_barred(reservation):
            return False
        return self._in_slots.has_room(reservation.versions)

    def _take_slots(self, reservation: Reservation) -> dict[AdapterVersion, int] | None:
        """Lease what is there and take slots for the rest; None when it is time to wait."""
        if not self._has_slots(reservation):
            return None
        self._waiting.leased(reservation)
        slots, num_evicted = self._in_slots.take(reservation.versions)
        for version in reservation.versions:
            version.num_leases += 1
            version.num_waiting -= 1
            version.is_loading = version in slots
        self._stats = replace(
            self._stats,
            num_hits=self._stats.num_hits + len(reservation.versions) - len(slots),
            num_evictions=self._stats.num_evictions + num_evicted,
        )
        return slots

    def _forget_if_unused(self, version: AdapterVersion) -> None:
        """Free the slot and the memory of a version that nobody can ask for again."""
        if version.is_latest or version.num_users:
            return
        self._in_slots.evict(version)
        self._in_cpu.drop(version)

    # Loading; takes the locks itself

    def _bring_in(self, version: AdapterVersion, slot: int) -> None:
        """Read and check, then write the slot, then publish: nobody sees a half-written adapter."""
        weights = version.weights or self._bind(version.name, read_adapter(version.source))
        with self._changed:
            version.weights = weights
            self._in_cpu.keep(version)
        with self._write_lock:
            pool = self._pool or LoraMemoryPool.empty(self._num_slots, dtype=self._dtype, device=self._device)
            pool = pool.with_room_for(weights, self._linears)
            pool.write(slot, weights)
            with self._changed:
                self._pool = pool
                self._in_slots.enter(version, slot, weights)
                self._stats = replace(self._stats, num_loads=self._stats.num_loads + 1)
                self._changed.notify_all()
        self._listeners.tell()
