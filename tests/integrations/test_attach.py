import copy
import logging

import pytest
import torch
from torch import nn
from torchvision.models.detection import RetinaNet

import dynbackbones
from dynbackbones.integrations.image_sizes import padded_sizes
from tests.messages import naming


class Pyramid(nn.Module):
    """What torchvision's detectors want of a backbone."""

    def __init__(self, name):
        super().__init__()
        self.body = dynbackbones.build_backbone(name)
        self.out_channels = self.body.feature_info["res5"].channels

    def forward(self, images):
        return {"0": self.body(images)["res5"]}


@pytest.fixture
def detector():
    torch.manual_seed(0)
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    anchors = AnchorGenerator(sizes=((32,),), aspect_ratios=((1.0,),))
    return RetinaNet(
        Pyramid("sar_resnet18"), 2, anchor_generator=anchors, min_size=64, max_size=128
    )


def batch():
    images = [torch.rand(3, 64, 96), torch.rand(3, 64, 64)]
    targets = [
        {"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
        for _ in images
    ]
    return images, targets


def test_a_torchvision_detector_gets_losses_and_image_sizes(detector):
    handle = dynbackbones.attach(detector)
    assert "loss_activation_rate" in detector.train()(*batch())
    assert detector.backbone.body.decisions.image_sizes == [(64, 96), (64, 64)]
    clone = copy.deepcopy(detector)
    clone(*batch())
    assert clone.backbone.body.decisions.image_sizes == [(64, 96), (64, 64)]
    handle.remove()
    handle.remove()
    assert "loss_activation_rate" not in detector(*batch())
    assert len(set(detector.backbone.body.decisions.image_sizes)) == 1


def test_a_baseline_is_left_alone_with_a_line_in_the_log(caplog):
    model = nn.Sequential(nn.Linear(2, 2))
    with caplog.at_level(logging.INFO, logger="dynbackbones"):
        dynbackbones.attach(model).remove()
    assert "Sequential" in caplog.text and not model._forward_hooks


def test_a_bare_backbone_is_refused():
    with pytest.raises(ValueError, match=naming("SARResNet", "bare")):
        dynbackbones.attach(dynbackbones.build_backbone("sar_resnet18"))


class Caller(nn.Module):
    """Passes images on and returns losses, called as detectron2's or OpenMMLab's models are."""

    def __init__(self):
        super().__init__()
        self.net = dynbackbones.build_backbone("sar_resnet18")

    def forward(self, inputs, data_samples=None, mode="loss"):
        if isinstance(inputs, list):
            inputs = torch.zeros(len(inputs), 3, 64, 64)
        return {"loss": self.net(inputs)["res5"].mean()}


class Sample:
    def __init__(self, size):
        self.metainfo = {"img_shape": size}


def test_sizes_are_read_from_the_arguments_of_either_framework():
    model = Caller().train()
    dynbackbones.attach(model)
    model([{"image": torch.rand(3, 64, 48)}, {"image": torch.rand(3, 40, 64)}])
    assert model.net.decisions.image_sizes == [(64, 48), (40, 64)]
    samples = [Sample((64, 50)), Sample((30, 64, 3))]
    model(torch.rand(2, 3, 64, 64), samples, mode="loss")
    assert model.net.decisions.image_sizes == [(64, 50), (30, 64)]
    model.test_cfg = {"mode": "slide"}
    model(inputs=torch.rand(2, 3, 64, 64), data_samples=samples, mode="predict")
    assert model.net.decisions.image_sizes == [(64, 64)] * 2


def test_other_arguments_say_nothing_of_sizes():
    assert padded_sizes(torch.rand(1, 3, 8, 8), ["no sample"]) is None
    assert padded_sizes([torch.rand(3, 8, 8)], [Sample((8, 8))]) is None
    assert padded_sizes(torch.rand(1, 3, 8, 8), [Sample((8, 8))]) is None
