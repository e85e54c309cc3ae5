"""Adapters come and go by name: published ones, folders, pins."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from flan_lora.adapters.lora_config import CONFIG
from flan_lora.adapters.validation import WEIGHTS
from flan_lora.base.load import Base
from flan_lora.engine.lease import AdapterState
from flan_lora.errors import AdapterCorruptError, AdapterError, AdapterMismatchError, UnknownAdapterError
from flan_lora.serving.router import Router
from tests.published import stage
from tests.serving.stores import NAMES, TEXTS, answers, publish


@pytest.mark.parametrize("name", ["", ".", "..", "../store/emotion", "emotion/", "/emotion", "./emotion", "e\0"])
def test_a_request_never_names_a_path(router: Router, name: str) -> None:
    for ask in (router.generate, router.submit, router.stream):
        with pytest.raises(AdapterError, match="is not an adapter name"):
            ask("sad", name)  # type: ignore[operator]
    with pytest.raises(AdapterError, match="is not an adapter name"):
        router.load(name)


@pytest.mark.parametrize(
    "name", ["auto", "base", "AUTO", "none", "", " ", "../x", "a/b", "x\ny", ".hidden", "x" * 65]
)
def test_a_folder_takes_no_name_that_means_something_else(router: Router, tmp_path: Path, name: str) -> None:
    folder = stage(tmp_path / "theirs", seed=4)
    with pytest.raises(AdapterError, match=r"cannot be an adapter's name|is a reserved name"):
        router.load(name, folder)
    assert router.status() == []


def test_an_unknown_name_is_an_error_with_close_names_and_never_the_base(router: Router) -> None:
    with pytest.raises(UnknownAdapterError, match="did you mean 'emotion'"):
        router.generate("sad", "emotoin")
    with pytest.raises(UnknownAdapterError):
        router.generate(["sad", "joy"], ["emotion", "nothing-like-it"])


def test_a_plain_folder_is_served_under_a_name_of_ones_own(router: Router, tmp_path: Path) -> None:
    folder = stage(tmp_path / "theirs", seed=4)  # the weights of `moods`
    router.load("mine", folder, task="emotion")
    assert answers(router, TEXTS, "mine") == answers(router, TEXTS, "moods")
    with pytest.raises(UnknownAdapterError, match="Of the loaded ones, 'mine' is close"):
        router.generate("sad", "minee")
    with pytest.raises(AdapterError, match="already loaded"):
        router.load("mine", stage(tmp_path / "other", seed=2))
    router.unload("mine")
    with pytest.raises(UnknownAdapterError):
        router.generate("sad", "mine")


def test_a_folder_that_cannot_be_served_is_not_known_afterwards(router: Router, tmp_path: Path) -> None:
    folder = stage(tmp_path / "theirs", seed=4)
    weights = load_file(folder / "adapter_model.safetensors")
    weights.pop(sorted(weights)[0]), weights.pop(sorted(weights)[0])
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterMismatchError, match="do not fit this base"):
        router.load("mine", folder)
    with pytest.raises(UnknownAdapterError):
        router.generate("sad", "mine")
    router.load("mine", stage(tmp_path / "mended", seed=4), task="emotion")
    assert answers(router, TEXTS, "mine") == answers(router, TEXTS, "moods")


def test_a_published_folder_elsewhere_keeps_its_checks(router: Router, tmp_path: Path, base: Base) -> None:
    publish(tmp_path / "store", "emotion", 4)
    router.load("second", tmp_path / "store" / "emotion")
    assert answers(router, TEXTS, "second") == answers(router, TEXTS, "moods")
    publish(tmp_path / "store", "moods", 4, base={"fingerprint": "cd" * 32})
    with pytest.raises(AdapterMismatchError, match="does not fit this base"):
        router.load("third", tmp_path / "store" / "moods")


def test_a_published_adapter_comes_back_after_unload(router: Router) -> None:
    before = answers(router, TEXTS, "emotion")
    router.unload("emotion")
    assert "emotion" not in [status.name for status in router.status()]
    assert answers(router, TEXTS, "emotion") == before


def test_a_pinned_adapter_stays(root: Path, base: Base) -> None:
    router = Router.open(root, base, num_slots=3)
    router.pin("emotion")
    for name in NAMES:
        router.generate("sad", name)
    states = {status.name: status.state for status in router.status()}
    assert states["emotion"] is AdapterState.RESIDENT and states["moods"] is not AdapterState.RESIDENT


def test_a_plain_folder_written_anew_is_served_to_who_asks_after(base: Base, root: Path, tmp_path: Path) -> None:
    """As one that is published anew; while its files are half written, the old ones are served."""
    router = Router.open(root, base, num_slots=2, batch_size=1)
    folder, other = (
        stage(tmp_path / "theirs", seed=4),
        stage(tmp_path / "other", seed=8),
    )  # 4: the weights of `moods`
    router.load("mine", folder, task="emotion")
    old = router.generate(TEXTS, "mine")
    blocking = router.submit("sad", "nerves", params={"max_new_tokens": 600, "min_new_tokens": 600})
    asked_before = router.submit_many(TEXTS, "mine")  # wait behind it, their adapter without a slot
    whole = (other / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:1000])
    asked_between = router.submit_many(TEXTS, "mine")
    (folder / WEIGHTS).write_bytes(whole)
    asked_after = router.submit_many(TEXTS, "mine")
    blocking.cancel()
    before, between, after = (
        [each.result(60) for each in asked] for asked in (asked_before, asked_between, asked_after)
    )
    assert [each.text for each in before] == [each.text for each in between] == [each.text for each in old]
    assert {each.digest for each in [*before, *between]} == {each.digest for each in old}
    router.load("new", other, task="emotion")
    expected = router.generate(TEXTS, "new")
    assert [each.text for each in after] == [each.text for each in expected] != [each.text for each in old]
    assert {each.digest for each in after} == {hashlib.sha256(whole).hexdigest()}
    router.load("mine", folder, task="emotion")  # the same again
    assert answers(router, TEXTS, "mine") == [each.text for each in expected]


def test_a_plain_folder_that_stays_damaged_is_an_error(base: Base, root: Path, tmp_path: Path) -> None:
    router = Router.open(root, base)
    folder = stage(tmp_path / "theirs", seed=4)
    router.load("mine", folder, task="emotion")
    old = answers(router, TEXTS, "mine")
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:1000])
    long_ago = (folder / WEIGHTS).stat().st_mtime - 60
    os.utime(folder / WEIGHTS, (long_ago, long_ago))
    os.utime(folder / CONFIG, (long_ago, long_ago))
    with pytest.raises(AdapterCorruptError, match="theirs is not an adapter that can be served as 'mine'"):
        router.generate("sad", "mine")
    with pytest.raises(AdapterCorruptError, match="theirs is not an adapter that can be served as 'mine'"):
        router.load("mine", folder)
    (folder / WEIGHTS).write_bytes(content)
    assert answers(router, TEXTS, "mine") == old
    stage(folder, seed=8)
    router.load("mine", folder, task="emotion")  # loaded again, from the same folder, with other weights in it
    assert answers(router, TEXTS, "mine") != old
    (folder / WEIGHTS).unlink()
    assert answers(router, TEXTS, "mine") != old, "gone, but still loaded"
