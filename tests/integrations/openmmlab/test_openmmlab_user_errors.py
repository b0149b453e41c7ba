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
    ("options", "message"),
    [
        (
            {"model__backbone__out_indices": (0, 1, 2, 4)},
            r"out_indices must name stages 0 to 3 \(res2, res3, res4, res5\), got \(0, 1, 2, 4\)",
        ),
        ({"model__backbone__groups": 3}, "groups=3 does not divide the 32 channels"),
        ({"model__backbone__grops": 2}, "unexpected keyword argument 'grops'; .* 'groups'"),
        ({"model__decode_head__chanels": 2}, "unexpected keyword argument 'chanels'\n"),
        ({"model__backbone__num_stages": 4}, "'num_stages'; if it is of the base .* _delete_=True"),
        ({"model__pretrained": "a://b"}, "'pretrained'; set pretrained=None in the model"),
        ({"model__backbone__type": "SARResNt"}, "SARResNt is not in the mmseg::model registry\n"),
        ({"model__backbone__depth": 51}, "depth must be one of 18, 34, 50, 101, got 51"),
        ({"model__backbone__output_stride": 12}, "output_stride must be one of 8, 16, 32, got 12"),
        ({"model__backbone__strides": (1, 2, 2, 1)}, "output_stride, or strides and dilations"),
        ({"model__backbone__frozen_stages": 7}, r"frozen_stages must lie in -1\.\.4, got 7"),
        ({"model__backbone__norm_cfg__type": "BNN"}, "norm_cfg has the type 'BNN'; give one"),
        (
            {"model__backbone__init_cfg": {"type": "Pretraind"}},
            "init_cfg has the type 'Pretraind'; known: .*Pretrained",
        ),
        (
            {"model__backbone__init_cfg": {"type": "Pretrained", "map": "cpu"}},
            "Pretrained takes checkpoint and prefix, got map",
        ),
        (
            {"model__decode_head__in_channels": 256},
            "decode_head.in_channels is 256, but res5 of the backbone has 512 .*in_channels=512",
        ),
        (
            {"model__auxiliary_head__in_index": 4},
            r"auxiliary_head.in_index 4: the backbone gives 4 features \(res2, .*; change in_index",
        ),
        (
            {"model__decode_head__num_classes": 3},
            r"decode_head.num_classes is 3, but the labels have 11 classes \(CheckLabels.num_cl",
        ),
        ({"load_from": "absent.pth"}, "checkpoint absent.pth does not exist"),
        ({"load_from": "open-mmlab://resnet50"}, "open-mmlab:// is not known here"),
    ],
)
def test_a_wrong_option_ends_in_one_line_and_writes_nothing(
    refused, config_file, tmp_path, options, message
):
    line = refused(config_file(**options))
    assert re.search(message, line), line
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"custom_hooks__0__type": "NoHook"}, "config cannot be used: NoHook is not in the .*hook"),
        ({"default_hooks__logger__intervall": 3}, "keyword argument 'intervall'"),
    ],
)
def test_a_wrong_option_outside_the_model_ends_in_one_line(refused, config_file, options, message):
    assert re.search(message, refused(config_file(**options)))


def test_a_head_that_joins_features(refused, config_file):
    line = refused(
        config_file(
            model__auxiliary_head__input_transform="resize_concat",
            model__auxiliary_head__in_channels=[256, 256],
            model__auxiliary_head__in_index=[2, 3],
        )
    )
    assert "auxiliary_head.in_channels adds up to 512, but res4, res5 of the backbone has " in line
    assert line.endswith("set in_channels=[256, 512]\n")


def test_a_head_on_several_features():
    init_default_scope("mmseg")
    model = nn.Module()
    model.backbone = MODELS.build({"type": "StaticResNet", "depth": 18, "out_indices": (1, 3)})
    head = nn.Module()
    head.in_index, head.in_channels = (0, 1), [128, 512]
    model.decode_head = nn.ModuleList([nn.Module(), head])
    check_heads(model)
    head.in_channels = [128, 256]
    message = (
        r"decode_head\[1\].in_channels is \[128, 256\], but res3, res5 .* in_channels=\[128, 512\]"
    )
    with pytest.raises(UserError, match=message):
        check_heads(model)
    # Behind a neck, other channels may arrive.
    model.with_neck = True
    check_heads(model)


def test_a_pyramid_on_other_channels(refused, config_file):
    neck = {"type": "FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 16, "num_outs": 4}
    heads = {f"model__{head}__in_channels": 16 for head in ("decode_head", "auxiliary_head")}
    line = refused(config_file(**heads, model__neck=neck))
    channels = [64, 128, 256, 512]
    assert f"neck.in_channels is {neck['in_channels']}, but res2, res3, res4, res5 of the" in line
    assert line.endswith(f"backbone have {channels} channels; set in_channels={channels}\n")


def test_the_first_of_several_necks_reads_the_backbone():
    init_default_scope("mmseg")
    model = nn.Module()
    model.backbone = MODELS.build({"type": "StaticResNet", "depth": 18, "out_indices": (2, 3)})
    first, second = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    model.with_neck, model.neck = True, nn.Sequential(first, second)
    first.in_channels, second.in_channels = (256, 512), (16, 16)
    check_heads(model)
    first.in_channels = (256, 256)
    with pytest.raises(UserError, match=r"neck.in_channels is \[256, 256\], but res4, res5 of"):
        check_heads(model)


@pytest.mark.parametrize("workers", [0, 1])
def test_labels_outside_the_classes(refused, config_file, workers, tmp_path):
    # Also from a worker process, whose traceback stands before the message.
    line = refused(config_file(**{CHECK: 3}, train_dataloader__num_workers=workers))
    assert re.search(
        r"label map .*ann_dir/train/[abcd]\.png has the values 3, 4 beside the 3 ", line
    )
    assert "map them, or correct num_classes" in line
    assert not list((tmp_path / "work").glob("*.pth"))


def test_a_dataset_with_more_classes_than_the_head_without_our_tools(tiny_config):
    cfg = tiny_config(model__decode_head__num_classes=3)
    message = r"decode_head.num_classes is 3, but the labels have 11 classes \(those of the dataset"
    with pytest.raises(UserError, match=message):
        Runner.from_cfg(cfg).train()


def test_a_head_that_does_not_fit_without_our_tools(tiny_config):
    cfg = tiny_config(model__decode_head__in_channels=256)
    with pytest.raises(UserError, match="set in_channels=512"):
        Runner.from_cfg(cfg).train()


def test_another_networks_weights_without_our_tools(tiny_config, other_run):
    cfg = tiny_config(load_from=str(other_run))
    with pytest.raises(UserError, match="is of another architecture"):
        Runner.from_cfg(cfg).train()


DATASET = "train_dataloader__dataset__dataset__datasets__1__"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({DATASET + "data_root": "absent/VOC2012"}, "data_root absent/VOC2012 does not exist; put"),
        (
            {DATASET + "data_prefix__seg_map_path": "SegmentationClassAgu"},
            r"the folder .*/voc/SegmentationClassAgu of data_prefix.seg_map_path does not exist",
        ),
        (
            {DATASET + "ann_file": "ImageSets/Segmentation/agu.txt"},
            r"the split file .*/Segmentation/agu.txt of ann_file does not exist",
        ),
        ({"val_dataloader__dataset__data_root": "absent"}, "val_dataloader: PascalVOCDataset: da"),
    ],
)
def test_missing_parts_of_a_dataset(refused, config_file, tmp_path, options, message):
    line = refused(config_file(SAR_VOC, **options))
    assert re.search(message, line), line
    assert "PascalVOCDataset" in line
    assert not (tmp_path / "work").exists()


def test_a_missing_test_set(refused, config_file, other_run):
    config = config_file(test_dataloader__dataset__data_root="absent")
    assert "test_dataloader: BaseSegDataset: data_root absent" in refused(
        config, other_run, name="test"
    )


def test_checkpoints_of_another_backbone(refused, config_file, other_run, tmp_path):
    message = f"checkpoint {other_run} is of another architecture"
    assert message in refused(config_file(load_from=str(other_run)))
    assert message in refused(config_file(), "--resume", other_run)
    assert message in refused(config_file(), other_run, name="test")
    assert not (tmp_path / "work").exists()


def test_weights_of_a_backbone_alone(refused, config_file, tmp_path):
    path = tmp_path / "backbone.pth"
    checkpoints.save(path, build_backbone("sar_resnet18").state_dict(), {})
    line = refused(config_file(load_from=str(path)))
    assert "has no weights of the model's backbone; weights of a backbone alone go into in" in line
    assert "has no weights of the model's backbone" not in refused(config_file(), path, name="test")
    assert "cannot be continued from (no state_dict)" in refused(config_file(), "--resume", path)


def test_a_malicious_checkpoint_is_not_run(refused, config_file, tmp_path):
    class Malicious:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    path = tmp_path / "iter_1.pth"
    torch.save({"state_dict": {}, "meta": Malicious()}, path)
    assert "holds more than weights" in refused(config_file(), "--resume", path)
    assert "holds more than weights" in refused(config_file(load_from=str(path)))
    assert "holds more than weights" in refused(config_file(), path, name="test")
    assert not (tmp_path / "executed").exists()


def test_the_import_that_registers_is_missing(refused, tiny_config, tmp_path):
    cfg = tiny_config()
    cfg.pop("custom_imports")
    cfg.dump(tmp_path / "config.py")
    line = refused(tmp_path / "config.py")
    assert "uses CheckLabels, DynamicBackboneHook, RegionPictureHook, SARResNet, Seeded" in line
    added = 'custom_imports = dict(imports=["dynbackbones.integrations.openmmlab"])'
    assert line.endswith(f"without importing them; add the line {added}\n")
    # The line does what it says.
    text = (tmp_path / "config.py").read_text()
    (tmp_path / "config.py").write_text(f"{text}\n{added}\nload_from = 'absent.pth'\n")
    assert "absent.pth does not exist" in refused(tmp_path / "config.py")


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
    names = [f"dynbackbones.integrations.{name}" for name in imports]
    types = [{"type": kind} for kind in kinds]
    path.write_text(f"custom_imports = dict(imports={names})\nanything = {types}\n")
    if missing is None:
        assert checks.load_config(path).anything == types
    else:
        with pytest.raises(UserError, match=f"uses {missing} without importing them; add the line"):
            checks.load_config(path)


def test_another_run_in_the_work_dir(refused, config_file, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "iter_3.pth").write_text("precious")
    line = refused(config_file())
    assert "holds checkpoints of another run: continue it with --resume, or name another" in line
    line = refused(config_file(), "--resume")
    assert "its file last_checkpoint names none of them: name one, --resume CHECKPOINT" in line
    assert [path.name for path in work.iterdir()] == ["iter_3.pth"]
    assert (work / "iter_3.pth").read_text() == "precious"


def test_a_work_dir_that_is_a_file(refused, config_file, tmp_path):
    (tmp_path / "work").write_text("precious")
    assert "is a file; name a folder with --work-dir" in refused(config_file())
    assert (tmp_path / "work").read_text() == "precious"


@pytest.mark.parametrize("resume", [["--resume", "absent.pth"], ["--resume"]])
def test_nothing_to_resume(refused, config_file, resume, tmp_path):
    # Without a name, a first start may say --resume too.
    if len(resume) == 2:
        assert "checkpoint absent.pth does not exist" in refused(config_file(), *resume)
    else:
        assert "absent.pth does not exist" in refused(config_file(load_from="absent.pth"), *resume)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "config.py does not exist; check the path"),
        ("model = dict(", "config.py cannot be read: SyntaxError: "),
        ("_base_ = 'absent.py'", "config.py cannot be read: FileNotFoundError: "),
        ("custom_imports = dict(imports=['absent_module'])", "config.py cannot be read: Import"),
        ("a = 1", "the config has no model"),
        ("default_scope = 'absent_library'", "needs absent_library: run pip install 'dynback"),
    ],
)
def test_a_file_that_is_no_config(refused, tmp_path, text, message):
    path = tmp_path / "config.py"
    if text is not None:
        path.write_text(text)
    assert message in refused(path, "--work-dir", tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_detectors_yaml_is_sent_to_its_tool(refused):
    line = refused(ROOT / "configs" / "sar_retinanet.yaml")
    assert "is in detectron2's form, and one of mmengine's is wanted here" in line


def test_mixed_precision_needs_cuda(refused, config_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--amp needs a CUDA device, and there is none" in refused(config_file(), "--amp")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config = config_file(optim_wrapper__type="OptimWrapperDict")
    assert "cannot be combined with optim_wrapper OptimWrapperDict" in refused(config, "--amp")


def test_overrides_that_do_not_fit(refused, config_file, tool, capsys):
    line = refused(config_file(), "--cfg-options", "train_dataloader.dataset.dataset.pipeline.9=1")
    assert "--cfg-options do not fit" in line
    with pytest.raises(SystemExit, match="2"):
        tool("train", config_file(), "--cfg-options", "seed")
    assert "--cfg-options: must be KEY=VALUE, got 'seed'" in capsys.readouterr().err


def test_nothing_to_test_on(refused, tiny_config, tmp_path, weights):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": weights()}, path)
    cfg = tiny_config()
    without_tta = Config(cfg.to_dict())
    for key in ("tta_model", "tta_pipeline"):
        without_tta.pop(key)
    without_tta.dump(tmp_path / "config.py")
    line = refused(tmp_path / "config.py", path, "--tta", name="test")
    assert "--tta needs tta_model in the config" in line
    for key in ("test_dataloader", "test_cfg", "test_evaluator"):
        cfg.pop(key)
    cfg.dump(tmp_path / "config.py")
    line = refused(tmp_path / "config.py", path, name="test")
    assert "has no test_dataloader; there is nothing to test on" in line


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
    line = "error: config absent.py does not exist; check the path"
    assert process.stderr.splitlines()[-1] == line
    assert list(tmp_path.iterdir()) == []
