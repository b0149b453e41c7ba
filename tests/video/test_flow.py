import numpy as np
import pytest
import torch

from dynbackbones.video.flow import dense_flow, warp
from tests.messages import naming
from tests.video.toy_clip import panned

pytest.importorskip("cv2")


def grey(image):
    return image.mean(2).astype(np.uint8)


@pytest.mark.parametrize("step", [(4, 0), (0, -3), (5, 2)])
@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_flow_leads_to_where_things_are(step, preset):
    before, after = map(grey, panned([(0, 0), step]))
    inside = dense_flow(before, after, preset)[20:-20, 20:-20]
    assert np.abs(np.median(inside, axis=(0, 1)) + step).max() < 0.3  # the camera goes, things come


def test_warping_a_known_translation_is_exact_inside():
    maps = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    flow = np.zeros((20, 30, 2), np.float32)
    flow[..., 0], flow[..., 1] = 4, -2
    moved = warp(maps, flow)
    assert torch.allclose(moved[:, 2:, :-4], maps[:, :-2, 4:], atol=1e-5)
    # Beyond the frame its border goes on.
    assert torch.allclose(moved[:, 2:, -4:], maps[:, :-2, -1:].expand(3, 18, 4), atol=1e-5)


@pytest.mark.parametrize("size", [(10, 15), (5, 5), (40, 60), (20, 30), (1, 1)])
def test_standing_still_changes_no_map_of_any_size(size):
    maps = torch.rand(2, *size, dtype=torch.float64)
    flow = np.zeros((20, 30, 2), np.float32)
    assert torch.allclose(warp(maps, flow), maps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_places_are_exact_in_half_precision_too(dtype):
    maps = torch.arange(600).expand(1, 4, 600) / 600
    flow = np.zeros((4, 600, 2), np.float32)
    flow[..., 0] = 3
    moved = warp(maps.to(dtype), flow)
    assert moved.dtype == dtype
    assert torch.equal(moved, warp(maps.to(dtype).float(), flow).to(dtype))
    assert torch.equal(moved[..., :-3], maps[..., 3:].to(dtype))


def test_frames_of_two_sizes_have_no_flow():
    with pytest.raises(ValueError, match=naming("(8, 8)", "(8, 9)")):
        dense_flow(np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8))
    with pytest.raises(ValueError, match=naming("flow", "'slow'")):
        dense_flow(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), "slow")
