"""Adapters come and go by name: published ones, folders, pins."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from flan_lora.base.load import Base
from flan_lora.engine.lease import AdapterState
from flan_lora.errors import AdapterError, AdapterMismatchError, UnknownAdapterError
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
