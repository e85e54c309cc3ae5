"""`/v1/models`, and adapters into and out of service while the server runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flan_lora.adapters.validation import is_name
from flan_lora.serving.completion import AUTO
from flan_lora.serving.openai.bodies import model_body
from flan_lora.serving.openai.errors import ApiError, refused
from flan_lora.serving.openai.schema import AdapterBody, parse
from flan_lora.serving.openai.served import ModelInfo, ServedModel
from flan_lora.serving.openai.texts import resolve


@dataclass(frozen=True)
class Adapters:
    """The endpoints about models; they ask none of them a text."""

    model: ServedModel
    allows_changes: bool
    """Whether load and unload exist."""

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`: the base, then its adapters."""
        infos = [self.model.base, *await asyncio.to_thread(self.model.adapters)]
        return JSONResponse({"object": "list", "data": [self._body(info) for info in infos]})

    async def one(self, request: Request) -> Response:
        """`GET /v1/models/{id}`."""
        return JSONResponse(self._body(await asyncio.to_thread(self._find, request.path_params["id"])))

    async def card(self, request: Request) -> Response:
        """`GET /v1/models/{id}/card`: what its folder says about it."""
        info = await asyncio.to_thread(self._find, request.path_params["id"])
        if info is self.model.base:
            raise ApiError(404, "no_card", "the base has no card of its own.")
        return JSONResponse(await asyncio.to_thread(self.model.card, info.name))

    async def load(self, request: Request) -> Response:
        """`POST /v1/load_lora_adapter`: serve what is published under a name now."""
        body = parse(AdapterBody, await request.body())
        name = self._allowed(body)
        info = await asyncio.to_thread(self.model.load, name)
        return JSONResponse({"status": "loaded", **self._body(info)})

    async def unload(self, request: Request) -> Response:
        """`POST /v1/unload_lora_adapter`: free an adapter once its running requests have ended."""
        body = parse(AdapterBody, await request.body())
        name = self._allowed(body)
        await asyncio.to_thread(self.model.unload, name)
        return JSONResponse({"status": "unloaded", "id": name})

    def _allowed(self, body: AdapterBody) -> str:
        """A name of the adapter root, with or without the base's folder before it; nothing else is looked for."""
        if not self.allows_changes:
            raise ApiError(
                403,
                "not_enabled",
                "adapters change only where --allow-adapter-changes and an API key are set.",
            )
        for field, given in (("lora_name", body.lora_name), ("lora_path", body.lora_path)):
            if given is None:
                continue
            name = given.removeprefix(f"{self.model.slug}/")
            if not is_name(name):
                raise refused(f"{field}: expected the name of a published adapter, never a path.", field)
            if field == "lora_path" and name != body.lora_name:
                raise refused(
                    f"lora_path: an adapter is served under its own name, {name!r} (got {body.lora_name!r}).",
                    field,
                )
        return body.lora_name.removeprefix(f"{self.model.slug}/")

    def _find(self, name: str) -> ModelInfo:
        found = resolve(self.model, name)
        if found == AUTO:
            raise ApiError(404, "model_not_found", "auto is no model of its own; it chooses one for each text.")
        return self.model.base if found is None else self.model.adapter(found)

    def _body(self, info: ModelInfo) -> dict[str, object]:
        return model_body(info, self.model.base, self.model.slug)
