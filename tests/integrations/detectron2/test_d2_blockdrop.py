"""BlockDrop-ResNet in detectron2: in place of its own ResNet, with its weights."""

import json
import logging
import pickle
import re

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.checkpoint import DetectionCheckpointer  # noqa: E402
from detectron2.config import get_cfg, instantiate  # noqa: E402
from detectron2.modeling import build_backbone, build_model  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402
from detectron2.utils.events import EventStorage  # noqa: E402
from torch import nn  # noqa: E402

from dynbackbones import checkpoints  # noqa: E402
from dynbackbones.errors import UserError  # noqa: E402
from dynbackbones.integrations.detectron2 import (  # noqa: E402
    add_dynbackbones_config,
    attach,
    blockdrop_resnet_fpn,
)
from dynbackbones.integrations.detectron2.checkpointer import CheckedCheckpointer  # noqa: E402
from dynbackbones.integrations.detectron2.trainer import Trainer  # noqa: E402
from dynbackbones.training.auxiliary import find_backbones  # noqa: E402
from dynbackbones.training.policy import (  # noqa: E402
    attach_policy_training,
    one_image_loss,
)
from tests.messages import naming

pytestmark = pytest.mark.detectron2

PLAIN = {
    "RetinaNet": "build_retinanet_resnet_fpn_backbone",
    "GeneralizedRCNN": "build_resnet_fpn_backbone",
}
BLOCKDROP = {
    "RetinaNet": "build_retinanet_blockdrop_resnet_fpn_backbone",
    "GeneralizedRCNN": "build_blockdrop_resnet_fpn_backbone",
}


def make_cfg(*opts, architecture="RetinaNet", depth=18):
    """A detector as in detectron2's model zoo, but small."""
    cfg = get_cfg()
    add_dynbackbones_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.BACKBONE.NAME = PLAIN[architecture]
    cfg.MODEL.WEIGHTS = "some.pth"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RETINANET.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    if architecture == "GeneralizedRCNN":
        cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 16
    cfg.merge_from_list([str(word) for word in opts])
    return cfg


def blockdrop_of(cfg, *opts):
    """The same config with the name of the backbone changed."""
    cfg = cfg.clone()
    cfg.MODEL.BACKBONE.NAME = BLOCKDROP[cfg.MODEL.META_ARCHITECTURE]
    cfg.merge_from_list([str(word) for word in opts])
    return cfg


def trained_model(cfg):
    """A detector with norm layers as training leaves them."""
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if re.search(r"(norm\.(weight|running_var))$", name):
            value.uniform_(0.5, 1.0, generator=generator)
        elif re.search(r"norm\.(bias|running_mean)$", name):
            value.normal_(0, 0.2, generator=generator)
    return model


def inputs():
    generator = torch.Generator().manual_seed(1)
    sizes = ((64, 80), (72, 60))
    return [{"image": torch.randint(0, 256, (3, *s), generator=generator)} for s in sizes]


def assert_same_detections(model, plain):
    for one, other in zip(model.eval()(inputs()), plain.eval()(inputs()), strict=True):
        one, other = one["instances"], other["instances"]
        assert len(one) == len(other) > 0
        # detectron2's frozen norm rounds differently; boxes are in pixels.
        assert torch.allclose(one.pred_boxes.tensor, other.pred_boxes.tensor, atol=1e-3)
        assert torch.allclose(one.scores, other.scores, rtol=1e-4, atol=1e-6)
        assert torch.equal(one.pred_classes, other.pred_classes)


@pytest.mark.parametrize(
    ("architecture", "depth", "opts"),
    [
        # detectron2's defaults: BGR, deviation 1, frozen norms, stride in the 1x1 convolution.
        ("RetinaNet", 50, ()),
        ("RetinaNet", 18, ("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0)),
        ("RetinaNet", 50, ("MODEL.RESNETS.STRIDE_IN_1X1", False, "MODEL.RESNETS.NORM", "BN")),
        ("GeneralizedRCNN", 18, ("INPUT.FORMAT", "RGB")),
    ],
)
def test_a_plain_detector_goes_on_with_the_name_changed(tmp_path, architecture, depth, opts):
    cfg = make_cfg(*opts, architecture=architecture, depth=depth)
    plain = trained_model(cfg)
    DetectionCheckpointer(plain, str(tmp_path)).save("model_final")
    model = build_model(blockdrop_of(cfg))
    DetectionCheckpointer(model).load(str(tmp_path / "model_final.pth"))
    with torch.no_grad():
        assert_same_detections(model, plain)
        net = model.backbone.bottom_up.net
        assert net.decisions.block_usage.tolist() == [1, 1]
        # Attached, it knows the sizes without padding; the detections stay what they are.
        attach(model)
        assert_same_detections(model, plain)
        assert net.decisions.image_sizes == [(64, 80), (72, 60)]
        with net.select("none"):
            assert not torch.equal(
                model(inputs())[0]["instances"].scores, plain(inputs())[0]["instances"].scores
            )


def test_the_log_says_that_all_blocks_run(tmp_path, caplog):
    cfg = make_cfg()
    checkpoint = str(tmp_path / "plain.pth")
    torch.save({"model": build_model(cfg).state_dict()}, checkpoint)
    with caplog.at_level(logging.WARNING):
        DetectionCheckpointer(build_model(blockdrop_of(cfg))).load(checkpoint)
    assert "policy network of BlockDropResNet is untrained, so that all 8 blocks" in caplog.text


def test_no_key_of_a_policy_is_missed_in_a_plain_detector(tmp_path, caplog):
    plain = trained_model(make_cfg())
    zoo_file(tmp_path / "zoo.pkl", plain)
    torch.save({"model": plain.state_dict()}, tmp_path / "plain.pth")
    for file in ("zoo.pkl", "plain.pth"):
        model = build_model(blockdrop_of(make_cfg()))
        attach(model)
        before = {k: v.clone() for k, v in model.state_dict().items() if ".policy." in k}
        with caplog.at_level(logging.WARNING):
            DetectionCheckpointer(model).load(str(tmp_path / file))
        assert before
        assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
        assert "policy network of BlockDropResNet is untrained" in caplog.text
        assert "policy.conv1" not in caplog.text and "policy.fc" not in caplog.text
        caplog.clear()


def test_weights_of_half_a_policy_are_still_missed(tmp_path, caplog):
    model = build_model(blockdrop_of(make_cfg()))
    state = {k: v for k, v in model.state_dict().items() if "policy.fc.bias" not in k}
    torch.save({"model": state}, tmp_path / "half.pth")
    attach(model)
    with caplog.at_level(logging.WARNING):
        DetectionCheckpointer(model).load(str(tmp_path / "half.pth"))
    assert "policy.fc" in caplog.text


def zoo_file(path, model):
    """A detector as in detectron2's model zoo, one of the older ones."""
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    for name in ("pixel_mean", "anchor_generator.cell_anchors.0"):
        weights[name] = weights["head.cls_score.bias"]
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "Detectron2 Model Zoo"}))


@pytest.mark.parametrize("checkpointer", [DetectionCheckpointer, CheckedCheckpointer])
def test_a_detector_of_the_model_zoo(tmp_path, checkpointer):
    cfg = make_cfg()
    plain = trained_model(cfg)
    zoo_file(tmp_path / "model_final.pkl", plain)
    model = build_model(blockdrop_of(cfg))
    checkpointer(model).load(str(tmp_path / "model_final.pkl"))
    assert_same_detections(model, plain)


def caffe2_file(path, plain):
    """ImageNet weights under Caffe2's names, whose norms have no statistics."""
    names = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
    weights = {}
    for key, value in plain.backbone.bottom_up.state_dict().items():
        *place, kind = key.split(".")
        norm = place[-1] == "norm" and place.pop()
        if kind.startswith(("running", "num")):
            continue
        kind = {"weight": "s" if norm else "w", "bias": "b"}[kind]
        place = ["conv1"] if place[0] == "stem" else [*place[:2], names[place[2]]]
        if norm:
            place = ["res", "conv1", "bn"] if place == ["conv1"] else [*place, "bn"]
        weights["_".join([*place, kind])] = value.numpy()
    weights["fc1000_w"] = weights["fc1000_b"] = weights["conv1_w"][:1]
    path.write_bytes(pickle.dumps(weights))


@pytest.mark.parametrize("checkpointer", [DetectionCheckpointer, CheckedCheckpointer])
def test_imagenet_weights_of_the_model_zoo(tmp_path, checkpointer):
    cfg = make_cfg()
    caffe2_file(tmp_path / "R-18.pkl", trained_model(cfg))
    features, images = [], 60 * torch.randn(1, 3, 64, 64)
    for name in (cfg, blockdrop_of(cfg)):
        model = build_model(name).eval()
        if find_backbones(model):
            attach(model)
        checkpointer(model).load(str(tmp_path / "R-18.pkl"))
        features.append(model.backbone.bottom_up(images))
    for name, value in features[0].items():
        assert torch.allclose(features[1][name], value, atol=1e-5 * value.abs().max().item())


def test_backbones_of_other_frameworks(tmp_path):
    from torchvision.models import resnet18

    theirs = resnet18(weights=None).state_dict()
    mmpretrain = {f"backbone.{k}": v for k, v in theirs.items() if not k.startswith("fc.")}
    mmpretrain |= {f"head.{k}": v for k, v in theirs.items() if k.startswith("fc.")}
    plain = trained_model(make_cfg("MODEL.RESNETS.NORM", "BN"))
    for content, expected in (
        (theirs, theirs),
        ({"state_dict": mmpretrain}, theirs),
        (plain.backbone.bottom_up.state_dict(), None),
    ):
        torch.save(content, tmp_path / "weights.pth")
        model = build_model(blockdrop_of(make_cfg("MODEL.RESNETS.NORM", "BN")))
        CheckedCheckpointer(model).load(str(tmp_path / "weights.pth"))
        state = model.backbone.bottom_up.net.state_dict()
        if expected is None:
            assert torch.equal(
                state["layer3.1.bn2.running_var"],
                plain.backbone.bottom_up.res4[1].conv2.norm.running_var,
            )
        else:
            assert all(torch.equal(state[k], v) for k, v in theirs.items() if k in state)


@pytest.mark.parametrize("checkpointer", [DetectionCheckpointer, CheckedCheckpointer])
def test_another_depth_is_refused(tmp_path, checkpointer):
    torch.save({"model": build_model(make_cfg(depth=18)).state_dict()}, tmp_path / "r18.pth")
    model = build_model(blockdrop_of(make_cfg(depth=34)))
    with pytest.raises(
        UserError, match=naming("architecture", "missing", "layer1.2.bn1.bias")
    ):
        checkpointer(model).load(str(tmp_path / "r18.pth"))


def test_a_trained_policy_comes_back_and_half_of_one_is_refused(tmp_path):
    cfg = blockdrop_of(make_cfg("MODEL.RESNETS.NORM", "BN"))
    model = build_model(cfg)
    policy = model.backbone.bottom_up.net.policy
    nn.init.normal_(policy.fc.weight)
    CheckedCheckpointer(model, str(tmp_path)).save("model")
    again = build_model(cfg)
    CheckedCheckpointer(again).load(str(tmp_path / "model.pth"))
    assert torch.equal(again.backbone.bottom_up.net.policy.fc.weight, policy.fc.weight)
    saved = checkpoints.load(tmp_path / "model.pth")
    del saved["model"]["backbone.bottom_up.net.policy.fc.bias"]
    torch.save({"model": saved["model"]}, tmp_path / "half.pth")
    words = (tmp_path / "half.pth", "1 missing (backbone.bottom_up.net.policy.fc.bias)")
    with pytest.raises(UserError, match=naming(*words)):
        CheckedCheckpointer(build_model(cfg)).load(str(tmp_path / "half.pth"))


@pytest.mark.parametrize("dilation", [1, 2])
def test_without_fpn_dilated_or_not(dilation):
    cfg = make_cfg("MODEL.RESNETS.RES5_DILATION", dilation, depth=50)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    plain = build_backbone(cfg).eval()
    cfg.MODEL.BACKBONE.NAME = "build_blockdrop_resnet_backbone"
    adapter = build_backbone(cfg).eval()
    adapter.load_state_dict(plain.state_dict(), strict=False)
    assert adapter.output_shape() == plain.output_shape()
    images = torch.randn(1, 3, 70, 66)
    with torch.no_grad():
        for one, other in zip(adapter(images).values(), plain(images).values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_freezing_is_detectron2s():
    cfg = make_cfg("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 2)
    net = build_model(blockdrop_of(cfg)).train().backbone.bottom_up.net
    assert not net.layer1.training and net.layer2.training
    assert not any(p.requires_grad for p in net.layer1.parameters())
    assert not any(p.requires_grad for p in net.policy.parameters())
    assert all(p.requires_grad for p in net.layer2.parameters())


def test_every_option_reaches_the_network():
    options = {"POLICY_SIZE": 96, "POLICY_TRAINING": "reinforce", "EXECUTION": "masked"}
    options |= {"SELECTION": "first", "SELECTION_RATE": 0.25}
    words = [word for key, value in options.items() for word in (f"MODEL.BLOCKDROP.{key}", value)]
    net = build_model(blockdrop_of(make_cfg(*words))).backbone.bottom_up.net
    assert (net.policy_size, net.policy_training) == (96, "reinforce")
    assert net.execution == "masked"
    net.eval()(torch.randn(1, 3, 64, 64))
    assert net.decisions.policy.sum() == 2
    words = ("MODEL.BLOCKDROP.POLICY_SIZE", 0)
    assert build_model(blockdrop_of(make_cfg(*words))).backbone.bottom_up.net.policy_size is None


@pytest.mark.parametrize("top_block", ["p6p7", "maxpool"])
def test_lazy_config_builds_the_same_network_as_the_registry(top_block):
    cfg = make_cfg()
    cfg.MODEL.BACKBONE.NAME = {
        "p6p7": BLOCKDROP["RetinaNet"],
        "maxpool": BLOCKDROP["GeneralizedRCNN"],
    }[top_block]
    cfg.MODEL.META_ARCHITECTURE = {v: k for k, v in BLOCKDROP.items()}[cfg.MODEL.BACKBONE.NAME]
    registered = build_backbone(cfg)
    node = blockdrop_resnet_fpn(
        18, out_channels=16, top_block=top_block, norm="FrozenBN", freeze_at=2
    )
    node.bottom_up.net.selection = "all"
    lazy = instantiate(node)
    lazy.load_state_dict(registered.state_dict())
    images = torch.randn(1, 3, 64, 64)
    features, expected = lazy.eval()(images), registered.eval()(images)
    assert list(features) == list(expected)
    assert all(torch.equal(features[name], value) for name, value in expected.items())
    with pytest.raises(ValueError, match=naming("BlockDropResNet", "dept", "'depth'")):
        blockdrop_resnet_fpn(18, dept=18)


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (("MODEL.RESNETS.DEPTH", 152), ("MODEL.RESNETS", "depth", 152, "18, 34, 50, 101")),
        (("MODEL.RESNETS.NORM", "LN"), ("MODEL.RESNETS", "norm", "'LN'", "BN, SyncBN, FrozenBN")),
        (("MODEL.RESNETS.NUM_GROUPS", 32), ("MODEL.RESNETS.NUM_GROUPS", 32, 1)),
        (("MODEL.RESNETS.RES5_DILATION", 4), ("MODEL.RESNETS.RES5_DILATION", 4, "1 or 2")),
        (
            ("MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
            ("MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "depth 50", 256),
        ),
        (("MODEL.RESNETS.RES5_DILATION", 2), ("MODEL.FPN", "strides", [8, 16, 16])),
        (
            ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, False, True]),
            ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", "deformable"),
        ),
        (("MODEL.BLOCKDROP.POLICY_TRAINING", "free"), ("policy_training", "'free'")),
        (("MODEL.BLOCKDROP.POLICY_SIZE", -1), ("policy_size", -1)),
        (("MODEL.BLOCKDROP.SELECTION", "last"), ("MODEL.BLOCKDROP.SELECTION", "'last'")),
        (
            ("MODEL.BLOCKDROP.SELECTION", "first", "MODEL.BLOCKDROP.SELECTION_RATE", 1.5),
            ("MODEL.BLOCKDROP.SELECTION", "rate", 1.5),
        ),
        (("MODEL.RESNETS.OUT_FEATURES", ["res6"]), ("MODEL.RESNETS.OUT_FEATURES", ["res6"])),
        (("MODEL.WEIGHTS", ""), ("MODEL.BACKBONE.FREEZE_AT", 2, "MODEL.WEIGHTS")),
        (
            ("MODEL.WEIGHTS", "", "MODEL.BACKBONE.FREEZE_AT", 0),
            ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.WEIGHTS"),
        ),
    ],
)
def test_wrong_options_are_named(opts, words):
    with pytest.raises(UserError, match=naming(*words)):
        build_model(blockdrop_of(make_cfg(depth=50), *opts))


REINFORCE = (
    *("MODEL.BACKBONE.NAME", BLOCKDROP["RetinaNet"]),
    *("MODEL.BLOCKDROP.POLICY_TRAINING", "reinforce"),
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "BN"),
    *("MODEL.BLOCKDROP.POLICY_SIZE", 128, "SOLVER.IMS_PER_BATCH", 1),
)


def test_a_policy_is_trained_and_reported(a_run, tmp_path):
    options = ("SOLVER.MAX_ITER", 3, "MODEL.BLOCKDROP.POLICY_LR_FACTOR", 0.5)
    a_run(*REINFORCE, *options).main()
    folder = tmp_path / "output"
    metrics = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert any("loss_policy" in line for line in metrics)
    assert any("decisions/block_usage_res2_block1" in line for line in metrics)
    assert "block_usage: " in (folder / "log.txt").read_text()
    results = json.loads((folder / "results.json").read_text())["backbone"]
    assert 1 <= results["distinct_policies"] <= 4
    assert 0 <= results["block_usage"] <= 1 and results["gmacs_std"] >= 0
    saved = checkpoints.load(folder / "model_final.pth")["model"]
    assert saved["backbone.bottom_up.net.policy.fc.weight"].any()


def test_policies_have_their_own_learning_rate(config):
    trainer = Trainer(config(*REINFORCE, "MODEL.BLOCKDROP.POLICY_LR_FACTOR", 0.5))
    policy = {id(p) for p in trainer.model.backbone.bottom_up.net.own_parameters()["policy"]}
    groups = trainer.optimizer.param_groups
    rates = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    base = trainer.cfg.SOLVER.BASE_LR
    assert {rates[key] for key in policy} == {0.5 * base}
    assert {rate for key, rate in rates.items() if key not in policy} == {base}


def test_comparing_policies_leaves_retinanets_normaliser_alone():
    cfg = make_cfg("MODEL.RESNETS.NORM", "BN", "MODEL.BLOCKDROP.POLICY_TRAINING", "reinforce")
    model = build_model(blockdrop_of(cfg, "MODEL.BACKBONE.FREEZE_AT", 0)).train()
    attach(model)
    seen = []

    def image_losses(model, args, kwargs):
        before = model.loss_normalizer
        losses = one_image_loss(model, args, kwargs)
        seen.append((before, model.loss_normalizer))
        return losses

    attach_policy_training(model, image_losses)
    (image,) = inputs()[:1]
    box = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    image["instances"] = Instances((64, 80), gt_boxes=box, gt_classes=torch.tensor([1]))
    with EventStorage():
        losses = model([image])
    assert {"loss_cls", "loss_box_reg", "loss_policy"} == set(losses)
    assert 2 <= len(seen) <= 3
    assert len({value for pair in seen for value in pair}) == 1


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (("SOLVER.IMS_PER_BATCH", 2), ("SOLVER.IMS_PER_BATCH", 2, "1 process")),
        (
            (
                *("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "MODEL.ROI_HEADS.NUM_CLASSES", 2),
                *("MODEL.BACKBONE.NAME", BLOCKDROP["GeneralizedRCNN"]),
            ),
            ("GeneralizedRCNN", "RetinaNet", "frozen"),
        ),
        (("MODEL.BLOCKDROP.GAMMA", -1.0), ("MODEL.BLOCKDROP", "gamma", -1.0)),
        (("MODEL.BLOCKDROP.ALPHA", 0.3), ("MODEL.BLOCKDROP", "alpha", 0.3)),
    ],
)
def test_policy_training_is_refused_where_it_is_not_defined(a_run, tmp_path, opts, words):
    with pytest.raises(UserError, match=naming(*words)):
        a_run(*REINFORCE, *opts).main()
    assert not (tmp_path / "output").exists()
