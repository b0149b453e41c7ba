import pytest
import torch

from dynbackbones import video
from dynbackbones.errors import UserError
from dynbackbones.video.sampling import memory_indices
from tests.messages import naming

LENGTHS = torch.tensor([60, 10, 3, 1])


@pytest.mark.parametrize(
    "choose", [video.uniform_indices, video.random_indices, video.frame_exit_indices]
)
@pytest.mark.parametrize("count", [1, 3, 10])
def test_frames_lie_in_their_videos(choose, count):
    indices = choose(LENGTHS, count)
    assert indices.shape == (4, count)
    assert ((indices >= 0) & (indices < LENGTHS[:, None])).all()
    if count <= 10:
        assert all(len(set(row)) == count for row in indices[:2].tolist())


def test_frame_exit_takes_ten_segments_from_coarse_to_fine():
    assert video.frame_exit_indices(torch.tensor([10]), 10).tolist() == [
        [5, 0, 9, 2, 7, 4, 6, 3, 8, 1]
    ]


def test_random_frames_follow_the_generator_and_are_even():
    first, second = (
        video.random_indices(torch.full((6000,), 6), 2, torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    assert torch.equal(first, second)
    counts = first.flatten().bincount(minlength=6).float() / first.numel()
    torch.testing.assert_close(counts, torch.full((6,), 1 / 6), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "choose", [video.uniform_indices, video.random_indices, video.frame_exit_indices]
)
def test_numbers_out_of_range(choose):
    with pytest.raises(UserError, match=naming("count", 0)):
        choose(LENGTHS, 0)
    with pytest.raises(UserError, match=naming("lengths", 0)):
        choose(torch.tensor([3, 0]), 2)
    with pytest.raises(UserError, match=naming(10)):
        video.frame_exit_indices(LENGTHS, 11)


def test_a_memory_is_even_frames_or_all_that_there_are():
    lengths = torch.tensor([60, 7, 2, 1])
    index = memory_indices(lengths, 4)
    assert index[0].tolist() == video.uniform_indices(lengths, 4)[0].tolist()
    assert index[2, :2].tolist() == [0, 1]
    assert (index < lengths[:, None]).all()
    assert memory_indices(lengths[2:], 4)[0].tolist() == [0, 1]
    with pytest.raises(UserError, match=naming("lengths", 0)):
        memory_indices(torch.tensor([0]), 4)
