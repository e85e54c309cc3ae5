"""A folder on a file system of fsspec's (s3://, gs://, hf://, memory://, file://): read, write, list.

Knows bytes and names; what an adapter is stands in remote_store.py. Every failure is one error that names the URL.
"""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from flan_lora.errors import RemoteError

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_EXTRAS = {
    "s3": "pip install 'flan-lora[s3]'",
    "s3a": "pip install 'flan-lora[s3]'",
    "gs": "pip install gcsfs",
    "gcs": "pip install gcsfs",
    "abfs": "pip install adlfs",
    "az": "pip install adlfs",
}
"""What a file system needs beyond flan_lora itself, as the user installs it."""
_STAMP_FIELDS = ("ETag", "etag", "blob_id", "md5Hash", "LastModified", "mtime", "created", "size")
"""What file systems tell of a file in a listing and change with it, each under its own names."""

log = logging.getLogger(__name__)


def is_url(place: str) -> bool:
    """``s3://bucket/adapters`` is one; ``C:\\adapters`` and ``adapters`` are none."""
    return _URL.match(place) is not None


class RemoteFolder:
    """One folder; names are relative to it, with ``/`` between. Threads may share it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def child(self, name: str) -> RemoteFolder:
        """The folder of that name in it."""
        return RemoteFolder(f"{self.url}/{name}")

    @property
    def shown(self) -> str:
        """The URL without a password, for messages."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """fsspec's file system, and the folder's path there."""
        import fsspec

        scheme = urlsplit(self.url).scheme
        try:
            filesystem, path = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            remedy = _EXTRAS.get(scheme, f"pip install the package that fsspec names: {error}")
            raise RemoteError(f"{self.shown} needs a package that is not installed: {error}.\n{remedy}") from error
        except ValueError as error:
            raise RemoteError(
                f"{self.shown}: {error}.\nGive a local folder, or a URL of s3://, gs://, hf://, file://, ..."
            ) from error
        return filesystem, path.rstrip("/")

    def check(self) -> None:
        """Raise RemoteError where no package knows such a URL. Asks nobody."""
        _ = self._place

    # Reading

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """A file, or None where there is none. Raises RemoteError, also where it is larger than ``max_bytes``."""
        filesystem, path = self._place
        with self._explained(f"read {name} of"):
            try:
                with filesystem.open(f"{path}/{name}", "rb", block_size=_block_size(max_bytes)) as file:
                    content: bytes = file.read(max_bytes + 1)
            except (FileNotFoundError, IsADirectoryError):
                return None
        if len(content) > max_bytes:
            raise RemoteError(f"{self.shown}/{name} is larger than {max_bytes:,} bytes, so it is no adapter's.")
        return content

    def folders(self) -> list[str]:
        """Names of the folders in it; empty where it does not exist."""
        filesystem, path = self._place
        with self._explained("list"):
            filesystem.invalidate_cache()
            try:
                found = filesystem.ls(path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(_last(item["name"]) for item in found if item["type"] == "directory")

    def stamps(self, file_name: str) -> dict[str, tuple[Any, ...]]:
        """Folder in it -> what tells one version of its ``file_name`` from another; without that file, none.

        One listing of everything below, not a question per folder.
        """
        filesystem, path = self._place
        with self._explained("list"):
            filesystem.invalidate_cache()
            try:
                found = filesystem.find(path, detail=True)
            except FileNotFoundError:
                return {}
        wanted = re.compile(rf".*/([^/]+)/{re.escape(file_name)}")
        depth = len(_parts(path)) + 2
        return {
            match.group(1): tuple(str(info.get(field)) for field in _STAMP_FIELDS)
            for name, info in found.items()
            if (match := wanted.fullmatch(name)) and len(_parts(name)) == depth
        }

    # Writing

    def write(self, name: str, content: bytes) -> None:
        """A file, in place of one of that name; readers find the old one or the new. Raises RemoteError.

        One PUT on object storage. A disk (file://, a share) gets a file of another name that is renamed.
        """
        filesystem, path = self._place
        with self._explained(f"write {name} in"):
            if _is_disk(filesystem):
                filesystem.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
                temporary = f"{path}/{name}.{uuid.uuid4().hex}"
                try:
                    filesystem.pipe_file(temporary, content)
                    os.replace(temporary, f"{path}/{name}")
                except BaseException:
                    with suppress(OSError):
                        os.unlink(temporary)
                    raise
            else:
                filesystem.pipe_file(f"{path}/{name}", content)

    def copy(self, source: str, target: str) -> None:
        """A file to another name, within the storage where it can. Raises RemoteError."""
        filesystem, path = self._place
        with self._explained(f"write {target} in"):
            filesystem.cp_file(f"{path}/{source}", f"{path}/{target}")

    def delete(self, name: str) -> None:
        """A file or a folder with all in it; nothing where there is none. Raises RemoteError."""
        filesystem, path = self._place
        with self._explained(f"delete {name} in"), suppress(FileNotFoundError):
            filesystem.invalidate_cache()
            filesystem.rm(f"{path}/{name}", recursive=True)

    def check_writable(self) -> None:
        """Write a small file and delete it again. Raises RemoteError."""
        name = f".probe-{uuid.uuid4().hex}"
        self.write(name, b"")
        self.delete(name)

    @contextmanager
    def _explained(self, act: str) -> Iterator[None]:
        """Whatever a library of somebody's raises, as one error. FileNotFoundError goes to the caller first."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RemoteError(f"cannot {act} {self.shown}: {reason[:300]}.\n{_next_step(error)}") from error


def _next_step(error: Exception) -> str:
    if isinstance(error, PermissionError) or "redential" in str(error) or "Forbidden" in str(error):
        return "Check the credentials, and that they may read and write there (s3://: AWS_PROFILE)."
    if isinstance(error, FileNotFoundError):
        return "Check the name of the bucket, and that it exists."
    return "Check the URL, the network and the endpoint (s3://: AWS_ENDPOINT_URL), then give the command again."


def _is_disk(filesystem: Any) -> bool:
    return "file" in (filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,))


def _block_size(max_bytes: int) -> int:
    """Of a read: a file is read whole, so in few pieces."""
    return min(max(max_bytes, 1 << 16), 64 << 20)


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
