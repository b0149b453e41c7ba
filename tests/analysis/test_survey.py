"""Running a detector over a dataset and recording where its backbone refined."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import dynbackbones
from dynbackbones.analysis.prediction import Prediction
from dynbackbones.analysis.survey import CocoSamples, Sample, survey
from dynbackbones.data.coco import CocoSource, check


class HalfSizePredictor:
    """Runs a backbone on images of half their size and finds nothing."""

    def __init__(self, backbone, **selection):
        self.backbone = backbone.eval()
        self.selection = selection

    @torch.no_grad()
    def predict(self, image):
        small = torch.from_numpy(image[::2, ::2].copy()).permute(2, 0, 1)[None].float() / 255
        with self.backbone.select(**self.selection) if self.selection else torch.no_grad():
            self.backbone(small)
        size = tuple(small.shape[-2:])
        return Prediction([], [], [], size, self.backbone.decisions)


def sample(*boxes, size=(64, 128), name="a.png"):
    image = np.zeros((*size, 3), np.uint8)
    return Sample(image, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), name)


@pytest.fixture(scope="module")
def sar():
    return dynbackbones.build_backbone("sar_resnet18")


@pytest.fixture
def dataset(tmp_path):
    """Two images whose order by id differs from that of the file."""
    content = {
        "images": [
            {"id": 7, "file_name": "seven.png", "height": 20, "width": 30},
            {"id": 3, "file_name": "three.png", "height": 20, "width": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 4], "area": 12},
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [5, 5, 1, 1], "area": 1},
        ],
        "categories": [{"id": 9, "name": "nine"}, {"id": 4, "name": "four"}],
    }
    for image in content["images"]:
        Image.new("RGB", (30, 20), (255, image["id"], 0)).save(tmp_path / image["file_name"])
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps(content))
    source = CocoSource("tiny", annotations, tmp_path)
    return source, check(source, 2)


def test_samples_come_in_the_order_of_ids_with_corner_boxes(dataset):
    samples = CocoSamples(*dataset)
    assert len(samples) == 2
    assert samples.class_names == ["four", "nine"]
    three, seven = samples
    assert (three.name, seven.name) == ("three.png", "seven.png")
    assert three.image.shape == (20, 30, 3) and three.image[0, 0].tolist() == [255, 3, 0]
    assert three.boxes.shape == (0, 4)
    assert seven.boxes.tolist() == [[1, 2, 4, 6], [5, 5, 6, 6]]


def test_a_limit_takes_the_first_images(dataset):
    samples = CocoSamples(*dataset, limit=1)
    assert len(samples) == 1
    assert [s.name for s in samples] == ["three.png"]


def test_boxes_are_judged_in_the_networks_pixels(sar):
    # The network sees 32 x 64 pixels: cells of 16 pixels in res2 (2 x 4) and 32 in res3 (1 x 2).
    # The box is (16, 0, 32, 16) there: one cell of res2 and the first of res3.
    mask = torch.zeros(2, 4, dtype=torch.bool)
    mask[0, :2] = True
    masks = {"res2": mask, "res3": torch.tensor([[True, False]]), "res4": torch.zeros(1, 1)}
    result = survey(HalfSizePredictor(sar, kind=masks), [sample([32, 0, 64, 32])])
    res2, res3, res4 = (result.coverage.stages[f"res{i}"] for i in (2, 3, 4))
    assert res2.object_share == pytest.approx(1 / 8)
    assert res2.refined_object_share == pytest.approx(1 / 2)
    assert res2.activation_rate == pytest.approx(1 / 4)
    assert (res3.object_share, res3.refined_object_share) == (0.5, 1)
    assert res4.activation_rate == 0


def test_means_are_those_of_the_backbones_decisions(sar):
    predictor = HalfSizePredictor(sar, kind="random", rate=0.5)
    result = survey(predictor, [sample(), sample(size=(128, 128))])
    expected = []
    for size in ((64, 128), (128, 128)):
        predictor.predict(sample(size=size).image)
        expected.append(sar.decisions.figures())
    means = result.means()
    assert set(means) >= {"gmacs", "activation_rate", "activation_rate_res2"}
    for name in [name for name in means if not name.endswith("_std")]:
        assert means[name] == pytest.approx(float(sum(e[name].values for e in expected)) / 2)
    rates = torch.cat([e["activation_rate"].values for e in expected]).double()
    assert means["activation_rate_std"] == pytest.approx(float(rates.std(correction=0)))
    assert json.loads(json.dumps(result.to_dict()))["backbone"] == means


def test_rows_prefer_images_with_objects(sar):
    box = [0, 0, 9, 9]
    samples = [sample(name="a"), sample(box, name="b"), sample(name="c"), sample(box, name="d")]
    predictor = HalfSizePredictor(sar)
    assert [r.title for r in survey(predictor, samples, num_rows=1).rows] == ["b"]
    assert [r.title for r in survey(predictor, samples, num_rows=3).rows] == ["b", "d", "a"]


def test_a_static_backbone_has_costs_and_no_regions():
    predictor = HalfSizePredictor(dynbackbones.build_backbone("resnet18"))
    result = survey(predictor, [sample([0, 0, 9, 9])])
    assert result.coverage.stages == {}
    assert list(result.means()) == ["gmacs"]
    assert result.rates_by_objects() is None
    assert "rates_by_objects" not in result.to_dict()


def test_rates_stand_beside_the_number_of_objects(sar):
    box = [0, 0, 9, 9]
    samples = [sample(), sample(box, box, size=(128, 128)), sample(box)]
    predictor = HalfSizePredictor(sar, kind="random", rate=0.5)
    result = survey(predictor, samples)
    found = result.rates_by_objects()
    assert (found.name, found.objects) == ("activation_rate", [0, 2, 1])
    assert found.rates == pytest.approx(result.meter.spread().rates.tolist())
    assert json.loads(json.dumps(result.to_dict()))["rates_by_objects"] == found.to_dict()
