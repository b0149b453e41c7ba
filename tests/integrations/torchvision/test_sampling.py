from itertools import chain

import pytest

from dynbackbones.integrations.torchvision.sampling import TrainingBatches


def batches(start=0, **options):
    settings = {"length": 10, "batch_size": 4, "iterations": 9, "seed": 3, **options}
    sampler = TrainingBatches(**settings)
    sampler.start = start
    return list(sampler)


def test_each_pass_shows_every_image_once():
    indices = [index for _, index in chain.from_iterable(batches(iterations=5))]
    assert sorted(indices[:10]) == sorted(indices[10:]) == list(range(10))
    assert indices[:10] != indices[10:]


def test_draws_number_the_examples():
    draws = [draw for draw, _ in chain.from_iterable(batches())]
    assert draws == list(range(36))


def test_the_seed_decides():
    assert batches() == batches()
    assert batches() != batches(seed=4)


@pytest.mark.parametrize("groups", [None, [0, 1, 1, 0, 1, 0, 1, 1, 1, 0]])
@pytest.mark.parametrize("start", [0, 1, 4, 9])
def test_a_resumed_run_sees_what_the_uninterrupted_one_sees(start, groups):
    assert batches(start, groups=groups) == batches(groups=groups)[start:]


@pytest.mark.parametrize("groups", [None, [0, 1, 1, 0, 1, 0, 1, 1, 1, 0]])
def test_processes_share_the_global_batches(groups):
    first, second = (batches(groups=groups, rank=rank, world_size=2) for rank in range(2))
    for whole, *parts in zip(batches(groups=groups), first, second, strict=True):
        assert sorted(chain.from_iterable(parts)) == sorted(whole)
        assert len({len(part) for part in parts}) == 1


def test_batches_come_from_one_group():
    groups = [0, 1, 1, 0, 1, 0, 1, 1, 1, 0]
    made = batches(groups=groups)
    assert len(made) == 9
    assert all(len({groups[index] for _, index in batch}) == 1 for batch in made)
    assert {groups[batch[0][1]] for batch in made} == {0, 1}
