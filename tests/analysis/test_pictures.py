"""Pictures of detections and refined regions."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dynbackbones.analysis import pictures
from dynbackbones.analysis.coverage import RegionCoverage
from dynbackbones.analysis.pictures import PictureRow, region_brightness, save_region_picture
from dynbackbones.analysis.prediction import Prediction
from dynbackbones.errors import UserError
from tests.messages import naming

EDGES = torch.tensor([0, 16, 32])


class FakeDecisions(SimpleNamespace):
    """Decisions of two stages of a 32 x 32 input; the left half is refined."""

    def __init__(self):
        mask = torch.zeros(1, 2, 1, 2, 2, dtype=torch.bool)
        mask[..., 0] = True
        super().__init__(masks={"res2": mask, "res3": mask}, image_sizes=[(32, 32)])

    def region_edges(self, stage):
        return EDGES, EDGES


def row(height=64, width=64, decisions=None):
    prediction = Prediction([[5, 5, 20, 30]], [0.9], [1], (32, 32), decisions)
    image = np.full((height, width, 3), 200, np.uint8)
    return PictureRow(image, prediction, torch.tensor([[4.0, 4.0, 22.0, 30.0]]), "one.png")


def read(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(float)


def test_brightness_is_the_share_of_selectors_that_refine_a_pixel():
    mask = torch.zeros(2, 2, 2, 2, dtype=torch.bool)  # two blocks, two groups, 2 x 2 cells
    mask[0, 0, 0, 0] = True
    mask[:, :, 1, 1] = True
    brightness = region_brightness(mask, torch.tensor([0, 2, 4]), torch.tensor([0, 3, 6]), (3, 4))
    assert brightness.tolist() == [[0.25, 0.25, 0.25, 0], [0.25, 0.25, 0.25, 0], [0, 0, 0, 1]]


def test_cells_without_pixels_are_not_shown():
    mask = torch.tensor([[[[True, True, False]]]])
    brightness = region_brightness(mask, torch.tensor([0, 1]), torch.tensor([0, 2, 2, 3]), (1, 3))
    assert brightness.tolist() == [[1, 1, 0]]


def test_a_picture_has_a_panel_for_each_stage_and_dims_what_was_not_refined(tmp_path):
    path = tmp_path / "new" / "regions.png"
    saved = save_region_picture(path, [row(decisions=FakeDecisions())], ["zero", "one"])
    assert saved == path
    picture = read(path)
    gap, panel = pictures.GAP * pictures.DPI, pictures.PANEL_WIDTH * pictures.DPI
    assert picture.shape[1] == pytest.approx(3 * panel + 4 * gap, abs=1)
    assert picture.shape[0] == pytest.approx(
        panel + (pictures.TITLE_HEIGHT + pictures.CAPTION_HEIGHT) * pictures.DPI, abs=1
    )
    top = pictures.TITLE_HEIGHT * pictures.DPI
    lower = slice(int(top + 0.6 * panel), int(top + 0.9 * panel))  # below box and labels
    for stage in (1, 2):
        left = gap + stage * (panel + gap)
        refined = picture[lower, int(left + 0.1 * panel) : int(left + 0.4 * panel)]
        skipped = picture[lower, int(left + 0.6 * panel) : int(left + 0.9 * panel)]
        assert refined.min() == refined.max() == 200
        assert skipped.max() < 100


def test_rows_keep_their_aspect_and_a_dataset_adds_a_header(tmp_path):
    decisions, coverage = FakeDecisions(), RegionCoverage()
    coverage.update(decisions, [torch.zeros(0, 4)])
    rows = [row(64, 64, decisions), row(32, 64, decisions)]
    path = save_region_picture(tmp_path / "a.png", rows, ["zero", "one"], coverage=coverage)
    inches = (
        pictures.HEADER_HEIGHT
        + 2 * pictures.TITLE_HEIGHT
        + 1.5 * pictures.PANEL_WIDTH
        + pictures.CAPTION_HEIGHT
    )
    assert read(path).shape[0] == pytest.approx(inches * pictures.DPI, abs=1)


def test_without_regions_there_are_detections_alone(tmp_path):
    path = save_region_picture(tmp_path / "a.png", [row()], ["zero", "one"])
    width = pictures.PANEL_WIDTH + 2 * pictures.GAP
    assert read(path).shape[1] == pytest.approx(width * pictures.DPI, abs=1)


def test_a_picture_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=naming("rows", "none")):
        save_region_picture(tmp_path / "a.png", [], [])
    assert not list(tmp_path.iterdir())


def test_missing_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=naming("matplotlib", "dynbackbones[demo]")):
        save_region_picture(tmp_path / "a.png", [row()], ["zero", "one"])
