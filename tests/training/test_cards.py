"""What fits a card of 16, 24 and 80 GB: FLAN-T5 XL and XXL by their published shapes."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import T5Config

from flan_lora.recipe import Recipe
from flan_lora.training.cards import CARDS_GB, USABLE_SHARE, plan_cards
from flan_lora.training.doctor import FLAN_T5_LARGE
from flan_lora.training.estimate import Lengths, Shape

XL = {"d_model": 2048, "d_ff": 5120, "num_heads": 32}
XXL = {"d_model": 4096, "d_ff": 10240, "num_heads": 64}
ROWS = Lengths([512] * 100, [64] * 100)


def config_of(widths: dict[str, int]) -> T5Config:
    return T5Config(**{**FLAN_T5_LARGE, **widths})


def recipe(**base: Any) -> Recipe:
    values = {"name": "x", "task": "emotion", "data": {"dataset": "a/b"}, "base": base}
    return Recipe.model_validate(values)


def test_xl_and_xxl_have_the_published_number_of_parameters() -> None:
    assert Shape.of(config_of(XL)).num_parameters == 2_849_757_184
    assert Shape.of(config_of(XXL)).num_parameters == 11_135_332_352


def test_what_fits_says_the_least_change_and_a_smaller_card_asks_for_more() -> None:
    for widths in ({}, XL, XXL):
        plans = plan_cards(recipe(), config_of(widths), ROWS)
        assert [plan.card_gb for plan in plans] == list(CARDS_GB)
        for plan in plans:
            assert plan.fits == (plan.peak_bytes <= USABLE_SHARE * plan.card_gb * 1e9)
        assert plans[-1].fits
        assert len(plans[0].changes) >= len(plans[1].changes) >= len(plans[2].changes)


def test_a_recipe_that_fits_stays_as_it_is() -> None:
    large = plan_cards(recipe(), config_of({}), ROWS)
    assert large[2].changes == () and str(large[2]).endswith("GB, as it is")


def test_xxl_takes_4_bit_on_a_small_card() -> None:
    small, middle, big = plan_cards(recipe(), config_of(XXL), ROWS)
    assert "base.quantization=nf4" in small.changes and small.fits
    assert "base.quantization=nf4" not in big.changes and big.fits
    assert middle.fits


def test_what_fits_nowhere_says_so_with_the_last_try() -> None:
    huge = {**XXL, "num_layers": 96, "num_decoder_layers": 96}
    small = plan_cards(recipe(), config_of(huge), ROWS)[0]
    assert not small.fits and str(small).startswith("does not fit")
    assert {"base.quantization=nf4", "training.micro_batch_size=1"} <= set(small.changes)


@pytest.mark.parametrize("batch_size", [1, 6, 16])
def test_micro_batches_divide_the_batch(batch_size: int) -> None:
    training = recipe().training.model_copy(update={"batch_size": batch_size})
    values = recipe().model_copy(update={"training": training})
    for plan in plan_cards(values, config_of(XXL), ROWS):
        sizes = [int(change.split("=")[1]) for change in plan.changes if "micro_batch" in change]
        assert all(batch_size % size == 0 for size in sizes)
