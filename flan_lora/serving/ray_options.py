"""What the server on Ray may be told: by `flan-lora serve --ray`, `serve run`, or a Serve config file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from flan_lora.errors import FlanLoraError
from flan_lora.serving.openai.settings import ServerSettings
from flan_lora.system.schema import Section, indented, problem_lines

_SCALE_AT = 0.75
"""Of a full batch: replicas are added before requests have to wait for a row."""


class RayOptionsError(FlanLoraError):
    """The arguments of the application make no sense."""


class RayServeOptions(Section):
    """Arguments of `flan_lora.serving.ray:app`."""

    base: str | None = None
    """`mini`, a Hub id or a folder; None: the base that has adapters."""
    adapters_dir: str = "adapters"
    """The adapter root, at the same place on every node."""
    device: Literal["cpu", "cuda"] | None = None
    """None: the GPU when the replica has one."""
    serve_precision: Literal["exact", "int8"] = "exact"
    """Of `Router.open`."""
    max_loras: int = Field(8, ge=1)
    """Adapters that stay in a replica's memory."""
    max_running: int = Field(32, ge=1)
    """Sequences that a replica decodes at once, and requests that it is given before others are sent elsewhere."""
    max_waiting: int = Field(1024, ge=1)
    """Requests that wait for a replica; beyond that, 429."""
    min_replicas: int = Field(1, ge=1)
    max_replicas: int | None = Field(None, ge=1)
    """None: as many as ``min_replicas``, always."""
    target_ongoing_requests: float | None = Field(None, gt=0)
    """Running and waiting requests of a replica that autoscaling aims at; None: three quarters of a full batch."""
    num_cpus: float = Field(1, ge=0)
    """Of a replica, and so its threads (Ray sets OMP_NUM_THREADS)."""
    num_gpus: float = Field(0, ge=0)
    """Of a replica; a share such as 0.5 puts two on one GPU."""
    num_ingress_replicas: int = Field(1, ge=1)
    """Processes that take requests, check them and send them to replicas."""
    host: str = "0.0.0.0"
    """Where Serve's proxies listen; on the loopback only its own host names are answered."""
    server: ServerSettings = ServerSettings()
    """Keys, sizes, times, log; without ``api_keys``, those of FLAN_LORA_API_KEY. Its host and port are Serve's."""

    @model_validator(mode="after")
    def _min_is_at_most_max(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) is below min_replicas ({self.min_replicas})")
        return self

    @property
    def is_scaled(self) -> bool:
        """Whether replicas come and go."""
        return self.max_replicas not in (None, self.min_replicas)

    @property
    def scaling(self) -> dict[str, Any]:
        """Of the engine's deployment, in Serve's words."""
        if not self.is_scaled:
            return {"num_replicas": self.min_replicas}
        target = self.target_ongoing_requests or max(1.0, _SCALE_AT * self.max_running)
        return {
            "autoscaling_config": {
                "min_replicas": self.min_replicas,
                "max_replicas": self.max_replicas,
                "target_ongoing_requests": target,
            }
        }

    @property
    def settings(self) -> ServerSettings:
        """Of the ingress."""
        keys = self.server.api_keys or keys_of(os.environ.get("FLAN_LORA_API_KEY", ""))
        return replace(self.server, host=self.host, api_keys=keys)


def keys_of(text: str) -> tuple[str, ...]:
    """Keys with commas between."""
    return tuple(key for key in (part.strip() for part in text.split(",")) if key)


def parse_options(arguments: Mapping[str, Any]) -> RayServeOptions:
    """Options as `serve run flan_lora.serving.ray:app base=mini` gives them; a local root becomes absolute.

    Raises:
        RayOptionsError: unknown or wrong arguments, one line each.
    """
    try:
        options = RayServeOptions.model_validate(dict(arguments))
    except ValidationError as error:
        lines = indented(problem_lines(error, RayServeOptions))
        raise RayOptionsError(f"the arguments of flan_lora.serving.ray:app are not valid:\n{lines}") from error
    if "://" in options.adapters_dir:
        return options
    # a replica has another working directory
    return options.model_copy(update={"adapters_dir": str(Path(options.adapters_dir).absolute())})
