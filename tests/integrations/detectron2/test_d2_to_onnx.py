"""detectron2's RetinaNets in ONNX: from the pixels of any image to the Predictor's boxes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from tests.messages import naming

pytest.importorskip("detectron2")
pytest.importorskip("onnxruntime")
from detectron2.modeling import build_model  # noqa: E402

from dynbackbones.export import running  # noqa: E402
from dynbackbones.integrations import exported_detector  # noqa: E402
from dynbackbones.integrations.detectron2 import engine  # noqa: E402
from dynbackbones.integrations.detectron2.export import detector_to_onnx  # noqa: E402

pytestmark = pytest.mark.detectron2
DEMO = Path(__file__).parents[3] / "configs" / "demo"
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", "32", "MODEL.RETINANET.NUM_CONVS", "1"),
    *("INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", "150"),
]
SIZES = [(64, 80), (96, 96), (200, 150), (90, 260), (131, 75)]


def pixels(height, width, seed):
    """A smooth random image, (height, width, 3) uint8."""
    coarse = torch.rand(1, 3, 7, 7, generator=torch.Generator().manual_seed(seed))
    image = nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)
    return (255 * image).byte().permute(1, 2, 0).numpy()


def trained(folder, config, *opts):
    """A predictor of random weights that finds something, and its config."""
    weights = folder / "model.pth"
    cfg = engine.setup(str(DEMO / config), [*SMALL, "MODEL.WEIGHTS", "", *opts])
    torch.manual_seed(0)
    model = build_model(cfg)
    if hasattr(model, "head"):
        nn.init.normal_(model.head.cls_score.weight, std=0.3)
        nn.init.normal_(model.head.bbox_pred.weight, std=0.1)
    net = model.backbone.bottom_up.net
    if hasattr(net, "policy"):
        nn.init.normal_(net.policy.fc.weight, std=0.3)
    checkpoints.save(weights, model.state_dict(), {})
    cfg = engine.setup(str(DEMO / config), [*SMALL, "MODEL.WEIGHTS", str(weights), *opts])
    return engine.load_predictor(cfg), cfg


@pytest.mark.parametrize(
    ("config", "execution"),
    [
        ("blockdrop_retinanet.yaml", "skips blocks"),
        ("sar_retinanet.yaml", "skips regions where few are chosen"),
    ],
)
def test_the_boxes_of_five_images_are_the_predictors(config, execution, tmp_path):
    detector, cfg = trained(tmp_path, config)
    report = detector_to_onnx(detector, cfg, tmp_path / "net.onnx")
    assert report.execution == execution
    file = running.session(report.path)
    for seed, size in enumerate(SIZES):
        image = pixels(*size, seed)
        wanted = detector.predict(image)
        found = exported_detector.detect(file, image, cfg.INPUT.FORMAT)
        assert len(wanted.scores) > 10
        distance = exported_detector.distances(found, wanted, size)
        if wanted.input_size == size:
            assert len(found.scores) == len(wanted.scores)
            assert float(distance.max()) < 1e-4
        else:  # ONNX Runtime and Pillow round some grey levels differently
            assert float(distance.median()) < 5e-3
            assert (distance < 0.02).float().mean() > 0.95


@pytest.mark.parametrize(
    ("config", "opts", "words"),
    [
        ("sar_faster_rcnn.yaml", [], ["GeneralizedRCNN", "RetinaNet", "--part backbone"]),
        ("sar_retinanet.yaml", ["MODEL.FPN.FUSE_TYPE", "avg"], ["FPN", "sums", "--part backbone"]),
    ],
)
def test_detectors_that_cannot_be(config, opts, words, tmp_path):
    detector, cfg = trained(tmp_path, config, *opts)
    with pytest.raises(UserError, match=naming(*words)):
        detector_to_onnx(detector, cfg, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()
