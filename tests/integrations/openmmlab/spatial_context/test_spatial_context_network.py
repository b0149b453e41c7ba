from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from dynbackbones import checkpoints
from dynbackbones.backbones import build_backbone, find_backbones
from dynbackbones.errors import UserError
from dynbackbones.experiments.rows import read_rows
from dynbackbones.integrations.openmmlab.spatial_context import SpatialContextHook
from dynbackbones.pretraining import context_loss
from tests.integrations.openmmlab.spatial_context.conftest import CONFIGS
from tests.messages import names, naming

RGB = {"mean": [120.0, 110, 100], "std": [60.0, 50, 40], "to_rgb": True}


def network(teacher_file, depth=18, **options):
    torch.manual_seed(0)
    options = {"data_preprocessor": dict(RGB), **options}
    return MODELS.build({
        "type": "SpatialContextNetwork",
        "backbone": {
            "type": "StaticResNet", "depth": 18, "out_indices": (3,), **options.pop("student", {}),
        },
        "target_generator": {
            "type": "ContextTeacher",
            "backbone": {"type": "StaticResNet", "depth": depth, "out_indices": (3,)},
            "pretrained": str(teacher_file),
            **options.pop("teacher", {}),
        },
        **options,
    })  # fmt: skip


def batch(count=4):
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(256, (2, count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    samples = []
    for index in range(count):
        sample = DataSample(metainfo={"img_path": "a.jpg", "patch": f"a.jpg {index}"})
        samples.append(sample.set_field(torch.rand(8, generator=generator), "offset") or sample)
    return {"inputs": list(patches), "data_samples": samples}


def test_gradients_reach_student_and_context_module_and_never_the_teacher(teacher_file):
    model = network(teacher_file).train()
    before = {k: v.clone() for k, v in model.target_generator.network.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(20):
        data = model.data_preprocessor(batch(), True)
        losses = model(**data, mode="loss")
        losses["loss_context"].backward()
        optimizer.step()
    for part in (model.backbone, model.neck):
        assert all(parameter.grad is not None for parameter in part.parameters())
    after = model.target_generator.network.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not model.target_generator.network.training
    assert find_backbones(model) == [model.backbone]
    assert not any("target_generator" in key for key in model.state_dict())


def test_the_loss_is_that_of_the_teachers_own_pixels(teacher_file):
    model = network(teacher_file, teacher={"mean": (1, 2, 3), "bgr": True}).eval()
    data = model.data_preprocessor(batch(), False)
    target = batch()["inputs"][0]  # BGR
    with torch.no_grad():
        pixels = model.target_generator.pixels
        images = (target.float() - torch.tensor(pixels.mean)[:, None, None]) / torch.tensor(
            pixels.std
        )[:, None, None]
        expected = model.target_generator.network(images)[0].mean(dim=(2, 3))
        h1 = model.backbone(data["inputs"][1])[0].mean(dim=(2, 3))
        offsets = torch.stack([sample.offset for sample in data["data_samples"]])
        loss = context_loss(model.neck(h1, offsets), expected)
        found = model(**data, mode="loss")["loss_context"]
    torch.testing.assert_close(found, loss, rtol=1e-4, atol=0)


def test_predictions(teacher_file):
    model = network(teacher_file).eval()
    data = model.data_preprocessor(batch(), False)
    samples = model(**data, mode="predict")
    for sample in samples:
        error = (sample.h3 - sample.target).square().sum()
        assert sample.error == pytest.approx(float(error), rel=1e-4)
        assert sample.error_shuffled != sample.error
        assert sample.h1.shape == (512,)
    (feature,) = model(data["inputs"][0])
    assert feature.shape == (4, 512, 1, 1)


def test_cached_targets_are_the_teachers(teacher_file, monkeypatch):
    plain, cached = network(teacher_file).eval(), network(teacher_file, cached_targets=3).eval()
    data = plain.data_preprocessor(batch(), False)
    first = cached(**data, mode="loss")["loss_context"]
    seen = []
    teacher = cached.target_generator
    monkeypatch.setattr(cached, "target_generator", lambda x: seen.append(len(x)) or teacher(x))
    again = cached(**data, mode="loss")["loss_context"]
    assert seen == [1]  # three are kept
    expected = plain(**data, mode="loss")["loss_context"]
    torch.testing.assert_close(first, expected)
    torch.testing.assert_close(again, expected)


def test_the_scale_of_targets(teacher_file):
    model = network(teacher_file)
    images = torch.randint(256, (70, 3, 32, 32), dtype=torch.uint8)
    model.fit_targets(images)
    scaled = model.scaling(model.target_generator(images))
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(512), atol=1e-3, rtol=0)
    assert bool(network(teacher_file, target_norm="none").scaling.fitted)


def test_a_teacher_that_computes_nan_has_no_targets(teacher_file):
    model = network(teacher_file)
    model.target_generator.network.conv1.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=naming(teacher_file, target_norm="standardise")):
        model.fit_targets(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


def test_refused_models(teacher_file, tmp_path):
    with pytest.raises(UserError, match=naming("frozen_stages")):
        network(teacher_file, student={"frozen_stages": 4})
    with pytest.raises(UserError, match=naming("target_channels", 64, 512)):
        network(teacher_file, neck={"target_channels": 64})
    with pytest.raises(UserError, match=naming(target_norm="unit")):
        network(teacher_file, target_norm="unit")
    with pytest.raises(UserError, match=naming(teacher_file)):
        network(teacher_file, depth=34)
    with pytest.raises(UserError, match=naming("missing.pth")):
        network(tmp_path / "missing.pth")
    with pytest.raises(UserError, match=naming("pretrained")):
        network(teacher_file, teacher={"pretrained": None})
    with pytest.raises(UserError, match=naming("target_generator")):
        network(teacher_file, target_generator=None)
    unsafe = tmp_path / "unsafe.pth"
    torch.save({"state_dict": Path}, unsafe)
    with pytest.raises(UserError, match=naming(unsafe)):
        network(unsafe)


def test_a_batch_of_one_is_refused(teacher_file):
    model = network(teacher_file).train()
    with pytest.raises(UserError, match=naming("batch_size", 2)):
        model(**model.data_preprocessor(batch(1), True), mode="loss")


def test_a_batch_of_one_image_is_noticed():
    heard = []
    runner = SimpleNamespace(logger=SimpleNamespace(warning=heard.append))
    pairs = batch()["data_samples"]
    SpatialContextHook().before_train_iter(runner, 0, {"data_samples": pairs})
    assert len(heard) == 1 and names(heard[0], "all 4 pairs", "a.jpg", "more images")
    pairs[0].set_metainfo({"img_path": "b.jpg"})
    SpatialContextHook().before_train_iter(runner, 0, {"data_samples": pairs})
    assert len(heard) == 1


def test_a_teacher_that_holds_a_whole_model(tmp_path, teacher_file):
    weights = build_backbone("resnet18").state_dict()
    path = tmp_path / "classifier.pth"
    checkpoints.save(path, {f"backbone.{k}": v for k, v in weights.items()}, {}, "state_dict")
    model = network(path)
    found = model.target_generator.network.state_dict()
    assert all(torch.equal(found[key], value) for key, value in weights.items())


@pytest.mark.parametrize("name", ["scn_resnet50_images", "scn_sar-resnet50_images"])
def test_shipped_configs(name, tmp_path):
    weights = tmp_path / "resnet50.pth"
    checkpoints.save(weights, build_backbone("resnet50").state_dict(), {})
    cfg = Config.fromfile(CONFIGS / "pretrain" / f"{name}.py")
    cfg.model.target_generator.pretrained = str(weights)
    model = MODELS.build(cfg.model)
    trained = {key.split(".")[0] for key, p in model.backbone.named_parameters() if p.requires_grad}
    if "sar" in name:
        assert "conv1" in trained
        assert cfg.model.backbone.get("init_cfg") is None
    else:
        assert trained == {"layer4"}
        # What the teacher knows is what the student starts with.
        assert cfg.model.backbone.init_cfg.checkpoint == "torchvision://resnet50"
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters
    for part in (cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset):
        assert (part.type, part.patch_size) == ("PatchPairs", 224)


def test_the_config_of_the_demo_has_its_detectors_pixels(teacher_file):
    cfg = Config.fromfile(CONFIGS / "pretrain" / "scn_resnet18_digits.py")
    cfg.model.target_generator.pretrained = str(teacher_file)
    model = MODELS.build(cfg.model)
    assert model.pixels.bgr and model.pixels.mean == pytest.approx((103.53, 116.28, 123.675))
    assert all(parameter.requires_grad for parameter in model.backbone.parameters())
    for part in (cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset):
        assert (part.data_root, part.patch_size) == ("datasets/digits/train", 32)
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters


def test_variants_differ_in_boxes_and_distillation_alone():
    cfg = Config.fromfile(CONFIGS / "pretrain" / "scn_resnet18_camvid-small.py")
    keys = {key for overrides in cfg.variants.values() for key in overrides}
    assert {key.rpartition(".")[2] for key in keys} == {"proposals", "distillation"}
    segmentors = Config.fromfile(CONFIGS / "mmseg" / "r18_pspnet_camvid_scn-variants.py")
    used = [v["model.backbone.init_cfg"]["checkpoint"] for v in segmentors.variants.values() if v]
    folders = {row.folder for row in read_rows(cfg.variants).values()}
    assert {path.split("/")[-2] for path in used} == folders
    assert all(path.endswith(f"iter_{cfg.train_cfg.max_iters}.pth") for path in used)
