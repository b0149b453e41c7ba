import pytest
import torch

import dynbackbones
from dynbackbones.classifiers import PatchLearning
from tests.classifiers.made import built, images
from tests.messages import naming


@torch.no_grad()
@pytest.mark.parametrize("empty", ["keep", "low"])
@pytest.mark.parametrize("stage", ["joint", "two_stream"])
def test_gathered_equals_masked(empty, stage):
    gathered = built("bagnet_cifar_resnet8", empty=empty, stage=stage)
    other = built("bagnet_cifar_resnet8", empty=empty, stage=stage, execution="masked")
    x = images(6)
    assert torch.allclose(gathered(x), other(x), atol=1e-5)
    assert len(gathered.decisions.policy.sum(dim=1).unique()) > 1
    assert float(gathered.decisions.macs.sum()) < float(other.decisions.macs.sum())


@torch.no_grad()
def test_scores_are_the_mean_over_the_chosen_patches():
    net = built("bagnet_cifar_resnet8", stage="joint")
    policy = torch.zeros(1, 16)
    policy[0, [2, 9]] = 1  # row 0, column 2; row 2, column 1
    x = images(1)
    with net.select(policy):
        scores = net(x)
    logits = net.high(x[..., :8, 16:24]) + net.high(x[..., 16:24, 8:16])
    assert torch.allclose(scores, (logits / 2).log_softmax(dim=1), atol=1e-5)


@torch.no_grad()
def test_an_image_without_patches_keeps_the_most_probable_or_asks_low():
    for empty in ("keep", "low"):
        net = built("bagnet_cifar_resnet8", empty=empty, stage="joint")
        net.policy.threshold.fill_(1e6)
        x = images()
        scores = net(x)
        if empty == "keep":
            best = net.decisions.probabilities.argmax(dim=1)
            assert torch.equal(net.decisions.policy.int().argmax(dim=1), best)
            assert net.decisions.policy.sum(dim=1).tolist() == [1] * 4
        else:
            assert torch.allclose(scores, net.low(net.view(x).low).log_softmax(dim=1), atol=1e-5)


@pytest.mark.parametrize("empty", ["keep", "low"])
def test_policies_learn_from_gathered_patches(empty):
    net = built("bagnet_cifar_resnet8", empty=empty).train()
    for stage in ("policy", "joint", "two_stream"):
        net.set_stage(stage)
        losses = PatchLearning().losses(net, images(8), torch.arange(8))
        sum(value for name, value in losses.items() if "loss" in name).backward()
        assert net.policy.fc.weight.grad.any()


def test_what_a_bagnet_cannot_see_is_refused():
    net = built("bagnet_cifar_resnet8", stage="high")
    with pytest.raises(ValueError, match=naming("30 x 32", "4 x 4")):
        net(images(2, (30, 32)))
    with net.select("none"), pytest.raises(ValueError, match=naming("2 of 2 images", "empty")):
        net(images(2))
    for options in ({"empty": "none"}, {"execution": "sparse"}):
        with pytest.raises(ValueError, match=naming(*options, *options.values())):
            dynbackbones.build_classifier("bagnet_cifar_resnet8", num_classes=2, **options)
    with pytest.raises(TypeError, match=naming("fill", "bagnet_cifar_resnet8")):
        dynbackbones.build_classifier("bagnet_cifar_resnet8", num_classes=2, fill="low")


@torch.no_grad()
def test_sums_of_logits_take_images_without_patches_and_cost_both_networks():
    options = {"fusion": "sum", "empty": "low", "stage": "two_stream"}
    net = built("bagnet_cifar_resnet8", **options)
    other = built("bagnet_cifar_resnet8", execution="masked", **options)
    x = images(6)
    for threshold in (0.0, 1e6):  # above it nothing is chosen
        net.policy.threshold.fill_(threshold)
        other.policy.threshold.fill_(threshold)
        assert torch.allclose(net(x), other(x), atol=1e-5)
    assert not net.decisions.policy.any()
    with net.select("all"):
        net(x)
    assert float(net.decisions.macs[0]) == pytest.approx(net.macs(32, 32, 1.0))
