"""Sparse equals masked, for one block and any mask (the project's central invariant)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dynbackbones.layers import BasicBlock, Bottleneck, SelectedPixels, sparse_forward
from tests.gpu.made_networks import exact_float32
from tests.messages import naming


def perturb(module, generator):
    """Gives norm layers the statistics and affine parameters of a trained network."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            with torch.no_grad():
                child.weight.uniform_(0.5, 1.5, generator=generator)
                child.bias.normal_(std=0.5, generator=generator)
                child.running_mean.normal_(std=0.5, generator=generator)
                child.running_var.uniform_(0.5, 2.0, generator=generator)


BLOCKS_AND_MASKS = {
    "block": st.sampled_from([BasicBlock, Bottleneck]),
    "images": st.integers(1, 3),
    "height": st.integers(1, 17),
    "width": st.integers(1, 17),
    "groups": st.sampled_from([1, 2, 4]),
    "dilation": st.sampled_from([1, 2, 4]),
    "widens": st.booleans(),
    "final_relu": st.booleans(),
    "rate": st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    "seed": st.integers(0, 2**16),
}
"""What the computation of a block at selected pixels is tried on."""


@settings(max_examples=60, deadline=None)
@given(**BLOCKS_AND_MASKS)
def test_sparse_equals_masked(
    block, images, height, width, groups, dilation, widens, final_relu, rate, seed
):
    generator = torch.Generator().manual_seed(seed)
    module = block(
        16, 32 if widens else 16, groups=groups, dilation=dilation, final_relu=final_relu
    ).eval()
    perturb(module, generator)
    x = torch.randn(images, 16, height, width, generator=generator)
    mask = torch.rand(images, groups, height, width, generator=generator) < rate
    before = x.clone()
    with torch.no_grad():
        masked = module(x, mask)
        sparse = sparse_forward(module, x, SelectedPixels.from_mask(mask, dilation))
    torch.testing.assert_close(sparse, masked, rtol=1e-4, atol=1e-5)
    assert torch.equal(x, before), "the input must not change: the base branch reads it too"


@settings(max_examples=60, deadline=None)
@given(**BLOCKS_AND_MASKS, cardinality=st.sampled_from([4, 8, 16]), half=st.booleans())
def test_sparse_equals_masked_in_more_groups_than_masks(
    block,
    images,
    height,
    width,
    groups,
    dilation,
    widens,
    final_relu,
    rate,
    seed,
    cardinality,
    half,
):
    generator = torch.Generator().manual_seed(seed)
    module = block(
        16,
        32 if widens else 16,
        groups=groups,
        cardinality=cardinality,
        expansion=1,
        dilation=dilation,
        final_relu=final_relu,
    ).eval()
    assert {conv.groups for conv, _ in module.residual_layers()} == (
        {cardinality} if block is BasicBlock else {cardinality, groups}
    )
    perturb(module, generator)
    x = torch.randn(images, 16, height, width, generator=generator)
    mask = torch.rand(images, groups, height, width, generator=generator) < rate
    before, limit = x.clone(), 1e-5
    with torch.no_grad():
        masked = module(x, mask)
        if half:
            module, x, limit = module.bfloat16(), x.bfloat16(), 0.05 * float(masked.abs().max())
        sparse = sparse_forward(module, x, SelectedPixels.from_mask(mask, dilation))
    torch.testing.assert_close(sparse.float(), masked, rtol=1e-4, atol=max(limit, 1e-5))
    assert half or torch.equal(x, before), "the base branch reads the input too"


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_gradients_in_more_groups_than_masks(block):
    generator = torch.Generator().manual_seed(0)
    module = block(16, 16, groups=2, cardinality=8, expansion=1).eval()
    perturb(module, generator)
    x = torch.randn(2, 16, 6, 5, generator=generator, requires_grad=True)
    mask = torch.rand(2, 2, 6, 5, generator=generator) < 0.5
    inputs = [x, *module.parameters()]
    wanted = torch.autograd.grad(module(x, mask).square().sum(), inputs)
    out = sparse_forward(module, x, SelectedPixels.from_mask(mask))
    found = torch.autograd.grad(out.square().sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_tables_of_a_small_mask():
    mask = torch.tensor([[[[1, 1, 0], [0, 1, 0]]]], dtype=torch.bool)
    pixels = SelectedPixels.from_mask(mask)
    assert pixels.rows.tolist() == [0, 1, 4]
    assert pixels.counts == [3]
    none = 0
    assert pixels.neighbours[0].tolist() == [none, none, none, none, 1, 2, none, none, 3]
    assert pixels.neighbours[2].tolist() == [1, 2, none, none, 3, none, none, none, none]


def test_tables_of_a_stage_are_those_of_its_blocks():
    masks = torch.rand(2, 3, 2, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.4
    for number, together in enumerate(SelectedPixels.from_masks(masks, dilation=2)):
        alone = SelectedPixels.from_mask(masks[:, number], dilation=2)
        assert together.counts == alone.counts
        assert torch.equal(together.rows, alone.rows)
        assert torch.equal(together.neighbours, alone.neighbours)


def test_neighbours_are_looked_up_where_a_convolution_asks_for_them():
    masks = torch.rand(2, 2, 2, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.4
    for cardinality, asks in ((1, True), (8, False)):
        blocks = [Bottleneck(16, 32, groups=2, dilation=2, cardinality=cardinality)]
        for found, wanted in zip(
            SelectedPixels.for_blocks(blocks, masks),
            SelectedPixels.from_masks(masks, dilation=2),
            strict=True,
        ):
            assert torch.equal(found.rows, wanted.rows)
            assert (found.counts, found.size) == (wanted.counts, wanted.size)
            assert torch.equal(found.neighbours, wanted.neighbours) == asks


@pytest.mark.parametrize("cardinality", [1, 8])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_groups_are_one_product_on_other_devices(monkeypatch, groups, rate, cardinality):
    generator = torch.Generator().manual_seed(0)
    module = Bottleneck(16, 32, groups=groups, cardinality=cardinality).eval()
    perturb(module, generator)
    x = torch.randn(2, 16, 6, 5, generator=generator)
    # Groups of different lengths.
    shares = torch.linspace(rate, rate / 2, groups).view(1, groups, 1, 1)
    mask = torch.rand(2, groups, 6, 5, generator=generator) < shares
    everything = [(None, slice(0, int(mask.sum())))]
    monkeypatch.setattr(SelectedPixels, "parts", lambda self, width: everything)
    with torch.no_grad():
        out = sparse_forward(module, x, SelectedPixels.from_mask(mask))
        torch.testing.assert_close(out, module(x, mask), rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.parametrize("cardinality", [1, 8])
@pytest.mark.parametrize("groups", [1, 2])
def test_sparse_equals_masked_on_cuda(groups, cardinality):
    generator = torch.Generator().manual_seed(0)
    module = Bottleneck(16, 32, groups=groups, cardinality=cardinality).eval()
    perturb(module, generator)
    module.cuda()
    x = torch.randn(2, 16, 9, 7, generator=generator).cuda()
    mask = (torch.rand(2, groups, 9, 7, generator=generator) < 0.5).cuda()
    with exact_float32(), torch.no_grad():
        out = sparse_forward(module, x, SelectedPixels.from_mask(mask))
        torch.testing.assert_close(out, module(x, mask), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_block_may_write_into_its_input(block):
    generator = torch.Generator().manual_seed(0)
    module = block(16, 16, groups=2).eval()
    perturb(module, generator)
    x = torch.randn(2, 16, 6, 5, generator=generator).relu()
    mask = torch.rand(2, 2, 6, 5, generator=generator) < 0.5
    with torch.no_grad():
        expected = module(x, mask)
        x = x.contiguous(memory_format=torch.channels_last)
        out = sparse_forward(module, x, SelectedPixels.from_mask(mask), in_place=True)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    assert out.data_ptr() == x.data_ptr()
    x = torch.randn(2, 16, 6, 5, generator=generator).relu()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted, *_ = torch.autograd.grad(module(x, mask).square().sum(), x)
    out = sparse_forward(module, x, SelectedPixels.from_mask(mask), in_place=True)
    gradient, *_ = torch.autograd.grad(out.square().sum(), x)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-4)


def test_norm_without_statistics_is_refused():
    module = BasicBlock(4, 4, norm=lambda c: nn.GroupNorm(2, c)).eval()
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=naming("GroupNorm", execution="masked")):
        sparse_forward(module, torch.randn(1, 4, 3, 3), SelectedPixels.from_mask(mask))
