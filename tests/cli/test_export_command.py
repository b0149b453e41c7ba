"""``dynbackbones export``: from what a training left to a file that ONNX Runtime computes."""

from pathlib import Path

import pytest
import torch

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.cli.export import main
from dynbackbones.errors import UserError
from tests.messages import names, naming

pytest.importorskip("onnxruntime")

from dynbackbones.export import running

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = """
_BASE_: {base}/demo/sar_retinanet.yaml
MODEL:
  BACKBONE: {{NAME: build_retinanet_blockdrop_resnet_fpn_backbone}}
  WEIGHTS: ""
  DEVICE: cpu
  FPN: {{OUT_CHANNELS: 32}}
  RETINANET: {{NUM_CLASSES: 2, NUM_CONVS: 1}}
OUTPUT_DIR: {output}
"""
SEGMENTOR = "demo/sar_semantic_fpn.py"


def assert_is_backbone(path, net):
    """That a file computes a network's features."""
    images = torch.randn(1, 3, 64, 80)
    found = running.run(running.session(path), {"images": images})
    with torch.no_grad():
        wanted = net.eval()(images)
    wanted = wanted if isinstance(wanted, dict) else {"res5": wanted[-1]}
    bound = 1e-4 * float(wanted["res5"].abs().max())
    torch.testing.assert_close(found["res5"], wanted["res5"], rtol=0, atol=bound)


@pytest.fixture
def weights(tmp_path):
    """A backbone, and the file of its weights."""
    torch.manual_seed(0)
    net = dynbackbones.build_backbone("blockdrop_resnet18")
    checkpoints.save(tmp_path / "net.pth", net.state_dict(), {})
    return net, tmp_path / "net.pth"


def call(*words):
    main([str(word) for word in words])


def test_a_backbone_by_name(weights, tmp_path, capsys):
    net, file = weights
    path = tmp_path / "net.onnx"
    call("--backbone", "blockdrop_resnet18", "--weights", file, "-o", path)
    printed = capsys.readouterr().out
    assert names(printed, f"wrote {path}", "skips blocks", "policy", "largest difference")
    assert_is_backbone(path, net)
    with pytest.raises(UserError, match=naming(path, "exists")):
        call("--backbone", "blockdrop_resnet18", "--weights", file, "-o", path)
    call("--backbone", "blockdrop_resnet18", "--weights", file, "-o", path, "--overwrite")


def test_a_trained_detector_and_its_backbone(tmp_path, capsys):
    from dynbackbones.integrations.torchvision.config import load_config
    from dynbackbones.integrations.torchvision.detectors import build_detector

    config = tmp_path / "tiny.yaml"
    config.write_text(TINY.format(base=CONFIGS, output=tmp_path))
    detector = build_detector(load_config(str(config)))
    checkpoints.save(tmp_path / "model_final.pth", detector.state_dict(), {})
    path = tmp_path / "net.onnx"
    words = ("--config-file", config, "--engine", "torchvision", "-o", path)
    call(*words, "--part", "backbone")
    assert_is_backbone(path, detector.backbone.body)
    call(*words, "--overwrite", "INPUT.MIN_SIZE_TEST", "64")
    inputs = [value.name for value in running.session(path).get_inputs()]
    assert inputs == ["image"]
    assert names(capsys.readouterr().out, "image (3, height, width)", "boxes (detections, 4)")


def test_a_segmentor_and_its_backbone(tmp_path):
    pytest.importorskip("mmseg")
    from dynbackbones.integrations.openmmlab import checks

    model = checks.build_model(checks.load_config(CONFIGS / SEGMENTOR))
    checkpoints.save(tmp_path / "model.pth", model.state_dict(), {}, "state_dict")
    path = tmp_path / "net.onnx"
    words = ("--config-file", CONFIGS / SEGMENTOR, "--weights", tmp_path / "model.pth", "-o", path)
    call(*words, "--part", "backbone")
    assert_is_backbone(path, model.backbone)
    call(*words, "--overwrite")
    assert {"labels", "logits"} <= {one.name for one in running.session(path).get_outputs()}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--backbone", "resnet17", "--weights", "f"], ["--backbone resnet17", "resnet18"]),
        (["--backbone", "resnet18"], ["--backbone resnet18", "--weights"]),
        (["--backbone", "resnet18", "MODEL.X", "1"], ["MODEL.X 1", "--config-file"]),
        (["--config-file", CONFIGS / SEGMENTOR], [SEGMENTOR, "--weights"]),
        (["--backbone", "resnet18", "--overwrite", "-o", "net.pt"], ["net.pt", ".onnx"]),
        (["--backbone", "resnet18", "-o", 300 * "x" + ".onnx"], [300 * "x" + ".onnx", "long"]),
        (["--backbone", "resnet18", "-o", "new/net.onnx"], ["new/net.onnx", "make it"]),
    ],
)
def test_what_cannot_be_is_refused(words, named, tmp_path, monkeypatch):
    if "--config-file" in words:
        pytest.importorskip("mmseg")
    monkeypatch.chdir(tmp_path)
    output = [] if "-o" in words else ["-o", "net.onnx"]
    with pytest.raises(UserError, match=naming(*named)):
        call(*output, *words)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UserError, match=naming(tmp_path / "net.onnx", tmp_path, "may not")):
        call("--backbone", "resnet18", "--weights", "w.pth", "-o", tmp_path / "net.onnx")


def test_an_unknown_format_is_refused(capsys):
    with pytest.raises(SystemExit):
        call("--backbone", "resnet18", "--to", "openvino", "-o", "net.onnx")
    assert names(capsys.readouterr().err, "--to", "openvino", "onnx")
