"""Adapters into and out of service over HTTP: by name, by who may, and never by path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.openai.fake import Served, served

KEY = {"Authorization": "Bearer k"}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(api_keys=("k",), allows_adapter_changes=True) as running:
        yield running


def test_load_serves_a_name_and_says_which_weights(server: Served) -> None:
    body = server.post("/v1/load_lora_adapter", {"lora_name": "emotion"}, headers=KEY).json()
    assert body["status"] == "loaded" and body["digest"] == "ab" * 32 and server.model.loaded == ["emotion"]
    again = {"lora_name": "mini/emotion", "lora_path": "mini/emotion"}
    assert server.post(
        "/v1/load_lora_adapter", {"lora_name": "emotion", "lora_path": "mini/emotion"}, headers=KEY
    ).is_success
    assert server.post("/v1/unload_lora_adapter", again | {"lora_path": None}, headers=KEY).is_success
    assert server.model.loaded == ["emotion"]


@pytest.mark.parametrize("name", ["/etc", "../emotion", "a/b", "emotion/../qa", "~", "", ".", "x\ny", "mini/../x"])
@pytest.mark.parametrize("field", ["lora_name", "lora_path"])
@pytest.mark.parametrize("verb", ["load", "unload"])
def test_a_path_is_refused(server: Served, name: str, field: str, verb: str) -> None:
    loaded = [*server.model.loaded]
    body = {"lora_name": "emotion", field: name}
    response = server.post(f"/v1/{verb}_lora_adapter", body, headers=KEY)
    assert response.status_code == 400 and response.json()["error"]["param"] == field
    assert server.model.loaded == loaded


def test_an_unknown_name_is_404(server: Served) -> None:
    assert server.post("/v1/load_lora_adapter", {"lora_name": "nothing"}, headers=KEY).status_code == 404


def test_another_name_for_an_adapter_is_refused(server: Served) -> None:
    body = {"lora_name": "emotion", "lora_path": "qa"}
    assert server.post("/v1/load_lora_adapter", body, headers=KEY).status_code == 400


@pytest.mark.parametrize("settings", [{}, {"api_keys": ("k",)}, {"allows_adapter_changes": True}])
def test_changes_need_both_the_switch_and_a_key(settings: dict[str, object]) -> None:
    with served(**settings) as server:
        for verb in ("load", "unload"):
            response = server.post(f"/v1/{verb}_lora_adapter", {"lora_name": "emotion"}, headers=KEY)
            assert response.status_code == 403 and response.json()["error"]["code"] == "not_enabled"
        assert server.model.loaded == []
