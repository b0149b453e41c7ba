"""The format of the images that weights were trained on, as files say it."""

import logging

import pytest
import torch

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.checkpoints.conversion import convert
from dynbackbones.checkpoints.pixels import pixel_format
from dynbackbones.integrations.pixel_format import warn_of_other_pixels

RGB = "model = dict(data_preprocessor=dict(mean=[1.0], to_rgb=True))"
BGR = "model = dict(data_preprocessor=dict(bgr_to_rgb=False))"


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"cfg": RGB}, "RGB"),
        ({"cfg": BGR}, "BGR"),
        ({"cfg": "model = dict()"}, None),
        ({}, None),
        ("old", None),
        ({"source": {"config": RGB, "origin": "openmmlab"}}, "RGB"),
        ({"source": {"config": None, "origin": "openmmlab", "made_from": {"config": BGR}}}, "BGR"),
        ({"source": {"origin": "timm"}}, "RGB"),
        ({"source": {"origin": "detectron2"}}, None),
    ],
)
def test_what_a_file_says(meta, expected):
    assert pixel_format({"model": {}, "meta": meta}) == expected
    assert pixel_format({"weight": torch.zeros(1)}) is None


@pytest.mark.parametrize("config", [RGB, BGR])
def test_a_conversion_keeps_what_the_file_said(tmp_path, config):
    state = dynbackbones.build_backbone("sar_resnet18").state_dict()
    state = {f"backbone.{key}": value for key, value in state.items()}
    torch.save({"state_dict": state, "meta": {"cfg": config}}, tmp_path / "0.pth")
    for step, target in enumerate(("detectron2", "openmmlab")):
        conversion = convert(tmp_path / f"{step}.pth", target)
        conversion.save(tmp_path / f"{step + 1}.pth", {})
        found = pixel_format(checkpoints.load(tmp_path / f"{step + 1}.pth"))
        assert found == ("RGB" if config is RGB else "BGR")
        if target == "detectron2":
            assert f"INPUT.FORMAT {found}" in conversion.remarks[0]


@pytest.mark.parametrize(
    ("trained", "wanted", "warns"),
    [(RGB, "BGR", True), (BGR, "RGB", True), (RGB, "RGB", False), ("", "BGR", False),
     (RGB, None, False)],
)  # fmt: skip
def test_the_warning_names_file_key_and_value(caplog, trained, wanted, warns):
    content = {"model": {}, "meta": {"cfg": trained}}
    warn_of_other_pixels(content, "a.pth", wanted, logging.getLogger("test"))
    if not warns:
        assert not caplog.records
        return
    right = "RGB" if trained is RGB else "BGR"
    line = f"a.pth was trained on {right} images, and INPUT.FORMAT is {wanted}: set INPUT.FORMAT"
    assert f"{line} {right}, and MODEL.PIXEL_MEAN and PIXEL_STD" in caplog.text
