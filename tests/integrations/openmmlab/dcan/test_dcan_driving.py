import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from dynbackbones.integrations.openmmlab.datasets.driving import GTA5_IDS, SYNTHIA_IDS

CONFIGS = Path(__file__).parents[4] / "configs" / "dcan"
SIZE = (32, 64)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two images of each dataset in the layouts that the configs expect."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def image(height=SIZE[0], width=SIZE[1]):
        return rng.integers(0, 255, (height, width, 3), np.uint8)

    for index in range(2):
        synthia = tmp_path / "data/synthia/RAND_CITYSCAPES"
        write(synthia / f"RGB/{index:07d}.png", image(40))
        labels = np.zeros((40, SIZE[1], 3), np.uint16)
        labels[..., 2] = rng.choice(list(SYNTHIA_IDS.values()), labels.shape[:2])
        write(synthia / f"GT/LABELS/{index:07d}.png", labels)
        write(tmp_path / f"data/gta5/images/{index:05d}.png", image(40))
        labels = rng.choice(list(GTA5_IDS.values()), (40, SIZE[1])).astype(np.uint8)
        write(tmp_path / f"data/gta5/labels/{index:05d}.png", labels)
        for split in ("train", "val"):
            name = f"{split}/aachen/aachen_{index:06d}_000019"
            root = tmp_path / "data/cityscapes"
            write(root / f"leftImg8bit/{name}_leftImg8bit.png", image(2 * SIZE[0], 2 * SIZE[1]))
            labels = rng.integers(0, 19, (2 * SIZE[0], 2 * SIZE[1]), np.uint8)
            write(root / f"gtFine/{name}_gtFine_labelTrainIds.png", labels)
    return tmp_path


def small(name, path, **options):
    """Such a config for these images, written to a file."""
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    shrink(cfg._cfg_dict)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
    cfg.train_cfg.update(max_iters=1)
    cfg.vis_backends = [{"type": "LocalVisBackend"}]
    cfg.visualizer.vis_backends = cfg.vis_backends
    cfg.default_hooks.checkpoint.interval = 1
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
    cfg.dump(path)
    return path


def shrink(value):
    if isinstance(value, dict):
        if value.get("type") == "Resize":
            value["scale"] = (SIZE[1], SIZE[1])
        if value.get("type") == "RandomCrop":
            value["crop_size"] = SIZE
        for item in value.values():
            shrink(item)
    elif isinstance(value, list):
        for item in value:
            shrink(item)


@pytest.fixture
def results_of(folders, tool, generator_file):
    """Trains and validates such a config with a small network, and returns its results."""

    def call(name, **options):
        common = {
            "model__backbone__init_cfg": None,
            "model__backbone__depth": 18,
            "model__data_preprocessor__size": SIZE,
            "val_dataloader__num_workers": 0,
            "val_dataloader__persistent_workers": False,
            "custom_hooks__1__generator": {"encoder": "small_vgg", "weights": str(generator_file)},
            "custom_hooks__1__num_workers": 0,
        }
        config = small(name, "config.py", **common, **options)
        tool("train", config, "--work-dir", "work")
        return json.loads(Path("work/results.json").read_text())

    return call


def test_synthia_to_cityscapes(results_of):
    options = {
        "model__decode_head__in_channels": [128, 256, 512],
        "model__decode_head__channels": 512,
    }
    results = results_of("r101_fcn8s_synthia-cityscapes_dcan", **options)
    assert {"mIoU", "mIoU_16", "mIoU_13"} <= set(results)
    assert results["mIoU"] == pytest.approx(results["mIoU_16"], abs=0.01)


def test_gta5_to_cityscapes(results_of):
    options = {
        "model__decode_head__in_channels": 512,
        "model__decode_head__channels": 16,
        "model__auxiliary_head__in_channels": 256,
        "model__auxiliary_head__channels": 16,
    }
    results = results_of("r50_pspnet_gta5-cityscapes_dcan", **options)
    assert 0 <= results["mIoU"] <= 100
    assert "mIoU_16" not in results


@pytest.mark.parametrize("data", ["gta5", "synthia"])
def test_the_generator_learns_from_both_datasets(folders, tool, data):
    generator = {"encoder": "small_vgg", "encoder_weights": "random"}
    config = small(f"generator_vgg19_{data}-cityscapes", "config.py", model__generator=generator)
    tool("train", config, "--work-dir", "work")
    state = torch.load("work/iter_1.pth", weights_only=True)["state_dict"]
    assert "generator.decoder.levels.0.0.weight" in state
