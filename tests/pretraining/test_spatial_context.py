import numpy as np
import pytest
import torch

from dynbackbones.pretraining import (
    SpatialContextModule,
    context_loss,
    explained_variance,
    offsets_between,
)
from tests.messages import naming


def by_formula(module, h1, offsets):
    """Equation 5.1 and the linear layer behind it, in NumPy."""
    w = {name: value.detach().double().numpy() for name, value in module.named_parameters()}
    hidden = h1 @ w["context.weight"].T + w["context.bias"]
    if offsets is not None:
        hidden = hidden + offsets @ w["location.weight"].T
    h2 = 1 / (1 + np.exp(-hidden))
    return h2 @ w["target.weight"].T + w["target.bias"]


@pytest.mark.parametrize("use_offset", [True, False])
def test_module_is_the_formula(use_offset):
    torch.manual_seed(0)
    module = SpatialContextModule(6, 5, hidden_channels=7, use_offset=use_offset).double()
    h1, offsets = torch.randn(4, 6).double(), torch.randn(4, 8).double()
    expected = by_formula(module, h1.numpy(), offsets.numpy() if use_offset else None)
    np.testing.assert_allclose(module(h1, offsets).detach().numpy(), expected, rtol=1e-9)


def test_channels_are_those_of_the_context_unless_others_are_asked_for():
    module = SpatialContextModule(6)
    assert module.context.weight.shape == (6, 6)
    assert module.target.weight.shape == (6, 6)
    assert module.location.bias is None  # h2 has one bias, not two


def test_without_offsets_none_are_asked_for():
    module = SpatialContextModule(3, use_offset=False)
    assert module(torch.rand(2, 3)).shape == (2, 3)


@pytest.mark.parametrize("offsets", [None, torch.zeros(2, 4), torch.zeros(1, 8)])
def test_wrong_offsets(offsets):
    with pytest.raises(ValueError, match=naming("offsets", (2, 8))):
        SpatialContextModule(3)(torch.rand(2, 3), offsets)


def test_wrong_channels():
    with pytest.raises(ValueError, match=naming("hidden_channels", 0)):
        SpatialContextModule(3, hidden_channels=0)


BOXES = torch.tensor([[10.0, 20.0, 30.0, 60.0]]), torch.tensor([[50.0, 10.0, 90.0, 30.0]])


def test_offsets_by_hand_in_both_units():
    # Top-left, top-right, bottom-left, bottom-right; target minus context.
    pixels = [-40, 10, -60, 10, -40, 30, -60, 30]
    sizes = torch.tensor([[100, 200]])  # height, width
    assert offsets_between(*BOXES, sizes, "pixel").tolist() == [pixels]
    expected = np.divide(pixels, [200, 100] * 4)
    np.testing.assert_allclose(offsets_between(*BOXES, sizes)[0].numpy(), expected, rtol=1e-6)


def test_offsets_have_rank_four():
    torch.manual_seed(0)
    corners = torch.rand(2, 50, 4)
    offsets = offsets_between(corners[0], corners[1], torch.ones(50, 2))
    assert torch.linalg.matrix_rank(offsets) == 4


def test_offsets_turn_with_the_pair():
    sizes = torch.tensor([[100, 200]])
    assert torch.equal(offsets_between(*BOXES, sizes), -offsets_between(*BOXES[::-1], sizes))


def test_wrong_offset_arguments():
    with pytest.raises(ValueError, match=naming("unit", "cm")):
        offsets_between(*BOXES, torch.ones(1, 2), "cm")
    with pytest.raises(ValueError, match=naming("sizes", (1, 2), (1, 4))):
        offsets_between(*BOXES, torch.ones(1, 4))


def test_loss_is_equation_5_2_over_the_batch():
    torch.manual_seed(0)
    predicted, targets = torch.randn(5, 7), torch.randn(5, 7)
    pairs = zip(predicted, targets, strict=True)
    expected = np.mean([np.linalg.norm(p - t) ** 2 for p, t in pairs])
    assert float(context_loss(predicted, targets)) == pytest.approx(expected, rel=1e-5)


def test_loss_sends_no_gradient_to_the_targets():
    predicted, targets = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3).requires_grad_()
    context_loss(predicted, targets).backward()
    assert targets.grad is None
    assert predicted.grad.tolist() == [[-1.0] * 3] * 2


def test_loss_of_other_shapes():
    with pytest.raises(ValueError, match=naming(str((2, 3)), str((2, 4)))):
        context_loss(torch.zeros(2, 3), torch.zeros(2, 4))


def test_explained_variance():
    torch.manual_seed(0)
    targets = torch.randn(100, 4)
    mean = targets.mean(dim=0).expand_as(targets)
    assert explained_variance(targets, targets) == 1
    assert explained_variance(mean, targets) == pytest.approx(0, abs=1e-6)
    assert explained_variance((mean + targets) / 2, targets) == pytest.approx(0.75, abs=1e-6)
    assert explained_variance(targets.roll(1, 0), targets) < -0.5


def test_explained_variance_about_a_mean_from_elsewhere():
    targets = torch.tensor([[1.0], [3.0]])
    found = explained_variance(torch.tensor([[1.0], [2.0]]), targets, torch.zeros(1))
    assert found == pytest.approx(0.9)


def test_nothing_to_explain():
    with pytest.raises(ValueError, match=naming("targets", 3)):
        explained_variance(torch.zeros(3, 2), torch.ones(3, 2))
