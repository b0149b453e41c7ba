"""Every way into the package against every rule that holds for what comes in.

A cell of the table is shown by a run that must be refused, or it has a reason why the rule does not
apply. A rule that is added needs a cell for each door, and a door one for each rule.
"""

import importlib.util
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmseg")
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

import dynbackbones
from dynbackbones.errors import UserError
from tests.messages import naming

CONFIGS = Path(dynbackbones.__file__).parents[1] / "configs"
ENGINES = ["torchvision", *(["detectron2"] if importlib.util.find_spec("detectron2") else [])]

DETECTOR = """
_BASE_: {base}/demo/sar_retinanet.yaml
MODEL:
  WEIGHTS: ""
  DEVICE: cpu
  FPN: {{OUT_CHANNELS: 32}}
  RETINANET: {{NUM_CLASSES: 2, NUM_CONVS: 1}}
DATASETS:
  COCO_FORMAT: {{t: [coco/train.json, coco/images], v: [coco/val.json, coco/images]}}
  TRAIN: [t]
  TEST: [v]
DATALOADER: {{NUM_WORKERS: 0}}
INPUT: {{MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64}}
SOLVER: {{MAX_ITER: 1, IMS_PER_BATCH: 1, WARMUP_ITERS: 0}}
OUTPUT_DIR: {root}/detector
"""
SEGMENTOR = """
_base_ = "{base}/demo/sar_semantic_fpn.py"
P = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), dict(type="PackSegInputs")]
D = dict(type="BaseSegDataset", data_root="{root}/seg", pipeline=P,
         data_prefix=dict(img_path="images", seg_map_path="labels"))
M = dict(classes=("x", "a"), palette=[[0, 0, 0], [255, 0, 0]])
model = dict(data_preprocessor=dict(size=(64, 64)), decode_head=dict(num_classes=2,
             loss_decode=dict(_delete_=True, type="CrossEntropyLoss")))
train_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False,
    dataset=dict(_delete_=True, type="SeededDataset", dataset=dict(**D, metainfo=M)))
V = dict(batch_size=1, num_workers=0, persistent_workers=False,
         dataset=dict(_delete_=True, **D, metainfo=M, test_mode=True))
val_dataloader = V
test_dataloader = V
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1, val_interval=1)
custom_hooks = [dict(type="DynamicBackboneHook")]
"""


class Entrance:
    """Sound data, configs and weights in a folder, to be broken, and calls of the doors."""

    def __init__(self, root):
        self.root = root
        self.detector, self.segmentor = root / "detector.yaml", root / "segmentor.py"
        self.detector.write_text(DETECTOR.format(base=CONFIGS, root=root))
        self.segmentor.write_text(SEGMENTOR.format(base=CONFIGS, root=root))
        self.weights = root / "weights.pth"
        for folder in ("coco/images", "seg/images", "seg/labels"):
            (root / folder).mkdir(parents=True)
        image = Image.new("RGB", (64, 64), (90, 120, 60))
        for path in ("coco/images/0.png", "seg/images/0.jpg"):
            image.save(root / path)
        Image.fromarray(np.eye(64, dtype=np.uint8)).save(root / "seg/labels/0.png")
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 30, 30], "area": 900}
        self.content = {
            "images": [{"id": 1, "file_name": "0.png", "height": 64, "width": 64}],
            "annotations": [{**box, "iscrowd": 0}],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        self.write("train.json", self.content)
        self.write("val.json", self.content)

    def write(self, name, content):
        (self.root / "coco" / name).write_text(json.dumps(content))

    def rename(self, name, *names):
        pairs = zip((1, 2), names, strict=True)
        self.write(name, {**self.content, "categories": [{"id": i, "name": n} for i, n in pairs]})

    def save_weights(self, model, classes):
        """A model's weights, whose file says what its classes are."""
        meta = {"classes": classes, "dataset_meta": {"classes": classes}, "epoch": 0, "iter": 0}
        torch.save({"state_dict": model.state_dict(), "meta": meta}, self.weights)

    def save_detector(self, *classes, engine="torchvision"):
        if engine == "detectron2":
            from dynbackbones.integrations.detectron2 import engine as adapter

            model = adapter.Trainer.build_model(adapter.setup(str(self.detector)))
        else:
            from dynbackbones.integrations.torchvision.config import load_config
            from dynbackbones.integrations.torchvision.detectors import build_detector

            model = build_detector(load_config(str(self.detector)))
        self.save_weights(model, classes)

    def save_segmentor(self, *classes):
        from dynbackbones.integrations.openmmlab import checks

        self.save_weights(checks.build_model(checks.load_config(self.segmentor)), classes)

    def train_net(self, *options, engine="torchvision", flags=()):
        from dynbackbones.cli import train_net

        start = ["--engine", engine, "--config-file", self.detector, *flags]
        train_net.main([str(word) for word in (*start, *options)])

    def evaluate(self, *options, engine="torchvision"):
        weights = ("MODEL.WEIGHTS", self.weights)
        self.train_net(*weights, *options, engine=engine, flags=["--eval-only"])

    def visualize(self, *options, engine="torchvision"):
        from dynbackbones.cli import visualize

        start = ["--engine", engine, "--config-file", self.detector]
        words = (*start, "MODEL.WEIGHTS", self.weights, *options)
        visualize.main([str(word) for word in words])

    def predictor(self, *options, engine="torchvision"):
        from dynbackbones.integrations.engine import import_engine

        adapter = import_engine(engine)
        adapter.load_predictor(adapter.setup(str(self.detector), list(map(str, options))))

    def benchmark(self):
        from dynbackbones.cli.benchmark import main

        main(["--calibrate", str(self.detector), "--weights", str(self.weights), "--rates", "0.5"])

    def train(self, *options):
        from dynbackbones.cli import train

        changed = ["--cfg-options", *options] if options else []
        train.main([str(self.segmentor), "--work-dir", str(self.root / "work"), *changed])

    def test(self, *options):
        from dynbackbones.cli import test

        changed = ["--cfg-options", *options] if options else []
        words = [self.segmentor, self.weights, "--work-dir", self.root / "work", *changed]
        test.main([str(word) for word in words])

    def convert(self):
        from dynbackbones.cli import convert

        convert.main([str(self.weights), "--to", "detectron2", "-o", str(self.root / "out.pth")])

    def export(self, config=None):
        from dynbackbones.cli import export

        words = ["--config-file", config or self.detector, "--weights", self.weights]
        export.main([str(word) for word in (*words, "-o", self.root / "out.onnx")])

    def stream(self, config=None):
        from dynbackbones.cli import stream

        words = ["--config-file", config or self.detector, "--weights", self.weights]
        video = [self.root / "coco/images", "-o", self.root / "out.mp4"]
        stream.main([str(word) for word in (*words, *video)])

    def stream_table(self, config=None):
        from dynbackbones.cli import stream_table

        words = ["--config-file", config or self.detector, "--weights", self.weights]
        stream_table.main([str(word) for word in words])

    def zoom(self, *options):
        """Which draws what it looked at: the policy is none that was trained."""
        from dynbackbones.cli import zoom

        start = ["predict", "--engine", "torchvision", "--config-file", self.detector]
        words = (*start, "MODEL.WEIGHTS", self.weights, *options)
        zoom.main([str(word) for word in words])

    def load_weights(self):
        dynbackbones.load_weights(dynbackbones.build_backbone("resnet18"), self.weights)


@pytest.fixture
def entrance(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    forget_runs()
    yield Entrance(tmp_path)
    forget_runs()


def forget_runs():
    """As if each run had a process of its own: mmengine keeps what it makes by name."""
    for manager in (MMLogger, MessageHub, DefaultScope, Visualizer, *Visualizer.__subclasses__()):
        manager._instance_dict.clear()


DOORS = (
    "train-net", "train-net --eval-only", "train", "test", "visualize", "convert", "benchmark",
    "compare", "load_predictor", "load_weights", "export", "export segmentor", "stream",
    "stream segmentor", "stream-table", "stream-table segmentor", "zoom",
)  # fmt: skip
BOTH = ("train-net", "train-net --eval-only", "visualize", "load_predictor")
"""Doors with two engines behind them."""
CELLS = "each cell is a run of train-net, train or test"


def no_classes_but_theirs(entrance, door, engine):
    """Data and weights that take labels for other things."""
    words = ("'cow'", "cat, dog")
    if door == "train-net":
        entrance.rename("val.json", "cow", "dog")
        return lambda: entrance.train_net(engine=engine), words
    if door in ("train", "test"):
        entrance.save_segmentor("a", "x")
        turned = "val_dataloader.dataset.metainfo.classes=('a','x')"
        call = entrance.test if door == "test" else lambda: entrance.train(turned)
        return call, ("a, x", "x, a", "metainfo")
    if door == "stream-table segmentor":
        entrance.save_segmentor("a", "x")
        return calls_with_weights(entrance, engine)[door], ("a, x", "x, a", "metainfo")
    entrance.save_detector("cat", "dog", engine=engine)
    entrance.rename("val.json", "cow", "dog")
    calls = {
        "stream-table": entrance.stream_table,
        "zoom": entrance.zoom,
        "train-net --eval-only": lambda: entrance.evaluate(engine=engine),
        "visualize": lambda: entrance.visualize(engine=engine),
        "benchmark": entrance.benchmark,
    }
    return calls[door], words


def no_other_sizes(entrance, door, engine):
    """Images and annotations of different sizes."""
    if door in ("train", "test", "stream-table segmentor"):
        entrance.save_segmentor("x", "a")
        Image.new("L", (32, 64)).save(entrance.root / "seg/labels/0.png")
        calls = {**calls_with_weights(entrance, engine), "train": entrance.train}
        return calls[door], ("0.png", "64 x 32", "64 x 64")
    entrance.save_detector("cat", "dog", engine=engine)
    Image.new("RGB", (32, 64)).save(entrance.root / "coco/images/0.png")
    calls = {
        **calls_with_weights(entrance, engine),
        "train-net": lambda: entrance.train_net(engine=engine),
    }
    return calls[door], ("coco/images/0.png", "32", "64")


def nothing_empty(entrance, door, engine):
    """Data without a sample, files without weights, options without a value."""
    torch.save({}, entrance.weights)
    if door in ("convert", "load_weights", "export", "export segmentor"):
        return calls_with_weights(entrance, engine)[door], (entrance.weights,)
    if door == "stream-table segmentor":
        entrance.save_segmentor("x", "a")
        (entrance.root / "seg/images/0.jpg").unlink()
        return calls_with_weights(entrance, engine)[door], ("empty", "img_suffix")
    if door.startswith("stream") and door != "stream-table":
        (entrance.save_segmentor if "segmentor" in door else entrance.save_detector)("x", "a")
        (entrance.root / "coco/images/0.png").unlink()
        return calls_with_weights(entrance, engine)[door], (entrance.root / "coco/images",)
    if door == "train":
        options = "train_dataloader.dataset.dataset.img_suffix=.tif"
        return lambda: entrance.train(options), ("empty", "img_suffix='.tif'")
    if door == "test":
        entrance.save_segmentor("x", "a")
        options = "test_dataloader.dataset.img_suffix=.tif"
        return lambda: entrance.test(options), ("empty", "img_suffix='.tif'")
    if door == "load_predictor":
        options = ("MODEL.WEIGHTS", "", "OUTPUT_DIR", entrance.root / "none")
        return lambda: entrance.predictor(*options, engine=engine), ("MODEL.WEIGHTS",)
    if door == "train-net":
        entrance.write("train.json", {**entrance.content, "annotations": []})
        return lambda: entrance.train_net(engine=engine), ("t", "no image has a box")
    entrance.save_detector("cat", "dog", engine=engine)
    if door in ("benchmark", "stream-table", "zoom"):
        config = entrance.detector
        config.write_text(config.read_text().replace("TEST: [v]", "TEST: []"))
        return calls_with_weights(entrance, engine)[door], ("DATASETS.TEST",)
    call = {"train-net --eval-only": entrance.evaluate, "visualize": entrance.visualize}[door]
    return lambda: call("DATASETS.TEST", "()", engine=engine), ("DATASETS.TEST",)


def calls_with_weights(entrance, engine):
    """A call of each door that takes the file of weights."""
    weights = ("MODEL.WEIGHTS", entrance.weights)
    return {
        "train-net": lambda: entrance.train_net(*weights, engine=engine),
        "train-net --eval-only": lambda: entrance.evaluate(engine=engine),
        "train": lambda: entrance.train(f"load_from={entrance.weights}"),
        "test": entrance.test,
        "visualize": lambda: entrance.visualize(engine=engine),
        "convert": entrance.convert,
        "benchmark": entrance.benchmark,
        "export": entrance.export,
        "export segmentor": lambda: entrance.export(entrance.segmentor),
        "stream": entrance.stream,
        "stream segmentor": lambda: entrance.stream(entrance.segmentor),
        "stream-table": entrance.stream_table,
        "stream-table segmentor": lambda: entrance.stream_table(entrance.segmentor),
        "zoom": entrance.zoom,
        "load_predictor": lambda: entrance.predictor(*weights, engine=engine),
        "load_weights": entrance.load_weights,
    }


class Hostile:
    """Writes a file when somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def nothing_runs(entrance, door, engine):
    """Weights that are a program."""
    canary = entrance.root / "was here"
    entrance.weights.write_bytes(pickle.dumps(Hostile(canary)))
    return calls_with_weights(entrance, engine)[door], (entrance.weights,)


def nothing_but_numbers(entrance, door, engine):
    """Weights of a training that diverged."""
    if door in ("train", "test") or "segmentor" in door:
        entrance.save_segmentor("x", "a")
    elif door in ("convert", "load_weights"):
        entrance.save_weights(dynbackbones.build_backbone("resnet18"), ())
    else:
        entrance.save_detector("cat", "dog", engine=engine)
    content = torch.load(entrance.weights, weights_only=True)
    for value in content["state_dict"].values():
        if value.is_floating_point():
            value.view(-1)[0] = float("nan")
    torch.save(content, entrance.weights)
    return calls_with_weights(entrance, engine)[door], (entrance.weights, "finite")


RULES = {
    "classes agree": no_classes_but_theirs,
    "sizes agree": no_other_sizes,
    "not empty": nothing_empty,
    "safe file": nothing_runs,
    "finite": nothing_but_numbers,
}
DOES_NOT_APPLY = {
    ("convert", "classes agree"): "it reads no data",
    ("convert", "sizes agree"): "it reads no images",
    ("load_predictor", "classes agree"): "it has no data; what it predicts are labels",
    ("load_predictor", "sizes agree"): "images come as arrays, without annotations",
    ("load_weights", "classes agree"): "it has no data",
    ("load_weights", "sizes agree"): "it has no images",
    **{("compare", rule): CELLS for rule in RULES},
    **{
        (f"{door}{kind}", rule): "it reads no dataset"
        for door in ("export", "stream")
        for kind in ("", " segmentor")
        for rule in ("classes agree", "sizes agree")
    },
}


def test_every_cell_is_shown_or_explained():
    shown = {(door, rule) for door in DOORS for rule in RULES} - DOES_NOT_APPLY.keys()
    assert {door for door, _ in DOES_NOT_APPLY} <= set(DOORS)
    assert all(reason for reason in DOES_NOT_APPLY.values())
    assert {(door, rule) for door, rule, _ in table()} == shown


def table():
    for door in DOORS:
        for rule in RULES:
            if (door, rule) not in DOES_NOT_APPLY:
                for engine in ENGINES if door in BOTH else ["torchvision"]:
                    yield door, rule, engine


@pytest.mark.parametrize(
    ("door", "rule", "engine"),
    [
        pytest.param(*cell, marks=[pytest.mark.detectron2] * (cell[2] == "detectron2"))
        for cell in table()
    ],
)
def test_doors_and_rules(entrance, door, rule, engine):
    call, words = RULES[rule](entrance, door, engine)
    with pytest.raises(UserError, match=naming(*words)) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert not (entrance.root / "was here").exists()


def test_sound_input_passes(entrance):
    entrance.save_detector("cat", "dog")
    entrance.train_net()
    entrance.evaluate()
    entrance.save_segmentor("x", "a")
    entrance.train()
    shutil.rmtree(entrance.root / "work")
    forget_runs()
    entrance.test()
