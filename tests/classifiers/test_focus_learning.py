import math

import pytest
import torch

import dynbackbones
from dynbackbones.classifiers import FocusLearning
from dynbackbones.classifiers.glance_focus.learning import look_around
from dynbackbones.errors import UserError
from tests.classifiers.made import FOCUS, focused, images
from tests.messages import naming


def scenes(count=6):
    return images(count, (64, 64))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.full((2, 10), 0.1), ["Mixup", "(2, 10)"]),
        (torch.tensor([1, 10]), ["label 10", "10 classes"]),
    ],
)
def test_labels_must_be_one_class_each(labels, words):
    with pytest.raises(UserError, match=naming(*words)):
        FocusLearning().losses(focused(stage="warm_up").train(), scenes(2), labels)


def test_images_that_are_not_finite_are_named_in_training():
    x = scenes(2)
    x[0, 0, 0, 0] = math.nan
    with pytest.raises(UserError, match=naming("finite", "images")):
        FocusLearning().losses(focused(stage="policy").train(), x, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"auxiliary_weight": -1.0}, ["auxiliary_weight", -1.0]),
        ({"value_weight": math.inf}, ["value_weight", "inf"]),
        ({"deviation": 0}, ["deviation", 0]),
        ({"discount": 1.5}, ["discount", 1.5]),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=naming(*words)):
        FocusLearning(**options)


def test_rewards_are_what_each_crop_adds_to_the_right_class():
    net, x, labels = focused(stage="policy").train(), scenes(), torch.arange(6)
    # Not at the borders, where what is drawn is another pixel.
    torch.nn.init.normal_(net.proposal.actor.weight)
    learning = FocusLearning(deviation=1e-6)  # as in evaluation
    losses = learning.losses(net, x, labels)
    with torch.no_grad():
        right = [s.logp.exp()[torch.arange(6), labels] for s in net.eval().anytime(x)]
    for step in (2, 3, 4):
        expected = float((right[step - 1] - right[step - 2]).mean())
        assert float(losses[f"reward_{step}"]) == pytest.approx(expected, abs=1e-5)


def test_places_with_more_return_become_more_likely():
    """The gradient of the policy's loss moves the place towards what was drawn where it paid."""
    net, x = focused(stage="policy", steps=2).train(), scenes(2)
    torch.nn.init.zeros_(net.proposal.actor.weight)
    torch.manual_seed(0)
    drawn = look_around(net, x, FocusLearning()._drawn)
    labels = torch.tensor([0, 1])
    torch.manual_seed(0)
    losses = FocusLearning(value_weight=0.0).losses(net, x, labels)
    losses["loss_policy"].backward()
    right = torch.stack([v.softmax(1)[torch.arange(2), labels] for v in drawn.logits], dim=1)
    best = int((right[:, 1] - right[:, 0]).argmax())
    moved = drawn.corners[0][best] - 20  # from the centre, in pixels
    values = net.proposal.critic(net.proposal(net.look_whole(x).seen.map, None).memory)
    # Returns are -1 and 1 in a batch of two; a critic that is no better keeps their order.
    assert float(values.detach().diff(dim=0).abs().max()) < 1
    step = -net.proposal.actor.bias.grad
    assert float((step * moved).sum()) > 0


def test_between_pixels_places_learn_from_the_classes_alone():
    net = focused(stage="policy", proposal_training="interpolate").train()
    losses = FocusLearning().losses(net, scenes(), torch.arange(6))
    assert {name for name in losses if "loss" in name} == {"loss_classes", "loss_auxiliary"}
    losses["loss_classes"].backward()
    assert bool(net.proposal.actor.weight.grad.any())


def test_a_single_image_of_one_pixel_maps_is_told_to_come_in_company():
    net = dynbackbones.build_classifier(FOCUS, 10, patch=4, steps=2, stage="warm_up").train()
    with pytest.raises(UserError, match=naming("batch", "patch=4")):
        FocusLearning().losses(net, scenes(1), torch.tensor([3]))
    FocusLearning().losses(net, scenes(2), torch.tensor([3, 4]))
