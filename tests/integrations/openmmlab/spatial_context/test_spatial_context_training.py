"""A run on a folder of images: what it leaves, how it continues, and what its file starts."""

import json
import logging

import pytest
import torch

pytest.importorskip("mmpretrain")

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.backbones import find_backbones
from dynbackbones.checkpoints.conversion import convert
from dynbackbones.checkpoints.digest import sha256_of
from dynbackbones.checkpoints.pixels import pixel_format
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.weights import load_pretrained
from dynbackbones.integrations.torchvision.config import load_config
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.torchvision.weights import load_weights
from tests.integrations.openmmlab.spatial_context.conftest import CONFIGS
from tests.messages import naming

OTHERS = {"neck", "scaling"}
RESNET = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]


def state(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_a_run_leaves_the_student_alone_and_the_teachers_name(train, teacher_file):
    before = teacher_file.read_bytes()
    folder = train("run")
    content = torch.load(folder / "iter_4.pth", weights_only=True)
    names = {key.split(".")[0] for key in content["state_dict"]}
    assert names == {"backbone", *OTHERS}
    assert content["meta"]["teacher"]["sha256"] == sha256_of(teacher_file)
    assert content["meta"]["teacher"]["source"] == str(teacher_file)
    assert teacher_file.read_bytes() == before
    assert bool(content["state_dict"]["scaling.fitted"])
    assert pixel_format(checkpoints.load(folder / "iter_4.pth")) == "RGB"
    results = json.loads((folder / "results.json").read_text())
    assert {"context/r2", "context/r2_shuffled"} <= results.keys()
    # The student's alone, not the teacher's too.
    assert results["gmacs"] == pytest.approx(
        dynbackbones.build_backbone("resnet18").macs(32, 32) / 1e9
    )


def test_a_resumed_run_is_the_uninterrupted_one(train):
    whole, part = train("whole"), train("part", train_cfg__max_iters=2)
    train("part", "--resume")
    first, second = (state(folder / "iter_4.pth") for folder in (whole, part))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_is_not_continued_with_another_teacher(train, teacher_file):
    train("run", train_cfg__max_iters=2)
    other = dynbackbones.build_backbone("resnet18")
    checkpoints.save(teacher_file, other.state_dict(), {})
    with pytest.raises(UserError, match=naming("target_generator.pretrained", teacher_file)):
        train("run", "--resume")


@pytest.mark.parametrize("norm", ["none", "standardise"])
def test_a_loss_that_is_not_finite_ends_the_run_with_the_scale_of_its_targets(train, norm):
    with pytest.raises(UserError, match=naming("iteration", "loss_context", target_norm=norm)):
        train("run", model__target_norm=norm, optim_wrapper__optimizer__lr=1e25)


def test_files_that_cannot_be_read_are_listed(train, images):
    broken = images / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    folder = train("run")
    assert (folder / "corrupt_images.txt").read_text() == f"{broken}\n"


def test_its_file_starts_a_backbone_by_every_door(train, tmp_path, caplog):
    path = train("run") / "iter_4.pth"
    trained = {
        key.removeprefix("backbone."): value
        for key, value in state(path).items()
        if key.startswith("backbone.")
    }

    def same(net):
        return all(torch.equal(value, trained[key]) for key, value in net.state_dict().items())

    net = dynbackbones.build_backbone("resnet18")
    report = dynbackbones.load_weights(net, path)
    assert same(net)
    assert {key.split(".")[0] for key in report.left_out} == OTHERS

    net = dynbackbones.build_backbone("resnet18")
    load_pretrained(net, str(path), "backbone.")  # init_cfg
    assert same(net)

    converted = tmp_path / "converted.pth"
    convert(path, "dynbackbones").save(converted, {})
    net = dynbackbones.build_backbone("resnet18")
    dynbackbones.load_weights(net, converted)
    assert same(net)

    cfg = load_config(CONFIGS / "retinanet_r50.yaml", RESNET)
    model = build_detector(cfg)
    with caplog.at_level(logging.INFO):
        load_weights(model, str(path), logging.getLogger("test"))  # MODEL.WEIGHTS
    assert same(find_backbones(model)[0])
    assert "pyramid and heads start from scratch; left out neck." in caplog.text


def test_a_student_and_teacher_of_mmpretrains(images, boxes, tool, tmp_path):
    from mmengine.config import Config
    from mmpretrain.models import VGG

    cfg = Config.fromfile(CONFIGS / "pretrain" / "scn_vgg19_voc12.py")
    start = {f"backbone.{key}": value for key, value in VGG(11).state_dict().items()}
    weights = tmp_path / "vgg11.pth"
    checkpoints.save(weights, start, {}, "state_dict")
    cfg.model.backbone.update(depth=11, init_cfg=None)
    cfg.model.target_generator.backbone.depth = 11
    cfg.model.target_generator.pretrained = str(weights)
    cfg.load_from = str(weights)
    for part in (cfg.train_dataloader, cfg.val_dataloader):
        part.update(batch_size=4, num_workers=0, persistent_workers=False)
        dataset = part.dataset.get("dataset", part.dataset)
        dataset.update(data_root=str(images), proposals=str(boxes), patch_size=32)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.vis_backends = cfg.visualizer.vis_backends = []
    path = tmp_path / "config.py"
    cfg.dump(path)
    tool("train", path, "--work-dir", tmp_path / "run")
    trained = state(tmp_path / "run" / "iter_2.pth")
    assert trained["neck.target.weight"].shape == (512, 512)
    # conv5 is what trains.
    moved = {key for key, value in start.items() if not torch.equal(trained[key], value)}
    assert moved == {key for key in start if int(key.split(".")[2]) >= 10}


def test_a_dynamic_student_keeps_the_loss_of_its_rate(train):
    student = {"type": "SARResNet", "depth": 18, "out_indices": (3,), "target_rate": 0.5}
    folder = train("run", model__backbone={"_delete_": True, **student})
    log = "".join(path.read_text() for path in folder.rglob("scalars.json"))
    log = log or "".join(path.read_text() for path in folder.rglob("*.log"))
    assert "loss_activation_rate" in log
    assert "activation_rate" in json.loads((folder / "results.json").read_text())
