"""The page at `/`: one HTML file, one script, one style sheet; nothing from elsewhere, nothing to build."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/playground/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/playground/style.css": ("style.css", "text/css; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""What a model writes is text; even where a bug made it HTML, no script in it would run."""


def page_routes() -> list[Route]:
    """The page and its two files, read once."""
    return [Route(path, _static(name, media_type)) for path, (name, media_type) in _FILES.items()]


def _static(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = files(__name__).joinpath(name).read_bytes()

    async def send(request: Request) -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)

    return send
