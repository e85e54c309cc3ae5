"""Prompts, messages and inputs -> the text that an adapter is asked, and who is asked.

T5 has no chat template and no turns. The rule for a chat: one user message is the text. The base also reads
system and developer messages, before the user's, with a space between; an adapter has the prompt that it was
trained with, and refuses them. Earlier turns are refused by both.
"""

from __future__ import annotations

from collections.abc import Sequence

from flan_lora.errors import UnknownAdapterError
from flan_lora.serving.completion import AUTO, Choice, Text
from flan_lora.serving.openai.errors import refused
from flan_lora.serving.openai.schema import ChatBody, CompletionBody, GenerationBody, Message
from flan_lora.serving.openai.served import ServedModel
from flan_lora.tasks import TASKS


def chosen(model: ServedModel, body: GenerationBody) -> Choice:
    """Who answers: an adapter's name, ``"auto"``, a mix, or None for the bare base.

    Raises:
        ApiError: a mix beside an adapter.
        UnknownAdapterError: no model of that name; never the base in its place.
    """
    choice = resolve(model, body.model)
    if body.adapter_mix is None:
        return choice
    if choice is not None:
        raise refused(
            f"adapter_mix names the adapters, so model is the base: {model.base.name!r} (got {body.model!r}).",
            "adapter_mix",
        )
    return {adapter_name(model, name): weight for name, weight in body.adapter_mix.items()}


def resolve(model: ServedModel, name: str) -> str | None:
    """A model's name as adapter, ``"auto"``, or None: the base.

    ``base:adapter`` says the same as ``adapter``; it is the only name of an adapter that is called like the base
    or ``auto``.
    """
    bases = {model.base.name, *model.aliases}
    if name in bases:
        return None
    if name == AUTO:
        return AUTO
    return adapter_name(model, name)


def adapter_name(model: ServedModel, name: str) -> str:
    """The name of a published adapter, with or without the base before it. Raises UnknownAdapterError."""
    base, colon, rest = name.partition(":")
    wanted = rest if colon and base in {model.base.name, *model.aliases} else name
    if colon and wanted == AUTO:
        return AUTO
    try:
        return model.adapter(wanted).name
    except UnknownAdapterError as error:
        known = ", ".join([model.base.name, AUTO, *(info.name for info in model.adapters())])
        raise UnknownAdapterError(f"no model {name!r} here. There are {known}.") from error


def completion_texts(model: ServedModel, body: CompletionBody, choice: Choice, max_prompts: int) -> list[Text]:
    """One text for each prompt. Raises ApiError."""
    prompts: Sequence[str | None]
    prompts = [body.prompt] if body.prompt is None or isinstance(body.prompt, str) else body.prompt
    if not prompts:
        raise refused("prompt: expected one text or more (got an empty list).", "prompt")
    if len(prompts) > max_prompts:
        raise refused(f"prompt: at most {max_prompts} texts in a request (got {len(prompts)}).", "prompt")
    return [_text(model, body, choice, prompt, "prompt") for prompt in prompts]


def chat_text(model: ServedModel, body: ChatBody, choice: Choice) -> Text:
    """The text of a chat. Raises ApiError for what T5 cannot honour."""
    if others := [message.role for message in body.messages if message.role in ("assistant", "tool", "function")]:
        raise refused(
            f"messages: FLAN-T5 answers one message and knows no earlier turns (got a message of role "
            f"{others[0]!r}). Send one user message.",
            "messages",
        )
    instructions = [_content(message) for message in body.messages if message.role in ("system", "developer")]
    said = [_content(message) for message in body.messages if message.role == "user"]
    if len(said) != 1:
        raise refused(f"messages: expected one user message (got {len(said)}).", "messages")
    if instructions and (choice is not None or body.task is not None):
        raise refused(
            "messages: an adapter is asked in the prompt that it was trained with, and takes no system message. "
            f"Leave it out, or ask the base ({model.base.name}).",
            "messages",
        )
    return _text(model, body, choice, " ".join([*instructions, *said]), "messages")


def _content(message: Message) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    if other := [part.type for part in message.content if part.type != "text" or part.text is None]:
        raise refused(f"messages: only text is read (got a part of type {other[0]!r}).", "messages")
    return " ".join(part.text or "" for part in message.content)


def _text(model: ServedModel, body: GenerationBody, choice: Choice, prompt: str | None, field: str) -> Text:
    """A prompt together with ``inputs``; the input that is missing there is the prompt."""
    if body.inputs is None:
        if prompt is None:
            raise refused(f"{field} is missing: a text, or all of the task's `inputs`.", field)
        return prompt
    wanted = _wanted_inputs(model, body, choice)
    missing = [name for name in wanted if name not in body.inputs]
    if prompt and len(missing) == 1:
        return {**body.inputs, missing[0]: prompt}
    if prompt:
        takes = f"this model takes {', '.join(wanted)}" if wanted else "`inputs` of this model name all its texts"
        raise refused(f"inputs: {takes}; leave the one out of `inputs` that {field} holds.", "inputs")
    return body.inputs


def _wanted_inputs(model: ServedModel, body: GenerationBody, choice: Choice) -> tuple[str, ...]:
    """The inputs of the task that a text is asked under; none where it is not known before."""
    if body.task is not None:
        if body.task not in TASKS:
            raise refused(f"task: unknown task {body.task!r}; there are {', '.join(TASKS)}.", "task")
        return TASKS[body.task].inputs
    if choice is None or choice == AUTO:
        return ()
    name = choice if isinstance(choice, str) else max(choice, key=lambda each: abs(choice[each]))
    return model.adapter(name).inputs
