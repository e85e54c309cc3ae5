"""``flan-lora chat``: one base, and a word to switch between its adapters."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flan_lora.cli.generation import generation_options, params_line
from flan_lora.cli.options import adapters_dir_option
from flan_lora.cli.output import format_table
from flan_lora.cli.serving import ServingCommand, serving_base_option
from flan_lora.errors import FlanLoraError
from flan_lora.serving.open_router import open_router
from flan_lora.system.text import shorten

if TYPE_CHECKING:
    from flan_lora.serving.completion import Text
    from flan_lora.serving.router import Router

_MAX_NEW_TOKENS = 64
"""To check parameters with, where no limit is set yet."""
HISTORY = Path.home() / ".flan_lora_history"
HELP = """\
  /use NAME      answer with this adapter from now on
  /auto          choose an adapter for each text by its content
  /base          answer with the bare base
  /compare TEXT  all adapters side by side, in one mixed batch
  /set NAME=N    generate otherwise, e.g. /set temperature=0.7; /set alone: as the adapter was evaluated
  /adapters      what is published, and what is ready
  /quit          leave (or Ctrl-D)
Anything else is a text to answer; a task of several inputs asks for one after the other."""


@click.command(cls=ServingCommand)
@click.option(
    "--adapter", "adapter_name", metavar="ADAPTER", help="The adapter to begin with. [default: the base]"
)
@serving_base_option
@generation_options
@adapters_dir_option
def chat(adapter_name: str | None, base: str | None, params: Mapping[str, Any], adapters_dir: Path) -> None:
    """Answer texts line by line, and switch adapters with /use NAME."""
    conversation = Chat(open_router(adapters_dir, base), params)
    words = [*Chat.COMMANDS, *(f"/use {name}" for name in conversation.router.published())]
    click.echo(f"Adapters: {', '.join(conversation.router.published())}. /help lists the commands.")
    with suppress(EOFError, StopIteration):
        if adapter_name is not None:
            click.echo(conversation.answer(f"/use {adapter_name}"))
        read = _line_reader(words)
        while True:
            line = read(f"{conversation.prompt}> ").strip()
            if line and (answer := conversation.answer(line)):
                click.echo(answer)


class Chat:
    """What a conversation remembers: which adapter answers, and what it was told of a question so far."""

    COMMANDS = ("/use", "/auto", "/base", "/compare", "/set", "/adapters", "/help", "/quit")

    def __init__(self, router: Router, params: Mapping[str, Any] | None = None) -> None:
        self.router = router
        self._params = dict(params or {})
        self._choice: str | None = None
        self._given: dict[str, str] = {}

    @property
    def prompt(self) -> str:
        """Who answers, and what it wants to be told next where its task takes several inputs."""
        name, inputs = self._choice or "base", self._inputs()
        return name if len(inputs) == 1 else f"{name} {inputs[len(self._given)]}"

    def answer(self, line: str) -> str:
        """What to print for a line; nothing while inputs are missing.

        An error is an answer too: the conversation goes on. A command drops the inputs given so far.
        StopIteration ends it.
        """
        command, _, rest = line.partition(" ")
        try:
            if line.startswith("/"):
                self._given = {}
                return self._run(command, rest.strip())
            inputs = self._inputs()
            if len(inputs) == 1:
                return self._generate(line)
            self._given[inputs[len(self._given)]] = line
            if len(self._given) < len(inputs):
                return ""
            given, self._given = self._given, {}
            return self._generate(given)
        except FlanLoraError as error:
            return f"Error: {error}"

    def _run(self, command: str, rest: str) -> str:
        if command == "/quit":
            raise StopIteration
        if command == "/use" and rest:
            return self._use(rest)
        if command in ("/auto", "/base"):
            self._choice = "auto" if command == "/auto" else None
            return f"{self._choice or 'base'} answers."
        if command == "/set":
            return self._set(rest)
        if command == "/compare" and rest:
            return self._compare(rest)
        if command == "/adapters":
            ready = {status.name: status.state.value for status in self.router.status()}
            return "\n".join(f"{name}  {ready.get(name, 'disk')}" for name in self.router.published()) or "none"
        return HELP

    def _use(self, name: str) -> str:
        start = time.perf_counter()
        self.router.load(name)
        self._choice = name
        return f"{name} answers (switched in {1000 * (time.perf_counter() - start):.1f} ms)."

    def _set(self, assignment: str) -> str:
        """Keep a parameter that makes sense; forget all of them when none is named."""
        from flan_lora.serving.params import resolve
        from flan_lora.system.documents import DocumentError, parse_json

        if not assignment:
            self._params = {}
        else:
            name, _, text = assignment.partition("=")
            try:
                value = parse_json(text.strip())
            except DocumentError:
                value = text.strip()
            params = {**self._params, name.strip(): value}
            resolve(params, {}, params.get("max_new_tokens") or _MAX_NEW_TOKENS)
            self._params = {name: value for name, value in params.items() if value is not None}
        return f"Generation parameters: {params_line(self._params)}."

    def _inputs(self) -> tuple[str, ...]:
        from flan_lora.serving.completion import AUTO

        return ("text",) if self._choice in (None, AUTO) else self.router.inputs(self._choice)

    def _generate(self, text: Text) -> str:
        completion = self.router.generate(text, self._choice, params=self._params)
        how = "" if completion.route is None else f"{completion.route.reason}, "
        return f"{completion.text}\n  [{how}{completion.num_tokens} tokens, {completion.latency_s:.2f} s]"

    def _compare(self, text: str) -> str:
        """The bare base and every adapter of one input, in one mixed batch; the others say what they take."""
        inputs = {name: self.router.inputs(name) for name in self.router.published()}
        names: list[str | None] = [None]
        names += [name for name, takes in inputs.items() if len(takes) == 1]
        found = self.router.generate([text] * len(names), names, params=self._params)
        rows = [
            (name or "base", shorten(answer.text, 60), f"{answer.latency_s:.2f} s")
            for name, answer in zip(names, found, strict=True)
        ]
        rows += [(name, f"takes {', '.join(takes)}", "-") for name, takes in inputs.items() if len(takes) > 1]
        return format_table(("ADAPTER", "ANSWER", "TIME"), rows)


def _line_reader(words: Sequence[str]) -> Callable[[str], str]:
    """``input`` with tab completion and a history kept from one chat to the next, where there is readline."""
    with suppress(ImportError):
        import readline

        readline.set_completer(lambda begun, number: _completion(readline.get_line_buffer(), begun, number, words))
        readline.parse_and_bind("tab: complete")
        with suppress(OSError):
            readline.read_history_file(HISTORY)
        readline.set_history_length(1000)
        atexit.register(_save_history)
    return input


def _completion(line: str, begun: str, number: int, words: Sequence[str]) -> str | None:
    """The ``number``-th way to go on with the last word (``begun``) of a line."""
    fits = [word[len(line) - len(begun) :] for word in words if word.startswith(line)]
    return fits[number] if number < len(fits) else None


def _save_history() -> None:
    import readline

    with suppress(OSError):  # a home that cannot be written is no reason to fail
        readline.write_history_file(HISTORY)
