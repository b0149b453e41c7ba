import copy
import math

import pytest
import torch
import torch.nn.functional as F

import dynbackbones
from dynbackbones.backbones.base import find_backbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.torchvision.heads import ClassificationHead, RegressionHead
from tests.messages import naming

CONFIGS = ["sar_retinanet_scratch", "sar_faster_rcnn", "retinanet"]


def images(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [255 * torch.rand(3, *size, generator=generator) for size in sizes]


def targets(count):
    boxes = torch.tensor([[4.0, 6.0, 30.0, 40.0], [20.0, 10.0, 50.0, 44.0]])
    return [{"boxes": boxes, "labels": torch.tensor([1, 5])} for _ in range(count)]


@pytest.mark.parametrize("config", CONFIGS)
def test_training_gives_losses_with_gradients(tiny_config, config):
    torch.manual_seed(0)
    model = build_detector(tiny_config(config))
    losses = model(images((64, 80), (70, 52)), targets(2))
    assert ("loss_activation_rate" in losses) == config.startswith("sar")
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@pytest.mark.parametrize("config", CONFIGS)
def test_detections_lie_inside_their_images(tiny_config, config):
    torch.manual_seed(0)
    key = "RETINANET" if "retinanet" in config else "ROI_HEADS"
    model = build_detector(tiny_config(config, **{f"MODEL__{key}__SCORE_THRESH_TEST": "0.0"}))
    found = model.eval()(images((64, 80), (70, 52)))
    for detection, (height, width) in zip(found, [(64, 80), (70, 52)], strict=True):
        assert 0 < len(detection["boxes"]) <= 100
        assert detection["boxes"].min() >= 0
        assert (detection["boxes"] <= torch.tensor([width, height] * 2)).all()


@pytest.mark.parametrize("training", [True, False])
def test_the_backbone_knows_sizes_without_padding(tiny_config, training):
    model = build_detector(tiny_config()).train(training)
    model(images((64, 80), (70, 52)), targets(2) if training else None)
    (body,) = find_backbones(model)
    assert body.decisions.image_sizes == [(64, 80), (70, 52)]
    assert body.decisions.masks["res2"].shape[-2:] == (6, 6)


def test_macs_of_an_image_do_not_depend_on_the_batch(tiny_config):
    model = build_detector(tiny_config("retinanet")).eval()
    small, large = images((40, 52), (90, 120))
    (body,) = find_backbones(model)
    model([small])
    alone = body.decisions.macs[0]
    model([small, large])
    assert body.decisions.macs[0] == alone


def average(target, source):
    """An exponential moving average of weights, as mmengine and timm keep it."""
    for ours, theirs in zip(
        target.state_dict().values(), source.state_dict().values(), strict=True
    ):
        ours.copy_(0.9 * ours + 0.1 * theirs if ours.is_floating_point() else theirs)


@pytest.mark.parametrize("config", ["sar_retinanet_scratch", "sar_faster_rcnn"])
def test_copies_train_and_evaluate_independently(tiny_config, config):
    torch.manual_seed(0)
    model = build_detector(tiny_config(config))
    ema = copy.deepcopy(model)
    (body,), (ema_body,) = find_backbones(model), find_backbones(ema)
    before = copy.deepcopy(ema.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = model(images((64, 80), (70, 52)), targets(2))
    sum(losses.values()).backward()
    optimizer.step()
    assert ema_body.decisions is None
    assert all(torch.equal(before[key], value) for key, value in ema.state_dict().items())

    average(ema, model)
    ema.eval()(images((33, 47)))
    assert ema_body.decisions.image_sizes == [(33, 47)]
    assert body.decisions.image_sizes == [(64, 80), (70, 52)]

    # Auxiliary losses of the copy come from the copy's own forward pass.
    copied = ema.train()(images((64, 80)), targets(1))
    assert copied["loss_activation_rate"].requires_grad
    assert body.auxiliary_losses() == {}
    copied["loss_activation_rate"].backward()
    selector = next(iter(ema_body.stages().values())).selectors[0]
    assert selector.fc.weight.grad is not None


def test_normalisation_is_of_0_to_255(tiny_config):
    cfg = tiny_config(MODEL__PIXEL_MEAN="[10.0,20.0,30.0]", MODEL__PIXEL_STD="[1.0,2.0,5.0]")
    transform = build_detector(cfg).transform
    batch, _ = transform([torch.full((3, 30, 40), 50.0)])
    assert batch.tensors.shape == (1, 3, 32, 64)
    assert batch.tensors[0, :, 0, 0].tolist() == [40, 15, 4]
    assert batch.tensors[0, :, 31, 63].tolist() == [0, 0, 0]


def test_retinanet_options(tiny_config):
    model = build_detector(
        tiny_config(
            MODEL__RETINANET__NUM_CONVS="3",
            MODEL__RETINANET__PRIOR_PROB="0.2",
            MODEL__RETINANET__NORM="GN",
            MODEL__FPN__OUT_CHANNELS="32",
            MODEL__RETINANET__SCORE_THRESH_TEST="0.3",
            MODEL__RETINANET__NMS_THRESH_TEST="0.4",
            MODEL__RETINANET__TOPK_CANDIDATES_TEST="77",
            MODEL__RETINANET__IOU_THRESHOLDS="[0.2,0.6]",
            TEST__DETECTIONS_PER_IMAGE="9",
        )
    )
    head = model.head.classification_head
    assert len(head.conv) == len(model.head.regression_head.conv) == 3
    assert isinstance(head.conv[0][1], torch.nn.GroupNorm)
    assert head.cls_logits.bias[0].item() == pytest.approx(-math.log(4))
    assert (model.score_thresh, model.nms_thresh, model.topk_candidates) == (0.3, 0.4, 77)
    assert model.detections_per_img == 9
    matcher = model.proposal_matcher
    assert (matcher.low_threshold, matcher.high_threshold) == (0.2, 0.6)


def test_faster_rcnn_options(tiny_config):
    model = build_detector(
        tiny_config(
            "sar_faster_rcnn",
            MODEL__RPN__CONV_DIMS="[-1,-1]",
            MODEL__RPN__NMS_THRESH="0.6",
            MODEL__ROI_BOX_HEAD__NUM_CONV="1",
            MODEL__ROI_BOX_HEAD__CONV_DIM="8",
            MODEL__ROI_BOX_HEAD__NUM_FC="1",
            MODEL__ROI_BOX_HEAD__FC_DIM="24",
            MODEL__ROI_BOX_HEAD__BBOX_REG_WEIGHTS="(5.0,5.0,2.0,2.0)",
            MODEL__ROI_HEADS__NMS_THRESH_TEST="0.45",
        )
    )
    assert len(model.rpn.head.conv) == 2
    assert model.rpn.nms_thresh == 0.6
    assert model.roi_heads.box_predictor.cls_score.in_features == 24
    assert model.roi_heads.box_predictor.cls_score.out_features == 6
    assert model.roi_heads.box_coder.weights == (5.0, 5.0, 2.0, 2.0)
    assert model.roi_heads.nms_thresh == 0.45


def test_without_fully_connected_layers_the_predictor_sees_the_pooled_map(tiny_config):
    cfg = tiny_config("sar_faster_rcnn", MODEL__ROI_BOX_HEAD__NUM_FC="0")
    model = build_detector(cfg).eval()
    assert model.roi_heads.box_predictor.cls_score.in_features == 32 * 7 * 7
    model(images((64, 64)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"MODEL__SAR__GROUPS": "3"}, ("MODEL.SAR", "groups=3")),
        ({"MODEL__SAR__DEPTH": "19"}, ("MODEL.SAR", "depth", 19)),
        ({"MODEL__SAR__NORM": "FrozenBN"}, ("MODEL.SAR.NORM", "FrozenBN", "MODEL.WEIGHTS")),
        ({"MODEL__BACKBONE__FREEZE_AT": "2"}, ("FREEZE_AT", 2, "MODEL.WEIGHTS")),
        (
            {"MODEL__FPN__IN_FEATURES": "['res3','res4']"},
            ("MODEL.FPN.IN_FEATURES", ["res3", "res4"], "res5"),
        ),
        (
            {"MODEL__RETINANET__IN_FEATURES": "['p2','p3']"},
            ("IN_FEATURES", ["p2", "p3"], "p3, p4, p5, p6, p7"),
        ),
        (
            {"MODEL__ANCHOR_GENERATOR__SIZES": "[[8],[16]]"},
            ("MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16]], 3),
        ),
    ],
)
def test_options_that_do_not_fit(tiny_config, options, words):
    with pytest.raises(UserError, match=naming(*words)) as error:
        build_detector(tiny_config(**options))
    assert "\n" not in str(error.value)


def test_roi_levels_must_be_rpn_levels(tiny_config):
    cfg = tiny_config("sar_faster_rcnn", MODEL__RPN__IN_FEATURES="['p3','p4','p5','p6','p2']")
    build_detector(cfg)
    with pytest.raises(
        UserError, match=naming("MODEL.ROI_HEADS.IN_FEATURES", "p2", "MODEL.RPN.IN_FEATURES")
    ):
        build_detector(
            tiny_config(
                "sar_faster_rcnn",
                MODEL__RPN__IN_FEATURES="['p3','p4','p5','p6']",
                MODEL__ANCHOR_GENERATOR__SIZES="[[16]]",
            )
        )


def test_plain_retinanet_is_torchvisions_resnet_inside(tiny_config):
    """The body has torchvision's parameter names, so its checkpoints load."""
    from torchvision.models import resnet18

    body = find_backbones(build_detector(tiny_config("retinanet")))[0]
    theirs = {key for key in resnet18(weights=None).state_dict() if not key.startswith("fc.")}
    assert set(body.state_dict()) == theirs


def test_focal_loss():
    head = ClassificationHead(4, 1, 3, num_convs=0, alpha=0.3, gamma=1.5)
    logits = torch.tensor([[[0.3, -1.0, 2.0], [0.5, 0.1, -0.4], [9.0, 9.0, 9.0]]])
    # Anchor 0 is object 0 (class 2), anchor 1 background, anchor 2 neither.
    matched = [torch.tensor([0, -1, -2])]
    loss = head.compute_loss([{"labels": torch.tensor([2])}], {"cls_logits": logits}, matched)
    p = logits[0, :2].sigmoid()
    wanted = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    p_t, alpha = torch.where(wanted > 0, p, 1 - p), torch.where(wanted > 0, 0.3, 0.7)
    assert loss.item() == pytest.approx((-alpha * (1 - p_t) ** 1.5 * p_t.log()).sum().item())


def test_focal_loss_without_foreground_is_not_divided_by_zero():
    head = ClassificationHead(4, 1, 2, num_convs=0)
    logits = torch.zeros(1, 3, 2)
    nothing = [{"labels": torch.zeros(0, dtype=torch.long)}]
    loss = head.compute_loss(nothing, {"cls_logits": logits}, [torch.full((3,), -1)])
    assert loss.item() == pytest.approx(6 * 0.75 * 0.25 * math.log(2))


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_smooth_l1_loss(beta):
    head = RegressionHead(4, 1, num_convs=0, beta=beta)
    anchors = [torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 9.0, 9.0]])]
    boxes = [{"boxes": torch.tensor([[1.0, 2.0, 11.0, 22.0]])}]
    offsets = torch.tensor([[[0.4, -0.1, 0.0, 2.0], [7.0, 7.0, 7.0, 7.0]]])
    loss = head.compute_loss(boxes, {"bbox_regression": offsets}, anchors, [torch.tensor([0, -1])])
    wanted = torch.tensor([0.1, 0.7, 0.0, math.log(2)])
    assert loss.item() == pytest.approx(
        F.smooth_l1_loss(offsets[0, 0], wanted, beta=beta, reduction="sum").item(), rel=1e-5
    )


def with_statistics(model):
    """Norm layers as training leaves them."""
    generator = torch.Generator().manual_seed(0)
    for child in model.modules():
        if hasattr(child, "running_mean"):
            with torch.no_grad():
                child.running_mean.normal_(std=0.1, generator=generator)
                child.running_var.uniform_(0.5, 2.0, generator=generator)
    return model


def test_a_plain_detectors_weights_give_its_detections_digit_for_digit(tiny_config, tmp_path):
    low = {"MODEL__RETINANET__SCORE_THRESH_TEST": "0.0"}
    torch.manual_seed(0)
    plain = with_statistics(build_detector(tiny_config("retinanet", **low))).eval()
    file = tmp_path / "plain.pth"
    torch.save({"model": plain.state_dict()}, file)
    model = build_detector(tiny_config("sar_retinanet", **low)).eval()
    report = dynbackbones.load_weights(model, file)
    assert report.whole and not report.left_out
    assert "base, fusion, selectors start anew" in str(report)
    batch = images((64, 80), (70, 52))  # padded
    for found, expected in zip(model(batch), plain(batch), strict=True):
        assert len(expected["boxes"]) and all(torch.equal(found[k], expected[k]) for k in expected)
    (body,) = find_backbones(model)
    assert body.decisions.rate.tolist() == [1.0, 1.0]


def test_boxes_guide_where_the_transform_has_put_them(tiny_config, monkeypatch):
    model = build_detector(tiny_config("sar_retinanet"))
    (body,) = find_backbones(model)
    given = []
    monkeypatch.setattr(body, "set_guidance", lambda boxes: given.append(boxes))
    resize = model.transform.resize

    def half(image, target):
        image, _ = resize(image[:, ::2, ::2], None)
        return image, target and {**target, "boxes": target["boxes"] / 2}

    monkeypatch.setattr(model.transform, "resize", half)
    model(images((64, 80)), targets(1))
    assert torch.equal(given[0][0], targets(1)[0]["boxes"] / 2)
    monkeypatch.undo()
    assert model(images((64, 80)), targets(1))["loss_guidance"].requires_grad
    model.eval()(images((64, 80)))
