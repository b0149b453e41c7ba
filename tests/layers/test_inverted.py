import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynbackbones.layers import SelectedPixels, sparse_forward
from dynbackbones.layers.inverted import InvertedResidual, NoShortcut, ProjectedInvertedResidual
from tests.layers.test_sparse import perturb


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([InvertedResidual, ProjectedInvertedResidual]),
    images=st.integers(1, 3),
    height=st.integers(1, 15),
    width=st.integers(1, 15),
    groups=st.sampled_from([1, 2, 4]),
    dilation=st.sampled_from([1, 2]),
    widens=st.booleans(),
    expansion=st.sampled_from([1, 6]),
    rate=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_sparse_equals_masked(
    kind, images, height, width, groups, dilation, widens, expansion, rate, seed
):
    generator = torch.Generator().manual_seed(seed)
    out = 16 if widens else 8
    module = kind(8, out, groups=groups, dilation=dilation, expansion=expansion).eval()
    perturb(module, generator)
    # Large enough that the activation's upper bound matters.
    x = 5 * torch.randn(images, 8, height, width, generator=generator)
    mask = torch.rand(images, groups, height, width, generator=generator) < rate
    before = x.clone()
    with torch.no_grad():
        masked = module(x, mask)
        sparse = sparse_forward(module, x, SelectedPixels.from_mask(mask, dilation))
    torch.testing.assert_close(sparse, masked, rtol=1e-4, atol=1e-4)
    assert torch.equal(x, before)
    if not widens:
        x = x.contiguous(memory_format=torch.channels_last)
        pixels = SelectedPixels.from_mask(mask, dilation)
        with torch.no_grad():
            sparse = sparse_forward(module, x, pixels, in_place=True)
        torch.testing.assert_close(sparse, masked, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_without_a_shortcut_it_is_the_residual_branch(stride):
    module = InvertedResidual(8, 16, stride=stride).eval()
    x = torch.randn(2, 8, 7, 5)
    assert not module.has_shortcut
    assert torch.equal(module(x), module.residual(x))
    zeros = NoShortcut(16, stride)(x)
    assert zeros.shape == module(x).shape and not zeros.any()
    assert InvertedResidual(8, 8).has_shortcut and ProjectedInvertedResidual(8, 16).has_shortcut


def test_activations_end_at_six_and_the_sum_has_none():
    module = InvertedResidual(8, 8).eval()
    seen = []
    module.conv[1][0].register_forward_hook(lambda m, inputs, out: seen.append(inputs[0]))
    out = module(100 * torch.randn(1, 8, 6, 6))
    assert seen[0].max() == 6 and seen[0].min() == 0
    assert out.min() < 0
