"""What /metrics says, read by Prometheus' own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from flan_lora.serving.openai.metrics import MAX_MODELS, OTHER, Metrics
from flan_lora.serving.openai.served import Answered, Candidate, ModelStats
from tests.serving.openai.fake import FakeModel, Served, served
from tests.waiting import wait_until


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values) -> value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(server: Served) -> dict[tuple[str, ...], float]:
    response = server.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return samples(response.text)


def test_requests_tokens_and_times_are_counted_by_model() -> None:
    with served() as server:
        server.complete(model="emotion", prompt="a b c")
        server.complete(model="emotion", prompt="a b c", stream=True)
        server.complete(model="nothing")
        found = scraped(server)
    assert found["flan_lora_request_success_total", "stop", "emotion"] == 2
    assert found["flan_lora_prompt_tokens_total", "emotion"] == 8
    assert found["flan_lora_generation_tokens_total", "emotion"] == 8
    for name, total in {
        "e2e_request_latency": 0.1,
        "request_queue_time": 0.02,
        "time_to_first_token": 0.04,
    }.items():
        assert found[f"flan_lora_{name}_seconds_count", "emotion"] == 2
        assert abs(found[f"flan_lora_{name}_seconds_sum", "emotion"] - total) < 1e-9
    assert abs(found["flan_lora_time_per_output_token_seconds_sum", "emotion"] - 0.02) < 1e-9
    assert found["flan_lora_request_errors_total", "model_not_found"] == 1
    assert not any("nothing" in part for key in found for part in key)


def test_adapters_under_way_are_named_as_the_gateway_reads_them() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with served(FakeModel(blocks=True)) as server, ThreadPoolExecutor(2) as pool:
        running = pool.submit(server.complete, model="emotion")
        wait_until(lambda: server.model.running)
        [key] = [key for key in scraped(server) if key[0] == "flan_lora_lora_requests_info"]
        assert key[1:] == ("8", "", "emotion")
        server.model.release()
        running.result(10)
        [key] = [key for key in scraped(server) if key[0] == "flan_lora_lora_requests_info"]
        assert key[1:] == ("8", "", "")


def test_names_beyond_the_limit_share_a_label() -> None:
    metrics = Metrics(ModelStats)
    answer = Answered([Candidate("x", "stop", 0.0)], 1)
    for number in range(MAX_MODELS + 50):
        metrics.answered(f"adapter-{number}", 1, answer)
    found = samples(metrics.text().decode())
    names = {key[1] for key in found if key[0] == "flan_lora_prompt_tokens_total"}
    assert len(names) == MAX_MODELS + 1
    assert found["flan_lora_prompt_tokens_total", OTHER] == 50
