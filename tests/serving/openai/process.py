"""`flan-lora serve` as a process of its own, on a free port of the loopback."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

REPO = Path(__file__).resolve().parents[3]
START_S = 240.0
"""Importing torch on a busy machine."""
STOP_S = 120.0


@dataclass
class Process:
    """A server that said that it is ready."""

    url: str
    ready_line: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def client(self) -> httpx.Client:
        """A client of its own for each use; the caller closes it."""
        return httpx.Client(base_url=self.url, timeout=60)

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def lines(self) -> list[str]:
        """The log so far."""
        return self.log.read_text(encoding="utf-8").splitlines()


@contextmanager
def serving(
    folder: Path, *options: str, base: str = "mini", adapters_dir: Path = REPO / "adapters", **environment: str
) -> Iterator[Process]:
    """A server of a process of its own; killed at the end if the test has not ended it."""
    log = folder / "server.log"
    command = [sys.executable, "-m", "flan_lora", "serve", "--base", base, "--port", "0"]
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [*command, "--adapters-dir", str(adapters_dir), *options],
            cwd=REPO,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            line = _first_line(process, log)
            found = re.match(r"Ready: (http://\S+) serves ", line)
            assert found, line
            yield Process(found[1], line, process, log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(STOP_S)
            assert process.stdout is not None
            process.stdout.close()


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    """Standard output's; an assertion when it does not come."""
    assert process.stdout is not None
    found: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: found.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            return found.get(timeout=0.5)
        except queue.Empty:
            continue
    raise AssertionError(f"not ready within {START_S:.0f} s:\n{log.read_text(encoding='utf-8')}")
