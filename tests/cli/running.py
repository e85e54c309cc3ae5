"""Commands in this process, and fakes for what they call."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flan_lora.cli import main


def run(*arguments: str, input: str | None = None, **options: Any) -> Result:
    """Run a command in this process; stdout and stderr apart."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=input, **options)


def succeed(*arguments: str, **options: Any) -> str:
    """Run a command that must end well, and return what it printed."""
    result = run(*arguments, **options)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def put_fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """Stand a fake in for a module that a command imports."""
    fake = ModuleType(f"flan_lora.{name}")
    vars(fake).update(members)
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    package, _, module = fake.__name__.rpartition(".")
    monkeypatch.setattr(import_module(package), module, fake, raising=False)
