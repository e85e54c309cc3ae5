"""A process that answers one text and ends: what of its start no answer takes.

A third of ``import torch`` registers what the `meta` device knows of shapes, for tracing and compiling; and Python
searches the objects of all those modules for garbage again and again while they are being made.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_META_KERNELS = "torch._meta_registrations"
"""Imported by torch 2.13 for what it does, not for what is in it: Python kernels of the meta device."""
_TRACERS = frozenset(
    {"accelerate", "bitsandbytes", "onnxscript", "peft", "torch._dynamo", "torch._inductor", "transformers"}
)
"""What computes shapes without numbers, or may do: they find the meta kernels in place."""


@contextmanager
def quick_start(*, answers_once: bool) -> Iterator[None]:
    """Let a command start: no search for garbage until `started`.

    With `answers_once` no meta kernels either, until something may need them. Only for a process that ends with
    its answers: which operations need them is torch's own affair (`torch.Generator` does), so whoever stays up has
    them.

    Does nothing where torch has been imported already, for the process then is not the command's alone.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.meta_path.insert(0, _Starting(answers_once))
    gc.disable()
    try:
        yield
    finally:
        started()


def started() -> None:
    """Search for garbage from now on, and never again among what is there by now.

    Does nothing where no command is starting.
    """
    for finder in sys.meta_path:
        if isinstance(finder, _Starting) and finder.is_starting:
            finder.is_starting = False
            gc.freeze()
            gc.enable()


class _Starting(MetaPathFinder):
    """Lets torch import the meta kernels without running them, which happens before a tracer is imported."""

    def __init__(self, defers_kernels: bool) -> None:
        self.is_starting, self._defers_kernels = True, defers_kernels

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder`."""
        if fullname in _TRACERS:
            load_meta_kernels()
        if fullname != _META_KERNELS or not self._defers_kernels:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, Loader):
            spec.loader = _Deferred(spec.loader)
        return spec


class _Deferred(Loader):
    """Runs a module when a name in it is read. `importlib.util.LazyLoader` does so for ``__file__``, too, which
    `inspect` reads of every module."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def exec_module(self, module: ModuleType) -> None:
        """As `importlib.abc.Loader`."""

        def load_and_get(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            del module.__dict__["__getattr__"]
            self._loader.exec_module(module)
            return getattr(module, name)

        module.__dict__["__getattr__"] = load_and_get  # PEP 562


def load_meta_kernels() -> None:
    """Run the import that was put off, if one was."""
    module = sys.modules.get(_META_KERNELS)
    if module is not None:
        getattr(module, "activate_meta", None)
