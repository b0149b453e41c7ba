"""What the backbone costs per image, from decisions and from what really runs."""

import subprocess
import sys

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import instantiate  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402
from detectron2.utils.analysis import FlopCountAnalysis  # noqa: E402
from torch import nn  # noqa: E402

import dynbackbones  # noqa: E402
from dynbackbones.integrations.detectron2 import BackboneCostEvaluator, sar_resnet_fpn  # noqa: E402

pytestmark = pytest.mark.detectron2

PLAIN = (
    *("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", 18),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "BN"),
)


def evaluate(model, sizes):
    evaluator = BackboneCostEvaluator(model)
    evaluator.reset()
    for height, width in sizes:
        inputs = [{"image": torch.rand(3, height, width)}]
        with torch.no_grad():
            evaluator.process(inputs, model(inputs))
    return evaluator.evaluate()["backbone"]


class OneBackbone(nn.Module):
    """The least that looks like a detector of detectron2."""

    def __init__(self, net):
        super().__init__()
        self.backbone = net

    def forward(self, inputs):
        return [self.backbone(entry["image"][None]) for entry in inputs]


def test_means_are_over_images():
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    model, sizes = OneBackbone(net), [(64, 64), (64, 64), (128, 96)]
    with net.select("all"):
        results = evaluate(model, sizes)
    assert results["activation_rate"] == results["activation_rate_res3"] == 1
    assert results["gmacs"] == pytest.approx(sum(net.macs(*size) for size in sizes) / 3e9)
    with net.select("random", rate=0.5):
        half = evaluate(model, sizes)
    assert 0 < half["activation_rate"] < 1
    assert half["gmacs"] < results["gmacs"]


def test_resetting_forgets():
    model = OneBackbone(dynbackbones.build_backbone("sar_resnet18").eval())
    evaluator = BackboneCostEvaluator(model)
    for size in (128, 64):
        evaluator.reset()
        inputs = [{"image": torch.rand(3, size, size)}]
        with torch.no_grad():
            evaluator.process(inputs, model(inputs))
    gmacs = evaluator.evaluate()["backbone"]["gmacs"]
    assert gmacs == pytest.approx(model.backbone.decisions.macs.item() / 1e9)


def test_detectron2s_own_resnet_is_counted_too(config):
    model = build_model(config(*PLAIN)).eval()
    static = dynbackbones.build_backbone("resnet18")
    results = evaluate(model, [(65, 80), (65, 80), (64, 128)])
    total = 2 * static.macs(65, 80) + static.macs(64, 128)
    assert results == {"gmacs": pytest.approx(total / 3e9)}


def test_processes_share_their_values(tmp_path):
    script = tmp_path / "two_processes.py"
    script.write_text(
        f"""
import sys, json
import torch
from detectron2.engine import launch
from detectron2.utils import comm
sys.path.insert(0, {str(sys.path[0])!r})

def work(path):
    import dynbackbones
    from dynbackbones.integrations.detectron2 import BackboneCostEvaluator
    from torch import nn
    model = nn.Sequential(dynbackbones.build_backbone("sar_resnet18")).eval()
    evaluator = BackboneCostEvaluator(model)
    sizes = [[64], [64, 128]][comm.get_rank()]
    for size in sizes:
        with torch.no_grad(), model[0].select("all"):
            evaluator.process([], model(torch.rand(1, 3, size, size)))
    results = evaluator.evaluate()
    assert (results is None) == (comm.get_rank() == 1)
    if results:
        expected = (2 * model[0].macs(64, 64) + model[0].macs(128, 128)) / 3e9
        json.dump([results["backbone"]["gmacs"], expected], open(path, "w"))

if __name__ == "__main__":
    launch(work, 2, dist_url="auto", args=({str(tmp_path / "out.json")!r},))
"""
    )
    import json

    subprocess.run([sys.executable, str(script)], check=True, timeout=300)
    macs, expected = json.loads((tmp_path / "out.json").read_text())
    assert macs == pytest.approx(expected)


def test_detectron2s_flop_counter_sees_what_really_runs():
    torch.manual_seed(0)
    backbone = instantiate(sar_resnet_fpn(18, execution="sparse")).eval()
    net = backbone.bottom_up.net
    images = torch.rand(1, 3, 128, 128)
    flops, macs = {}, {}
    for threshold in (-100.0, net.layer1.selectors[0].margin, 100.0):
        for stage in net.stages().values():
            for selector in stage.selectors:
                selector.threshold.fill_(threshold)
        counter = FlopCountAnalysis(net, images)
        counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counts = counter.by_operator()
        flops[threshold] = counts["conv"] + counts["linear"]
        macs[threshold] = net.decisions.macs.item()
    assert flops[100.0] < flops[9.0] < flops[-100.0]
    # Where nothing is refined the trace leaves out the selectors, whom nobody reads then.
    for threshold, value in flops.items():
        tolerance = 5e-3 if threshold == 100.0 else 1e-3
        assert value == pytest.approx(macs[threshold], rel=tolerance)
