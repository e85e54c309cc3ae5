"""A system in a process of its own. Threads of one that is idle would slow the one whose turn it is: torch and
CTranslate2 share one OpenMP, which spins less as soon as all pools together have more threads than cores.
"""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flan_lora.errors import BaseModelError


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one call."""

    seconds: float
    """Inside the process, so without the way there and back."""
    result: Any


class Apart(AbstractContextManager["Apart"]):
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
        self._receive()

    def call(self, method: str, *arguments: Any, **options: Any) -> Turn:
        """Call a method there, and wait. Raises what it raises; BaseModelError if the process is gone."""
        self._pipe.send((method, arguments, options))
        turn = self._receive()
        assert isinstance(turn, Turn)
        return turn

    def peak_bytes(self) -> int:
        """Most resident memory that the process has had (Linux)."""
        # not getrusage: its maximum outlives exec, so that a child begins with its parent's
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def __exit__(self, *_: object) -> None:
        self._pipe.close()  # its next read ends it
        self._process.join()

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


def _serve(pipe: Any, num_threads: int, make: Callable[..., Any], arguments: Any, options: Any) -> None:
    import torch

    from flan_lora.base import quiet_bitsandbytes

    torch.set_num_threads(num_threads)
    quiet_bitsandbytes()
    warnings.simplefilter("ignore", FutureWarning)  # as the command does in its own process
    try:
        system = make(*arguments, **options)
        pipe.send(None)
        while True:
            method, arguments, options = pipe.recv()
            start = time.perf_counter()
            result = getattr(system, method)(*arguments, **options)
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
            pipe.send(Turn(time.perf_counter() - start, result))
    except EOFError:  # nobody asks any more
        return
    except Exception as error:
        pipe.send(error)
