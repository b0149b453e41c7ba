import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import dynbackbones
from dynbackbones import checkpoints

CONFIGS = Path(__file__).parents[4] / "configs"
COUNT = 6


@pytest.fixture
def images(tmp_path):
    """A folder of small images with a bright half."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for number in range(COUNT):
        pixels = rng.integers(0, 100, (96, 128, 3))
        pixels[:, 64:] += 120
        cv2.imwrite(str(folder / f"{number}.jpg"), pixels.astype(np.uint8))
    return folder


@pytest.fixture
def boxes(images, tmp_path):
    """A file of two boxes of each image but the last, which has one."""
    entries = [
        {"file_name": f"{number}.jpg", "bbox": box, "score": 0.5}
        for number in range(COUNT)
        for box in ([2, 4, 30, 40], [70, 30, 40, 50])[: 1 if number == COUNT - 1 else 2]
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def teacher_file(tmp_path):
    torch.manual_seed(5)
    path = tmp_path / "teacher.pth"
    checkpoints.save(path, dynbackbones.build_backbone("resnet18").state_dict(), {})
    return path


@pytest.fixture
def config(images, teacher_file, tmp_path):
    """Makes the config of a ResNet-18 that is trained for some iterations on those images."""
    pytest.importorskip("mmpretrain")
    from mmengine.config import Config

    def make(**options):
        cfg = Config.fromfile(CONFIGS / "pretrain" / "scn_resnet18_camvid-small.py")
        for key in ("variants", "variant_metrics"):
            cfg.pop(key)
        cfg.model.target_generator = {
            "type": "ContextTeacher",
            "backbone": {"type": "StaticResNet", "depth": 18, "out_indices": (3,)},
            "pretrained": str(teacher_file),
        }
        pairs = {"data_root": str(images), "size": 32, "patch_size": 32, "proposals": None}
        cfg.train_dataloader.batch_size = cfg.val_dataloader.batch_size = 4
        for part in (cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset):
            part.update(pairs)
        cfg.custom_hooks[1].patches = 8
        cfg.train_cfg.update(max_iters=4, val_interval=4)
        cfg.default_hooks.checkpoint.interval = 2
        cfg.default_hooks.logger.interval = 1
        cfg.vis_backends = []
        cfg.visualizer.vis_backends = []
        cfg.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
        path = tmp_path / "config.py"
        cfg.dump(path)
        return path

    return make


@pytest.fixture
def train(config, tool, tmp_path):
    """Trains that config in a folder, and returns the folder."""

    def call(name, *arguments, **options):
        path = config(**options)
        tool("train", path, "--work-dir", tmp_path / name, *arguments)
        return tmp_path / name

    return call
