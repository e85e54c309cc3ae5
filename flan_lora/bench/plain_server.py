"""What people write: one PeftModel, a lock, `set_adapter`, `generate`. The server that ours is measured beside.

    python -m flan_lora.bench.plain_server ADAPTERS/BASE

The prompts, limits and labels are the same as ours. It is Starlette itself, not FastAPI on top of it, so it is a
little faster than what people write.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flan_lora.adapters.remote_store import store_at
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.base.decode import decode, generation_config, label_constraint
from flan_lora.base.encode import encode_sources


class PlainModel:
    """All adapters of a store on one PeftModel, one request at a time."""

    def __init__(self, stored: list[StoredAdapter]) -> None:
        from peft import PeftModel

        self._base = stored[0].open_base()
        self._model = PeftModel.from_pretrained(self._base.model, stored[0].path, adapter_name=stored[0].name)
        for item in stored[1:]:
            self._model.load_adapter(item.path, adapter_name=item.name)
        self._model.eval()
        self._recipes = {item.name: item.recipe for item in stored}
        self._lock = threading.Lock()

    @torch.inference_mode()
    def answer(self, name: str, inputs: dict[str, str]) -> tuple[str, int]:
        """The text, and the tokens that were generated."""
        from transformers import LogitsProcessorList

        recipe, tokenizer = self._recipes[name], self._base.tokenizer
        task = recipe.task_definition
        (source,) = encode_sources(tokenizer, [task.prompt(inputs)], recipe.data.max_source_tokens)
        constraint = label_constraint(tokenizer, task.labels) if task.labels else None
        config = generation_config(
            self._base.model.config,
            tokenizer,
            max_new_tokens=constraint.max_new_tokens if constraint else task.max_new_tokens,
            num_beams=recipe.evaluation.num_beams,
        )
        processors = LogitsProcessorList([] if constraint is None else [constraint])
        ids = torch.tensor([source.input_ids], device=self._base.device)
        with self._lock:
            self._model.set_adapter(name)
            output = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                logits_processor=processors,
            )
        answer = output[0, 1:].tolist()
        return task.parse(decode(tokenizer, answer, constraint)), len(answer)


def make_app(model: PlainModel) -> Starlette:
    """One endpoint, like ours as far as the load needs it."""

    async def completions(request: Request) -> Response:
        body: dict[str, Any] = await request.json()
        text, num_tokens = await asyncio.to_thread(model.answer, body["model"], body["inputs"])
        usage = {"completion_tokens": num_tokens}
        return JSONResponse({"choices": [{"index": 0, "text": text}], "usage": usage})

    async def ready(request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    return Starlette(routes=[Route("/v1/completions", completions, methods=["POST"]), Route("/ready", ready)])


def main(root: Path) -> None:
    """Serve the adapters of one base on a free port, and print it."""
    stored = [item for item in store_at(root).list() if isinstance(item, StoredAdapter)]
    app = make_app(PlainModel(stored))
    config = uvicorn.Config(app, port=0, lifespan="off", log_level="error", access_log=False)
    listener = config.bind_socket()
    print(f"Ready: http://127.0.0.1:{listener.getsockname()[1]} serves", flush=True)
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
