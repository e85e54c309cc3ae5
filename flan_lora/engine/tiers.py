"""Where the adapter cache keeps weights: slots on the base's device, and CPU memory beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flan_lora.adapters.weights import AdapterWeights
from flan_lora.engine.lease import AdapterVersion


class SlotTier:
    """Who is in which slot, and who may leave it. For one thread at a time."""

    def __init__(self, slots: Iterable[int]) -> None:
        self._free = list(slots)
        self._residents: dict[AdapterVersion, None] = {}  # least recently leased first

    def has_room(self, versions: Sequence[AdapterVersion]) -> bool:
        """Whether all of them could be in slots at once."""
        return len(_missing(versions)) <= len(self._free) + len(self._evictable(versions))

    def take(self, versions: Sequence[AdapterVersion]) -> tuple[dict[AdapterVersion, int], int]:
        """Slots for those that have none, and how many others had to leave for that. ``has_room`` first."""
        missing = _missing(versions)
        leavers = self._evictable(versions)[: max(len(missing) - len(self._free), 0)]
        for leaver in leavers:
            self.evict(leaver)
        for version in versions:
            if version in self._residents:  # to the end: leased just now
                del self._residents[version]
                self._residents[version] = None
        return {version: self._free.pop() for version in missing}, len(leavers)

    def enter(self, version: AdapterVersion, slot: int, weights: AdapterWeights) -> None:
        """The slot's weights are those of ``version`` now."""
        version.enter(slot, weights)
        self._residents[version] = None

    def give_back(self, slots: Iterable[int]) -> None:
        """Slots that were taken, and not entered."""
        self._free.extend(slots)

    def evict(self, version: AdapterVersion) -> None:
        """Free its slot, if it is in one."""
        if version.resident is not None:
            self._free.append(version.resident.slot)
            version.resident = None
            self._residents.pop(version, None)

    def _evictable(self, wanted: Sequence[AdapterVersion]) -> list[AdapterVersion]:
        """Residents that may leave for ``wanted``, the least recently leased first."""
        return [
            each for each in self._residents if not each.num_leases and not each.is_pinned and each not in wanted
        ]


class CpuTier:
    """The versions whose weights are in CPU memory. For one thread at a time."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._versions: dict[AdapterVersion, None] = {}  # least recently read first

    def keep(self, version: AdapterVersion) -> None:
        """Those that were read longest ago make room, those that nobody waits for first."""
        self._versions.pop(version, None)
        self._versions[version] = None
        size = sum(each.size_bytes for each in self._versions)
        for leaver in sorted(self._versions, key=lambda each: each.num_waiting > 0):  # stable
            if size <= self._max_bytes:
                return
            if leaver is not version:
                size -= leaver.size_bytes
                self.drop(leaver)

    def drop(self, version: AdapterVersion) -> None:
        """Free its weights, if they are there."""
        self._versions.pop(version, None)
        version.weights = None


def _missing(versions: Sequence[AdapterVersion]) -> list[AdapterVersion]:
    return [version for version in versions if version.resident is None]
