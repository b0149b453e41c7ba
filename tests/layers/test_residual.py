import pytest
import torch

from dynbackbones.layers import BasicBlock, Bottleneck
from tests.messages import naming


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pooled", [False, True])
def test_shape_and_two_paths(block, stride, pooled):
    module = block(8, 16, stride=stride, pooled_shortcut=pooled).eval()
    x = torch.randn(2, 8, 9, 7)
    out = module(x)
    assert out.shape == (2, 16, -(-9 // stride), -(-7 // stride))
    torch.testing.assert_close(out, (module.residual(x) + module.shortcut(x)).relu())


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("cardinality", [1, 4])
def test_macs_equal_what_the_convolutions_compute(block, cardinality):
    module = block(8, 16, stride=2, groups=2, cardinality=cardinality)
    counted = []
    for conv in module.modules():
        if isinstance(conv, torch.nn.Conv2d):
            conv.register_forward_hook(
                lambda m, _, out: counted.append(m.weight.numel() * out.shape[2] * out.shape[3])
            )
    module(torch.randn(1, 8, 9, 7))
    assert module.macs(9, 7) == sum(counted)


def test_mask_hides_the_input_of_every_convolution():
    module = Bottleneck(8, 8, groups=2).eval()
    mask = torch.zeros(1, 2, 6, 6)
    mask[:, 0, :3] = 1
    x = torch.randn(1, 8, 6, 6)
    changed = x.clone()
    changed[:, :, 3:] += 1  # outside the first group's mask
    changed[:, 4:] += 1  # the second group selects nothing
    torch.testing.assert_close(module.residual(x, mask), module.residual(changed, mask))
    assert (module.residual(x, mask)[:, :, 3:] == 0).all()
    assert (module.residual(x, mask)[:, 4:] == 0).all()
    assert module.residual(x, mask)[:, :4, :3].abs().sum() > 0


def test_a_bottleneck_can_be_resnexts():
    import torchvision

    theirs = torchvision.models.resnet.Bottleneck(64, 16, groups=8, base_width=32).eval()
    ours = Bottleneck(64, 64, cardinality=8, expansion=1).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 64, 7, 5)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    "groups, cardinality, named",
    [
        (4, 2, {"groups": 4, "cardinality": 2}),
        (2, 64, {"cardinality": 64}),
    ],
)
def test_cardinality_that_does_not_divide_is_refused(groups, cardinality, named):
    with pytest.raises(ValueError, match=naming("Bottleneck", **named)):
        Bottleneck(64, 64, groups=groups, cardinality=cardinality, expansion=2)


def test_empty_mask_passes_the_input_on():
    module = BasicBlock(4, 4, final_relu=False)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(module(x, torch.zeros(2, 1, 5, 5)), x)


def test_zero_init_makes_the_block_its_shortcut():
    module = Bottleneck(8, 8)
    module.zero_init_residual()
    x = torch.rand(2, 8, 4, 4)
    torch.testing.assert_close(module(x), x)


def test_stride_in_1x1():
    module = Bottleneck(8, 16, stride=2, stride_in_1x1=True)
    assert (module.conv1.stride, module.conv2.stride) == ((2, 2), (1, 1))


def test_groups_that_do_not_divide():
    with pytest.raises(ValueError, match=naming("BasicBlock", 16, groups=3)):
        BasicBlock(16, 24, groups=3)
    with pytest.raises(ValueError, match=naming("Bottleneck", 2, groups=4)):
        Bottleneck(8, 8, groups=4)
