"""detectron2's detectors, wrapped, in its own evaluation and alone."""

import json

import pytest
import torch

from dynbackbones.errors import UserError
from dynbackbones.zoom import ZoomDetector
from tests.messages import naming

pytest.importorskip("detectron2")
from detectron2.config import get_cfg  # noqa: E402
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402

pytestmark = pytest.mark.detectron2
SMALL = {"patch": 64, "scale": 4, "halo": 8}


def stock(kind="RetinaNet", **changes):
    """A detector of detectron2 alone."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = kind
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    if kind == "RetinaNet":
        cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    else:
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
        for node in (cfg.MODEL.RPN, cfg.MODEL.ROI_HEADS):
            node.IN_FEATURES = ["p3", "p4", "p5"]
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128]]
    cfg.merge_from_list([v for pair in changes.items() for v in pair])
    torch.manual_seed(0)
    return build_model(cfg).eval()


@pytest.mark.parametrize("kind", ["RetinaNet", "GeneralizedRCNN"])
def test_the_backbone_is_shown_crops_and_the_reduced_image_alone(kind):
    model = stock(kind)
    zoom = ZoomDetector(model, rate=0.25, **SMALL)
    seen = []
    handle = model.backbone.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].shape[2:])
    )
    image = torch.randint(0, 255, (3, 192, 256), dtype=torch.uint8)
    (output,) = zoom([{"image": image, "height": 192, "width": 256}])
    handle.remove()
    divisor = max(model.backbone.size_divisibility, 1)
    padded = [tuple(-(-n // divisor) * divisor for n in size) for size in ((48, 64), (80, 80))]
    assert [tuple(size) for size in seen] == padded
    assert output["instances"].image_size == (192, 256)
    assert zoom.adapter.num_classes == 3 and zoom.decisions.macs.item() > 0


class Outputs(DatasetEvaluator):
    """Keeps what a model returns."""

    def reset(self):
        self.kept = []

    def process(self, inputs, outputs):
        self.kept += outputs

    def evaluate(self):
        return {"found": len(self.kept)}


def test_it_stands_in_the_frameworks_evaluation():
    zoom = ZoomDetector(stock(), **SMALL)
    loader = [[{"image": torch.zeros(3, 100, 90, dtype=torch.uint8), "height": 100, "width": 90}]]
    evaluator = Outputs()
    assert inference_on_dataset(zoom, loader * 2, evaluator) == {"found": 2}
    assert all(output["instances"].image_size == (100, 90) for output in evaluator.kept)


def test_images_that_the_loader_made_smaller_are_refused():
    zoom = ZoomDetector(stock(), **SMALL)
    entry = {"image": torch.zeros(3, 50, 60, dtype=torch.uint8), "height": 500, "width": 600}
    with pytest.raises(UserError, match=naming("50x60", "500x600", "INPUT.MIN_SIZE_TEST")):
        zoom([entry])


def test_masks_are_refused():
    head = {"NAME": "MaskRCNNConvUpsampleHead", "NUM_CONV": 1}
    changes = {f"MODEL.ROI_MASK_HEAD.{key}": value for key, value in head.items()}
    model = stock("GeneralizedRCNN", **changes, **{"MODEL.MASK_ON": True})
    with pytest.raises(UserError, match=naming("MODEL.MASK_ON")):
        ZoomDetector(model)


def test_evaluations_zoom_where_the_config_says_so(trained, a_run, tmp_path):
    zoom = ("MODEL.ZOOM.ENABLED", True, "MODEL.ZOOM.PATCH", 32, "MODEL.ZOOM.HALO", 4)
    a_run("MODEL.WEIGHTS", trained / "model_final.pth", *zoom, eval_only=True).main()
    results = json.loads((tmp_path / "output" / "test_results.json").read_text())
    assert 0 < results["backbone"]["patch_rate"] < 1 and "AP" in results["bbox"]
