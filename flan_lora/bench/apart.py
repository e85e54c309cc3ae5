"""A system in a process of its own, or in this one.

On a CPU the threads of one that is idle would slow the one whose turn it is: torch and CTranslate2 share one
OpenMP, which spins less as soon as all pools together have more threads than cores. On a GPU they do not matter,
and a process takes longer to begin than much of what is measured.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flan_lora.errors import BaseModelError

_LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one call."""

    seconds: float
    """Inside the process, so without the way there and back."""
    result: Any


@dataclass(frozen=True, slots=True)
class Memory:
    """What something takes, in bytes."""

    peak: int
    now: int

    def __sub__(self, other: Memory) -> Memory:
        return Memory(self.peak - other.peak, self.now - other.now)


class System(AbstractContextManager["System"], ABC):
    """What is measured, wherever it is."""

    @abstractmethod
    def call(self, method: str, *arguments: Any, **options: Any) -> Turn:
        """Call a method of it, and wait until all is done. Raises what it raises."""


class Apart(System):
    """An object that another process makes and keeps; its methods are called one at a time."""

    def __init__(self, make: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """
        Args:
            make: of a module's top level, called with the rest; all of it must be picklable.

        Raises:
            What ``make`` raises.
        """
        import torch

        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other_end, torch.get_num_threads(), make, arguments, options), daemon=True
        )
        self._process.start()
        other_end.close()
        self._has_begun()
        self._receive()

    def call(self, method: str, *arguments: Any, **options: Any) -> Turn:
        """Call a method there, and wait. Raises what it raises; BaseModelError if the process is gone."""
        self._pipe.send((method, arguments, options))
        turn = self._receive()
        assert isinstance(turn, Turn)
        return turn

    def __exit__(self, *_: object) -> None:
        self._pipe.close()  # its next read ends it
        self._process.join()

    def _has_begun(self) -> None:
        """Called when the process is there, before the object is made."""

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise BaseModelError(
                f"a system that is measured ended without a word (exit code {self._process.exitcode}; "
                "-9 is mostly too little memory).\nTake a smaller --shape, fewer --rows, or --skip its measure."
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer


class Watched(Apart):
    """One whose memory is looked at every few milliseconds, from its beginning (Linux).

    Counted is what is its own: the pages of a checkpoint that is mapped from a file are the system's to take back.
    """

    def memory(self) -> Memory:
        """Of the process, from its beginning until now. Raises OSError where memory cannot be read."""
        now = anonymous_bytes(self._process.pid)
        return Memory(max(self._peak_bytes, now), now)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._watcher.join()
        super().__exit__()

    def _has_begun(self) -> None:
        self._peak_bytes, self._is_over = 0, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        with suppress(OSError):  # it has ended
            while not self._is_over.wait(_LOOK_S):
                self._peak_bytes = max(self._peak_bytes, anonymous_bytes(self._process.pid))


class Here(System):
    """An object of this process, called as one apart is."""

    def __init__(self, make: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Raises what ``make`` raises."""
        self._system = make(*arguments, **options)

    def call(self, method: str, *arguments: Any, **options: Any) -> Turn:
        """Call a method, and wait for the GPU."""
        return _timed(self._system, method, arguments, options)

    def __exit__(self, *_: object) -> None:
        del self._system


def _serve(pipe: Any, num_threads: int, make: Callable[..., Any], arguments: Any, options: Any) -> None:
    import torch

    from flan_lora.base.quantised import quiet_bitsandbytes

    torch.set_num_threads(num_threads)
    quiet_bitsandbytes()
    warnings.simplefilter("ignore", FutureWarning)  # as the command does in its own process
    try:
        system = make(*arguments, **options)
        pipe.send(None)
        while True:
            method, arguments, options = pipe.recv()
            pipe.send(_timed(system, method, arguments, options))
    except EOFError:  # nobody asks any more
        return
    except Exception as error:
        pipe.send(error)


def _timed(system: Any, method: str, arguments: Any, options: Any) -> Turn:
    import torch

    start = time.perf_counter()
    result = getattr(system, method)(*arguments, **options)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return Turn(time.perf_counter() - start, result)


def anonymous_bytes(process: int | str | None = "self") -> int:
    """Resident memory of a process without the pages of mapped files (RssAnon); 0 when it is ending.

    Raises:
        OSError: there is no such process, or no Linux since 4.5.
    """
    status = Path(f"/proc/{process}/status")
    try:
        text = status.read_text(encoding="utf-8")
    except OSError as error:
        raise OSError(f"memory is read from {status} (Linux), which is not there: {error}") from error
    _, found, kilobytes = text.partition("RssAnon:")
    if not found and "VmRSS:" in text:  # a process that is ending has neither
        raise OSError(f"{status} has no RssAnon: this needs a newer Linux")
    return int(kilobytes.split()[0]) * 1024 if found else 0
