"""An adapter onto the Hugging Face Hub: what would go, and going.

huggingface_hub finds the token where `hf auth login` put it. Only files that the manifest lists are sent, so
nothing that happens to lie in the folder leaves the machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import CARD, MANIFEST, StoredAdapter
from flan_lora.errors import AdapterError

REPO_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


class Hub(Protocol):
    """The part of huggingface_hub.HfApi that is used."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> object: ...

    def upload_folder(
        self, *, repo_id: str, folder_path: str, allow_patterns: list[str], commit_message: str
    ) -> object: ...


@dataclass(frozen=True)
class Upload:
    """One adapter, checked and ready to go."""

    stored: StoredAdapter
    repo_id: str
    private: bool
    files: dict[str, int]
    """Name -> bytes, in the order of their names."""
    notes: tuple[str, ...]
    """What the owner should know before it is out."""

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())


def prepare_upload(store: Store, name: str, repo_id: str, *, private: bool) -> Upload:
    """Check an adapter and list what would be sent; no network.

    Raises:
        AdapterError: the repository's name is none, or the adapter has no card.
        UnknownAdapterError, AdapterCorruptError: nothing of that name, or it is damaged.
    """
    if not REPO_ID.fullmatch(repo_id):
        raise AdapterError(
            f"{repo_id!r} is not a repository on the Hub.\n  expected  owner/name\nGive both parts."
        )
    stored = store.open(name)
    if problems := store.verify(name):
        raise AdapterError(
            f"adapter {name!r} is not whole and was not sent:\n"
            + "\n".join(f"  {problem}" for problem in problems)
            + "\nPublish it again (flan-lora train)."
        )
    if CARD not in stored.manifest.files:
        raise AdapterError(f"adapter {name!r} has no card ({CARD}).\nPublish it again: training writes one.")
    names = sorted([*stored.manifest.files, MANIFEST])
    return Upload(
        stored=stored,
        repo_id=repo_id,
        private=private,
        files={file: (stored.path / file).stat().st_size for file in names},
        notes=tuple(_notes(stored)),
    )


def push(upload: Upload, hub: Hub | None = None) -> str:
    """Make the repository if need be, send the files in one commit, return its address.

    Args:
        hub: in place of huggingface_hub.HfApi().

    Raises:
        AdapterError: the Hub refused or cannot be reached; nothing or everything is there (one commit).
    """
    if hub is None:
        from huggingface_hub import HfApi

        hub = HfApi()
    manifest = upload.stored.manifest
    try:
        hub.create_repo(upload.repo_id, private=upload.private, exist_ok=True)
        hub.upload_folder(
            repo_id=upload.repo_id,
            folder_path=str(upload.stored.path),
            allow_patterns=list(upload.files),
            commit_message=f"Publish {manifest.name}, recipe {manifest.recipe_fingerprint[:8]}",
        )
    except Exception as error:  # the client's own errors, those of requests or httpx, and OSError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AdapterError(
            f"cannot push {manifest.name!r} to {upload.repo_id}: {reason}\n"
            "Log in with a token that may write (hf auth login), check the owner's name and the network."
        ) from error
    return f"https://huggingface.co/{upload.repo_id}"


def _notes(stored: StoredAdapter) -> list[str]:
    """Terms of the data, and a base that others cannot find."""
    manifest = stored.manifest
    notes = []
    if manifest.data.kind in ("hub", "local"):
        added = [dataset for item in manifest.data.also if item.num_rows for dataset in item.datasets]
        datasets = ", ".join(dict.fromkeys([manifest.recipe["data"]["dataset"], *added]))
        notes.append(f"trained on {datasets}: read its terms before you pass the adapter on (the card names them)")
    if manifest.data.kind == "file":
        notes.append("trained on a file of yours: make sure that you may pass on what it learned")
    if "/" not in manifest.base.model:
        notes.append(
            f"its base, {manifest.base.model}, is not on the Hub: readers need it from you, or this package"
        )
    return notes
