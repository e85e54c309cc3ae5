"""int8 products in C: torch's bits for every number of rows, and torch's products wherever C cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from flan_lora.engine import int8_kernel as module
from flan_lora.engine import linear as dense
from flan_lora.engine.int8_kernel import Int8Kernel, int8_kernel
from flan_lora.engine.linear import Linear, linear

SHAPES = [(32, 64), (96, 64), (256, 704), (704, 256), (2816, 1024)]


@pytest.fixture
def kernel() -> Int8Kernel:
    found = int8_kernel()
    if found is None:
        pytest.skip("needs a C compiler and a processor with AVX-512 VNNI")
    return found


@pytest.fixture
def _anew() -> Iterator[None]:
    int8_kernel.cache_clear()
    yield
    int8_kernel.cache_clear()


def int8_linear(out: int, size: int, seed: int = 0) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-127, 128, (out, size), dtype=torch.int8, generator=generator)
    return Linear("q", codes, torch.rand(out, generator=generator), linear)


def by_torch(each: Linear, x: torch.Tensor) -> torch.Tensor:
    codes, scale = dense._quantise(x)
    out = x.new_empty(len(x), each.weight.shape[0])
    dense._int8_product(codes, scale, each, out)
    return out


def rows_of(num_rows: int, size: int, dtype: torch.dtype, seed: int = 1) -> torch.Tensor:
    """Of every magnitude that fp16 has, with a few outliers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, size, generator=generator) * 10 ** torch.randn(num_rows, 1, generator=generator)
    x[:, ::37] *= 30
    return x.clamp(-6e4, 6e4).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("out, size", SHAPES)
def test_every_output_has_torchs_bits(kernel: Int8Kernel, out: int, size: int, dtype: torch.dtype) -> None:
    each = int8_linear(out, size)
    assert each.suits_kernel and each.scale is not None
    for num_rows in (1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 70):
        x = rows_of(num_rows, size, dtype, seed=num_rows)
        (found,) = kernel.products(x, [(each.weight, each.scale)], dense._DEQUANTISE)
        assert torch.equal(found, by_torch(each, x)), num_rows


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_without_amx_the_bits_are_the_same(kernel: Int8Kernel, dtype: torch.dtype) -> None:
    by_vnni = Int8Kernel(kernel.quantise, kernel.one_row, kernel.one_row, has_amx=False)
    each = int8_linear(96, 192)
    assert each.scale is not None
    for num_rows in (1, 2, 3, 4, 5, 8):
        x = rows_of(num_rows, 192, dtype, seed=num_rows)
        assert by_vnni.takes(x)
        (found,) = by_vnni.products(x, [(each.weight, each.scale)], dense._DEQUANTISE)
        assert torch.equal(found, by_torch(each, x)), num_rows
    assert not by_vnni.takes(rows_of(9, 192, dtype))


@pytest.mark.parametrize("num_rows", [1, 5, 40])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_threads_share_the_outputs(kernel: Int8Kernel, num_rows: int, num_threads: int) -> None:
    each, x, before = int8_linear(2816, 1024), rows_of(num_rows, 1024, torch.bfloat16), torch.get_num_threads()
    assert each.scale is not None
    torch.set_num_threads(num_threads)
    try:
        (found,) = kernel.products(x, [(each.weight, each.scale)], dense._DEQUANTISE)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, by_torch(each, x))


@pytest.mark.parametrize("num_rows", [1, 3])
def test_zeros_stay_zeros_and_a_broken_row_breaks_no_other(kernel: Int8Kernel, num_rows: int) -> None:
    each = int8_linear(32, 64)
    assert each.scale is not None
    for value, is_expected in ((0.0, lambda out: out == 0), (float("nan"), torch.isnan), (1e6, torch.isnan)):
        x = rows_of(num_rows, 64, torch.float32)
        x[0] = 0
        x[0, 5] = value
        (found,) = kernel.products(x, [(each.weight, each.scale)], dense._DEQUANTISE)
        assert is_expected(found[0]).all(), value
        if num_rows > 1:
            assert torch.equal(found[1:], by_torch(each, x[1:]))


def test_the_engine_multiplies_by_it_and_long_sources_too(
    kernel: Int8Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel.has_amx:
        pytest.skip("many rows stay with torch without AMX")
    asked: list[int] = []

    def products(self: Int8Kernel, x: torch.Tensor, *rest: object, real: object = Int8Kernel.products) -> object:
        asked.append(len(x))
        return real(self, x, *rest)  # type: ignore[operator]

    monkeypatch.setattr(Int8Kernel, "products", products)
    q, k = int8_linear(64, 128), int8_linear(32, 128, seed=3)
    x = rows_of(300, 128, torch.bfloat16).view(3, 100, 128)
    found = dense._int8_products((q, k), x)
    assert asked == [256, 44] and [out.shape for out in found] == [(3, 100, 64), (3, 100, 32)]
    for each, out in zip((q, k), found, strict=True):
        assert torch.equal(out, by_torch(each, x.view(300, 128)).view(3, 100, -1))
    transposed = x.transpose(0, 1)
    assert torch.equal(dense._int8_products((q,), transposed)[0], found[0].transpose(0, 1))


@pytest.mark.parametrize(
    "each",
    [int8_linear(33, 64), int8_linear(32, 40), Linear("q", torch.ones(32, 64), None, linear)],
    ids=["outputs", "inputs", "floats"],
)
def test_what_it_cannot_read_stays_with_torch(each: Linear) -> None:
    assert not each.suits_kernel
    if each.scale is not None:
        x = rows_of(2, each.weight.shape[1], torch.float32)
        assert torch.equal(dense._int8_products((each,), x)[0], by_torch(each, x))


@pytest.mark.usefixtures("_anew")
@pytest.mark.parametrize(
    "variable, value", [("CC", "no-such-compiler"), ("CC", "false"), ("FLAN_LORA_CACHE", "off")]
)
def test_without_compiler_or_cache_torch_multiplies(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path))
    monkeypatch.setenv(variable, value)
    assert int8_kernel() is None
    each, x = int8_linear(32, 64), rows_of(2, 64, torch.float32)
    assert torch.equal(dense._int8_products((each,), x)[0], by_torch(each, x))


@pytest.mark.usefixtures("_anew")
def test_a_processor_without_vnni_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "processor_fields", lambda: {"flags": "sse2 avx2"})
    monkeypatch.setattr(module, "compiled", lambda *_: pytest.fail("compiled"))
    assert int8_kernel() is None
