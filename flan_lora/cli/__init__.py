"""The command line: every command parses its options, calls one function and prints.

Nothing heavy is imported before a command runs, so ``flan-lora --help`` answers at once. The group below is the
one place where an error becomes a message and an exit code.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import click

from flan_lora import __version__
from flan_lora.cli.adapter import adapter
from flan_lora.cli.adapter_roots import publish, pull
from flan_lora.cli.batch import batch
from flan_lora.cli.bench import bench
from flan_lora.cli.chat import chat
from flan_lora.cli.compare import compare
from flan_lora.cli.compose import compose
from flan_lora.cli.data import data
from flan_lora.cli.doctor import doctor
from flan_lora.cli.evaluate import evaluate
from flan_lora.cli.generate import generate, propose
from flan_lora.cli.mini import mini
from flan_lora.cli.recipe import recipe
from flan_lora.cli.route import route
from flan_lora.cli.serve import serve
from flan_lora.cli.sweep import sweep
from flan_lora.cli.train import train
from flan_lora.cli.train_all import train_all
from flan_lora.errors import FlanLoraError
from flan_lora.system.files import MAKE_ROOM, disk_reason

__all__ = ["main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, what shells expect."""


class Interruption(click.ClickException):
    """Ctrl-C that has something to say, such as how to resume."""

    exit_code = INTERRUPTED


class ErrorBoundary(click.Group):
    """Turns what a user can fix into one message on stderr and exit code 1.

    Commands are listed in the order of a user's day, not of the alphabet.
    """

    def invoke(self, ctx: click.Context) -> Any:
        if not _is_debugging():
            _quiet_libraries()
        try:
            return super().invoke(ctx)
        except FlanLoraError as error:
            if _is_debugging():
                raise
            was_interrupted = isinstance(error.__cause__, KeyboardInterrupt)  # a training saved, then stopped
            raise (Interruption if was_interrupted else click.ClickException)(_printable(str(error))) from error
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:  # what no command has turned into an error of its own, from any library
            if _is_debugging() or not (reason := disk_reason(error)):
                raise
            raise click.ClickException(f"a file cannot be written or read: {reason}.\n{MAKE_ROOM}") from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _printable(message: str) -> str:
    """A message that quotes half of a character (a lone surrogate) would itself fail to print."""
    return message.encode("utf-8", "backslashreplace").decode()


def _is_debugging() -> bool:
    return os.environ.get("FLAN_LORA_DEBUG") == "1"


def _quiet_libraries() -> None:
    """Keep what only a library's developers can act on off the terminal; our own messages use logging too."""
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category)
    for name in ("bitsandbytes", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)


@click.group(cls=ErrorBoundary, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(version)s")
def main() -> None:
    """The LoRA adapter factory for FLAN-T5: one frozen 8-bit base, one adapter per task.

    \b
      flan-lora data inspect emotion      look at prompts and lengths first
      flan-lora train emotion --dry-run   steps, tokens and memory, without weights
      flan-lora train emotion             train, evaluate, publish under adapters/

    RECIPE is a YAML file or the name of a recipe that ships. `--base mini` runs everything on the small
    embedded base, on any machine.
    """


for command in (
    recipe,
    data,
    train,
    train_all,
    sweep,
    evaluate,
    compare,
    compose,
    adapter,
    generate,
    batch,
    propose,
    route,
    serve,
    chat,
    bench,
    doctor,
    mini,
):
    main.add_command(command)
for command in (pull, publish):
    adapter.add_command(command)
