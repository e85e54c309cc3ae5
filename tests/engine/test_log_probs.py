"""Single tokens' log-probabilities: the model's own, for the rows that ask, whatever stands beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from flan_lora.engine.generation_params import Sampling
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.request import MAX_LOG_PROBS, Request, SequenceOutput
from flan_lora.errors import RequestError
from tests.engine.running import ask, generate
from tests.tiny import tiny_t5

SOURCE = [7, 40, 3, 21, 1]


def reference(output: SequenceOutput) -> torch.Tensor:
    """(T, V): what the whole model says of every token, given those before it."""
    model = tiny_t5()
    labels = torch.tensor([[model.config.decoder_start_token_id, *output.ids[:-1]]])
    with torch.inference_mode():
        return model(input_ids=torch.tensor([SOURCE]), decoder_input_ids=labels).logits[0].log_softmax(dim=-1)


@pytest.mark.parametrize(
    "params",
    [{}, {"sampling": Sampling(2.0, seed=3)}, {"repetition_penalty": 3.0}],
    ids=["greedy", "sampled", "penalised"],
)
def test_they_are_those_of_the_model_without_temperature_or_penalty(params: dict[str, Any]) -> None:
    asked = replace(ask(SOURCE, limit=8, **params), num_log_probs=4)
    ((output,),) = generate(ModelRunner(tiny_t5()), [asked])
    expected = reference(output)
    assert len(output.token_log_probs) == len(output.ids) > 1
    for row, token, found in zip(expected, output.ids, output.token_log_probs, strict=True):
        assert found.log_prob == pytest.approx(row[token].item(), abs=1e-4)
        values, ids = row.topk(4)
        assert [token for token, _ in found.top] == ids.tolist()
        assert [value for _, value in found.top] == pytest.approx(values.tolist(), abs=1e-4)
    assert sum(found.log_prob for found in output.token_log_probs) == pytest.approx(output.log_prob, abs=1e-5)


def test_each_row_gets_as_many_as_it_asks_for_and_the_same_beside_others() -> None:
    def row(place: int, num_log_probs: int | None) -> Request:
        source, sampling = [3 + place, 50, 9, 1], Sampling(1.5, seed=place) if place % 2 else None
        return replace(ask(source, limit=3 + 3 * place, sampling=sampling), num_log_probs=num_log_probs)

    rows = [row(place, wanted) for place, wanted in enumerate((None, 0, 5, MAX_LOG_PROBS, 2))]
    together = [output for (output,) in generate(ModelRunner(tiny_t5()), rows)]
    assert together[0].token_log_probs == () and len(together[0].ids) > 1
    for asked, output in zip(rows[1:], together[1:], strict=True):
        assert {len(found.top) for found in output.token_log_probs} == {asked.num_log_probs}
        ((alone,),) = generate(ModelRunner(tiny_t5()), [asked])
        assert [[token for token, _ in each.top] for each in alone.token_log_probs] == [
            [token for token, _ in each.top] for each in output.token_log_probs
        ]
        assert [each.log_prob for each in alone.token_log_probs] == pytest.approx(
            [each.log_prob for each in output.token_log_probs], abs=1e-4
        )


def test_several_draws_each_have_their_own() -> None:
    asked = replace(ask(SOURCE, limit=6, sampling=Sampling(3.0, seed=1), num_return_sequences=3), num_log_probs=1)
    (outputs,) = generate(ModelRunner(tiny_t5()), [asked])
    assert len({output.ids for output in outputs}) > 1
    for output in outputs:
        rows = reference(output)
        own = [row[token].item() for row, token in zip(rows, output.ids, strict=True)]
        assert [each.log_prob for each in output.token_log_probs] == pytest.approx(own, abs=1e-4)


def test_beams_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(RequestError, match="not in beam search"):
        replace(ask(SOURCE, num_beams=2), num_log_probs=0)
    with pytest.raises(RequestError, match="expected 0 to 20"):
        replace(ask(SOURCE), num_log_probs=21)
