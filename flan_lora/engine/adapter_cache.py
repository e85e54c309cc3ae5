"""Resident adapters as stacked tensors: who is in which slot, who is using it, and who has to leave.

Three tiers: slots (on the base's device, ready for a batch), CPU memory (checked weights), disk (a folder).
Knows adapters' names and tensors; never a token, a prompt or a model.

One lock guards the bookkeeping and is never held while a file is read or weights are copied. What a batch uses is
immutable: a map of residents that is swapped whole, and slots that nobody writes while a lease is on them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import torch

from flan_lora.adapters.validation import StoredAdapter, check_fits
from flan_lora.adapters.weights import AdapterFiles, AdapterWeights, Linears, Source, bind_to_base, read_adapter
from flan_lora.engine.lora_batch import AdapterRef, SegmentedLora
from flan_lora.engine.memory_pool import LoraMemoryPool, SlotLayout
from flan_lora.errors import AdapterError, UnknownAdapterError
from flan_lora.system.text import suggest

BARE = 0
"""The slot of the bare base: all zeros, never given away."""

Mix = Mapping[str, float]
"""Adapter -> weight of its update, for one row; empty = the bare base."""


class AdapterState(Enum):
    """Where a known adapter's weights are."""

    DISK = "disk"
    CPU = "cpu"
    LOADING = "loading"
    RESIDENT = "resident"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class AdapterStatus:
    """One known adapter, as a program may show it."""

    name: str
    state: AdapterState
    num_leases: int
    is_pinned: bool


@dataclass(frozen=True)
class Resident:
    """An adapter in a slot."""

    slot: int
    linears: frozenset[str]
    """The linears that it changes."""


@dataclass(frozen=True)
class Lease:
    """Adapters that stay in their slots until the lease is given back."""

    pool: LoraMemoryPool | None
    residents: Mapping[str, Resident]

    def gather(self, rows: Sequence[Mix]) -> SegmentedLora:
        """What the engine needs for a batch whose rows use leased adapters."""
        return SegmentedLora([self.updates(mix) for mix in rows])

    def updates(self, mix: Mix) -> tuple[AdapterRef, ...]:
        """Of one row. Good for as long as the lease is, whatever is loaded or unloaded beside it."""
        found = []
        for name, weight in mix.items():
            resident = self.residents[name]
            assert self.pool is not None, "a resident without slots"
            found.append(AdapterRef(self.pool, resident.slot, resident.linears, weight))
        return tuple(found)


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
    ) -> None:
        """
        Args:
            linears: of the base (`lora.base_linears`).
            fingerprint: of the base; adapters with a manifest are held against it.
            num_slots: slot 0 included. Memory grows with it: 73 MB each at flan-t5-large, rank 16, all linears.
            max_cpu_bytes: of weights kept beside the slots; the least recently read leave first.
        """
        assert num_slots >= 2, "slot 0 is the bare base: serving adapters takes two slots at least"
        self._linears, self._fingerprint = linears, fingerprint
        self._num_slots, self._device, self._dtype = num_slots, torch.device(device), dtype
        self._max_cpu_bytes = max_cpu_bytes
        self._changed = threading.Condition()
        self._write_lock = threading.Lock()  # sole writer of slots; taken without, or before, `_changed`
        self._pool: LoraMemoryPool | None = None
        self._residents: Mapping[str, Resident] = MappingProxyType({})
        self._sources: dict[str, Source] = {}
        self._cpu: dict[str, AdapterWeights] = {}  # least recently read first
        self._used: dict[str, None] = {}  # least recently leased first
        self._free = list(range(num_slots - 1, BARE, -1))
        self._leases: Counter[str] = Counter()
        self._pins: set[str] = set()
        self._loading: set[str] = set()
        self._leaving: set[str] = set()

    # What is known

    def add(self, source: Source, files: AdapterFiles | None = None) -> None:
        """Make an opened adapter known. One of that name that is being unloaded is awaited.

        Args:
            files: as they were read when it was opened; without them they are read when they are first needed.

        Raises:
            AdapterError: the name is taken by another folder, or ``files`` are no plain LoRA update.
            AdapterMismatchError: trained on another base or prompt version, or ``files`` do not land on this base.
        """
        if isinstance(source, StoredAdapter):
            check_fits(source.manifest, self._fingerprint)
        weights = None if files is None else bind_to_base(source.name, files, self._linears)
        with self._changed:
            self._changed.wait_for(lambda: source.name not in self._leaving)
            known = self._sources.get(source.name)
            if known is not None and known != source:
                raise AdapterError(
                    f"adapter {source.name!r} is already loaded, from {known.path} (asked for: {source.path}).\n"
                    "Unload it first, or load this one under another name."
                )
            self._sources[source.name] = source
            if weights is not None and known is None:
                self._keep(weights)

    def has_room(self, names: Iterable[str]) -> bool:
        """Whether one batch may use these adapters, given what is pinned now."""
        wanted = set(names)
        with self._changed:
            return len(wanted) <= self._num_slots - 1 - len(self._pins - wanted)

    def names(self) -> list[str]:
        """Adapters that may be asked for."""
        with self._changed:
            return sorted(self._sources.keys() - self._leaving)

    def status(self) -> list[AdapterStatus]:
        """Every known adapter by name."""
        with self._changed:
            return [
                AdapterStatus(name, self._state(name), self._leases[name], name in self._pins)
                for name in sorted(self._sources)
            ]

    # In and out of the slots

    @contextmanager
    def lease(self, names: Sequence[str]) -> Iterator[Lease]:
        """Keep adapters in slots for a batch; those that are not there are brought in first.

        All or nothing: who waits for a slot holds none, so no two batches wait for each other. Do not ask for a
        second lease inside one.

        Raises:
            UnknownAdapterError: a name is not known, or is being unloaded; no slot has changed.
            AdapterError: more adapters than there are slots that are not pinned.
            AdapterCorruptError, AdapterMismatchError: the weights cannot be used; no slot has changed.
        """
        wanted = tuple(dict.fromkeys(names))
        self._acquire(wanted)
        try:
            with self._changed:
                residents, pool = self._residents, self._pool
            yield Lease(pool, residents)
        finally:
            self._release(wanted)

    def pin(self, name: str) -> None:
        """Bring an adapter in and keep it until ``unpin``. Raises what ``lease`` raises."""
        with self.lease([name]), self._changed:
            if len(self._pins | {name}) >= self._num_slots - 1 and self._num_slots > 2:
                raise AdapterError(
                    f"cannot pin {name!r}: {len(self._pins)} of {self._num_slots - 1} slots are pinned, and one "
                    "must stay free for the others. Unpin one, or open the router with more slots."
                )
            self._pins.add(name)

    def unpin(self, name: str) -> None:
        """Let an adapter be evicted again."""
        with self._changed:
            self._check_known([name])
            self._pins.discard(name)
            self._changed.notify_all()

    def unload(self, name: str, *, timeout_s: float | None = None) -> None:
        """Forget an adapter: no new lease; when the last one is back, its slot is cleared and its memory freed.

        Raises:
            UnknownAdapterError: not known.
            AdapterError: still in use after ``timeout_s``; it stays.
        """
        with self._changed:
            self._check_known([name])
            self._leaving.add(name)
            if not self._changed.wait_for(lambda: not self._leases[name] and name not in self._loading, timeout_s):
                self._leaving.discard(name)
                num_leases = self._leases[name]
                raise AdapterError(
                    f"adapter {name!r} stays: {num_leases} batches still use it after {timeout_s} s."
                )
            slot = self._drop(name) if name in self._residents else None
        if slot is not None:
            with self._write_lock:
                assert self._pool is not None
                self._pool.rows[slot].zero_()
        with self._changed:
            if slot is not None:
                self._free.append(slot)
            for tier in (self._sources, self._cpu):
                tier.pop(name, None)
            self._pins.discard(name)
            self._leaving.discard(name)
            self._changed.notify_all()

    # Bookkeeping; everything down to `_release` runs under the lock

    def _check_known(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._sources and name not in self._leaving:
                continue
            known = sorted(self._sources.keys() - self._leaving)
            hint = suggest(name, known, list_known=False) or "."
            raise UnknownAdapterError(
                f"no adapter {name!r} is loaded{hint}\n  there are: {', '.join(known) or 'none'}\n"
                "Load it first, or ask for None: the bare base."
            )

    def _state(self, name: str) -> AdapterState:
        if name in self._leaving:
            return AdapterState.LEAVING
        if name in self._loading:
            return AdapterState.LOADING
        if name in self._residents:
            return AdapterState.RESIDENT
        return AdapterState.CPU if name in self._cpu else AdapterState.DISK

    def _reserve(self, wanted: Sequence[str]) -> dict[str, int] | None:
        """Lease what is there and take slots for the rest, name -> slot; None when it is time to wait."""
        self._check_known(wanted)
        usable = self._num_slots - 1 - len(self._pins - set(wanted))
        if len(wanted) > usable:
            raise AdapterError(
                f"{len(wanted)} adapters in one batch, but only {usable} slots that are not pinned by others.\n"
                "Ask for fewer at once, unpin some, or open the router with more slots."
            )
        if self._loading.intersection(wanted):
            return None
        missing = [name for name in wanted if name not in self._residents]
        kept = self._pins.union(wanted, (name for name, count in self._leases.items() if count))
        idle = [name for name in self._used if name in self._residents and name not in kept]
        num_evictions = len(missing) - len(self._free)
        if num_evictions > len(idle):
            return None
        for name in idle[: max(num_evictions, 0)]:
            self._free.append(self._drop(name))
        for name in wanted:
            self._leases[name] += 1
            self._used.pop(name, None)
            self._used[name] = None
        self._loading.update(missing)
        return {name: self._free.pop() for name in missing}

    def _drop(self, name: str) -> int:
        """Take a resident off the map; its slot is the caller's."""
        slot = self._residents[name].slot
        self._residents = MappingProxyType({k: v for k, v in self._residents.items() if k != name})
        self._used.pop(name, None)
        return slot

    # Loading; takes the locks itself

    def _acquire(self, wanted: Sequence[str]) -> None:
        with self._changed:
            while (reserved := self._reserve(wanted)) is None:
                self._changed.wait()
        try:
            for name in list(reserved):
                self._bring_in(name, reserved[name])
                del reserved[name]
        except BaseException:
            with self._changed:
                self._free.extend(reserved.values())
                self._loading.difference_update(reserved)
            self._release(wanted)
            raise

    def _release(self, wanted: Sequence[str]) -> None:
        with self._changed:
            self._leases.subtract(wanted)
            self._changed.notify_all()

    def _bring_in(self, name: str, slot: int) -> None:
        """Read and check, then write the slot, then publish: nobody sees a half-written adapter."""
        weights = self._weights(name)
        with self._write_lock:
            pool = self._roomy(weights)
            pool.write(slot, weights)
            with self._changed:
                self._pool = pool
                resident = Resident(slot, frozenset(weights.pairs))
                self._residents = MappingProxyType({**self._residents, name: resident})
                self._loading.discard(name)
                self._changed.notify_all()

    def _roomy(self, weights: AdapterWeights) -> LoraMemoryPool:
        """The slots, larger if the adapter's rank or linears ask for it. Batches under way keep the old ones."""
        pool = self._pool
        if pool is not None and pool.layout.holds(weights):
            return pool
        old = pool.layout if pool is not None else SlotLayout.of(0, {})
        linears = {**old.linears, **{linear: self._linears[linear] for linear in weights.pairs}}
        layout = SlotLayout.of(max(old.rank, weights.rank), linears)
        if pool is not None:
            return pool.grown(layout)
        return LoraMemoryPool(
            layout, torch.zeros(self._num_slots, layout.width, dtype=self._dtype, device=self._device)
        )

    def _weights(self, name: str) -> AdapterWeights:
        """From CPU memory, else from disk."""
        with self._changed:
            weights, source = self._cpu.pop(name, None), self._sources[name]
        if weights is None:
            weights = bind_to_base(name, read_adapter(source), self._linears)
        with self._changed:
            self._keep(weights)
        return weights

    def _keep(self, weights: AdapterWeights) -> None:
        """In CPU memory, under the lock; those that were read longest ago make room."""
        self._cpu[weights.name] = weights
        while len(self._cpu) > 1 and sum(each.size_bytes for each in self._cpu.values()) > self._max_cpu_bytes:
            self._cpu.pop(next(iter(self._cpu)))
