"""What a user can fix. Everything else is an assert or a plain exception with its traceback.

An error says where, what, got, expected and the next step; its text is the whole message the CLI prints.
"""

from __future__ import annotations

_MAX_PLACE_CHARS = 300
"""Of a path in a message; a name may have thousands."""


class FlanLoraError(Exception):
    """Base of all errors a user can fix; the CLI prints the text alone and exits with code 1."""


class RecipeError(FlanLoraError):
    """A recipe, or a ``--set`` override, is not valid; the text lists every problem of the file."""


class DataError(FlanLoraError):
    """Rows are missing, unreadable, of the wrong shape, or fail the lint."""


class BaseModelError(FlanLoraError):
    """The frozen base cannot be found, loaded or run as asked."""


class RequestError(FlanLoraError):
    """A request to serve asks for what cannot be done; the text lists every problem of it."""


class QueueFullError(FlanLoraError):
    """As many requests wait as may wait; the text says how many. Ask again later."""


class TrainingError(FlanLoraError):
    """A run cannot start, resume or finish; the text names the dial to turn."""


class DiskError(FlanLoraError, OSError):
    """A file cannot be written: no room, no permission, or a limit; the text says where, why, and how to go on."""

    def __init__(self, where: str, reason: str, next_step: str) -> None:
        self.where = where if len(where) <= _MAX_PLACE_CHARS else f"{where[:_MAX_PLACE_CHARS]}..."
        self.reason = reason
        super().__init__(f"cannot write {self.where}: {reason}.\n{next_step}")


class BusyError(FlanLoraError):
    """Another process is writing the same files; the text says which process, where and since when."""


class AdapterError(FlanLoraError):
    """Anything wrong with an adapter on disk."""


class UnknownAdapterError(AdapterError):
    """No adapter of that name is published where we looked."""


class AdapterCorruptError(AdapterError):
    """Files are missing, truncated, altered, or of a kind that is never loaded (pickle)."""


class RemoteError(AdapterError):
    """An adapter root at a URL cannot be reached, read or written; the text names the URL and the next step."""


class AdapterMismatchError(AdapterError):
    """The adapter was trained on another base, revision, shape or prompt version."""
