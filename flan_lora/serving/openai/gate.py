"""What a request passes before an endpoint sees it: the server's phase, its key, its size, its time to arrive."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flan_lora.serving.openai.errors import ApiError
from flan_lora.serving.openai.lifecycle import Lifecycle
from flan_lora.serving.openai.settings import ServerSettings

GUARDED = "/v1/"


class Keys:
    """API keys, compared in a time that says nothing about them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, authorization: str | None) -> bool:
        """Whether an Authorization header holds one of the keys; every key is compared, whatever was found."""
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        found = [hmac.compare_digest(given, digest) for digest in self._digests]
        return scheme.lower() == "bearer" and any(found)


class Gate:
    """ASGI middleware before everything under `/v1/`. Raises ApiError for the one that stands around it."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, lifecycle: Lifecycle) -> None:
        self._app, self._settings, self._lifecycle = app, settings, lifecycle
        self._keys = Keys(settings.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # where Starlette's router finds an app, it raises 404 and 405 instead of answering
        if scope["type"] != "http" or not scope["path"].startswith(GUARDED):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._keys and not self._keys.accept(headers.get("authorization")):
            raise ApiError(
                401,
                "invalid_api_key",
                "expected the header `Authorization: Bearer KEY` with a key of this server.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        with self._lifecycle.request():
            if scope["method"] == "POST":
                self._check_headers(headers)
                receive = self._limited(receive)
            await self._app(scope, receive, send)

    def _check_headers(self, headers: Headers) -> None:
        # any page may send text/plain to this port without asking; JSON makes the browser ask first (CORS)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(
                415, "unsupported_media_type", f"expected Content-Type: application/json (got {kind or 'none'})."
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._settings.max_body_bytes:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        """``receive`` that counts the body and its time; after the body it is as it was."""
        deadline = time.monotonic() + self._settings.body_timeout_s
        num_bytes, is_whole = 0, False

        async def limited() -> Message:
            nonlocal num_bytes, is_whole
            if is_whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), deadline - time.monotonic())
            except (TimeoutError, asyncio.TimeoutError) as error:
                limit = f"{self._settings.body_timeout_s:g} s"
                raise ApiError(408, "body_timeout", f"the body did not arrive within {limit}.") from error
            num_bytes += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if num_bytes > self._settings.max_body_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> ApiError:
        limit = self._settings.max_body_bytes
        return ApiError(413, "body_too_large", f"the body has more than {limit:,} bytes, the server's limit.")


def _digest(key: str) -> bytes:
    """Of equal length for every key, so that a comparison does not tell the length."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
