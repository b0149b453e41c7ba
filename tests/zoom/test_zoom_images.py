"""Images that are read in parts."""

import pytest
import torch

from dynbackbones.zoom.images import as_source, resized
from tests.zoom.bright import bright_zoom, image_with

FAR = (100, 70, 108, 82)


class Tiles:
    """An image on a disk, say, that never is in memory as a whole."""

    def __init__(self, image):
        self.size = tuple(image.shape[1:])
        self._image = image
        self.largest = 0

    def reduced(self, size):
        return self._given(resized(self._image, size))

    def crop(self, box):
        x1, y1, x2, y2 = box
        return self._given(self._image[:, y1:y2, x1:x2])

    def _given(self, part):
        self.largest = max(self.largest, part.shape[1] * part.shape[2])
        return part


def test_an_image_is_read_in_parts_no_larger_than_a_crop():
    image = image_with(FAR)
    tiles, zoom = Tiles(image), bright_zoom(rate=0.25)
    (found,) = zoom([tiles])
    assert torch.equal(found.boxes, zoom([image])[0].boxes)
    assert tiles.largest == 48 * 48


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int16])
def test_resizing_keeps_the_type(dtype):
    image = torch.full((3, 9, 7), 100).to(dtype)
    small = resized(image, (4, 3))
    assert small.dtype == dtype and torch.allclose(small.float(), torch.tensor(100.0))


def test_a_batch_is_no_image():
    with pytest.raises(ValueError, match="1, 3, 4, 4"):
        as_source(torch.zeros(1, 3, 4, 4))
