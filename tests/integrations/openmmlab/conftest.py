import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

CONFIGS = Path(__file__).parents[3] / "configs"
SAR_CAMVID = "mmseg/sar-r18_pspnet_1xb4-3k_camvid-240x320.py"
SIZE = (64, 80)  # of the tiny images: height, width
CROP = (65, 65)
CLASSES = 5


@pytest.fixture(autouse=True)
def one_thread():
    """Threads would not make networks this small faster, and wait for each other when busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def fresh_process():
    """Forgets mmengine's global objects, as if each run had a process of its own."""
    forget_runs()
    yield
    forget_runs()


def forget_runs():
    # Runs that start within one second share a name, and then these objects.
    for manager in (MMLogger, MessageHub, DefaultScope, Visualizer, *Visualizer.__subclasses__()):
        manager._instance_dict.clear()


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """Folders ``voc`` and ``camvid`` with a few small images in the layouts of these datasets."""
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    voc, camvid = root / "voc", root / "camvid"
    splits = {"train": ["a", "b"], "aug": ["c", "d"], "val": ["e", "f"]}
    for split, names in splits.items():
        for name in names:
            image, labels = _sample(rng)
            _write(voc / f"JPEGImages/{name}.jpg", image)
            annotations = "SegmentationClassAug" if split == "aug" else "SegmentationClass"
            _write(voc / f"{annotations}/{name}.png", labels)
            folder = "val" if split == "val" else "train"
            _write(camvid / f"img_dir/{folder}/{name}.jpg", image)
            _write(camvid / f"ann_dir/{folder}/{name}.png", labels)
        file = voc / f"ImageSets/Segmentation/{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(names))
    return root


def _sample(rng):
    """Blocks of 16 pixels: a colour for each class, noise on top, a few ignored pixels."""
    blocks = rng.integers(0, CLASSES, (SIZE[0] // 16, SIZE[1] // 16))
    labels = np.kron(blocks, np.ones((16, 16), int)).astype(np.uint8)
    image = 50 * labels[..., None] + rng.integers(0, 50, (*SIZE, 3))
    labels[:2] = 255
    return image.astype(np.uint8), labels


def _write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def tiny_config(tiny_root, monkeypatch, tmp_path):
    """Makes a config of this project small: images, crops, heads and iterations.

    The network stays, without pretrained weights. Overrides are written as in --cfg-options.
    """
    from dynbackbones.demo import digits

    def make(name=SAR_CAMVID, **overrides):
        cfg = Config.fromfile(CONFIGS / name)
        if name.startswith("demo"):
            folder = tmp_path / "datasets"
            monkeypatch.setenv("DETECTRON2_DATASETS", str(folder))
            if not folder.exists():
                digits.write_digits(folder, num_train=4, num_val=2)
        _shrink(cfg._cfg_dict, tiny_root)
        cfg.model.data_preprocessor.size = CROP
        cfg.model.backbone.pop("init_cfg", None)
        cfg.load_from = None
        for head in ("decode_head", "auxiliary_head"):
            if head in cfg.model:
                cfg.model[head].channels = 16
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.num_workers = 0
            loader.persistent_workers = False
        cfg.train_dataloader.batch_size = 2
        cfg.train_cfg.update(max_iters=2, val_interval=2)
        cfg.param_scheduler = [
            {"type": "PolyLR", "power": 0.9, "begin": 0, "end": 100, "by_epoch": False},
        ]
        cfg.default_hooks.checkpoint.interval = 2
        cfg.default_hooks.logger.interval = 1
        cfg.vis_backends = [{"type": "LocalVisBackend"}]
        cfg.visualizer.vis_backends = cfg.vis_backends
        cfg.env_cfg.dist_cfg.backend = "gloo"
        cfg.env_cfg.cudnn_benchmark = False
        cfg.work_dir = str(tmp_path / "work")
        cfg.merge_from_dict({key.replace("__", "."): value for key, value in overrides.items()})
        return cfg

    return make


def _shrink(value, root):
    if isinstance(value, ConfigDict):
        if "data_root" in value and value.get("type") != "DigitsDataset":
            voc = value.get("type") == "PascalVOCDataset"
            value.data_root = str(root / ("voc" if voc else "camvid"))
        if value.get("type") in ("RandomResize", "Resize") and "scale" in value:
            value.scale = SIZE[::-1]
        if value.get("type") == "RandomCrop":
            value.crop_size = CROP
        for item in value.values():
            _shrink(item, root)
    elif isinstance(value, list | tuple):
        for item in value:
            _shrink(item, root)


@pytest.fixture
def config_file(tiny_config, tmp_path):
    """Writes such a config into a file."""
    numbers = itertools.count()

    def write(name=SAR_CAMVID, **overrides):
        path = tmp_path / f"config{next(numbers)}.py"
        tiny_config(name, **overrides).dump(path)
        return path

    return write


@pytest.fixture
def tool():
    """Calls ``train`` or ``test`` of tools/ as in a process of its own."""
    from dynbackbones.cli import test, train

    def call(name, *arguments):
        forget_runs()
        {"train": train, "test": test}[name].main([str(argument) for argument in arguments])

    return call


@pytest.fixture
def two_processes(tmp_path):
    """Runs a script of ``tmp_path`` under torchrun, which must end well."""

    def call(*arguments):
        port = str(20000 + os.getpid() % 20000)
        process = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
                *("--master_port", port),
                *(str(argument) for argument in arguments),
                *("--launcher", "pytorch"),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(CONFIGS.parent), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr[-9000:]

    return call


@pytest.fixture
def attached():
    """Prepares a model as DynamicBackboneHook does at the start of a run."""
    from dynbackbones.integrations.openmmlab import DynamicBackboneHook

    def attach(model):
        DynamicBackboneHook().before_run(SimpleNamespace(model=model))
        return model

    return attach


@pytest.fixture(scope="session")
def generator_file(tmp_path_factory):
    """Weights of a whole style generator, not trained."""
    from dynbackbones import checkpoints
    from dynbackbones.adaptation import build_generator

    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("generator") / "generator.pth"
    generator = build_generator("small_vgg", encoder_weights="random")
    checkpoints.save(path, generator.state_dict(), {})
    return path


@pytest.fixture
def dcan_config(tiny_config, tiny_root, generator_file):
    """A small config of a plain ResNet that adapts to the images of the validation set.

    Options of DCANHook, and overrides as of `tiny_config`, which have two underscores.
    """

    def make(hook=True, name="mmseg/r18_pspnet_1xb4-3k_camvid-240x320.py", **options):
        overrides = {key: options.pop(key) for key in list(options) if "__" in key}
        if "load_from" in options:
            overrides["load_from"] = options.pop("load_from")
        cfg = tiny_config(name, **overrides)
        if hook:
            cfg.custom_hooks = [*cfg.custom_hooks, dcan_options(tiny_root, generator_file, options)]
        return cfg

    return make


def dcan_options(root, generator_file, options):
    pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "RandomCrop", "crop_size": (48, 64)},
        {"type": "PackSegInputs"},
    ]
    return {
        "type": "DCANHook",
        "target_dataset": {
            "type": "BaseSegDataset",
            "data_root": str(root / "camvid"),
            "data_prefix": {"img_path": "img_dir/val"},
            "pipeline": pipeline,
        },
        "generator": {"encoder": "small_vgg", "weights": str(generator_file)},
        "num_workers": 0,
        "picture_interval": 0,
        **options,
    }


CLASS_NAMES = ("a cat", "n01440764", "Übung")
CLASS_SIZE = 32  # of the crops


@pytest.fixture(scope="session")
def shared_class_root(tmp_path_factory):
    """Class folders of any name with small JPEGs: 4 images each to train with, 2 to validate."""
    root, rng = tmp_path_factory.mktemp("classes") / "folders", np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(CLASS_NAMES):
            for number in range(count):
                noise = rng.integers(0, 80, (40, 48 + 4 * number, 3))
                path = root / split / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = (80 * label + noise).astype(np.uint8)
                path.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    return root


@pytest.fixture
def class_root(shared_class_root, tmp_path):
    """A copy to break."""
    return shutil.copytree(shared_class_root, tmp_path / "folders")


@pytest.fixture(scope="session")
def class_options():
    """Makes the options that turn an ImageNet config into a small one, for --cfg-options."""
    return small_imagenet


def small_imagenet(class_root):
    train, val = "train_dataloader.dataset.dataset", "val_dataloader.dataset"
    test = "test_dataloader.dataset"
    return [
        *(f"{key}.data_root={class_root}" for key in (train, val, test)),
        f"{train}.pipeline.1.scale={CLASS_SIZE}",
        *(f"{key}.pipeline.1.scale=40" for key in (val, test)),
        *(f"{key}.pipeline.2.crop_size={CLASS_SIZE}" for key in (val, test)),
        *(
            f"{loader}_dataloader.{option}"
            for loader in ("train", "val", "test")
            for option in ("num_workers=0", "persistent_workers=False")
        ),
        "model.backbone.depth=18", "model.head.in_channels=512",
        f"model.head.num_classes={len(CLASS_NAMES)}", "val_evaluator.0.topk=1",
        "test_evaluator.0.topk=1", "total_batch_size=4", "train_cfg.max_epochs=2",
        "default_hooks.logger.interval=1", "vis_backends=[]", "visualizer.vis_backends=[]",
        "env_cfg.cudnn_benchmark=False",
    ]  # fmt: skip
