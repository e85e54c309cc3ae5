"""The outermost layer: a number for every request, errors as answers, one JSON line when it is over."""

from __future__ import annotations

import json
import logging
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flan_lora.serving.openai.errors import ClientGone, as_api_error, error_response

_logger = logging.getLogger(__name__)
_QUIET = frozenset(("/health", "/ready", "/metrics"))
"""Asked every few seconds by machines."""


def json_lines(stream: TextIO | None = None) -> Callable[[dict[str, Any]], None]:
    """Write each record as a line to a stream; standard error by default."""
    target = sys.stderr if stream is None else stream

    def write(record: dict[str, Any]) -> None:
        target.write(json.dumps(record, ensure_ascii=False) + "\n")
        target.flush()

    return write


class AccessLog:
    """ASGI middleware. An endpoint adds to the line through ``scope["state"]["log"]``, a dict."""

    def __init__(
        self, app: ASGIApp, write: Callable[[dict[str, Any]], None] | None, on_error: Callable[[str], None]
    ) -> None:
        """
        Args:
            write: takes each record; None logs nothing.
            on_error: told the code of each error that is answered.
        """
        self._app, self._write, self._on_error = app, write, on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        log: dict[str, Any] = {}
        state = scope.setdefault("state", {})
        state["log"] = log
        request_id = state.setdefault("request_id", f"req-{uuid.uuid4().hex}")  # the ingress's, on Ray
        status = 0

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, numbered)
        except ClientGone:
            log["error"] = "client_closed"
        except Exception as error:
            if status:  # the answer has begun, so nothing can be said any more
                raise
            await self._answer_error(error, scope, receive, numbered)
        finally:
            if self._write is not None and scope["path"] not in _QUIET:
                self._write(_record(scope, request_id, status, time.perf_counter() - start, log))

    async def _answer_error(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        shown = as_api_error(error)
        if shown.status == 500:
            _logger.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
        scope["state"]["log"]["error"] = shown.code
        self._on_error(shown.code)
        await error_response(shown)(scope, receive, send)


def _record(scope: Scope, request_id: str, status: int, duration_s: float, log: dict[str, Any]) -> dict[str, Any]:
    """Status 0: the client was gone before the answer began."""
    client = scope.get("client")
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "id": request_id,
        "client": client[0] if client else None,
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "duration_s": round(duration_s, 4),
        **log,
    }
