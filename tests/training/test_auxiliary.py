import copy
import warnings

import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.backbones.base import find_backbones
from tests.messages import naming


class Detector(nn.Module):
    """A model as frameworks have them: a dict of losses in training, something else otherwise."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        feature = self.backbone(images)["res5"]
        return {"loss_task": feature.mean()} if self.training else feature


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64)


@pytest.fixture
def detector():
    return Detector(dynbackbones.build_backbone("sar_resnet18")).train()


def test_losses_arrive_in_training_only(detector, images):
    dynbackbones.attach_auxiliary_losses(detector)
    losses = detector(images)
    assert set(losses) == {"loss_task", "loss_activation_rate"}
    assert losses["loss_activation_rate"].requires_grad
    assert detector.backbone.auxiliary_losses() == {}
    assert isinstance(detector.eval()(images), torch.Tensor)


def test_a_deep_copy_collects_its_own_losses(detector, images):
    dynbackbones.attach_auxiliary_losses(detector)
    clone = copy.deepcopy(detector)
    losses = clone(images)
    assert "loss_activation_rate" in losses
    losses["loss_activation_rate"].backward()
    assert all(p.grad is None for p in detector.parameters())
    assert any(p.grad is not None for p in clone.parameters())


def test_attaching_twice_counts_once(detector, images):
    dynbackbones.attach_auxiliary_losses(detector)
    dynbackbones.attach_auxiliary_losses(detector)
    torch.manual_seed(0)
    twice = detector(images)["loss_activation_rate"]
    other = Detector(detector.backbone).train()
    dynbackbones.attach_auxiliary_losses(other)
    torch.manual_seed(0)
    torch.testing.assert_close(other(images)["loss_activation_rate"], twice)


def test_uncollected_losses_warn_once_and_say_what_to_call(detector, images):
    detector(images)
    with pytest.warns(UserWarning, match=naming("attach_auxiliary_losses(model)")):
        detector(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector(images)


def test_collected_losses_do_not_warn(detector, images):
    dynbackbones.attach_auxiliary_losses(detector)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            detector(images)


def test_a_second_forward_leaves_the_losses_of_the_first(detector, images):
    detector(images)
    with detector.backbone.no_auxiliary(), warnings.catch_warnings():
        warnings.simplefilter("error")
        detector(torch.randn(2, 3, 32, 32))
    assert "loss_activation_rate" in detector.backbone.auxiliary_losses()


def test_static_backbones_add_nothing(images):
    detector = Detector(dynbackbones.build_backbone("resnet18")).train()
    dynbackbones.attach_auxiliary_losses(detector)
    assert set(detector(images)) == {"loss_task"}
    assert find_backbones(detector) == [detector.backbone]


def test_wrong_models():
    with pytest.raises(ValueError, match=naming("Linear", "backbone")):
        dynbackbones.attach_auxiliary_losses(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=naming("attach_auxiliary_losses", "SARResNet", "bare")):
        dynbackbones.attach_auxiliary_losses(dynbackbones.build_backbone("sar_resnet18"))
    wrapped = nn.DataParallel(Detector(dynbackbones.build_backbone("sar_resnet18")))
    with pytest.raises(ValueError, match=naming("DataParallel", "model.module")):
        dynbackbones.attach_auxiliary_losses(wrapped)
