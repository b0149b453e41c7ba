import pytest
import torch

from dynbackbones.backbones.blockdrop.selection import BlockSelection
from tests.messages import naming

RESNET101 = [3, 4, 23, 3]


def policy(kind, rate=0.5, images=2, blocks=RESNET101, **options):
    return BlockSelection(kind, rate, **options).policy(images, blocks)


@pytest.mark.parametrize(
    ("kind", "rate", "count"),
    [("all", 0.1, 33), ("none", 0.9, 0), ("first", 0.5, 17), ("random", 0.5, 17),
     ("distributed", 0.5, 17), ("random", 0.0, 0), ("distributed", 1.0, 33), ("first", 1 / 3, 11)],
)  # fmt: skip
def test_every_image_keeps_the_share_rounded_up(kind, rate, count):
    chosen = policy(kind, rate)
    assert chosen.shape == (2, 33) and chosen.dtype == torch.bool
    assert chosen.sum(dim=1).tolist() == [count, count]


def test_first_and_distributed():
    assert policy("first", 0.25, blocks=[4, 4, 4])[0].nonzero().flatten().tolist() == [0, 1, 2]
    kept = policy("distributed", 0.5, blocks=[4, 4, 4])[0].view(3, 4)
    assert kept.int().tolist() == [[1, 1, 0, 0]] * 3
    per_stage = [part.sum().item() for part in policy("distributed", 0.5)[0].split(RESNET101)]
    assert per_stage == [3, 4, 7, 3], "a full stage passes its share on"


def test_random_differs_between_images_and_follows_the_seed():
    first = policy("random")
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, policy("random"))
    assert not torch.equal(first, policy("random", seed=1))


def test_given_policies():
    assert policy([1, 0, 1], blocks=[1, 2]).int().tolist() == [[1, 0, 1]] * 2
    each = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    assert torch.equal(policy(each, blocks=[1, 2]), each.bool())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: policy("last"), ("selection", "all, none", "'last'")),
        (lambda: policy("first", 1.2), ("rate", 1.2)),
        (lambda: policy([1, 2, 0], blocks=[3]), ("selection", 0, 1)),
        (lambda: policy([1, 0]), ("selection", 2, 33, "blocks")),
        (lambda: policy(torch.ones(3, 33)), ("selection", 3, 2, "images")),
        (lambda: policy(torch.ones(1, 1, 33)), ("selection", (1, 1, 33))),
    ],
)
def test_selections_that_are_none(call, words):
    with pytest.raises(ValueError, match=naming(*words)):
        call()
