import pytest
import torch

from dynbackbones.adaptation import PixelFormat
from tests.messages import naming


def test_by_hand():
    images = torch.tensor([1.0, 0.0, -2.0])[None, :, None, None]
    pixels = PixelFormat(mean=(100, 50, 20), std=(10, 20, 5))
    assert pixels.to_rgb(images).flatten().tolist() == [110, 50, 10]
    assert PixelFormat(pixels.mean, pixels.std, bgr=True).to_rgb(images).flatten().tolist() == [
        10,
        50,
        110,
    ]


@pytest.mark.parametrize("bgr", [False, True])
def test_there_and_back(bgr):
    images = torch.randn(2, 3, 4, 5)
    pixels = PixelFormat(bgr=bgr)
    torch.testing.assert_close(pixels.from_rgb(pixels.to_rgb(images)), images)


def test_half_precision_becomes_float32():
    images = torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16)
    assert PixelFormat().to_rgb(images).dtype == PixelFormat().from_rgb(images).dtype
    assert PixelFormat().to_rgb(images).dtype == torch.float32


@pytest.mark.parametrize("options", [{"mean": (1, 2)}, {"std": (1.0,)}, {"std": (1, 0, 1)}])
def test_wrong_options(options):
    with pytest.raises(ValueError, match=naming(**options)):
        PixelFormat(**options)


def test_wrong_images():
    with pytest.raises(ValueError, match=naming("(N, 3, H, W)", images=(2, 1, 4, 4))):
        PixelFormat().to_rgb(torch.zeros(2, 1, 4, 4))
