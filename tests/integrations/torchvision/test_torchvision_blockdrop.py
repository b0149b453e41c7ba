"""BlockDrop detectors of the embedded engine: weights, options, results."""

import json
import logging
import math

import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.backbones.base import find_backbones
from dynbackbones.checkpoints import names as key_maps
from dynbackbones.cli import train_net
from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.torchvision.solver import parameter_groups
from dynbackbones.integrations.torchvision.weights import load_weights
from tests.messages import naming


def images(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [255 * torch.rand(3, *size, generator=generator) for size in sizes]


@pytest.fixture
def blockdrop(tiny_config):
    """Makes a BlockDrop detector; its config names weights, which are not loaded."""

    def make(**options):
        options = {"MODEL__BLOCKDROP__POLICY_TRAINING": "frozen", **options}
        return build_detector(tiny_config("blockdrop_retinanet", **options)).eval()

    return make


def test_a_plain_detector_goes_on_with_the_name_changed(tiny_config, tmp_path, blockdrop, caplog):
    options = {"MODEL__RETINANET__SCORE_THRESH_TEST": "0.0"}
    torch.manual_seed(0)
    plain = build_detector(tiny_config("retinanet", **options)).eval()
    checkpoints.save(tmp_path / "plain.pth", plain.state_dict(), {})
    model = blockdrop(**options)
    load_weights(model, str(tmp_path / "plain.pth"))
    assert "is untrained, so that all 8 blocks run" in caplog.text
    batch = images((64, 80), (70, 52))
    for one, other in zip(model(batch), plain(batch), strict=True):
        assert len(one["boxes"]) > 0
        assert all(torch.equal(one[key], other[key]) for key in ("boxes", "scores", "labels"))
    (net,) = find_backbones(model)
    assert net.decisions.block_usage.tolist() == [1, 1]
    assert net.decisions.image_sizes == [(64, 80), (70, 52)]


def test_backbones_of_other_frameworks(tmp_path, blockdrop, caplog):
    from torchvision.models import resnet18

    theirs = resnet18(weights=None).state_dict()
    body = {key: value for key, value in theirs.items() if not key.startswith("fc.")}
    detectron2 = {f"backbone.bottom_up.{key_maps.to_detectron2(k)}": v for k, v in body.items()}
    files = {
        "torchvision": theirs,
        "mmpretrain": {"state_dict": {f"backbone.{k}": v for k, v in body.items()}},
        "detectron2": {"model": {**detectron2, "head.cls_score.bias": torch.zeros(5)}},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
        model = blockdrop()
        with caplog.at_level(logging.INFO):
            load_weights(model, str(tmp_path / f"{name}.pth"), logging.getLogger("test"))
        state = find_backbones(model)[0].state_dict()
        assert all(torch.equal(state[key], value) for key, value in body.items()), name
    assert "left out fc.bias, fc.weight" in caplog.text
    assert "left out head.cls_score.bias" in caplog.text


def test_another_depth_is_refused(tmp_path, blockdrop):
    state = dynbackbones.build_backbone("resnet34").state_dict()
    checkpoints.save(tmp_path / "a.pth", state, {})
    with pytest.raises(
        UserError, match=naming(tmp_path / "a.pth", "architecture", "unexpected (layer1.2.bn1.bias")
    ):
        load_weights(blockdrop(), str(tmp_path / "a.pth"))


def test_results_tell_how_policies_differ(datasets, command, tmp_path, blockdrop, capsys):
    model = blockdrop()
    (net,) = find_backbones(model)
    nn.init.normal_(net.policy.fc.weight, std=2.0)
    net.policy.reset_bias(0.0)
    checkpoints.save(tmp_path / "model.pth", model.state_dict(), {})
    options = {"MODEL.WEIGHTS": str(tmp_path / "model.pth")}
    train_net.main(command("blockdrop_retinanet", flags=["--eval-only"], options=options))
    backbone = json.loads((tmp_path / "out" / "test_results.json").read_text())["backbone"]
    blocks = [value for name, value in backbone.items() if "_block" in name]
    assert len(blocks) == 8
    assert backbone["block_usage"] == pytest.approx(sum(blocks) / 8)
    assert 0 < backbone["block_usage"] < 1
    assert 1 <= backbone["distinct_policies"] <= 4
    assert 0 <= backbone["policy_entropy_bits"] <= math.log2(backbone["distinct_policies"])
    assert backbone["gmacs_std"] >= 0 and backbone["block_usage_std"] >= 0
    printed = capsys.readouterr().out
    assert "distinct_policies" in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"MODEL__RESNETS__RES2_OUT_CHANNELS": "256"},
            ("MODEL.RESNETS.RES2_OUT_CHANNELS", 256, 64),
        ),
        ({"MODEL__RESNETS__RES5_DILATION": "2"}, ("MODEL.RESNETS.RES5_DILATION", 2, "detectron2")),
        ({"MODEL__BLOCKDROP__SELECTION": "last"}, ("MODEL.BLOCKDROP.SELECTION", "'last'")),
        ({"MODEL__BLOCKDROP__EXECUTION": "fast"}, ("MODEL.BLOCKDROP", "execution", "'fast'")),
        (
            {"MODEL__META_ARCHITECTURE": "GeneralizedRCNN"},
            ("GeneralizedRCNN", "build_blockdrop_resnet_fpn_backbone"),
        ),
    ],
)
def test_wrong_options_are_named(blockdrop, options, words):
    with pytest.raises(UserError, match=naming(*words)):
        blockdrop(**options)


def test_faster_rcnn_keeps_the_blocks_it_is_told_to(tiny_config):
    name = {"MODEL__BACKBONE__NAME": "build_blockdrop_resnet_fpn_backbone"}
    override = {"MODEL__BLOCKDROP__SELECTION": "first", "MODEL__BLOCKDROP__SELECTION_RATE": "0.5"}
    model = build_detector(tiny_config("sar_faster_rcnn", **name, **override)).eval()
    model(images((64, 80)))
    assert find_backbones(model)[0].decisions.policy.sum() == 4


REINFORCE = {
    "MODEL.WEIGHTS": "",
    "MODEL.BLOCKDROP.POLICY_TRAINING": "reinforce",
    "MODEL.BLOCKDROP.POLICY_SIZE": "128",
    "SOLVER.IMS_PER_BATCH": "1",
    "SOLVER.MAX_ITER": "3",
}


def test_a_policy_is_trained_and_reported(datasets, command, tmp_path):
    train_net.main(command("blockdrop_retinanet", options=REINFORCE))
    results = json.loads((tmp_path / "out" / "results.json").read_text())["backbone"]
    assert 0 <= results["block_usage"] <= 1 and results["distinct_policies"] >= 1
    saved = checkpoints.load(tmp_path / "out" / "model_final.pth")["model"]
    assert saved["backbone.body.policy.fc.weight"].any()
    logs = [path.read_text() for path in (tmp_path / "out").rglob("scalars.json")]
    assert any("loss_policy" in text and "block_usage_res2_block1" in text for text in logs)


def test_policies_have_their_own_learning_rate(tiny_config):
    options = {key.replace(".", "__"): value for key, value in REINFORCE.items()}
    cfg = tiny_config("blockdrop_retinanet", **options, MODEL__BLOCKDROP__POLICY_LR_FACTOR="0.5")
    model = build_detector(cfg)
    policy = set(find_backbones(model)[0].own_parameters()["policy"])
    for group in parameter_groups(cfg, model):
        own = policy & set(group["params"])
        assert group["lr"] == pytest.approx(cfg.SOLVER.BASE_LR * (0.5 if own else 1))
        policy -= own
    assert not policy


def test_policy_training_needs_one_image_per_process(command, tmp_path):
    options = {**REINFORCE, "SOLVER.IMS_PER_BATCH": "2"}
    with pytest.raises(UserError, match=naming("SOLVER.IMS_PER_BATCH", 2, "1 process")):
        train_net.main(command("blockdrop_retinanet", options=options))
    with pytest.raises(UserError, match=naming("SOLVER.IMS_PER_BATCH", 1, "2 processes")):
        train_net.main(command("blockdrop_retinanet", ["--num-gpus", "2"], REINFORCE))
