"""Products with float weights: oneDNN's where it pays, and only while it is right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from flan_lora.engine import linear as dense

LARGE = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    dense.large_product.cache_clear()
    yield
    dense.large_product.cache_clear()


def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what oneDNN is given."""
    asked: list[tuple[int, ...]] = []

    def by_onednn(x: torch.Tensor, weight: torch.Tensor, real: object = dense.by_onednn) -> torch.Tensor:
        asked.append(tuple(x.shape))
        return real(x, weight)  # type: ignore[operator,no-any-return]

    monkeypatch.setattr(dense, "by_onednn", by_onednn)
    dense.large_product.cache_clear()
    dense.large_product()
    asked.clear()  # the trial
    return asked


@pytest.mark.parametrize("shape", [(1, 1024), (3, 1024), (2, 5, 1024), (64, 1024), (0, 1024)])
def test_large_products_are_the_same_by_onednn(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    if dense.large_product() is functional.linear:
        pytest.skip("this torch is without oneDNN")
    asked = spy(monkeypatch)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(dense.linear(x, LARGE), functional.linear(x, LARGE), rtol=1e-4, atol=1e-4)
    assert asked == [shape]


def test_rows_that_do_not_lie_one_after_the_other_are_read_right() -> None:
    x = torch.randn(7, 4, 1024, generator=torch.Generator().manual_seed(1)).transpose(0, 1)
    torch.testing.assert_close(dense.linear(x, LARGE), functional.linear(x, LARGE), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weight", [LARGE[:64], LARGE.bfloat16()], ids=["small", "bf16"])
def test_small_and_bf16_weights_stay_with_torchs_choice(
    weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spy(monkeypatch)
    x = torch.randn(3, 1024)
    out = dense.linear(x, weight)
    assert out.dtype == weight.dtype and torch.equal(out, functional.linear(x.to(weight.dtype), weight))
    assert not asked


@pytest.mark.parametrize("has_amx", [True, False])
@pytest.mark.parametrize(
    "shape", [(1, 300), (2, 1, 300), (5, 300), (16, 1, 300), (17, 300), (2, 9, 300), (0, 300)]
)
def test_few_rows_of_bf16_are_multiplied_from_the_left_where_that_is_faster(
    shape: tuple[int, ...], has_amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    def weight_first(x: torch.Tensor, weight: torch.Tensor, real: object = dense.weight_first) -> torch.Tensor:
        asked.append(tuple(x.shape))
        return real(x, weight)  # type: ignore[operator,no-any-return]

    monkeypatch.setattr(dense, "weight_first", weight_first)
    monkeypatch.setattr(dense, "has_amx", lambda: has_amx)
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(70, 300, generator=generator).bfloat16()
    x = torch.randn(shape, generator=generator).bfloat16()
    out = dense.linear(x, weight)
    assert out.is_contiguous() and out.shape == (*shape[:-1], 70)
    torch.testing.assert_close(out, functional.linear(x, weight), rtol=2**-7, atol=2**-7)
    assert asked == ([shape] if has_amx and x.numel() <= 16 * 300 else [])


@pytest.mark.parametrize(
    "product",
    [
        lambda x, weight: functional.linear(x, weight) * 1.01,
        lambda x, weight: torch.ops.mkldnn._no_such_operation(x, weight),
        lambda x, weight: torch.ops.aten.mm(x),
    ],
    ids=["wrong", "gone", "changed"],
)
def test_a_product_that_is_wrong_or_gone_is_not_used(product: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "by_onednn", product)
    x = torch.randn(3, 1024)
    assert torch.equal(dense.linear(x, LARGE), functional.linear(x, LARGE))
