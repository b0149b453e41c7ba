import pytest
import torch

from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.torchvision.spending import spending_curve, spending_table
from tests.messages import naming

pytestmark = pytest.mark.usefixtures("datasets")


@pytest.fixture
def detector(tiny_config):
    """A detector whose selectors tell places apart, as trained ones do."""

    def make(cfg):
        torch.manual_seed(0)
        model = build_detector(cfg)
        for name, parameter in model.named_parameters():
            if name.endswith("fc.weight"):
                torch.nn.init.normal_(parameter, std=3.0)
        return model

    return make


@pytest.mark.parametrize("config", ["sar_retinanet_scratch", "blockdrop_retinanet"])
def test_rates_are_met_and_cost_what_they_should(tiny_config, detector, config):
    cfg = tiny_config(config, MODEL__WEIGHTS="", MODEL__BLOCKDROP__POLICY_TRAINING="frozen")
    seen = []

    def progress(images):
        for image in images:
            seen.append(image)
            yield image

    points = spending_curve(cfg, detector(cfg), [0.2, 0.8], progress=progress)
    assert len(seen) == 4
    assert [point.target for point in points] == [0.2, 0.8]
    assert points[0].rate < points[1].rate
    assert points[0].gmacs < points[1].gmacs
    assert all(point.seconds > 0 and point.ap >= 0 for point in points)
    assert spending_table(points).count("\n") == 2


def test_a_static_backbone_has_nothing_to_set(tiny_config, detector):
    cfg = tiny_config("retinanet")
    with pytest.raises(
        UserError, match=naming("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone")
    ):
        spending_curve(cfg, detector(cfg), [0.5])


def test_without_a_dataset_there_is_no_curve(tiny_config, detector):
    cfg = tiny_config(DATASETS__TEST="()")
    with pytest.raises(UserError, match=naming("DATASETS.TEST", "no dataset")):
        spending_curve(cfg, detector(cfg), [0.5])
