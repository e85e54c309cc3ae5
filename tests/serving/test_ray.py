"""The ingress and its replicas, without a cluster: who is asked, what is retried, what is refused."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray", reason="Ray is not installed here")

from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError
from ray.serve.schema import ServeDeploySchema

from flan_lora.serving.openai.lifecycle import Phase
from flan_lora.serving.ray import CarriedRequest
from flan_lora.serving.ray_options import RayOptionsError, parse_options
from tests.serving.openai.fake import FakeModel
from tests.serving.openai.responses import error_of, events_of
from tests.serving.ray_handles import carried
from tests.waiting import wait_until

DIED, AWAY = ActorDiedError(), ActorUnavailableError("gone for a moment", None)


def test_a_request_goes_where_its_adapter_is_and_that_of_no_adapter_anywhere() -> None:
    with carried() as on_ray:
        for model in ("emotion", "mini:emotion", "google/mini:qa", "mini", "google/mini", "auto", "mini:auto"):
            on_ray.served.complete(model=model)
        on_ray.served.client.get("/v1/models")
        on_ray.served.post("/v1/completions", [1])
        on_ray.served.post("/v1/completions", {"model": 3, "prompt": "x"})
        assert on_ray.handle.adapters == ["emotion", "emotion", "qa", "", "", "", "", "", "", ""]


def test_a_request_whose_replica_dies_is_given_to_another() -> None:
    with carried() as on_ray:
        on_ray.handle.errors = [(0, DIED), (0, AWAY), (0, DIED)]
        body = on_ray.served.complete().json()
        assert body["choices"][0]["text"] == "three two one" and len(on_ray.handle.responses) == 4
        assert [line["status"] for line in on_ray.served.log] == [200]


def test_a_request_that_kills_every_replica_is_given_up() -> None:
    with carried() as on_ray:
        on_ray.handle.errors = [(0, DIED)] * 4
        assert error_of(on_ray.served.complete(), 503)["code"] == "replica_died"
        assert len(on_ray.handle.responses) == 4 and on_ray.served.log[-1]["error"] == "replica_died"


def test_a_stream_that_has_begun_is_not_begun_again() -> None:
    with carried(FakeModel(step_s=0.05)) as on_ray:
        on_ray.handle.errors = [(2, DIED)]
        *chunks, error, done = events_of(on_ray.served.complete(stream=True))
        assert chunks and done == "[DONE]" and error["error"]["code"] == "replica_died"
        assert len(on_ray.handle.responses) == 1
        wait_until(lambda: on_ray.served.log)
        assert on_ray.served.log[-1]["error"] == "replica_died"


def test_a_stream_that_has_not_begun_is_given_to_another() -> None:
    with carried() as on_ray:
        on_ray.handle.errors = [(0, DIED)]
        *chunks, done = events_of(on_ray.served.complete(stream=True))
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "three two one" and done == "[DONE]"


def test_a_full_queue_is_a_429() -> None:
    with carried() as on_ray:
        on_ray.handle.errors = [(0, BackPressureError(1024, 1024))]
        response = on_ray.served.complete()
        assert error_of(response, 429)["code"] == "queue_full" and response.headers["retry-after"] == "1"


def test_who_answers_too_late_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flan_lora.serving.ray._GRACE_S", -0.15)  # before the replica says so itself
    with carried(FakeModel(blocks=True), request_timeout_s=0.3) as on_ray:
        assert error_of(on_ray.served.complete(), 504)["code"] == "timeout"
        assert on_ray.handle.responses[0].is_cancelled
        wait_until(lambda: not on_ray.served.model.running)


def test_without_a_key_no_replica_is_asked_and_the_log_has_all_that_one_machine_has() -> None:
    with carried(api_keys=["one"], logs_texts=True) as on_ray:
        assert error_of(on_ray.served.complete(), 401)["code"] == "invalid_api_key"
        assert on_ray.handle.responses == []
        header = {"Authorization": "Bearer one", "x-request-id": "mine"}
        body = {"model": "emotion", "prompt": "two one"}
        assert on_ray.served.post("/v1/completions", body, headers=header).status_code == 200
        refused, line = on_ray.served.log
        assert (refused["status"], refused["error"]) == (401, "invalid_api_key")
        assert (line["id"], line["model"], line["texts"]) == ("mine", "emotion", ["two one"])
        assert (line["answers"], line["prompt_tokens"], line["stream"]) == (["one two"], 3, False)


def test_metrics_are_those_of_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(("first", "second", "a"))  # Serve's; there is none here
    with carried(num_replicas=2) as on_ray:
        monkeypatch.setattr("flan_lora.serving.ray._name", lambda: next(names))
        on_ray.served.complete(model="emotion")
        on_ray.served.post("/v1/completions", {}, headers={"Content-Type": "text/plain"})
        text = on_ray.served.client.get("/metrics").text
    assert (
        'flan_lora_request_success_total{finished_reason="stop",model_name="emotion",replica="first"} 1.0' in text
    )
    assert 'flan_lora_num_requests_running{replica="second"} 0.0' in text
    assert 'flan_lora_request_errors_total{code="unsupported_media_type",replica="ingress-a"} 1.0' in text
    assert text.count("# TYPE flan_lora_num_requests_running gauge") == 1


def test_what_changes_adapters_is_done_by_every_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    with carried(num_replicas=2, api_keys=["one"], allows_adapter_changes=True) as on_ray:
        header = {"Authorization": "Bearer one"}
        response = on_ray.served.post("/v1/load_lora_adapter", {"lora_name": "emotion"}, headers=header)
        assert response.json()["status"] == "loaded" and on_ray.served.model.loaded == ["emotion", "emotion"]
        response = on_ray.served.post("/v1/load_lora_adapter", {"lora_name": "other"}, headers=header)
        assert error_of(response, 404)["code"] == "model_not_found"

        async def damaged(request: CarriedRequest) -> list[dict[str, Any]]:
            start = {"type": "http.response.start", "status": 409, "headers": []}
            return [start, {"type": "http.response.body", "body": b"{}"}]

        monkeypatch.setattr(on_ray.handle.replicas[1], "answer_whole", damaged)
        response = on_ray.served.post("/v1/load_lora_adapter", {"lora_name": "emotion"}, headers=header)
        assert response.status_code == 409  # though the first has it


def test_a_draining_ingress_lets_nobody_in() -> None:
    with carried() as on_ray:
        assert on_ray.served.client.get("/ready").json() == {"status": "ready"}
        on_ray.served.app.lifecycle.phase = Phase.DRAINING
        assert on_ray.served.client.get("/ready").status_code == 503
        assert error_of(on_ray.served.complete(), 503)["code"] == "draining"


# Options


def test_arguments_of_serve_run_are_texts() -> None:
    options = parse_options({"base": "mini", "max_loras": "3", "min_replicas": "1", "max_replicas": "4"})
    assert options.max_loras == 3 and options.adapters_dir.startswith("/") and options.host == "0.0.0.0"
    assert options.scaling["autoscaling_config"] == {
        "min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 24.0
    }  # fmt: skip
    assert parse_options({"min_replicas": 2}).scaling == {"num_replicas": 2}
    assert parse_options({"adapters_dir": "s3://bucket/adapters"}).adapters_dir == "s3://bucket/adapters"


def test_keys_come_from_the_environment_where_no_argument_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAN_LORA_API_KEY", "one, two")
    assert parse_options({}).settings.api_keys == ("one", "two")
    assert parse_options({"server": {"api_keys": ["three"]}}).settings.api_keys == ("three",)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_lora": 3}, "max_lora: unknown key, did you mean 'max_loras'?"),
        ({"max_loras": "many"}, "max_loras: Input should be a valid integer"),
        ({"min_replicas": 3, "max_replicas": 2}, r"max_replicas \(2\) is below min_replicas \(3\)"),
        ({"server": {"api_key": "x"}}, "server.api_key"),
    ],
)
def test_wrong_arguments_are_one_message(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(RayOptionsError, match=said):
        parse_options(arguments)


# docs/ray.md


def test_the_config_file_of_the_docs_is_serves_and_ours(repo: Path) -> None:
    text = (repo / "docs" / "ray-serve.yaml").read_text(encoding="utf-8")
    assert text.partition("\n")[2] in (repo / "docs" / "ray.md").read_text(encoding="utf-8")
    config = ServeDeploySchema.model_validate(yaml.safe_load(text))
    [application] = config.applications
    module, _, name = application.import_path.partition(":")
    build = getattr(importlib.import_module(module), name)
    [ingress, engine] = built(build(application.args))
    assert (ingress.num_replicas, ingress.name) == (2, "ingress")
    assert engine._deployment_config.autoscaling_config.max_replicas == 8
    assert engine.ray_actor_options == {"num_cpus": 4.0, "num_gpus": 1.0}


def built(application: Any) -> list[Any]:
    """Deployments of an application, the ingress first."""
    top = application._bound_deployment
    return [top, *(each._bound_deployment for each in top.init_args if hasattr(each, "_bound_deployment"))]
