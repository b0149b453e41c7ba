"""A backbone in a file outside the package gets everything that the package's own have.

`tests/gated_backbone.py` is neither SAR nor BlockDrop, and nothing in the package knows it.
"""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.analysis import latency
from dynbackbones.analysis.costs import DecisionMeter
from dynbackbones.backbones import factory
from dynbackbones.checkpoints.conversion.architecture import find_architecture
from dynbackbones.cli import benchmark, train_net, visualize
from dynbackbones.demo import digits
from dynbackbones.errors import UserError
from tests.messages import naming
from tests.test_import import FRAMEWORKS

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tests" / "gated_backbone.py"
IMPORT = ("--import", "tests.gated_backbone")
YAML = f"""
_BASE_: {ROOT}/configs/demo/sar_retinanet_scratch.yaml
MODEL:
  BACKBONE: {{NAME: build_retinanet_gated_resnet18_fpn_backbone}}
  GATED: {{TARGET_RATE: 0.25, GROUPS: 2}}
  FPN: {{OUT_CHANNELS: 32}}
INPUT: {{MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64}}
DATALOADER: {{NUM_WORKERS: 0}}
SOLVER: {{IMS_PER_BATCH: 2, MAX_ITER: 2, CHECKPOINT_PERIOD: 2}}
"""
MMSEG = """
_base_ = "{root}/configs/demo/sar_semantic_fpn.py"
custom_imports = dict(imports=[*_base_.custom_imports.imports, "tests.gated_backbone"])
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(_delete_=True, type="GatedResNet", groups=2, target_rate=0.25),
    neck=dict(out_channels=16),
    decode_head=dict(channels=16, in_channels=[16, 16, 16, 16]),
)
train_dataloader = dict(num_workers=0, persistent_workers=False, batch_size=2)
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
"""


@pytest.fixture(scope="module", autouse=True)
def gated():
    """The module, and afterwards a package that does not know it."""
    known = dict(factory._REGISTERED), dict(factory._VARIANTS)
    from tests import gated_backbone

    yield gated_backbone
    for names, before in zip((factory._REGISTERED, factory._VARIANTS), known, strict=True):
        names.clear()
        names.update(before)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return dynbackbones.build_backbone("gated_resnet18", groups=2).eval()


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    digits.write_digits(tmp_path / "datasets", num_train=4, num_val=2)


@pytest.fixture
def config_file(tmp_path, data):
    path = tmp_path / "gated.yaml"
    path.write_text(YAML)
    return path


def test_it_stands_in_one_file_and_the_package_does_not_know_it():
    code = [line for line in FILE.read_text().splitlines() if line.strip()]
    assert len(code) <= 60
    sources = [path.read_text() for path in (ROOT / "dynbackbones").rglob("*.py")]
    # Not the end of "propagated".
    own = re.compile("(?<![a-z])gated|gate_rate", re.IGNORECASE)
    assert not any(map(own.search, sources))


def test_it_is_built_by_name(net, gated):
    assert type(net) is gated.GatedResNet and "gated_resnet18" in dynbackbones.list_backbones()
    features = net(torch.rand(2, 3, 64, 96))
    assert features["res5"].shape == (2, 512, 2, 3)
    with pytest.raises(TypeError, match=naming("gated_resnet18", "'group'", "'groups'")):
        dynbackbones.build_backbone("gated_resnet18", group=2)


def test_taken_names_and_nodes_are_refused(gated):
    refusals = {
        ("gated_resnet18", "OTHER"): ("'gated_resnet18'", "another name"),
        ("sar_resnet50", "OTHER"): ("'sar_resnet50'", "another name"),
        ("other", "GATED"): ("MODEL.GATED", "'gated_resnet18'", "another node"),
        ("other", "SAR"): ("MODEL.SAR", "'sar_resnet'", "another node"),
    }
    for (name, node), words in refusals.items():
        with pytest.raises(ValueError, match=naming(*words)):
            dynbackbones.register_backbone(name, gated.GatedResNet, node=node)
    assert "other" not in dynbackbones.list_backbones()


def test_decisions_are_metered_and_calibrated(net):
    images = torch.rand(4, 3, 64, 64)
    reached = dynbackbones.calibrate(net, images, target_rate=0.5, tolerance=0.1)
    assert reached == pytest.approx(0.5, abs=0.1)
    meter = DecisionMeter()
    net(images)
    meter.update(net.decisions)
    result = meter.result()
    assert result["gate_rate"] == pytest.approx(reached)
    assert net.macs(64, 64, 0) < 1e9 * result["gmacs"] < net.macs(64, 64, 1)


def test_auxiliary_losses_and_schedules_reach_the_optimiser(net):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = net

        def forward(self, images):
            return {"loss": self.backbone(images)["res5"].square().mean()}

    model = Model().train()
    dynbackbones.attach(model)
    dynbackbones.set_progress(model, 1.0)
    losses = model(torch.rand(2, 3, 64, 64))
    sum(losses.values()).backward()
    assert sorted(losses) == ["loss", "loss_gate_rate"]
    assert net.gate.weight.grad.abs().sum() > 0


def test_its_latency_is_compared(net, tmp_path, capsys):
    images = torch.rand(1, 3, 64, 64)
    plain = dynbackbones.build_backbone("resnet18")
    timings = latency.compare({"plain": plain, "gated": net}, images, rates=(0.5,), repeats=1)
    assert [timing.candidate.backbone for timing in timings] == ["plain", "gated"]
    assert timings[1].macs == pytest.approx(net.macs(64, 64, 0.5))
    benchmark.main([
        *IMPORT, "--backbones", "resnet18", "gated_resnet18", "--size", "64", "64",
        "--rates", "0.5", "--repeats", "1", "--warmup", "0", "--execution", "masked",
        "--json", str(tmp_path / "figures.json"),
    ])  # fmt: skip
    rows = json.loads((tmp_path / "figures.json").read_text())["results"]
    assert [(row["backbone"], row["rate"]) for row in rows] == [
        ("resnet18", None), ("gated_resnet18", 0.5),
    ]  # fmt: skip
    assert rows[1]["macs"] < rows[0]["macs"]


def train(config_file, engine, tmp_path, *opts):
    """Two iterations and an evaluation; what it wrote."""
    arguments = ("--engine", engine, "--config-file", str(config_file))
    train_net.main([*IMPORT, *arguments, "OUTPUT_DIR", str(tmp_path / "out"), *opts])
    return json.loads((tmp_path / "out" / "results.json").read_text())


def test_yaml_trains_and_evaluates_it(config_file, tmp_path, capsys):
    results = train(config_file, "torchvision", tmp_path)["backbone"]
    assert results["gmacs"] > 0 and 0 <= results["gate_rate"] <= 1
    log = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.log"))
    assert "gate_rate:" in log and "loss_gate_rate:" in log
    arguments = ("--engine", "torchvision", "--config-file", str(config_file))
    picture = tmp_path / "gates.png"
    visualize.main([
        *IMPORT, *arguments, "--output", str(picture), "OUTPUT_DIR", str(tmp_path / "out"),
    ])  # fmt: skip
    printed = capsys.readouterr().out
    assert picture.stat().st_size > 0 and "mean gate rate" in printed and "gate0" in printed


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (("MODEL.GATED.TARGET_RAT", "0.5"), ("MODEL.GATED.TARGET_RAT", "MODEL.GATED.TARGET_RATE")),
        (
            ("MODEL.BACKBONE.NAME", "build_gated_resnet18_fpn_backbone"),
            ("RetinaNet", "build_retinanet_gated_resnet18_fpn_backbone"),
        ),
        (("MODEL.GATED.SELECTION", "middle"), ("MODEL.GATED.SELECTION", "'middle'")),
    ],
)
def test_mistakes_in_yaml_are_named(config_file, tmp_path, opts, words):
    with pytest.raises(UserError, match=naming(*words)):
        train(config_file, "torchvision", tmp_path, *opts)


def test_yaml_has_its_learning_rate(config_file):
    from dynbackbones.integrations.torchvision.config import load_config
    from dynbackbones.integrations.torchvision.detectors import build_detector
    from dynbackbones.integrations.torchvision.solver import parameter_groups

    cfg = load_config(str(config_file))
    model = build_detector(cfg)
    (net,) = [m for m in model.modules() if isinstance(m, dynbackbones.DynamicBackbone)]
    assert (net.target_rate, net.groups) == (0.25, 2)
    rates = {id(p): group["lr"] for group in parameter_groups(cfg, model) for p in group["params"]}
    assert rates[id(net.gate.weight)] == 2 * rates[id(net.conv1.weight)] == 2 * cfg.SOLVER.BASE_LR


@pytest.mark.detectron2
def test_detectron2_trains_and_evaluates_it(config_file, tmp_path, monkeypatch):
    pytest.importorskip("detectron2")
    # Which detectron2's setup changes for good.
    monkeypatch.setattr(logging.getLogger("dynbackbones"), "propagate", True)
    from detectron2.config import instantiate

    from dynbackbones.integrations import detectron2 as adapter

    results = train(config_file, "detectron2", tmp_path)["backbone"]
    assert results["gmacs"] > 0 and 0 <= results["gate_rate"] <= 1
    metrics = (tmp_path / "out" / "metrics.json").read_text()
    assert "decisions/gate_rate" in metrics and "loss_gate_rate" in metrics
    assert "gate_rate: " in (tmp_path / "out" / "log.txt").read_text()
    lazy = instantiate(adapter.backbone_fpn("gated_resnet18", groups=2, out_channels=16))
    assert lazy.bottom_up.net.groups == 2
    assert callable(adapter.build_gated_resnet18_backbone)


def test_mmseg_trains_and_tests_it(tmp_path, data):
    pytest.importorskip("mmseg")
    from dynbackbones.cli import train as command
    from dynbackbones.integrations.openmmlab.backbones import CLASSES

    config = tmp_path / "gated.py"
    config.write_text(MMSEG.format(root=ROOT))
    work_dir = tmp_path / "work"
    command.main([str(config), "--work-dir", str(work_dir)])
    assert CLASSES["gated_resnet18"].__name__ == "GatedResNet"
    results = json.loads((work_dir / "results.json").read_text())
    figures = {key.rpartition("/")[2]: value for key, value in results.items()}
    assert figures["gmacs"] > 0 and 0 <= figures["gate_rate"] <= 1
    log = "".join(path.read_text() for path in work_dir.rglob("*.log"))
    assert "gate_rate" in log and "loss_gate_rate" in log


def test_registering_imports_no_framework():
    code = (
        "import sys, tests.gated_backbone; "
        f"print([name for name in {FRAMEWORKS} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_its_weights_are_recognised():
    net = dynbackbones.build_backbone("gated_resnet18")
    assert find_architecture(net.state_dict(), "a.pth", "gated_resnet18").name == "gated_resnet18"
