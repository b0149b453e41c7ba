"""``dynbackbones visualize``: its command line, and from a detector's config to files."""

import json
import re
from pathlib import Path

import pytest
import torch
from fvcore.common.config import CfgNode
from PIL import Image

from dynbackbones import build_backbone, checkpoints
from dynbackbones.analysis.survey import Survey
from dynbackbones.cli import trained_models, visualize
from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision.config import load_config
from dynbackbones.integrations.torchvision.detectors import build_detector
from tests.messages import names, naming

CONFIG = """
MODEL:
  META_ARCHITECTURE: RetinaNet
  BACKBONE: {{NAME: {backbone}, FREEZE_AT: 0}}
  PIXEL_STD: [57.0, 57.0, 58.0]
  SAR: {{DEPTH: 18, SELECTOR_MARGIN: 9.0}}
  RESNETS:
    DEPTH: 18
    NORM: BN
    RES2_OUT_CHANNELS: 64
    STRIDE_IN_1X1: False
    OUT_FEATURES: [res3, res4, res5]
  FPN: {{IN_FEATURES: [res3, res4, res5], OUT_CHANNELS: 32}}
  RETINANET: {{NUM_CLASSES: 2, NUM_CONVS: 1}}
DATASETS:
  COCO_FORMAT: {{tiny: [annotations.json, images]}}
  TRAIN: [tiny]
  TEST: [tiny]
INPUT: {{MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 128}}
OUTPUT_DIR: {output}
"""


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Two images of 32 x 48 pixels; the object fills the left third of the first one."""
    (tmp_path / "images").mkdir()
    images = [{"id": i, "file_name": f"{i}.png", "height": 32, "width": 48} for i in (1, 2)]
    for image in images:
        Image.new("RGB", (48, 32), (90, 120, 60)).save(tmp_path / "images" / image["file_name"])
    box = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 16, 32], "area": 512}
    categories = [{"id": 5, "name": "five"}, {"id": 6, "name": "six"}]
    content = {"images": images, "annotations": [box], "categories": categories}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


def trained(folder, backbone):
    """A config file and, where its run would leave it, a model (of random weights)."""
    output = folder / "output"
    output.mkdir()
    file = folder / "config.yaml"
    file.write_text(CONFIG.format(backbone=backbone, output=output))
    torch.manual_seed(0)
    model = build_detector(load_config(str(file)))
    checkpoints.save(output / "model_final.pth", model.state_dict(), {})
    return file, output


def test_a_sar_detector_gets_a_table_figures_and_a_picture(dataset, capsys):
    file, output = trained(dataset, "build_retinanet_sar_resnet_fpn_backbone")
    visualize.main(
        ["--config-file", str(file), "--engine", "torchvision", "--num-images", "1"]
    )
    figures = json.loads((output / "coverage.json").read_text())
    assert (figures["dataset"], figures["images"]) == ("tiny", 2)
    # With this margin everything is refined. The input is 64 x 96: the box covers 2 of the 6
    # columns of cells in res2 and the first of 3 in res3, in one of two images.
    for stage in ("res2", "res3"):
        assert figures["stages"][stage]["activation_rate"] == 1
        assert figures["stages"][stage]["object_share"] == pytest.approx(1 / 6)
        assert figures["stages"][stage]["preference"] == 1
    assert figures["backbone"]["activation_rate"] == 1
    assert figures["rates"]["histogram"][-1] == 2
    printed = capsys.readouterr().out
    assert "activation rate of an image 1.000" in printed and str(output / "rates.png") in printed
    assert (output / "rates.png").exists() and not (output / "policies.png").exists()
    assert "2 images of tiny, mean activation rate 1.000" in printed
    assert str(output / "regions.png") in printed
    with Image.open(output / "regions.png") as picture:
        assert picture.width > 3 * picture.height  # detections and three stages in a row


def test_a_plain_detector_gets_detections_only_and_says_so(dataset, capsys):
    file, output = trained(dataset, "build_retinanet_resnet_fpn_backbone")
    target = dataset / "new" / "picture.png"
    options = ["--engine", "torchvision", "--output", str(target), "--max-images", "1"]
    visualize.main(["--config-file", str(file), *options])
    assert "does not choose regions" in capsys.readouterr().out
    figures = json.loads((output / "coverage.json").read_text())
    assert figures["stages"] == {} and figures["images"] == 1 and "rates" not in figures
    assert not (output / "rates.png").exists()
    with Image.open(target) as picture:
        assert picture.height > 0.7 * picture.width
    assert not (output / "regions.png").exists()


def test_a_blockdrop_detector_gets_blocks_in_order(dataset, capsys):
    file, output = trained(dataset, "build_retinanet_blockdrop_resnet_fpn_backbone")
    options = ["--engine", "torchvision", "MODEL.BLOCKDROP.SELECTION", "first"]
    visualize.main(["--config-file", str(file), *options])
    printed = capsys.readouterr().out
    assert "2 images of tiny" in printed and "blocks kept          4.00 +- 0.00 of 8" in printed
    assert "does not choose regions" not in printed
    figures = json.loads((output / "coverage.json").read_text())
    assert figures["blocks"]["blocks"] == 4
    assert figures["blocks"]["usage_per_block"]["res4_block1"] == 0
    assert figures["rates"]["mean"] == 0.5
    for name in ("rates.png", "policies.png"):
        assert str(output / name) in printed and (output / name).exists()
    with Image.open(output / "blocks.png") as picture:
        assert picture.width > picture.height  # two images side by side
    assert not (output / "regions.png").exists()


def config(output, weights="imagenet.pth"):
    cfg = CfgNode({"OUTPUT_DIR": str(output), "MODEL": {"WEIGHTS": weights}})
    cfg.freeze()
    return cfg


def test_an_image_of_another_size_than_annotated_is_refused(dataset):
    file, _ = trained(dataset, "build_retinanet_sar_resnet_fpn_backbone")
    Image.new("RGB", (48, 48)).save(dataset / "images" / "2.png")
    with pytest.raises(UserError, match=naming("2.png", "48 x 48", "48 x 32")):
        visualize.main(["--engine", "torchvision", "--config-file", str(file)])


def test_the_weights_say_what_their_classes_are(dataset):
    file, output = trained(dataset, "build_retinanet_sar_resnet_fpn_backbone")
    cfg = load_config(str(file), ["MODEL.WEIGHTS", str(output / "model_final.pth")])
    assert visualize.open_dataset(cfg, "torchvision", None).class_names == ["five", "six"]
    content = checkpoints.load(cfg.MODEL.WEIGHTS)
    checkpoints.save(cfg.MODEL.WEIGHTS, content["model"], {"classes": ["six", "five"]})
    assert visualize.open_dataset(cfg, "torchvision", None).class_names == ["six", "five"]
    checkpoints.save(cfg.MODEL.WEIGHTS, content["model"], {"classes": ["six", "seven"]})
    with pytest.raises(UserError, match=naming("'five'", "model_final.pth", "six, seven")):
        visualize.open_dataset(cfg, "torchvision", None)


def test_the_runs_own_model_is_the_default_whatever_training_started_from(tmp_path):
    model = tmp_path / "model_final.pth"
    model.touch()
    cfg = config(tmp_path)
    trained_models.use_trained_weights(cfg, visualize.parse_args(["--config-file", "a.yaml"]))
    assert Path(cfg.MODEL.WEIGHTS) == model
    assert cfg.is_frozen()


def test_weights_on_the_command_line_win(tmp_path):
    options = ["--config-file", "a.yaml", "SEED", "1", "MODEL.WEIGHTS", "mine.pth"]
    cfg = config(tmp_path, "mine.pth")
    trained_models.use_trained_weights(cfg, visualize.parse_args(options))
    assert cfg.MODEL.WEIGHTS == "mine.pth"


def test_a_run_without_a_model_is_named_with_a_remedy(tmp_path):
    args = visualize.parse_args(["--config-file", "a.yaml"])
    words = (tmp_path / "model_final.pth", "train-net --config-file a.yaml")
    with pytest.raises(UserError, match=naming(*words)):
        trained_models.use_trained_weights(config(tmp_path), args)


@pytest.mark.parametrize("option", [["--num-images", "0"], ["--score-threshold", "2.0"]])
def test_visualize_names_a_wrong_option(capsys, option):
    with pytest.raises(SystemExit) as stop:
        visualize.parse_args(["--config-file", "a.yaml", *option])
    assert stop.value.code == 2
    (line,) = re.findall("error: .*", capsys.readouterr().err)
    assert names(line, *option)


def test_a_plain_backbone_is_said_to_choose_no_regions():
    net = build_backbone("resnet18").eval()
    result = Survey()
    for _ in range(2):
        net(torch.zeros(1, 3, 64, 64))
        result.coverage.update(None, [torch.zeros(0, 4)])
        result.meter.update(net.decisions)
    text = visualize.report("digits_val", result)
    cost = f"{net.macs(64, 64) / 1e9:.2f} GMACs per image in the backbone"
    assert text.startswith(f"2 images of digits_val, {cost}\n")
    assert "does not choose regions" in text


def test_wrong_outputs_and_other_runs_are_found_before_the_work(tmp_path):
    weights = tmp_path / "model.pth"
    weights.write_text("mine")
    start = ["--config-file", "not_read.yaml"]
    with pytest.raises(UserError, match=naming(weights, ".png")):
        visualize.main([*start, "--output", str(weights)])
    assert weights.read_text() == "mine"
    with pytest.raises(UserError, match=naming(tmp_path / "results.json")):
        visualize.main([*start, "--beside", str(tmp_path)])
