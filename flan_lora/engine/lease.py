"""What the adapter cache gives out: versions of adapters, reservations of them, leases on their slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from flan_lora.adapters.weights import AdapterWeights, Source
from flan_lora.engine.lora_batch import AdapterRef, LoraBatch, lora_batch
from flan_lora.engine.memory_pool import LoraMemoryPool
from flan_lora.errors import UnknownAdapterError
from flan_lora.system.text import suggest


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


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache has done so far."""

    num_hits: int = 0
    """Adapters that were in a slot when a lease asked for them."""
    num_loads: int = 0
    """Adapters that were copied into a slot."""
    num_evictions: int = 0
    """Adapters that left a slot for another one."""


@dataclass(frozen=True, slots=True)
class Resident:
    """An adapter in a slot."""

    slot: int
    linears: frozenset[str]
    """That it changes."""


class AdapterVersion:
    """The files that a name stood for when it was asked for. Equal only to itself; written by its cache alone."""

    def __init__(self, source: Source, weights: AdapterWeights | None) -> None:
        self.source, self.weights = source, weights  # weights: while they are in CPU memory
        self.resident: Resident | None = None
        self.num_leases = self.num_waiting = 0
        self.is_latest, self.is_pinned, self.is_loading, self.is_leaving = True, False, False, False

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return self.source.name

    @property
    def num_users(self) -> int:
        """Leases and reservations."""
        return self.num_leases + self.num_waiting

    @property
    def size_bytes(self) -> int:
        """In CPU memory."""
        return 0 if self.weights is None else self.weights.size_bytes

    def enter(self, slot: int, weights: AdapterWeights) -> None:
        """Be resident from now on."""
        self.resident, self.is_loading = Resident(slot, frozenset(weights.pairs)), False

    def status(self) -> AdapterStatus:
        """As a program may show it."""
        return AdapterStatus(self.name, self._state(), self.num_leases, self.is_pinned)

    def _state(self) -> AdapterState:
        if self.is_leaving:
            return AdapterState.LEAVING
        if self.is_loading:
            return AdapterState.LOADING
        if self.resident is not None:
            return AdapterState.RESIDENT
        return AdapterState.CPU if self.weights is not None else AdapterState.DISK


@dataclass(frozen=True, eq=False)
class Reservation:
    """Versions that somebody waits for (`AdapterCache.reserve`)."""

    versions: tuple[AdapterVersion, ...]


class WaitingLeases:
    """Reservations whose callers wait in `AdapterCache.lease`, in order. For one thread at a time.

    The engine asks before every step and a caller only when it is woken, so under steady traffic somebody else has
    every slot that becomes free. After ``max_overtaken`` others, all wait for the one that has waited longest.
    """

    def __init__(self, max_overtaken: int) -> None:
        self._max_overtaken = max_overtaken
        self._num_overtaken: dict[Reservation, int] = {}

    def add(self, reservation: Reservation) -> None:
        """To the end, unless it waits already."""
        self._num_overtaken.setdefault(reservation, 0)

    def remove(self, reservation: Reservation) -> None:
        """Given up; nothing if it never waited."""
        self._num_overtaken.pop(reservation, None)

    def leased(self, reservation: Reservation) -> None:
        """It waits no more; those that still do have been overtaken once more."""
        self.remove(reservation)
        self._num_overtaken = {each: number + 1 for each, number in self._num_overtaken.items()}

    def is_barred(self, reservation: Reservation) -> bool:
        """Whether it has to wait for another one that has been overtaken too often."""
        too_often = (each for each, number in self._num_overtaken.items() if number >= self._max_overtaken)
        return next(too_often, reservation) is not reservation


@dataclass(frozen=True, eq=False)
class Lease:
    """Adapters that stay in their slots until the lease is given back."""

    pool: LoraMemoryPool | None
    residents: Mapping[str, Resident]
    versions: tuple[AdapterVersion, ...] = ()

    def gather(self, rows: Sequence[Mapping[str, float]]) -> LoraBatch:
        """The updates of rows that use leased adapters: adapter -> weight, for each row."""
        return lora_batch([self.refs(mix) for mix in rows])

    def refs(self, mix: Mapping[str, float]) -> tuple[AdapterRef, ...]:
        """Of one row. Good for as long as the lease is, whatever is loaded or unloaded beside it."""
        found = []
        for name, weight in mix.items():
            resident = self.residents[name]
            assert self.pool is not None, "a resident without a pool"
            found.append(AdapterRef(self.pool, resident.slot, resident.linears, weight))
        return tuple(found)


BARE_LEASE = Lease(None, {})
"""Of the bare base, which needs no slot."""


def not_loaded(name: str, known: Sequence[str]) -> UnknownAdapterError:
    """The error for a name that no cache has, with those that it has."""
    hint = suggest(name, known, list_known=False) or "."
    return UnknownAdapterError(
        f"no adapter {name!r} is loaded{hint}\n  there are: {', '.join(known) or 'none'}\n"
        "Load it first, or ask for None: the bare base."
    )
