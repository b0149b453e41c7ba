"""The config files in configs/ as detectron2 reads them."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import LazyConfig, instantiate  # noqa: E402
from detectron2.data import DatasetCatalog  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402
from detectron2.utils.analysis import FlopCountAnalysis  # noqa: E402

from dynbackbones.integrations.detectron2 import engine  # noqa: E402
from dynbackbones.training.auxiliary import own_parameters  # noqa: E402

pytestmark = pytest.mark.detectron2

CONFIGS = Path(__file__).parents[3] / "configs"
DETECTORS = sorted(
    str(path.relative_to(CONFIGS))
    for folder in (CONFIGS, CONFIGS / "bccd")
    for path in folder.glob("*.yaml")
    if not path.name.startswith("Base-")
)


def load(name):
    return engine.setup(str(CONFIGS / name))


@pytest.mark.parametrize("name", DETECTORS)
def test_configs_build_detectors_that_are_trained_whole(name):
    model = build_model(load(name))
    # Except policy networks, which learn by reward.
    policies = set(own_parameters(model).get("policy", ()))
    assert all(p.requires_grad for p in model.parameters() if p not in policies)
    assert model.input_format == "RGB"
    assert model.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])


def test_the_lazy_config_is_the_yaml_config():
    lazy = LazyConfig.load(str(CONFIGS / "lazy" / "sar_retinanet.py"))
    model, registered = instantiate(lazy.model), build_model(load("sar_retinanet.yaml"))
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in registered.state_dict().items()
    }
    bias = model.backbone.bottom_up.net.layer1.selectors[0].fc.bias
    assert torch.equal(bias, registered.backbone.bottom_up.net.layer1.selectors[0].fc.bias)
    for own, other in zip(
        model.anchor_generator.cell_anchors,
        registered.anchor_generator.cell_anchors,
        strict=True,
    ):
        assert torch.allclose(own, other, atol=1e-2)


def test_detectron2s_analysis_takes_the_lazy_detector():
    lazy = LazyConfig.load(str(CONFIGS / "lazy" / "sar_retinanet.py"))
    # Counting traces the network, where "auto" runs masked.
    override = "model.backbone.bottom_up.net.execution=sparse"
    model = instantiate(LazyConfig.apply_overrides(lazy, [override]).model).eval()
    net = model.backbone.bottom_up.net
    inputs = [{"image": torch.rand(3, 64, 64), "height": 64, "width": 64}]
    totals = {}
    for threshold in (-100.0, 100.0):
        for stage in net.stages().values():
            for selector in stage.selectors:
                selector.threshold.fill_(threshold)
        counter = FlopCountAnalysis(model, inputs)
        counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        totals[threshold] = counter.by_module()["model.backbone.bottom_up.net"]
    assert totals[100.0] == pytest.approx(net.macs(64, 64, share=0), rel=0.02)
    assert totals[-100.0] == pytest.approx(net.macs(64, 64, share=1), rel=0.02)


def test_the_demo_config_finds_its_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = load("demo/sar_retinanet_scratch.yaml")
    engine.check_datasets(cfg, cfg.DATASETS.TRAIN + cfg.DATASETS.TEST)
    records = DatasetCatalog.get("digits_val")
    assert {box["category_id"] for record in records for box in record["annotations"]} == set(
        range(5)
    )


def test_ours_is_a_base_of_a_file_of_the_users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "configs/demo/sar_retinanet_scratch.yaml"
    (tmp_path / "a.yaml").write_text(f"_BASE_: {name}\nVERSION: 2\nMODEL: {{SAR: {{GROUPS: 4}}}}\n")
    cfg = engine.setup("a.yaml")
    whole = engine.setup(name, ["MODEL.SAR.GROUPS", "4"])
    assert cfg.MODEL.SAR.GROUPS == 4
    assert cfg.dump() == whole.dump()
