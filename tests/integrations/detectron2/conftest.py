"""A tiny data set and a config that trains on it in seconds."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dynbackbones.integrations.engine import Launch

CONFIG = """
MODEL:
  META_ARCHITECTURE: RetinaNet
  DEVICE: cpu
  BACKBONE: {NAME: build_retinanet_sar_resnet_fpn_backbone, FREEZE_AT: 0}
  SAR: {DEPTH: 18, SELECTOR_MARGIN: 2.0}
  RESNETS: {OUT_FEATURES: [res3, res4, res5]}
  FPN: {IN_FEATURES: [res3, res4, res5], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[16], [32], [64], [128], [256]]}
  RETINANET: {NUM_CLASSES: 2, NUM_CONVS: 1}
DATASETS:
  COCO_FORMAT:
    tiny: [tiny/instances.json, tiny/images]
    other: [tiny/other.json, tiny/images]
  TRAIN: ("tiny",)
  TEST: ("tiny",)
DATALOADER: {NUM_WORKERS: 0}
INPUT: {MIN_SIZE_TRAIN: "(64, 96)", MIN_SIZE_TEST: 64, MAX_SIZE_TRAIN: 128, MAX_SIZE_TEST: 128}
SOLVER: {IMS_PER_BATCH: 2, BASE_LR: 0.01, MAX_ITER: 20, STEPS: "(15,)", WARMUP_ITERS: 5}
SEED: 1
VERSION: 2
"""


@pytest.fixture(autouse=True)
def heard_logs(monkeypatch):
    """A run keeps these logs to itself, of which the next test's `caplog` would hear nothing."""
    for name in ("dynbackbones", "fvcore", "detectron2"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny tensors gain nothing from threads, which get in each other's way on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_tiny_coco(folder: Path) -> None:
    """Four images with a square of one of two colours each."""
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index, (height, width) in enumerate([(64, 96), (96, 64), (70, 90), (64, 64)]):
        pixels = np.random.default_rng(index).integers(0, 80, (height, width, 3), dtype=np.uint8)
        x, y, side = 10 + 4 * index, 8, 30
        pixels[y : y + side, x : x + side, index % 2] = 255
        name = f"{index}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        annotations.append(
            {
                "id": index + 1,
                "image_id": index + 1,
                "category_id": index % 2 + 1,
                "bbox": [x, y, side, side],
                "area": side * side,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))


@dataclass
class Run:
    """What a command line says of a run."""

    config_file: str
    opts: list[str]
    launch: Launch

    def setup(self):
        from dynbackbones.integrations.detectron2 import engine

        return engine.setup(self.config_file, self.opts)

    def main(self):
        from dynbackbones.integrations.detectron2 import engine

        engine.main(self.setup(), self.launch)


def make_run(root: Path, opts, config=CONFIG, **launch) -> Run:
    """A run on the tiny data set below ``root``."""
    config_file = root / "config.yaml"
    config_file.write_text(config)
    opts = ["OUTPUT_DIR", str(root / "output"), *map(str, opts)]
    return Run(str(config_file), opts, Launch(**launch))


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Folder of a tiny COCO-format data set, under the root that configs are relative to."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    write_tiny_coco(tmp_path / "datasets" / "tiny")
    return tmp_path / "datasets" / "tiny"


@pytest.fixture
def a_run(tmp_path, tiny):
    """Makes a run in ``tmp_path`` on the tiny data set; by keyword: config, and of `Launch`."""
    return lambda *opts, **options: make_run(tmp_path, opts, **options)


@pytest.fixture
def config(a_run):
    """Makes the config of a run on the tiny data set."""
    return lambda *opts, **options: a_run(*opts, **options).setup()


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Output folder of a finished run of 20 iterations on the tiny data set."""
    root = tmp_path_factory.mktemp("trained")
    write_tiny_coco(root / "datasets" / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root / "datasets"))
        make_run(root, ["SOLVER.CHECKPOINT_PERIOD", 10]).main()
    return root / "output"
