"""The configs for comparisons in configs/: every row is one that its framework understands."""

from pathlib import Path

import pytest

pytest.importorskip("mmseg")

from dynbackbones.experiments.comparison import Comparison
from dynbackbones.experiments.rows import chain
from dynbackbones.experiments.table import Table
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.integrations.torchvision.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
DETECTORS = ["demo/sar_retinanet_pareto.py", "bccd/sar_retinanet_r18_pareto.py"]
SEGMENTORS = ["mmseg/sar-r18_pspnet_camvid-240x320_pareto.py"]


def comparison(name, tmp_path):
    return Comparison.from_file(CONFIGS / name, {}, Table(tmp_path))


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors(name, tmp_path):
    cells = comparison(name, tmp_path)
    for row in cells.rows.values():
        trained = cells.training.trained(row, 1, "weights.pth", tmp_path)
        cfg = load_config(trained.config, list(trained.options))
        assert cfg.SEED == 1
        # What has an option of SAR's without having SAR would be a plain network unawares.
        sar = [key for key in row.overrides if key.startswith("MODEL.SAR.") and "DEPTH" not in key]
        assert not sar or "sar" in cfg.MODEL.BACKBONE.NAME


@pytest.mark.parametrize("name", SEGMENTORS)
def test_segmentors(name, tmp_path):
    cells = comparison(name, tmp_path)
    for row in cells.rows.values():
        cfg = cells.training.settings(row, 1)
        model = checks.build_model(cfg)
        assert type(model.backbone).__name__ == ("SARResNet" if row.rates else "StaticResNet")
        assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end


@pytest.mark.parametrize("name", DETECTORS + SEGMENTORS)
def test_all_are_trained_for_as_long(name, tmp_path):
    cells = comparison(name, tmp_path)
    rows = cells.rows

    def iterations(row):
        settings = cells.training.settings(row, 0)
        if "detector" in settings:
            return settings.detector["SOLVER.MAX_ITER"]
        return settings.train_cfg.max_iters

    wholes = {
        row.name: sum(iterations(rows[part]) for part in chain(rows, row.name))
        for row in rows.values()
    }
    starts = {row.start for row in rows.values()}
    assert len({whole for row, whole in wholes.items() if row not in starts}) == 1
    by_default = [row for row in rows.values() if row.run]
    assert len(by_default) == 5 and not by_default[0].rates
    assert sum(row.rates == (0.3, 0.5) for row in by_default) == 2
