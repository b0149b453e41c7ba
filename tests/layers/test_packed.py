import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dynbackbones.layers.packed import PackedConv2d, can_pack, packed_formulas

pytestmark = pytest.mark.skipif(not can_pack(), reason="this PyTorch has no oneDNN")

CONVS = [
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2},
]


@pytest.fixture(params=CONVS, ids=str)
def conv(request):
    torch.manual_seed(0)
    return nn.Conv2d(8, 16, **request.param)


@pytest.fixture
def images():
    return torch.randn(2, 8, 9, 7, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("add", [False, True])
def test_it_is_the_convolution(conv, images, layout, relu, add):
    with torch.inference_mode():
        images = images.contiguous(memory_format=layout)
        expected = conv(images)
        other = torch.randn_like(expected) if add else None
        expected = expected + other if add else expected
        out = PackedConv2d(conv)(images, other, relu)
    torch.testing.assert_close(out, expected.relu() if relu else expected)


@pytest.mark.parametrize("gradients", [False, True])
def test_a_relu_can_end_at_six(conv, images, gradients):
    images = 20 * images
    with torch.set_grad_enabled(gradients):
        expected = nn.functional.relu6(conv(images))
        out = PackedConv2d(conv)(images, relu=True, ceiling=6.0)
    assert expected.max() == 6
    torch.testing.assert_close(out, expected)


def test_it_packs_for_the_first_shapes_only(conv):
    packed = PackedConv2d(conv)
    with torch.no_grad():
        for size in (5, 6, 7, 5):
            x = torch.randn(1, 8, size, size)
            torch.testing.assert_close(packed(x, relu=True), conv(x).relu())
    assert len(packed._reordered) == packed.shapes == 2


def test_gradients_and_other_types_take_the_ordinary_convolution(conv, images):
    packed = PackedConv2d(conv)
    packed(images).sum().backward()
    assert conv.weight.grad is not None
    with torch.no_grad():
        assert packed.double()(images.double()).dtype == torch.float64
    assert packed._reordered == {}


def test_copies_and_pickles_work(conv, images):
    packed = PackedConv2d(conv)
    with torch.no_grad():
        expected = packed(images)
        for twin in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
            assert torch.equal(twin(images), expected)
    assert packed.state_dict().keys() == conv.state_dict().keys()


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 on this processor"
)
@pytest.mark.parametrize("add", [False, True])
def test_bfloat16_is_packed_too_also_by_autocast(conv, images, add):
    packed = PackedConv2d(conv)
    with torch.no_grad():
        other = torch.randn_like(conv(images)) if add else None
        wanted = (conv(images) + (other if add else 0)).relu()
        with torch.autocast("cpu", torch.bfloat16):
            by_autocast = packed(images, other, relu=True)
        assert len(packed._reordered) == 1
        packed, other = packed.bfloat16(), None if other is None else other.bfloat16()
        half = packed(images.bfloat16(), other, relu=True)
    for out in (by_autocast, half):
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), wanted, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("added", [False, True])
def test_a_flop_counter_with_their_formulas_counts_what_the_convolution_costs(conv, images, added):
    def count(run):
        with FlopCounterMode(display=False, custom_mapping=packed_formulas()) as counter:
            run()
        return counter.get_total_flops()

    with torch.no_grad():
        expected, out = count(lambda: conv(images)), conv(images)
        packed = PackedConv2d(conv)
        assert expected > 0
        assert count(lambda: packed(images, torch.ones_like(out) if added else None)) == expected
