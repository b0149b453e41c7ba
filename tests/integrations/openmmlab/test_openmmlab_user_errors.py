import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from dynbackbones import build_backbone, checkpoints
from dynbackbones.cli import running
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.integrations.openmmlab.head_checks import check_heads
from tests.messages import names, naming

ROOT = Path(__file__).parents[3]
SAR_VOC = "mmseg/sar-r50_pspnet_4xb4-20k_voc12aug-513x513.py"
CHECK = "train_dataloader__dataset__dataset__pipeline__2__num_classes"


@pytest.fixture
def refused(tool, capsys):
    """Runs one of the tools into a mistake of the user; returns the one line that is printed."""

    def call(*arguments, name="train"):
        with pytest.raises(SystemExit) as exit_:
            running.run(lambda: tool(name, *arguments))
        assert exit_.value.code == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ")
        assert line.strip().count("\n") == 0
        return line

    return call


@pytest.fixture
def weights(tiny_config):
    """Makes the state dict of a segmentor whose backbone has other options than the config's."""

    def make(**overrides):
        cfg = tiny_config(**overrides)
        init_default_scope("mmseg")
        return MODELS.build(cfg.model).state_dict()

    return make


@pytest.fixture
def other_run(weights, tmp_path):
    """A checkpoint that could be continued from, of a backbone with four groups."""
    path = tmp_path / "other.pth"
    content = {key: {} for key in ("meta", "optimizer", "param_schedulers", "message_hub")}
    torch.save({**content, "state_dict": weights(model__backbone__groups=4)}, path)
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"model__backbone__out_indices": (0, 1, 2, 4)},
            ("out_indices", "(res2, res3, res4, res5)", (0, 1, 2, 4)),
        ),
        ({"model__backbone__groups": 3}, ("groups=3", 32)),
        ({"model__backbone__grops": 2}, ("'grops'", "'groups'")),
        ({"model__decode_head__chanels": 2}, ("'chanels'",)),
        ({"model__backbone__num_stages": 4}, ("'num_stages'", "_delete_=True")),
        ({"model__pretrained": "a://b"}, ("'pretrained'", "pretrained=None")),
        ({"model__backbone__type": "SARResNt"}, ("SARResNt", "mmseg::model")),
        ({"model__backbone__depth": 51}, ("depth", "18, 34, 50, 101", 51)),
        ({"model__backbone__output_stride": 12}, ("output_stride", "8, 16, 32", 12)),
        ({"model__backbone__strides": (1, 2, 2, 1)}, ("output_stride", "strides", "dilations")),
        ({"model__backbone__frozen_stages": 7}, ("frozen_stages", "-1..4", 7)),
        ({"model__backbone__norm_cfg__type": "BNN"}, ("norm_cfg", "'BNN'")),
        (
            {"model__backbone__init_cfg": {"type": "Pretraind"}},
            ("init_cfg", "'Pretraind'", "Pretrained"),
        ),
        (
            {"model__backbone__init_cfg": {"type": "Pretrained", "map": "cpu"}},
            ("Pretrained", "checkpoint", "prefix", "map"),
        ),
        (
            {"model__decode_head__in_channels": 256},
            ("decode_head.in_channels", 256, "res5", "in_channels=512"),
        ),
        (
            {"model__auxiliary_head__in_index": 4},
            ("auxiliary_head.in_index", 4, "res2, res3, res4, res5"),
        ),
        (
            {"model__decode_head__num_classes": 3},
            ("decode_head.num_classes", 3, 11, "CheckLabels.num_classes"),
        ),
        ({"load_from": "absent.pth"}, ("absent.pth", "exist")),
        ({"load_from": "open-mmlab://resnet50"}, ("open-mmlab://",)),
    ],
)
def test_a_wrong_option_ends_in_one_line_and_writes_nothing(
    refused, config_file, tmp_path, options, words
):
    assert names(refused(config_file(**options)), *words)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"custom_hooks__0__type": "NoHook"}, ("NoHook", "hook registry")),
        ({"default_hooks__logger__intervall": 3}, ("'intervall'",)),
    ],
)
def test_a_wrong_option_outside_the_model_ends_in_one_line(refused, config_file, options, words):
    assert names(refused(config_file(**options)), *words)


def test_a_head_that_joins_features(refused, config_file):
    line = refused(
        config_file(
            model__auxiliary_head__input_transform="resize_concat",
            model__auxiliary_head__in_channels=[256, 256],
            model__auxiliary_head__in_index=[2, 3],
        )
    )
    assert names(line, "auxiliary_head.in_channels", 512, "res4, res5", "in_channels=[256, 512]")


def test_a_head_on_several_features():
    init_default_scope("mmseg")
    model = nn.Module()
    model.backbone = MODELS.build({"type": "StaticResNet", "depth": 18, "out_indices": (1, 3)})
    head = nn.Module()
    head.in_index, head.in_channels = (0, 1), [128, 512]
    model.decode_head = nn.ModuleList([nn.Module(), head])
    check_heads(model)
    head.in_channels = [128, 256]
    words = ("decode_head[1].in_channels", [128, 256], "res3, res5", "in_channels=[128, 512]")
    with pytest.raises(UserError, match=naming(*words)):
        check_heads(model)
    # Behind a neck, other channels may arrive.
    model.with_neck = True
    check_heads(model)


def test_a_pyramid_on_other_channels(refused, config_file):
    neck = {"type": "FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 16, "num_outs": 4}
    heads = {f"model__{head}__in_channels": 16 for head in ("decode_head", "auxiliary_head")}
    line = refused(config_file(**heads, model__neck=neck))
    assert names(line, "neck.in_channels", neck["in_channels"], "res2, res3, res4, res5")
    assert names(line, "in_channels=[64, 128, 256, 512]")


def test_the_first_of_several_necks_reads_the_backbone():
    init_default_scope("mmseg")
    model = nn.Module()
    model.backbone = MODELS.build({"type": "StaticResNet", "depth": 18, "out_indices": (2, 3)})
    first, second = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    model.with_neck, model.neck = True, nn.Sequential(first, second)
    first.in_channels, second.in_channels = (256, 512), (16, 16)
    check_heads(model)
    first.in_channels = (256, 256)
    with pytest.raises(UserError, match=naming("neck.in_channels", [256, 256], "res4, res5")):
        check_heads(model)


@pytest.mark.parametrize("workers", [0, 1])
def test_labels_outside_the_classes(refused, config_file, workers, tmp_path):
    # Also from a worker process, whose traceback stands before the message.
    line = refused(config_file(**{CHECK: 3}, train_dataloader__num_workers=workers))
    assert names(line, "label map", "values 3, 4", "num_classes")
    assert re.search(r"/ann_dir/train/[abcd]\.png", line)
    assert not list((tmp_path / "work").glob("*.pth"))


def test_a_dataset_with_more_classes_than_the_head_without_our_tools(tiny_config):
    cfg = tiny_config(model__decode_head__num_classes=3)
    with pytest.raises(UserError, match=naming("decode_head.num_classes", 3, 11, "dataset")):
        Runner.from_cfg(cfg).train()


def test_a_head_that_does_not_fit_without_our_tools(tiny_config):
    cfg = tiny_config(model__decode_head__in_channels=256)
    with pytest.raises(UserError, match=naming("decode_head.in_channels", 256, "in_channels=512")):
        Runner.from_cfg(cfg).train()


def test_another_networks_weights_without_our_tools(tiny_config, other_run):
    cfg = tiny_config(load_from=str(other_run))
    with pytest.raises(UserError, match=naming("architecture", "layer1.selectors.0.bn.bias")):
        Runner.from_cfg(cfg).train()


DATASET = "train_dataloader__dataset__dataset__datasets__1__"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {DATASET + "data_root": "absent/VOC2012"},
            ("train_dataloader", "data_root", "absent/VOC2012"),
        ),
        (
            {DATASET + "data_prefix__seg_map_path": "SegmentationClassAgu"},
            ("train_dataloader", "/voc/SegmentationClassAgu", "data_prefix.seg_map_path"),
        ),
        (
            {DATASET + "ann_file": "ImageSets/Segmentation/agu.txt"},
            ("train_dataloader", "/Segmentation/agu.txt", "ann_file"),
        ),
        (
            {"val_dataloader__dataset__data_root": "absent"},
            ("val_dataloader", "data_root", "absent"),
        ),
    ],
)
def test_missing_parts_of_a_dataset(refused, config_file, tmp_path, options, words):
    line = refused(config_file(SAR_VOC, **options))
    assert names(line, "PascalVOCDataset", *words)
    assert not (tmp_path / "work").exists()


def test_a_missing_test_set(refused, config_file, other_run):
    config = config_file(test_dataloader__dataset__data_root="absent")
    line = refused(config, other_run, name="test")
    assert names(line, "test_dataloader", "BaseSegDataset", "data_root absent")


def test_checkpoints_of_another_backbone(refused, config_file, other_run, tmp_path):
    words = (other_run, "architecture")
    assert names(refused(config_file(load_from=str(other_run))), *words)
    assert names(refused(config_file(), "--resume", other_run), *words)
    assert names(refused(config_file(), other_run, name="test"), *words)
    assert not (tmp_path / "work").exists()


def test_weights_of_a_backbone_alone(refused, config_file, tmp_path):
    path = tmp_path / "backbone.pth"
    checkpoints.save(path, build_backbone("sar_resnet18").state_dict(), {})
    assert names(refused(config_file(load_from=str(path))), path, "init_cfg")
    line = refused(config_file(), path, name="test")
    assert names(line, path) and not names(line, "init_cfg")
    assert names(refused(config_file(), "--resume", path), path, "no state_dict")


def test_a_malicious_checkpoint_is_not_run(refused, config_file, tmp_path):
    class Malicious:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    path = tmp_path / "iter_1.pth"
    torch.save({"state_dict": {}, "meta": Malicious()}, path)
    assert names(refused(config_file(), "--resume", path), path, ".open")
    assert names(refused(config_file(load_from=str(path))), path, ".open")
    assert names(refused(config_file(), path, name="test"), path, ".open")
    assert not (tmp_path / "executed").exists()


def test_the_import_that_registers_is_missing(refused, tiny_config, tmp_path):
    cfg = tiny_config()
    cfg.pop("custom_imports")
    cfg.dump(tmp_path / "config.py")
    line = refused(tmp_path / "config.py")
    assert names(line, "CheckLabels, DynamicBackboneHook, RegionPictureHook, SARResNet")
    added = 'custom_imports = dict(imports=["dynbackbones.integrations.openmmlab"])'
    assert line.endswith(f" {added}\n")
    # The line does what it says.
    text = (tmp_path / "config.py").read_text()
    (tmp_path / "config.py").write_text(f"{text}\n{added}\nload_from = 'absent.pth'\n")
    assert names(refused(tmp_path / "config.py"), "absent.pth", "exist")


@pytest.mark.parametrize(
    ("imports", "kinds", "missing"),
    [
        ([], ["RandomStateHook", "SeededDataset", "ResNet"], "RandomStateHook, SeededDataset"),
        (["mmengine.resume"], ["RandomStateHook", "DCANHook"], "DCANHook"),
        (["mmengine.resume"], ["RandomStateHook", "ResNet"], None),
        (["openmmlab.dcan"], ["RandomStateHook", "DCANHook", "SARResNet"], None),
    ],
)
def test_types_of_any_of_our_modules_must_be_imported(tmp_path, imports, kinds, missing):
    path = tmp_path / "config.py"
    modules = [f"dynbackbones.integrations.{name}" for name in imports]
    types = [{"type": kind} for kind in kinds]
    path.write_text(f"custom_imports = dict(imports={modules})\nanything = {types}\n")
    if missing is None:
        assert checks.load_config(path).anything == types
    else:
        with pytest.raises(UserError, match=naming(path, missing, "custom_imports")):
            checks.load_config(path)


def test_another_run_in_the_work_dir(refused, config_file, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "iter_3.pth").write_text("precious")
    assert names(refused(config_file()), work, "--resume", "--work-dir")
    line = refused(config_file(), "--resume")
    assert names(line, work, "last_checkpoint", "--resume CHECKPOINT")
    assert [path.name for path in work.iterdir()] == ["iter_3.pth"]
    assert (work / "iter_3.pth").read_text() == "precious"


def test_a_work_dir_that_is_a_file(refused, config_file, tmp_path):
    (tmp_path / "work").write_text("precious")
    assert names(refused(config_file()), tmp_path / "work", "file", "--work-dir")
    assert (tmp_path / "work").read_text() == "precious"


@pytest.mark.parametrize("resume", [["--resume", "absent.pth"], ["--resume"]])
def test_nothing_to_resume(refused, config_file, resume, tmp_path):
    # Without a name, a first start may say --resume too.
    if len(resume) == 2:
        line = refused(config_file(), *resume)
    else:
        line = refused(config_file(load_from="absent.pth"), *resume)
    assert names(line, "absent.pth", "exist")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ("exist",)),
        ("model = dict(", ("SyntaxError",)),
        ("_base_ = 'absent.py'", ("FileNotFoundError", "absent.py")),
        ("custom_imports = dict(imports=['absent_module'])", ("ImportError", "absent_module")),
        ("a = 1", ("model",)),
        ("default_scope = 'absent_library'", ("absent_library", "dynbackbones[openmmlab]")),
    ],
)
def test_a_file_that_is_no_config(refused, tmp_path, text, words):
    path = tmp_path / "config.py"
    if text is not None:
        path.write_text(text)
    assert names(refused(path, "--work-dir", tmp_path / "work"), *words)
    assert not (tmp_path / "work").exists()


def test_a_detectors_yaml_is_sent_to_its_tool(refused):
    path = ROOT / "configs" / "sar_retinanet.yaml"
    assert names(refused(path), path, "detectron2", "mmengine")


def test_mixed_precision_needs_cuda(refused, config_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert names(refused(config_file(), "--amp"), "--amp", "CUDA")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config = config_file(optim_wrapper__type="OptimWrapperDict")
    assert names(refused(config, "--amp"), "--amp", "OptimWrapperDict")


@pytest.mark.parametrize("kind", ["AmpOptimWrapper", "mmengine.AmpOptimWrapper"])
def test_mixed_precision_in_a_config_needs_cuda_too(refused, config_file, monkeypatch, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = config_file(optim_wrapper__type=kind)
    assert names(refused(config), "optim_wrapper.type", "CUDA", "OptimWrapper")


def test_a_training_set_without_images(refused, config_file, tiny_root):
    config = config_file(train_dataloader__dataset__dataset__img_suffix=".jpeg")
    assert names(refused(config), "empty", "img_suffix='.jpeg'", tiny_root / "camvid")


@pytest.mark.parametrize("prefix", ["train", {"img_path": "train"}, "~", ""])
def test_a_prefix_is_a_text_or_a_dict(tmp_path, monkeypatch, prefix):
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = {"type": "CustomDataset", "data_root": str(tmp_path), "data_prefix": prefix}
    (tmp_path / "train").mkdir()
    checks.check_dataset(dataset, "train_dataloader: CustomDataset")
    (tmp_path / "train").rmdir()
    if "train" in (prefix, *prefix) or isinstance(prefix, dict):
        with pytest.raises(UserError, match=naming(tmp_path / "train", "data_prefix")):
            checks.check_dataset(dataset, "train_dataloader: CustomDataset")


def test_data_that_are_not_on_this_disk_are_left_to_their_reader():
    checks.check_dataset({"data_root": "s3://bucket/data", "data_prefix": "train"}, "dataset")
    checks.check_dataset({"data_root": None, "data_prefix": {"img": "s3://bucket"}}, "dataset")


def test_overrides_that_do_not_fit(refused, config_file, tool, capsys):
    config = config_file()
    line = refused(config, "--cfg-options", "train_dataloader.dataset.dataset.pipeline.9=1")
    assert names(line, "--cfg-options", config, 9)
    with pytest.raises(SystemExit, match="2"):
        tool("train", config_file(), "--cfg-options", "seed")
    assert names(capsys.readouterr().err, "--cfg-options", "KEY=VALUE", "'seed'")


def test_nothing_to_test_on(refused, tiny_config, tmp_path, weights):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": weights()}, path)
    cfg = tiny_config()
    without_tta = Config(cfg.to_dict())
    for key in ("tta_model", "tta_pipeline"):
        without_tta.pop(key)
    without_tta.dump(tmp_path / "config.py")
    line = refused(tmp_path / "config.py", path, "--tta", name="test")
    assert names(line, "--tta", "tta_model")
    for key in ("test_dataloader", "test_cfg", "test_evaluator"):
        cfg.pop(key)
    cfg.dump(tmp_path / "config.py")
    line = refused(tmp_path / "config.py", path, name="test")
    assert names(line, tmp_path / "config.py", "test_dataloader")


def test_the_tool_prints_one_line(tmp_path):
    process = subprocess.run(
        [sys.executable, ROOT / "tools" / "train.py", "absent.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    line = process.stderr.splitlines()[-1]
    assert line.startswith("error: ") and names(line, "absent.py", "exist")
    assert list(tmp_path.iterdir()) == []
