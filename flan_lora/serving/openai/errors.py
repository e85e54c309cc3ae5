"""One table: what went wrong -> status, and the body that OpenAI's clients read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from flan_lora.errors import (
    AdapterCorruptError,
    AdapterError,
    AdapterMismatchError,
    DataError,
    FlanLoraError,
    QueueFullError,
    RemoteError,
    RequestError,
    UnknownAdapterError,
)

INVALID, SERVER, RATE_LIMIT = "invalid_request_error", "server_error", "rate_limit_error"
RETRY_AFTER_S = 1
"""Asked of a client that was turned away; a waiting row moves up with every step, so soon."""


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """How one kind of error is answered."""

    status: int
    type: str
    """OpenAI's ``error.type``."""
    code: str
    """OpenAI's ``error.code``: stable, for programs."""


KINDS: Mapping[type[FlanLoraError], ErrorKind] = {  # the first that fits, so children before parents
    UnknownAdapterError: ErrorKind(404, INVALID, "model_not_found"),
    AdapterMismatchError: ErrorKind(409, INVALID, "adapter_mismatch"),
    AdapterCorruptError: ErrorKind(409, INVALID, "adapter_corrupt"),
    RemoteError: ErrorKind(503, SERVER, "adapter_root_unavailable"),
    AdapterError: ErrorKind(409, INVALID, "adapter_unusable"),
    QueueFullError: ErrorKind(429, RATE_LIMIT, "queue_full"),
    RequestError: ErrorKind(400, INVALID, "invalid_request"),
    DataError: ErrorKind(422, INVALID, "unprocessable_text"),
    FlanLoraError: ErrorKind(500, SERVER, "server_error"),
}
"""Those that a request can meet; the rest (recipes, training) are the operator's to fix, so 500."""

_INTERNAL = ErrorKind(500, SERVER, "internal_error")
_STORAGE = re.compile(r"(?<![\w+.-])(?!https?:)[a-z][a-z0-9+.-]*://[^\s'\"]*/")
_FOLDERS = re.compile(r"(?<![\w./:])/(?:[^\s/'\"]+/)+")
_HTTP = {404: "not_found", 405: "method_not_allowed"}


@dataclass(eq=False)
class ApiError(Exception):
    """An answer other than 200 that the HTTP layer itself decides on."""

    status: int
    code: str
    message: str
    type: str = INVALID
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class ClientGone(Exception):
    """Nobody reads the answer any more, so there is none."""


def refused(message: str, param: str | None = None, code: str = "invalid_request") -> ApiError:
    """400: what a request asks for cannot be done, or makes no sense."""
    return ApiError(400, code, message, param=param)


def unavailable(message: str, code: str) -> ApiError:
    """503: the server starts or stops."""
    return ApiError(503, code, message, SERVER, headers={"Retry-After": str(RETRY_AFTER_S)})


def as_api_error(error: BaseException) -> ApiError:
    """The answer to any exception. What only we can fix says nothing about our insides."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, _HTTP.get(error.status_code, "http_error"), error.detail)
    if isinstance(error, TimeoutError):
        return ApiError(504, "timeout", "the answer took longer than this server's time limit.", SERVER)
    for kind_of, kind in KINDS.items():
        if isinstance(error, kind_of):
            headers = {"Retry-After": str(RETRY_AFTER_S)} if kind.status == 429 else {}
            return ApiError(kind.status, kind.code, _without_folders(str(error)), kind.type, headers=headers)
    return ApiError(_INTERNAL.status, _INTERNAL.code, "the server failed; its log says why.", _INTERNAL.type)


def _without_folders(message: str) -> str:
    """An error's text for somebody elsewhere: where things lie on this machine is not for them."""
    return _FOLDERS.sub("", _STORAGE.sub("", message))


def error_body(error: ApiError) -> dict[str, Any]:
    """OpenAI's error object."""
    return {
        "error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code},
    }


def error_response(error: ApiError) -> Response:
    """The error as a response of its own."""
    return JSONResponse(error_body(error), error.status, headers=dict(error.headers))
