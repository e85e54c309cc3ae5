"""What `flan-lora serve` may be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything about the server that is not about the model."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}  # where a config file holds it

    host: str = "127.0.0.1"
    port: int = 8000
    """0: any free port; the ready line says which."""
    api_keys: tuple[str, ...] = ()
    """Any of them opens `/v1`; none: it is open to whoever reaches the port."""
    allows_adapter_changes: bool = False
    """Whether `/v1/load_lora_adapter` and `/v1/unload_lora_adapter` exist; only with a key."""
    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages a browser lets read answers (CORS)."""
    max_body_bytes: int = 1 << 20
    max_prompts: int = 128
    """Texts of one request."""
    request_timeout_s: float = 300.0
    """From a request's first byte to its answer's last."""
    body_timeout_s: float = 30.0
    """For the body of a request to arrive."""
    drain_timeout_s: float = 30.0
    """What running requests get after SIGTERM."""
    logs_requests: bool = True
    logs_texts: bool = False
    """Whether the log holds prompts and answers."""
