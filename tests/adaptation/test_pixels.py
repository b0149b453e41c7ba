import pytest
import torch

from dynbackbones.adaptation import PixelFormat


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (1, 2)}, "mean must be three numbers"),
        ({"std": (1.0,)}, "std must be three numbers"),
        ({"std": (1, 0, 1)}, "std must be positive"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        PixelFormat(**options)


def test_wrong_images():
    with pytest.raises(ValueError, match=r"images must be \(N, 3, H, W\)"):
        PixelFormat().to_rgb(torch.zeros(2, 1, 4, 4))
