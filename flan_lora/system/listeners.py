"""Methods that are called when something has happened, without keeping their objects alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable


class Listeners:
    """Bound methods, each called for as long as its object lives."""

    def __init__(self) -> None:
        self._methods = list[weakref.WeakMethod[Callable[[], None]]]()

    def add(self, method: Callable[[], None]) -> None:
        """Call it from now on."""
        self._methods.append(weakref.WeakMethod(method))

    def tell(self) -> None:
        """Call all of them."""
        for each in self._methods:
            if (method := each()) is not None:
                method()
