"""Loss and gradients written out by hand equal autograd's, in every parameter."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tools.mini import kernels  # noqa: E402

pytestmark = pytest.mark.skipif(kernels.compiler() is None, reason="the fused kernels need g++")


@pytest.fixture(scope="module")
def model():
    from tools.mini.network import Shape, new_model

    model = new_model(Shape(512, 64, 96, 16, 4, 2, 2), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # norms away from 1 and biases away from 0, so that leaving one out shows
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def batch():
    """(input_ids, labels, weights) with padding on both sides."""
    generator = torch.Generator().manual_seed(2)
    input_ids = torch.randint(3, 400, (3, 50), generator=generator)
    labels = torch.randint(3, 400, (3, 21), generator=generator)
    input_ids[1, 30:], labels[1, 7:] = 0, -100
    return input_ids, labels, torch.rand(3, 21, generator=generator) * (labels != -100)


def _gradients(passes, model, batch, padded=True):
    passes.begin_step()
    losses = passes.losses(*batch, padded)
    return losses, {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("padded", [True, False])
def test_fused_passes_equal_autograd_in_fp32(model, batch, padded):
    from tools.mini.fused import FusedT5
    from tools.mini.network import AutogradT5

    if not padded:
        batch = (batch[0].clamp(min=3), batch[1].clamp(min=3), batch[2] + 0.1)
    losses, gradients = _gradients(FusedT5(model, torch.float32), model, batch, padded)
    expected, expected_gradients = _gradients(AutogradT5(model, torch.float32), model, batch, padded)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        error = (gradient - expected_gradients[name]).norm() / expected_gradients[name].norm()
        assert error < 1e-5, name


def test_fused_passes_in_bf16_are_no_further_from_fp32_than_autograd_in_bf16(model, batch):
    from tools.mini.fused import FusedT5
    from tools.mini.network import AutogradT5

    expected, exact = _gradients(AutogradT5(model, torch.float32), model, batch)
    losses, ours = _gradients(FusedT5(model, torch.bfloat16), model, batch)
    theirs_losses, theirs = _gradients(AutogradT5(model, torch.bfloat16), model, batch)
    assert (losses - expected).norm() < 1.5 * (theirs_losses - expected).norm()
    assert _distance(ours, exact) < 1.5 * _distance(theirs, exact) < 0.3


def _distance(gradients, expected) -> float:
    """Mean over the parameters of the relative error."""
    errors = [(gradient - expected[name]).norm() / expected[name].norm() for name, gradient in gradients.items()]
    return float(torch.stack(errors).mean())


def test_two_micro_batches_add_up_and_a_new_step_starts_at_zero(model, batch):
    from tools.mini.fused import FusedT5

    passes = FusedT5(model, torch.float32)
    _, once = _gradients(passes, model, batch)
    passes.losses(*batch, True)
    twice = {name: p.grad.clone() for name, p in model.named_parameters()}
    _, again = _gradients(passes, model, batch)
    for name in once:
        torch.testing.assert_close(twice[name], 2 * once[name], rtol=1e-4, atol=1e-6)
        assert torch.equal(again[name], once[name]), name


def test_without_weights_losses_come_alone(model, batch):
    from tools.mini.fused import FusedT5

    passes = FusedT5(model, torch.float32)
    losses, gradients = _gradients(passes, model, batch)
    assert torch.equal(passes.losses(batch[0], batch[1], None, True), losses)
    assert all(torch.equal(p.grad, gradients[name]) for name, p in model.named_parameters())


def test_the_passes_that_this_machine_gets_name_their_products(model):
    from tools.mini.passes import has_amx, new_passes

    assert str(new_passes(model)) == f"fused, {torch.bfloat16 if has_amx() else torch.float32}"
