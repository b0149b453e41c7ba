import random
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.dataset import sampler as mmengine_samplers

from dynbackbones.integrations.mmengine.seeded_data import (
    SeededDataset,
    SeededEpochSampler,
    SeededSampler,
)
from tests.messages import naming


class Draws:
    """A dataset whose samples are drawn from every generator that transforms may use."""

    metainfo = {"classes": ("a",)}

    def __len__(self):
        return 5

    def __getitem__(self, index):
        numpy_draw = np.random.random()  # noqa: NPY002
        return index, random.random(), numpy_draw, torch.rand(1).item()


@pytest.fixture
def as_process(monkeypatch):
    """Makes samplers those of one of several processes."""

    def set_rank(rank, world_size):
        monkeypatch.setattr(mmengine_samplers, "get_dist_info", lambda: (rank, world_size))

    return set_rank


def test_the_seed_of_a_sample_depends_on_its_position_alone(as_process):
    whole = list(islice(SeededSampler(Draws(), seed=1), 12))
    assert [index for index, _ in whole][:5] != [0, 1, 2, 3, 4]
    assert len({seed for _, seed in whole}) == 12
    assert list(islice(SeededSampler(Draws(), seed=1), 12)) == whole
    assert list(islice(SeededSampler(Draws(), seed=2), 12)) != whole
    for rank in range(2):
        as_process(rank, 2)
        assert list(islice(SeededSampler(Draws(), seed=1), 6)) == whole[rank::2]


def test_a_resumed_run_goes_on_in_the_stream():
    whole = list(islice(SeededSampler(Draws(), seed=1), 12))
    resumed = SeededSampler(Draws(), seed=1)
    resumed.skip(7)
    assert list(islice(resumed, 5)) == whole[7:]


def test_epochs_have_seeds_of_their_own(as_process):
    def epoch(number):
        sampler = SeededEpochSampler(Draws(), seed=1)
        sampler.set_epoch(number)
        return list(sampler)

    first, second = epoch(0), epoch(1)
    assert sorted(index for index, _ in first) == sorted(index for index, _ in second)
    assert len({seed for _, seed in first + second}) == 10
    assert epoch(1) == second
    for rank in range(2):
        as_process(rank, 2)
        # The last sample of an odd number is filled up.
        assert epoch(0)[:2] == first[rank:4:2]


def test_a_sample_is_drawn_from_its_seed_and_leaves_no_trace():
    dataset = SeededDataset(Draws())
    assert len(dataset) == 5 and dataset.metainfo == Draws.metainfo
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    sample = dataset[2, 99]
    assert torch.rand(1) == expected
    assert dataset[2, 99] == sample
    others = dataset[2, 98]
    assert others[0] == 2
    assert all(a != b for a, b in zip(others[1:], sample[1:], strict=True))
    with pytest.raises(TypeError, match=naming("SeededDataset", "'SeededSampler'")):
        dataset[2]
