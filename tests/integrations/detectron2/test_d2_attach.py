"""Auxiliary losses, image sizes and copies of whole detectors."""

import copy
import logging

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.checkpoint import DetectionCheckpointer  # noqa: E402
from detectron2.data import detection_utils  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402
from detectron2.utils.events import EventStorage  # noqa: E402

from dynbackbones.integrations.detectron2 import attach  # noqa: E402
from dynbackbones.training.auxiliary import find_backbones  # noqa: E402

pytestmark = pytest.mark.detectron2

FASTER_RCNN = (
    *("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"),
    *("MODEL.BACKBONE.NAME", "build_sar_resnet_fpn_backbone"),
    *("MODEL.ANCHOR_GENERATOR.SIZES", "[[16], [32], [64], [128]]"),
    *("MODEL.RPN.IN_FEATURES", "['p3', 'p4', 'p5', 'p6']"),
    *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
    *("MODEL.ROI_HEADS.IN_FEATURES", "['p3', 'p4', 'p5']"),
    *("MODEL.ROI_HEADS.NUM_CLASSES", "2", "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead"),
    *("MODEL.ROI_BOX_HEAD.NUM_FC", "1", "MODEL.ROI_BOX_HEAD.FC_DIM", "16"),
    *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "7"),
)


@pytest.fixture(autouse=True)
def event_storage():
    """detectron2's models write to it while training."""
    with EventStorage() as storage:
        yield storage


def training_inputs(*sizes):
    inputs = []
    for height, width in sizes:
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.tensor([[5.0, 5.0, 40.0, 45.0]]))
        instances.gt_classes = torch.tensor([1])
        inputs.append({"image": 255 * torch.rand(3, height, width), "instances": instances})
    return inputs


def detector(config, *opts):
    torch.manual_seed(0)
    model = build_model(config(*opts))
    attach(model)
    return model


def backbone_of(model):
    return find_backbones(model)[0]


def step(model, inputs):
    """One step of plain SGD; returns the losses."""
    model.train()
    losses = model(inputs)
    model.zero_grad()
    sum(losses.values()).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    return losses


@pytest.mark.parametrize("opts", [(), FASTER_RCNN], ids=["retinanet", "faster_rcnn"])
def test_training_returns_the_auxiliary_loss_and_trains_the_selectors(config, opts):
    model = detector(config, *opts)
    backbone = backbone_of(model)
    backbone.set_progress(1.0)
    losses = step(model, training_inputs((64, 96), (90, 64)))
    assert "loss_activation_rate" in losses
    assert losses["loss_activation_rate"] > 0
    assert all(p.grad is not None for p in backbone.own_parameters()["selector"])
    assert backbone.auxiliary_losses() == {}
    assert backbone.decisions.image_sizes == [(64, 96), (90, 64)]


def test_removing_undoes_both_hooks(config):
    torch.manual_seed(0)
    model = build_model(config()).train()
    handle = attach(model)
    handle.remove()
    handle.remove()
    losses = model(training_inputs((64, 64), (70, 64)))
    assert "loss_activation_rate" not in losses
    padded = backbone_of(model).decisions.image_sizes
    assert padded == [(96, 64), (96, 64)]


def test_an_image_is_decided_alike_alone_and_in_a_padded_batch(config):
    model = detector(config).eval()
    backbone = backbone_of(model)
    for stage in backbone.stages().values():
        for selector in stage.selectors:
            # Fresh selectors take everything; around the median they tell regions apart.
            selector.threshold.fill_(2.0)
    small = {"image": 255 * torch.rand(3, 70, 66)}
    large = {"image": 255 * torch.rand(3, 120, 128)}
    with torch.no_grad():
        alone = model([small])[0]["instances"]
        expected = backbone.decisions
        batched = model([small, large])[0]["instances"]
    decisions = backbone.decisions
    assert 0 < expected.activation_rate[0] < 1
    assert torch.allclose(expected.activation_rate[0], decisions.activation_rate[0])
    assert expected.macs[0] == decisions.macs[0]
    for name, mask in expected.masks.items():
        rows, cols = mask.shape[-2:]
        inside = expected.stages[name].valid[0]
        assert torch.equal(
            mask[0][..., inside], decisions.masks[name][0, ..., :rows, :cols][..., inside]
        )
    assert len(alone) == len(batched)


def test_copies_train_and_evaluate_independently(config):
    model = detector(config)
    inputs = training_inputs((64, 64), (64, 64))
    step(model, inputs)
    twin = copy.deepcopy(model)
    ema = copy.deepcopy(model).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}

    assert "loss_activation_rate" in step(twin, training_inputs((96, 64)))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert backbone_of(model).decisions.image_sizes == [(64, 64), (64, 64)]
    assert backbone_of(twin).decisions.image_sizes == [(96, 64)]

    with torch.no_grad():
        for average, value in zip(ema.parameters(), twin.parameters(), strict=True):
            average.lerp_(value, 0.5)
        assert len(ema([{"image": torch.rand(3, 50, 60)}])) == 1
    assert backbone_of(ema).decisions.image_sizes == [(50, 60)]
    assert backbone_of(ema).auxiliary_losses() == {}
    assert "loss_activation_rate" in step(model, inputs)


def test_image_read_by_detectron2_needs_no_extra_keys(config, tiny):
    model = detector(config).eval()
    image = detection_utils.read_image(str(tiny / "images" / "0.png"), format="BGR")
    tensor = torch.as_tensor(image.transpose(2, 0, 1).copy())
    with torch.no_grad():
        model([{"image": tensor, "height": 128, "width": 192}])
    assert backbone_of(model).decisions.image_sizes == [(64, 96)]


@pytest.fixture
def loggers():
    """The loggers of detectron2 and of this package, without handlers; afterwards as before."""
    found = [logging.getLogger(name) for name in ("detectron2", "dynbackbones")]
    before = [(list(logger.handlers), logger.level) for logger in found]
    for logger in found:
        logger.handlers.clear()
    yield found
    for logger, (handlers, level) in zip(found, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)


def test_the_log_goes_where_detectron2s_goes(config, loggers):
    theirs, ours = loggers
    theirs.addHandler(logging.NullHandler())
    theirs.setLevel(logging.DEBUG)
    detector(config)
    assert ours.handlers == theirs.handlers and ours.level == logging.DEBUG


def test_a_log_of_the_users_stays(config, loggers):
    theirs, ours = loggers
    theirs.addHandler(logging.NullHandler())
    ours.addHandler(logging.NullHandler())
    before = list(ours.handlers)
    detector(config)
    assert ours.handlers == before


LAYOUT = ("MODEL.SAR.LAYOUT", "resnet", "MODEL.SAR.GUIDANCE", "objects")
PLAIN = (
    *("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", "18"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "64", "MODEL.RESNETS.NORM", "BN"),
    *("MODEL.RESNETS.STRIDE_IN_1X1", "False"),
)
LOW = ("MODEL.RETINANET.SCORE_THRESH_TEST", "0.0")


@torch.no_grad()
def test_a_plain_detectors_weights_give_its_detections_digit_for_digit(config, tmp_path):
    torch.manual_seed(0)
    plain = build_model(config(*PLAIN, *LOW)).eval()
    for child in plain.modules():
        if hasattr(child, "running_mean"):
            child.running_mean.normal_(std=0.1)
            child.running_var.uniform_(0.5, 2.0)
    file = tmp_path / "plain.pth"
    torch.save({"model": plain.state_dict()}, file)
    model = detector(config, *LAYOUT, *LOW).eval()
    DetectionCheckpointer(model).load(str(file))
    inputs = training_inputs((64, 96), (90, 64))
    for found, expected in zip(model(inputs), plain(inputs), strict=True):
        found, expected = found["instances"], expected["instances"]
        assert len(expected) and torch.equal(found.scores, expected.scores)
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)


def test_boxes_guide_the_selectors(config):
    model = detector(config, *LAYOUT)
    losses = step(model, training_inputs((64, 96), (90, 64)))
    assert "loss_guidance" in losses
    assert losses["loss_guidance"].requires_grad
    model.eval()(training_inputs((64, 96)))
    assert backbone_of(model).auxiliary_losses() == {}
