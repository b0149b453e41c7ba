import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones import video
from dynbackbones.errors import UserError
from tests.messages import naming


def test_backbones_of_the_package_and_maps_are_pooled():
    torch.manual_seed(0)
    net = dynbackbones.build_backbone("resnet18")
    encoder = video.FrameEncoder(net, (64, 96))
    frames = torch.randint(256, (5, 3, 64, 96), dtype=torch.uint8)
    features = encoder(frames, batch=2)
    assert features.shape == (5, encoder.channels) == (5, 512)
    expected = net.eval()(encoder.prepared(frames))["res5"].mean(dim=(2, 3))
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)
    assert not features.requires_grad


def test_bytes_and_shares_are_the_same_frames():
    encoder = video.FrameEncoder(nn.Conv2d(3, 4, 3), 16, mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    frames = torch.randint(256, (2, 3, 30, 20), dtype=torch.uint8)
    torch.testing.assert_close(encoder(frames), encoder(frames / 255))


def test_it_stays_in_evaluation_mode():
    encoder = video.FrameEncoder(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 8)
    holder = nn.ModuleList([encoder]).train()
    assert holder.training and not any(module.training for module in encoder.modules())


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (torch.zeros(2, 8, 8, 3), ("frames", (2, 8, 8, 3), "permute")),
        (torch.zeros(0, 3, 8, 8), ("frames", "empty")),
        (torch.full((1, 3, 8, 8), torch.nan), ("frames", "NaN")),
    ],
)
def test_frames_that_do_not_fit(frames, words):
    with pytest.raises(UserError, match=naming(*words)):
        video.FrameEncoder(nn.Conv2d(3, 4, 3), 8)(frames)


def test_networks_and_sizes_that_do_not_fit():
    with pytest.raises(UserError, match=naming("Deep", (1, 3, 8, 8, 1))):
        video.FrameEncoder(Deep(), 8)
    with pytest.raises(UserError, match=naming("size", 0)):
        video.FrameEncoder(nn.Conv2d(3, 4, 3), 0)


class Deep(nn.Module):
    """Gives five dimensions."""

    def forward(self, frames):
        return frames[..., None]
