import pytest
import torch

from dynbackbones.layers import (
    AdaIN,
    ChannelStatistics,
    adain,
    align_channels,
    assign_targets,
    channel_statistics,
    gram_matrix,
)
from tests.messages import naming


def maps(*shape, scale=1.0, shift=0.0, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale + shift


def test_statistics_by_hand():
    x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]], [[2.0, 2.0], [2.0, 2.0]]]])
    mean, std = channel_statistics(x, eps=0.5)
    assert mean.tolist() == [[4.0, 2.0]]
    # Divided by H * W = 4, not by 3: (9 + 1 + 1 + 9) / 4 = 5.
    torch.testing.assert_close(std, torch.tensor([[5.5**0.5, 0.5**0.5]]))


def test_adain_by_hand():
    content = torch.tensor([[[[1.0, 3.0]]]])  # mean 2, standard deviation 1
    style = torch.tensor([[[[0.0], [10.0], [20.0], [10.0]]]])  # mean 10, variance 50
    expected = torch.tensor([[[[10 - 50**0.5, 10 + 50**0.5]]]])
    torch.testing.assert_close(adain(content, style, eps=0), expected)


def test_aligned_features_have_the_styles_statistics():
    content = maps(3, 5, 9, 7, scale=2, shift=-4)
    style = maps(3, 5, 4, 11, scale=0.5, shift=3, seed=1)
    aligned = adain(content, style)
    assert aligned.shape == content.shape
    for found, wanted in zip(channel_statistics(aligned), channel_statistics(style), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_padding_does_not_count():
    content, style = maps(2, 3, 6, 8, scale=2), maps(2, 3, 5, 5, shift=3, seed=1)
    sizes = [(6, 8), (4, 5)]
    statistics = channel_statistics(style)
    found = align_channels(content, statistics, sizes=sizes)
    for index, (height, width) in enumerate(sizes):
        one = slice(index, index + 1)
        alone = adain(content[one, :, :height, :width], style[one])
        torch.testing.assert_close(found[one, :, :height, :width], alone)
    # What lies outside is moved with the rest, so that no edge appears.
    plain = align_channels(content, statistics)
    assert not torch.allclose(found[1], plain[1])
    torch.testing.assert_close(found[0], plain[0])


def test_a_style_equal_to_the_content_is_the_identity():
    content = maps(2, 4, 6, 6, scale=3, shift=50)
    content[0, 1] = 7.0  # a constant channel too
    torch.testing.assert_close(AdaIN()(content, content), content)


def test_a_constant_channel_takes_the_mean_and_has_finite_gradients():
    content = torch.full((1, 1, 3, 3), 2.0, requires_grad=True)
    style = maps(1, 1, 3, 3)
    aligned = adain(content, style)
    torch.testing.assert_close(aligned, style.mean().expand(1, 1, 3, 3))
    aligned.square().sum().backward()
    assert torch.isfinite(content.grad).all()


def test_gradients_reach_both():
    content, style = maps(2, 2, 3, 2).double(), maps(2, 2, 2, 2, seed=1).double()
    inputs = (content.requires_grad_(), style.requires_grad_())
    assert torch.autograd.gradcheck(adain, inputs)


def test_target_images_are_shared_by_rule():
    values = torch.tensor([[1.0], [3.0], [10.0], [20.0]])
    assert assign_targets(values[:2], 2).tolist() == [[1.0], [3.0]]
    assert assign_targets(values[:1], 3).tolist() == [[1.0]] * 3
    assert assign_targets(values, 2).tolist() == [[2.0], [15.0]]
    content = maps(2, 1, 4, 4)
    style = maps(4, 1, 4, 4, seed=1) + values[:, :, None, None]
    mean = channel_statistics(adain(content, style)).mean
    torch.testing.assert_close(mean, assign_targets(style.mean(dim=(2, 3)), 2))


@pytest.mark.parametrize(("targets", "images"), [(2, 4), (3, 2), (0, 2)])
def test_target_images_that_do_not_go_with_the_images(targets, images):
    with pytest.raises(ValueError, match=naming(targets, images)):
        assign_targets(torch.zeros(targets, 5), images)


def test_gram_matrix_by_hand():
    x = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # C, H, W = 2, 1, 2
    expected = torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4
    assert torch.equal(gram_matrix(x), expected)


def test_gram_matrix_does_not_depend_on_the_size_of_the_image():
    x = maps(2, 3, 4, 4)
    torch.testing.assert_close(gram_matrix(x.repeat(1, 1, 2, 3)), gram_matrix(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x = maps(2, 4, 64, 64, scale=30, shift=200).to(dtype)
    style = maps(2, 4, 32, 32, scale=2, shift=100, seed=1).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        statistics = channel_statistics(x)
        gram = gram_matrix(x)
        aligned = adain(x, style)
    assert aligned.dtype == dtype
    assert gram.dtype == statistics.mean.dtype == statistics.std.dtype == torch.float32
    # Sums of squares of 4096 pixels are beyond float16, and bfloat16 has two or three digits.
    for found, wanted in zip(statistics, channel_statistics(x.double()), strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gram.double(), gram_matrix(x.double()), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(aligned, adain(x.float(), style.float()).to(dtype))


@pytest.mark.parametrize(
    ("x", "value"),
    [
        (torch.zeros(2, 3, 4), (2, 3, 4)),
        (torch.zeros(2, 3, 0, 4), (2, 3, 0, 4)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.uint8),
    ],
)
@pytest.mark.parametrize("function", [channel_statistics, gram_matrix])
def test_wrong_maps(function, x, value):
    with pytest.raises(ValueError, match=naming(x=value)):
        function(x)


def test_wrong_channels():
    with pytest.raises(ValueError, match=naming("channels", 3, 1)):
        align_channels(maps(2, 3, 4, 4), ChannelStatistics(torch.zeros(2, 1), torch.ones(2, 1)))
