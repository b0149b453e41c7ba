import pytest
import torch
from torch import nn

from dynbackbones.adaptation import MirroredDecoder, StyleGenerator, VGGEncoder
from dynbackbones.adaptation.generator import content_distance, style_distance
from dynbackbones.layers import adain, gram_matrix
from tests.messages import naming


def generator(**options):
    torch.manual_seed(0)
    return StyleGenerator(VGGEncoder((4, 6, 8, 10), (1, 2, 1, 1)), **options)


def images(count=1, height=24, width=32, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 255


def test_decoder_mirrors_vgg19():
    convs = [m for m in MirroredDecoder().modules() if isinstance(m, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [
        (512, 256),
        *[(256, 256)] * 3,
        (256, 128),
        (128, 128),
        (128, 64),
        (64, 64),
        (64, 3),
    ]
    assert {conv.padding_mode for conv in convs} == {"reflect"}


@pytest.mark.parametrize("size", [(24, 32), (37, 51), (16, 17)])
def test_images_come_back_at_their_size(size):
    synthesised = generator().synthesise(images(2, *size), images(2, 40, 19))
    assert synthesised.shape == (2, 3, *size)
    assert synthesised.dtype == torch.float32


def test_upsampling_of_even_sizes_is_exactly_twofold():
    decoder = MirroredDecoder((2, 2, 2, 2), (1, 1, 1, 1))
    for parameter in decoder.parameters():
        nn.init.zeros_(parameter)
    for index, level in enumerate(decoder.levels):
        level[0].weight.data[0, 0, 1, 1] = 1.0  # passes the first channel on
        assert isinstance(level[-1], nn.ReLU) == (index < 3)
    x = torch.rand(1, 2, 3, 4)
    expected = x[0, 0].repeat_interleave(8, dim=0).repeat_interleave(8, dim=1)
    assert torch.equal(decoder(x, (24, 32))[0, 0], expected)


def test_distances_by_hand():
    features, target = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    features[0] = torch.tensor([[3.0, 0.0], [4.0, 0.0]])  # norm 5, of 4 numbers
    assert content_distance(features, target).item() == pytest.approx(2.5 / 2)
    # Gram matrices divided by C * H * W: 25 / 4 and 0 in the first level, 4 / 2 and 0 (both
    # images) in the second, whose style is of another size and shared.
    levels = {"a": features, "b": torch.full((2, 1, 1, 1), 2.0)}
    styles = {"a": target, "b": torch.full((1, 1, 1, 2), 2.0**0.5)}
    assert style_distance(levels, styles).item() == pytest.approx(25 / 4 / 2 + 2.0)


def test_distances_of_equals_are_zero_with_finite_gradients():
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    loss = content_distance(x, x.detach()) + style_distance({"a": x}, {"a": x.detach()})
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(x.grad).all()


def test_losses_are_those_of_equation_6_2():
    net = generator(content_weight=2.0, style_weight=3.0)
    source, target = images(2, 24, 32), images(2, 17, 40, seed=1)
    synthesised, losses = net(source, target)
    assert torch.equal(synthesised, net.synthesise(source, target))
    found, content, style = (net.encoder(x) for x in (synthesised, source, target))
    aligned = adain(content["relu4_1"], style["relu4_1"])
    rms = (found["relu4_1"] - aligned).square().mean(dim=(1, 2, 3)).sqrt().mean()
    grams = sum(
        (gram_matrix(found[level]) - gram_matrix(style[level])).norm(dim=(1, 2)).mean()
        for level in ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    )
    torch.testing.assert_close(losses["loss_content"], 2 * rms)
    torch.testing.assert_close(losses["loss_style"], 3 * grams)


def test_gradients_reach_the_decoder_alone():
    net = generator()
    source, target = images().requires_grad_(), images(seed=1).requires_grad_()
    synthesised, losses = net(source, target)
    # Of the segmentation loss, and of its own.
    for loss in (synthesised.square().mean(), sum(losses.values())):
        net.zero_grad()
        loss.backward(retain_graph=True)
        assert all(p.grad.abs().sum() > 0 for p in net.decoder.parameters() if p.dim() > 1)
    assert source.grad is None and target.grad is None
    assert all(p.grad is None for p in net.encoder.parameters())


def test_training_lowers_the_loss():
    net = generator()
    optimiser = torch.optim.Adam(net.decoder.parameters(), lr=3e-3)
    source, target = images(2), images(2, seed=1) * 0.3
    totals = []
    for _ in range(20):
        losses = net(source, target).losses
        totals.append(sum(losses.values()))
        optimiser.zero_grad()
        totals[-1].backward()
        optimiser.step()
    assert totals[-1] < 0.8 * totals[0]


def test_reconstruction_trains_decoder_and_encoder():
    net = generator()
    for trains in (False, True):
        net.encoder.requires_grad_(trains)
        net.reconstruction_loss(images()).backward()
        assert net.decoder.levels[0][0].weight.grad.abs().sum() > 0
        assert all((p.grad is not None) == trains for p in net.encoder.parameters())


def test_reconstruction_by_hand():
    net = generator()
    for parameter in net.decoder.parameters():
        nn.init.zeros_(parameter)
    mean, std = (
        torch.tensor(x)[:, None, None] for x in (net.encoder.pixels.mean, net.encoder.pixels.std)
    )
    image = (mean + 2 * std).expand(1, 3, 16, 16)
    assert net.reconstruction_loss(image).item() == pytest.approx(4, rel=1e-5)


def test_several_targets():
    net = generator()
    source, targets = images(2), images(4, seed=1)
    assert net(source, targets).images.shape == source.shape
    shared = net.synthesise(source, targets[:1])
    alone = net.synthesise(source[1:], targets[:1])
    torch.testing.assert_close(shared[1:], alone, rtol=1e-4, atol=1e-2)
    with pytest.raises(ValueError, match=naming("images", 3, 2)):
        net(source, targets[:3])


def test_autocast():
    net = generator()
    with torch.autocast("cpu", torch.bfloat16):
        synthesised, losses = net(images(), images(seed=1))
        loss = sum(losses.values())
    loss.backward()
    expected, exact = net(images(), images(seed=1))
    # Pixels beyond 8 bits stay; the convolutions in between are bfloat16's.
    assert synthesised.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(synthesised, expected, rtol=0, atol=10.0)
    torch.testing.assert_close(loss, sum(exact.values()), rtol=0.05, atol=0)
    assert all(torch.isfinite(p.grad).all() for p in net.decoder.parameters())


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (torch.rand(1, 1, 16, 16), images(), ("source images", "(N, 3, H, W)", (1, 1, 16, 16))),
        (images(), torch.rand(3, 16, 16), ("target images", "(N, 3, H, W)", (3, 16, 16))),
        (images().byte(), images(), ("source images", torch.uint8)),
        (images(), images(1, 40, 15), ("target images", "16 x 16", "40 x 15")),
    ],
)
def test_wrong_images(source, target, words):
    with pytest.raises(ValueError, match=naming(*words)):
        generator().synthesise(source, target)


def test_wrong_weights():
    with pytest.raises(ValueError, match=naming(style_weight=-1)):
        generator(style_weight=-1)
