import math

import pytest
import torch

from dynbackbones.classifiers import PatchLearning, hard_positives
from dynbackbones.errors import UserError
from tests.classifiers.made import built, images
from tests.messages import naming


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.full((2, 10), 0.1), ["Mixup", "(2, 10)"]),
        (torch.zeros(2, 10).long(), ["(2, 10)", "multiple"]),
        (torch.tensor([1.0, 2.0]), ["float32"]),
        (torch.tensor([1]), ["(1,)", "2 images"]),
        (torch.tensor([1, 10]), ["label 10", "10 classes"]),
        (torch.tensor([-1, 3]), ["label -1"]),
    ],
)
def test_labels_must_be_one_class_each(labels, words):
    with pytest.raises(UserError, match=naming(*words)):
        PatchLearning().losses(built().train(), images(2), labels)


def test_images_that_are_not_finite_are_named_in_training():
    x = images(2)
    x[0, 0, 0, 0] = math.nan
    net = built().eval()
    net.set_stage("policy")
    with pytest.raises(UserError, match=naming("finite", "images")):
        PatchLearning().losses(net, x, torch.tensor([0, 1]))


def test_alpha_follows_the_progress():
    learning = PatchLearning(0.5, (0.7, 0.9))
    assert [learning.at(p).alpha for p in (0, 0.5, 1)] == pytest.approx([0.7, 0.8, 0.9])
    assert PatchLearning(0.1, 0.8).at(0.3).gamma == 0.1


def test_the_reward_is_the_papers():
    net = built(stage="policy")
    net.policy.threshold.zero_()
    x, labels = images(16), torch.arange(16) % 10
    torch.manual_seed(0)
    losses = PatchLearning(sigma=0.25).losses(net, x, labels)
    with torch.no_grad():
        scores = net(x)
    right = scores.argmax(dim=1) == labels
    share = net.decisions.patch_rate
    reward = torch.where(right, 1 - share**2, torch.tensor(-0.25))
    assert float(losses["greedy_reward"]) == pytest.approx(float(reward.mean()), abs=1e-6)
    assert float(losses["greedy_usage"]) == pytest.approx(float(share.mean()))
    assert "learned_blocks" not in losses


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": -0.5}, ["sigma", -0.5, "minus"]),
        ({"sigma": math.inf}, ["inf"]),
        ({"alpha": 0.5}, ["alpha", 0.5]),
        ({"alpha": (0.7, 1.2)}, ["alpha", 1.2]),
        ({"alpha": (0.7, 0.8, 0.9)}, ["alpha", "(start, end)"]),
        ({"entropy_weight": -1}, ["entropy_weight", -1]),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=naming(*words)):
        PatchLearning(**options)


def test_hard_positives_lack_what_the_policy_finds_most_telling():
    net, x = built(stage="joint"), images(200) + 5
    for way in ("policy", "random"):
        shown = hard_positives(net, x, way=way, generator=torch.Generator().manual_seed(0))
        blank = (shown.view(200, 3, 4, 8, 4, 8) == 0).all(dim=(1, 3, 5)).flatten(1)
        assert torch.equal(shown[shown != 0], x[shown != 0])
        assert sorted(set(blank.sum(dim=1).tolist())) == [1, 2, 3, 4]
        scores = net.policy_probabilities(net.view(x))
        gone, kept = scores.masked_fill(~blank, 2).amin(1), scores.masked_fill(blank, -1).amax(1)
        assert bool((gone >= kept).all()) == (way == "policy")
    assert torch.equal(hard_positives(net, x, probability=0.0), x)


@pytest.mark.parametrize("options", [{"way": "cutout"}, {"probability": 1.5}, {"most": 0}])
def test_wrong_hard_positives_are_refused(options):
    with pytest.raises(ValueError, match=naming(*options, *options.values())):
        hard_positives(built(stage="joint"), images(), **options)
    with pytest.raises(ValueError, match=naming("'high'", "policy")):
        hard_positives(built(stage="high"), images())
