import numpy as np
import pytest
import torch

from dynbackbones.pretraining import cut_patches
from tests.messages import naming


def test_boxes_are_cut_where_they_are():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 30:50] = (10, 20, 30)
    patches = cut_patches(image, [(30, 10, 50, 20), (0, 0, 30, 40)], 16)
    assert patches.dtype == torch.uint8
    assert (patches[0] == torch.tensor([10, 20, 30])[:, None, None]).all()
    assert (patches[1] == 0).all()


def test_a_patch_of_its_own_size_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    (patch,) = cut_patches(image, [(-3, 0, 8, 12.5)], 8)
    assert np.array_equal(patch.permute(1, 2, 0).numpy(), image)


@pytest.mark.parametrize("box", [(60, 0, 70, 10), (5, 5, 5, 9), (8, 8, 4, 4)])
def test_a_box_without_pixels(box):
    with pytest.raises(ValueError, match=naming("box", str(box))):
        cut_patches(np.zeros((40, 60, 3), np.uint8), [box], 8)
