from types import SimpleNamespace

import numpy as np
import torch

from dynbackbones.video.propagation import Instances, Maps


def objects(boxes, **rest):
    boxes = torch.as_tensor(boxes)
    return Instances(boxes, torch.rand(len(boxes)), torch.arange(len(boxes)), **rest)


def pair(x, y, size=(40, 60)):
    """A frame in which everything is ``x`` pixels further right and ``y`` further down."""
    flow = np.broadcast_to(np.array([x, y], np.float32), (*size, 2)).copy()
    return SimpleNamespace(from_key=flow, to_key=-flow)


def test_boxes_are_cut_off_at_the_border_and_gone_beyond_it():
    boxes = torch.tensor([[2.0, 5, 12, 15], [4, 4, 30, 30], [50, 10, 60, 20]])
    found = objects(boxes).moved(pair(-13, 2))
    assert found.boxes.tolist() == [[0, 6, 17, 32], [37, 12, 47, 22]]
    assert found.labels.tolist() == [1, 2]
    assert found.of(torch.tensor([7, 8, 9])).tolist() == [8, 9]


def test_a_box_moves_by_the_median_inside_it():
    moving = pair(0, 0)
    moving.from_key[10:20, 10:17] = (5, 1)  # seven of its ten columns
    found = objects([[10.0, 10, 20, 20]]).moved(moving)
    assert found.boxes.tolist() == [[15, 11, 25, 21]]


def test_boxes_on_and_outside_the_border_move_with_the_nearest_pixels():
    boxes = torch.tensor([[-5.0, -5, 0, 0], [58, 38, 70, 50], [30, 20, 30, 20]])
    found = objects(boxes).moved(pair(3, 3))
    assert found.boxes.tolist() == [[0, 0, 3, 3]]  # of the others nothing is left


def test_masks_and_keypoints_move_too():
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[0, 10:20, 10:20] = True
    keypoints = torch.tensor([[[12.0, 14, 1], [99, 99, 0]]])
    found = objects([[10.0, 10, 20, 20]], masks=mask, keypoints=keypoints).moved(pair(4, -3))
    expected = torch.zeros_like(mask)
    expected[0, 7:17, 14:24] = True
    assert torch.equal(found.masks, expected)
    assert found.keypoints.tolist() == [[[16, 11, 1], [103, 96, 0]]]
    assert keypoints[0, 0].tolist() == [12, 14, 1]  # as it was


def test_nothing_stays_nothing():
    found = objects(torch.zeros(0, 4)).moved(pair(1, 1))
    assert found.boxes.shape == (0, 4)


def test_maps_of_any_resolution_take_what_was_there():
    values = torch.arange(60.0).view(1, 1, 60).expand(1, 40, 60)
    for step in (1, 2, 4):
        small = Maps(values[:, ::step, ::step].contiguous())
        inside = small.moved(pair(4, 0)).values[:, :, 8 // step :]
        assert torch.allclose(inside, small.values[:, :, 8 // step :] - 4, atol=1e-3)


def test_what_is_not_finite_is_told():
    assert Maps(torch.ones(1, 2, 2)).finite()
    assert not Maps(torch.tensor([[[1.0, float("nan")]]])).finite()
    assert not objects([[0.0, 0, float("inf"), 1]]).finite()


def test_a_single_map_says_yes_above_its_threshold():
    maps = Maps(torch.tensor([[[0.2, 0.6]]]), threshold=0.5)
    assert maps.labels().tolist() == [[0, 1]]
    assert Maps(torch.tensor([[[0.2, 0.6]], [[0.3, 0.1]]])).labels().tolist() == [[1, 0]]
