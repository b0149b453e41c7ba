"""The README's diffs, applied to detectron2's own scripts, train and evaluate."""

import json
import logging
import re
import runpy
import shutil
import warnings
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import detectron2  # noqa: E402
from detectron2.data import DatasetCatalog, MetadataCatalog  # noqa: E402
from detectron2.data.datasets import register_coco_instances  # noqa: E402
from detectron2.engine import default_argument_parser  # noqa: E402

from dynbackbones.backbones.dynamic import PATIENCE  # noqa: E402
from tests.readme import hunks, patched  # noqa: E402

pytestmark = pytest.mark.detectron2

PACKAGE = Path(detectron2.__file__).parent
STOCK = PACKAGE.parent / "tools"  # which its setup.py installs too
CONFIGS = PACKAGE / "model_zoo" / "configs"
DATASET = "readme_tiny"
STEPS = PATIENCE + 2  # long enough for a warning that nobody moves the schedules
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.SAR.DEPTH", "18", "MODEL.FPN.OUT_CHANNELS", "16"),
    *("MODEL.RETINANET.NUM_CLASSES", "2", "MODEL.RETINANET.NUM_CONVS", "1"),
    *("DATASETS.TRAIN", f"('{DATASET}',)", "DATASETS.TEST", f"('{DATASET}',)"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"),
    *("DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "2"),
    *("SOLVER.MAX_ITER", str(STEPS), "SOLVER.STEPS", f"({STEPS - 2},)", "SEED", "1"),
]
BASELINE = [
    *("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone"),
    *("MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"),
]


@pytest.fixture(autouse=True)
def dataset(tiny):
    """The tiny data set, under a name that detectron2 knows."""
    register_coco_instances(DATASET, {}, str(tiny / "instances.json"), str(tiny / "images"))
    yield
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


@pytest.fixture(autouse=True)
def loggers():
    """Undoes what `default_setup` does to loggers, which hides messages from other tests."""
    found = [logging.getLogger(name) for name in ("detectron2", "fvcore", "dynbackbones")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in found]
    yield
    for logger, (handlers, level, propagate) in zip(found, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def main(tmp_path):
    """Runs a changed script of detectron2's; returns its results, and each scalar's last value."""

    def run(script, changes, config, *opts):
        file, output = tmp_path / script, tmp_path / "output"
        file.write_text(patched((STOCK / script).read_text(), changes))
        arguments = ["--config-file", str(config), *opts]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results = runpy.run_path(str(file))["main"](
                default_argument_parser().parse_args(arguments)
            )
        said = [str(warning.message) for warning in caught]
        assert not [text for text in said if "set_progress" in text]
        lines = (output / "metrics.json").read_text().splitlines()
        return results, {name: value for line in lines for name, value in json.loads(line).items()}

    return run


def yaml_options(tmp_path, *opts):
    return (*SMALL, "OUTPUT_DIR", str(tmp_path / "output"), *opts)


def setup_hunk():
    (hunk,) = (hunk for hunk in hunks("plain_train_net.py") if "get_cfg" in hunk)
    return hunk


def assert_trained(scalars):
    assert scalars["loss_activation_rate"] >= 0
    assert {"decisions/activation_rate", "decisions/gmacs"} <= scalars.keys()


def test_the_plain_loop(main, tmp_path):
    config = CONFIGS / "COCO-Detection" / "retinanet_R_50_FPN_1x.yaml"
    changes = hunks("plain_train_net.py")
    results, scalars = main("plain_train_net.py", changes, config, *yaml_options(tmp_path))
    assert_trained(scalars)
    assert 0 < results["backbone"]["activation_rate"] <= 1
    assert results["backbone"]["gmacs"] > 0 and "bbox" in results


def test_a_baseline_in_the_same_plain_loop(main, tmp_path):
    config = CONFIGS / "COCO-Detection" / "retinanet_R_50_FPN_1x.yaml"
    changes, opts = hunks("plain_train_net.py"), yaml_options(tmp_path, *BASELINE)
    results, scalars = main("plain_train_net.py", changes, config, *opts)
    assert set(results["backbone"]) == {"gmacs"}
    assert "loss_cls" in scalars and not any("decisions" in name for name in scalars)


def test_the_default_trainer(main, tmp_path):
    config = CONFIGS / "COCO-Detection" / "retinanet_R_50_FPN_1x.yaml"
    changes = [*hunks("train_net.py"), setup_hunk()]
    _, scalars = main("train_net.py", changes, config, *yaml_options(tmp_path))
    assert_trained(scalars)
    assert 0 < scalars["backbone/activation_rate"] <= 1 and scalars["backbone/gmacs"] > 0


def test_the_lazy_tool_and_config(main, tmp_path, capsys):
    name = "retinanet_R_50_FPN_1x.py"
    shutil.copytree(CONFIGS / "common", tmp_path / "common")
    config = tmp_path / "COCO-Detection" / name
    config.parent.mkdir()
    stock = (CONFIGS / "COCO-Detection" / name).read_text()
    config.write_text(patched(stock, hunks(name)))
    opts = [
        f"train.output_dir={tmp_path / 'output'}",
        *("train.device=cpu", f"train.max_iter={STEPS}", "train.log_period=1"),
        *("model.num_classes=2", "model.backbone.bottom_up.net.depth=18"),
        *("dataloader.train.total_batch_size=2", "dataloader.evaluator.output_dir=null"),
        *(
            option
            for loader in ("dataloader.train", "dataloader.test")
            for option in (
                *(f"{loader}.dataset.names={DATASET}", f"{loader}.num_workers=0"),
                f"{loader}.mapper.augmentations=[]",
            )
        ),
    ]
    _, scalars = main("lazyconfig_train_net.py", hunks("lazyconfig_train_net.py"), config, *opts)
    assert_trained(scalars)
    checkpoint = f"train.init_checkpoint={tmp_path / 'output' / 'model_final.pth'}"
    capsys.readouterr()
    main("lazyconfig_train_net.py", hunks("lazyconfig_train_net.py"), config, "--eval-only",
         *opts, checkpoint)  # fmt: skip
    assert re.search("'backbone'[:,] {'gmacs': ", capsys.readouterr().out)
