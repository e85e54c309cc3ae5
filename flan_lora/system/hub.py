"""Hub datasets -> plain rows (dicts), from the network or the Hub's cache. Knows names; never a task or a role."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flan_lora.errors import DataError

Row = dict[str, Any]


def read_hub_rows(dataset: str, config: str, split: str, revision: str | None) -> tuple[list[Row], str | None]:
    """All rows of a Hub split, and the commit they came from where the library tells it.

    A split that was read once stays in the Hub's cache and is read from there when the Hub cannot be reached.

    Raises:
        DataError: the Hub cannot be reached and the split is not cached; there is no such dataset, config, split
            or revision; or the cache holds another commit than the recipe pins.
    """
    import datasets

    reachable = hub_is_reachable()
    try:
        with _offline_unless(reachable):
            loaded = datasets.load_dataset(dataset, config, split=split, revision=revision)
    except Exception as error:  # a dozen unrelated classes: OSError, ValueError, RuntimeError, HTTP errors
        raise DataError(_failure(dataset, config, split, revision, error, reachable)) from error
    commit = _commit_of(loaded)
    if revision and re.fullmatch("[0-9a-f]{40}", revision) and commit not in (None, revision):
        # offline, the library takes the newest cached version and ignores the revision
        raise DataError(
            f"{dataset}/{config}:{split}: the Hub's cache holds another commit than data.revision.\n"
            f"  cached   {commit}\n  recipe   {revision}\n"
            "Run once with the network, or set data.revision to the cached commit."
        )
    rows: list[Row] = loaded.to_list()
    return rows, commit


@functools.cache
def hub_is_reachable(timeout_s: float = 3.0) -> bool:
    """Whether the Hub answers at all, asked once; never raises, never takes longer than ``timeout_s``.

    Without this question the library retries an unreachable Hub for 20 s and more before it reads its cache.
    """
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        return False
    answered = threading.Event()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=timeout_s)
        except Exception as error:  # certificates, proxies: an answer of a kind; the download says it better
            if "SSL" not in repr(error) and "certificate" not in str(error).lower():
                return
        answered.set()

    # a thread: looking a name up with a dead resolver ignores every socket timeout
    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(timeout_s)


@contextmanager
def _offline_unless(reachable: bool) -> Iterator[None]:
    """Keep both libraries within their caches; they read HF_HUB_OFFLINE only once, at import."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    if not reachable:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _commit_of(loaded: Any) -> str | None:
    """The commit in the URLs a split was downloaded from."""
    urls = getattr(loaded.info, "download_checksums", None) or {}
    commits = {match.group(1) for url in urls if (match := re.search(r"@([0-9a-f]{40})/", str(url)))}
    return commits.pop() if len(commits) == 1 else None


def _failure(
    dataset: str, config: str, split: str, revision: str | None, error: Exception, reachable: bool
) -> str:
    """What went wrong and what to do about it."""
    reason = " ".join(str(error).split()) or type(error).__name__
    lines = [
        f"cannot read {dataset}/{config}:{split} from the Hub.",
        f"  revision  {revision or 'main'}",
        f"  reason    {reason[:300]}",
        *_advice(error, reason, reachable),
        f"Without the Hub: --data sample (bundled rows), or --data DIR with the same rows in "
        f"DIR/{local_folder(dataset)}/{config}/{split}.jsonl.",
    ]
    return "\n".join(lines)


def _advice(error: Exception, reason: str, reachable: bool) -> list[str]:
    """The next step, for the failures that have one."""
    from huggingface_hub import constants

    if "script" in reason.lower():
        return ["The dataset is a script, which is no longer run: set data.revision to refs/convert/parquet."]
    if "BuilderConfig" in reason or "Available configs" in reason:
        return ["Set data.config to one that is there."]
    if isinstance(error, ValueError) and "split" in reason.lower():
        return ["Set data.splits to splits that are there."]
    if type(error).__name__ == "DatasetNotFoundError":
        return ["Check data.dataset (owner/name) and data.revision; a gated dataset needs `hf auth login`."]
    if constants.is_offline_mode():
        return [
            "HF_HUB_OFFLINE is set and the split is not in the cache: unset it once; later runs find it there."
        ]
    if not reachable:
        return ["Check the network. A split that was read once stays in the cache and needs none."]
    return []


def local_folder(dataset: str) -> str:
    """A Hub id as one folder name: dair-ai/emotion -> dair-ai__emotion."""
    return dataset.replace("/", "__")
