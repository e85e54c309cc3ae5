"""The Hub, without a network: a fake ``load_dataset``, and the library's own cache made by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets.exceptions import DatasetNotFoundError

from flan_lora.errors import DataError
from flan_lora.system import hub
from flan_lora.system.hub import hub_is_reachable, local_folder, read_hub_rows

COMMIT = "cab853a1dbdf4c42c2b3ef2173804746df8825fe"
ROWS = [{"text": "i feel happy", "label": 1}, {"text": "i feel low", "label": 0}]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[dict[str, Any]]]:
    """Replace ``datasets.load_dataset``: gives the value, or raises the exception, and records its calls."""

    def install(result: Any) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def fake(*args: Any, **kwargs: Any) -> Any:
            calls.append({"args": args, "offline": datasets.config.HF_HUB_OFFLINE, **kwargs})
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(datasets, "load_dataset", fake)
        return calls

    return install


def reach(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    """Pretend that the Hub answers, or does not."""
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: answer)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


def hub_split(commit: str | None = COMMIT) -> datasets.Dataset:
    split = datasets.Dataset.from_list(ROWS)
    url = f"hf://datasets/dair-ai/emotion@{commit}/split/train-00000-of-00001.parquet"
    split.info.download_checksums = {url: {"num_bytes": 1}} if commit else None
    return split


def test_a_hub_split_becomes_plain_rows(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reach(monkeypatch, True)
    calls = load(hub_split())
    assert read_hub_rows("dair-ai/emotion", "split", "train", "main") == (ROWS, COMMIT)
    assert calls == [
        {"args": ("dair-ai/emotion", "split"), "offline": False, "split": "train", "revision": "main"}
    ]


def test_a_split_without_download_record_has_no_commit(load: Any) -> None:
    load(hub_split(commit=None))
    assert read_hub_rows("dair-ai/emotion", "split", "train", None) == (ROWS, None)


def test_an_unreachable_hub_is_not_asked_and_the_setting_is_put_back(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(monkeypatch, False)
    calls = load(hub_split())
    assert read_hub_rows("dair-ai/emotion", "split", "train", None)[0] == ROWS
    assert calls[0]["offline"] is True
    assert datasets.config.HF_HUB_OFFLINE is False
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


FAILURES = {
    "no dataset": (
        DatasetNotFoundError("Dataset 'dair-ai/emotion' doesn't exist on the Hub or cannot be accessed."),
        "Check data.dataset (owner/name) and data.revision; a gated dataset needs `hf auth login`.",
    ),
    "no config": (
        ValueError("BuilderConfig 'split' not found. Available: ['unsplit']"),
        "Set data.config to one that is there.",
    ),
    "no split": (
        ValueError("Unknown split \"train\". Should be one of ['test']."),
        "Set data.splits to splits that are there.",
    ),
    "a script": (
        RuntimeError("Dataset scripts are no longer supported, but found emotion.py"),
        "The dataset is a script, which is no longer run: set data.revision to refs/convert/parquet.",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_each_failure_says_what_where_and_the_next_step(
    load: Any, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    error, advice = FAILURES[case]
    reach(monkeypatch, True)
    load(error)
    with pytest.raises(DataError) as failure:
        read_hub_rows("dair-ai/emotion", "split", "train", None)
    assert str(failure.value) == (
        "cannot read dair-ai/emotion/split:train from the Hub.\n"
        "  revision  main\n"
        f"  reason    {error}\n"
        f"{advice}\n"
        "Without the Hub: --data sample (bundled rows), or --data DIR with the same rows in "
        "DIR/dair-ai__emotion/split/train.jsonl."
    )


def test_no_network_and_no_cache_says_so(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reach(monkeypatch, False)
    load(ConnectionError("Couldn't reach 'dair-ai/emotion' on the Hub"))
    with pytest.raises(DataError, match=r"Check the network\. A split that was read once stays in the cache"):
        read_hub_rows("dair-ai/emotion", "split", "train", None)


def test_offline_by_choice_names_the_variable(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reach(monkeypatch, False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    load(ConnectionError("Couldn't reach 'dair-ai/emotion' on the Hub"))
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set and the split is not in the cache: unset it once"):
        read_hub_rows("dair-ai/emotion", "split", "train", None)


def test_a_failure_nobody_foresaw_is_still_a_data_error(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reach(monkeypatch, True)
    load(KeyError())
    with pytest.raises(DataError, match="reason    KeyError\nWithout the Hub"):
        read_hub_rows("dair-ai/emotion", "split", "train", None)


def test_a_cache_of_another_commit_than_the_pinned_one_is_refused(load: Any) -> None:
    load(hub_split())
    pinned = "0" * 40
    with pytest.raises(DataError, match=f"cached   {COMMIT}\n  recipe   {pinned}\nRun once with the network"):
        read_hub_rows("dair-ai/emotion", "split", "train", pinned)
    assert read_hub_rows("dair-ai/emotion", "split", "train", COMMIT)[1] == COMMIT


def test_offline_works_when_the_split_is_in_the_librarys_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "dair-ai___emotion" / "split" / "0.0.0" / COMMIT
    folder.mkdir(parents=True)
    split = datasets.Dataset.from_list(ROWS)
    arrow_path = str(folder / "emotion-train.arrow")
    with datasets.arrow_writer.ArrowWriter(path=arrow_path, features=split.features) as writer:
        for row in ROWS:
            writer.write(row)
        writer.finalize()
    info = datasets.DatasetInfo(
        features=split.features, dataset_name="emotion", config_name="split", version="0.0.0"
    )
    info.splits = datasets.SplitDict(
        {"train": datasets.SplitInfo("train", num_examples=2, dataset_name="emotion")}
    )
    info.write_to_directory(str(folder))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    reach(monkeypatch, False)
    assert read_hub_rows("dair-ai/emotion", "split", "train", None)[0] == ROWS
    with pytest.raises(DataError, match=r"Available configs in the cache.*\nSet data.config to one that is there"):
        read_hub_rows("dair-ai/emotion", "unsplit", "train", None)


@pytest.mark.parametrize(
    ("answer", "reachable"),
    [(SimpleNamespace(status_code=200), True), (OSError("no route"), False), (OSError("SSL: CERTIFICATE"), True)],
)
def test_any_answer_counts_as_reachable(monkeypatch: pytest.MonkeyPatch, answer: Any, reachable: bool) -> None:
    def head(url: str, timeout: float) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=head))
    hub_is_reachable.cache_clear()
    try:
        assert hub_is_reachable(timeout_s=0.3) is reachable
    finally:
        hub_is_reachable.cache_clear()


def test_a_silent_resolver_costs_no_more_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = SimpleNamespace(head=lambda url, timeout: time.sleep(2))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: stuck)
    hub_is_reachable.cache_clear()
    started = time.monotonic()
    try:
        assert hub_is_reachable(timeout_s=0.1) is False
    finally:
        hub_is_reachable.cache_clear()
    assert time.monotonic() - started < 1.5


def test_a_hub_id_is_one_folder_name() -> None:
    assert local_folder("dair-ai/emotion") == "dair-ai__emotion"
    assert local_folder("squad") == "squad"
