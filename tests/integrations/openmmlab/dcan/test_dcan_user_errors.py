from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.runner import Runner

from dynbackbones.adaptation.encoder import VGG19_URL
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab import DCANHook
from tests.messages import names, naming

LABELS = {"type": "LoadAnnotations"}
IMAGES = [{"type": "LoadImageFromFile"}, {"type": "PackSegInputs"}]


def start(cfg):
    """One iteration, as in anybody's script."""
    cfg.train_cfg.update(max_iters=1, val_interval=9)
    Runner.from_cfg(cfg).train()


@pytest.fixture
def refused(dcan_config):
    """The message that a run with other target images ends in."""

    def call(change=None, **options):
        cfg = dcan_config(**options)
        if change is not None:
            change(cfg.custom_hooks[-1].target_dataset)
        with pytest.raises(UserError) as caught:
            start(cfg)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return call


def write_images(folder, shapes):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index, shape in enumerate(shapes):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 255, shape, np.uint8))


def images_of(folder, *transforms, **loading):
    """Changes a target dataset to the PNG files of a folder."""

    def change(dataset):
        load = {"type": "LoadImageFromFile", **loading}
        dataset.update(
            data_root=str(folder),
            data_prefix={"img_path": ""},
            img_suffix=".png",
            pipeline=[load, *transforms, {"type": "PackSegInputs"}],
        )

    return change


@pytest.mark.parametrize("wrapped", [False, True])
def test_labels_of_the_target_are_refused(refused, wrapped):
    def change(dataset):
        labels = {"type": "RandomApply", "transforms": [LABELS]} if wrapped else LABELS
        dataset.pipeline.insert(1, labels)
        dataset.data_prefix.seg_map_path = "ann_dir/val"

    assert names(refused(change), "target_dataset", "LoadAnnotations")


def test_labels_that_come_some_other_way_are_refused(refused):
    from mmengine.registry import TRANSFORMS

    @TRANSFORMS.register_module(force=True)
    class SmuggledLabels:
        def __call__(self, results):
            return {**results, "gt_seg_map": np.zeros(results["img_shape"], np.uint8)}

    message = refused(lambda dataset: dataset.pipeline.insert(1, {"type": "SmuggledLabels"}))
    assert names(message, "target_dataset", "gt_sem_seg")


def test_a_crop_by_labels_is_refused(refused):
    message = refused(lambda dataset: dataset.pipeline[1].update(cat_max_ratio=0.75))
    assert names(message, "target_dataset", "RandomCrop", "cat_max_ratio=0.75")


def test_an_empty_target_set(refused, tmp_path):
    write_images(tmp_path / "images", [])
    message = refused(images_of(tmp_path / "images"))
    assert names(message, "target_dataset", "BaseSegDataset", "empty", "data_root")


def test_target_images_of_several_sizes(refused, tmp_path):
    write_images(tmp_path / "images", [(48, 64, 3), (64, 64, 3)])
    message = refused(images_of(tmp_path / "images"))
    assert names(message, "48 x 64", "64 x 64", "Resize(keep_ratio=False)", "target_dataset")


@pytest.mark.parametrize("generator", [True, False])
def test_target_images_that_are_too_small(dcan_config, tmp_path, generator):
    write_images(tmp_path / "images", [(12, 64, 3)])
    cfg = dcan_config(**({} if generator else {"generator": None}))
    images_of(tmp_path / "images")(cfg.custom_hooks[-1].target_dataset)
    if generator:
        with pytest.raises(ValueError, match=naming("target images", "16 x 16", "12 x 64")):
            start(cfg)
    else:
        start(cfg)


def test_grey_target_images(refused, tmp_path):
    write_images(tmp_path / "images", [(48, 64)])
    message = refused(images_of(tmp_path / "images", color_type="grayscale"))
    assert names(message, "target images", 3, 1, tmp_path / "images" / "0.png")
    assert names(message, "color_type='color'")


def test_target_images_that_would_be_padded(refused):
    message = refused(model__data_preprocessor__test_cfg={"size_divisor": 32})
    assert names(message, "48 x 64", "64 x 64", "data_preprocessor.test_cfg", "target_dataset")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_root": "absent"}, ("BaseSegDataset", "data_root absent")),
        ({"data_prefix": {"img_path": "absent"}}, ("/absent", "data_prefix.img_path")),
        ({"ann_file": "absent.txt"}, ("/absent.txt", "ann_file")),
        ({"sufix": "png"}, ("'sufix'",)),
        ({"type": "BaseSegDatset"}, ("BaseSegDatset", "registry")),
    ],
)
def test_a_target_dataset_that_is_not_there(refused, change, words):
    message = refused(lambda dataset: dataset.update(change))
    assert names(message, "target_dataset", *words)


def test_the_tool_looks_for_the_target_images_first(dcan_config, tool, tmp_path):
    cfg = dcan_config()
    cfg.custom_hooks[-1].target_dataset.data_root = "absent"
    cfg.dump(tmp_path / "config.py")
    with pytest.raises(UserError, match=naming("target_dataset", "data_root absent")):
        tool("train", tmp_path / "config.py")
    assert not (tmp_path / "work").exists()


def test_a_stage_that_the_backbone_has_not(refused):
    message = refused(align_after="res6")
    assert names(message, "'res6'", "StaticResNet", "res2, res3, res4, res5")


def test_weights_that_are_missing(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    message = refused(generator={"encoder": "vgg19"})
    assert names(message, VGG19_URL, tmp_path / "hub" / "checkpoints" / Path(VGG19_URL).name)
    message = refused(generator={"encoder": "small_vgg"})
    assert names(message, "small_vgg", "encoder_weights")
    absent = {"encoder": "small_vgg", "weights": "absent.pth"}
    assert names(refused(generator=absent), "absent.pth", "exist")


def test_the_tool_looks_for_the_generator_first(dcan_config, tool, tmp_path):
    generator = {"encoder": "small_vgg", "weights": "absent.pth"}
    dcan_config(generator=generator).dump(tmp_path / "config.py")
    with pytest.raises(UserError, match=naming("absent.pth", "exist")):
        tool("train", tmp_path / "config.py")
    assert not (tmp_path / "work").exists()


def test_averaged_weights_beside_it(dcan_config):
    cfg = dcan_config()
    cfg.custom_hooks = [{"type": "EMAHook"}, *cfg.custom_hooks]
    with pytest.raises(UserError, match=naming("DCANHook", "EMAHook")):
        start(cfg)


def test_an_option_that_the_optimiser_has_not(refused):
    assert names(refused(gen_optim={"betas": (0.5, 0.9)}), "gen_optim", "SGD", "'betas'")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"generator": None, "align_after": None}, ("generator", "align_after")),
        ({"num_targets": 0}, ("num_targets", 0)),
        ({"num_targets": 1.5}, ("num_targets", 1.5)),
        ({"picture_interval": -1}, ("picture_interval", -1)),
        ({"generator_scale": 0}, ("generator_scale", 0)),
        ({"gen_loss_weight": -0.1}, ("gen_loss_weight", -0.1)),
        ({"clip_grad": {"norm": 1}}, ("clip_grad", "max_norm", {"norm": 1})),
        ({"clip_grad": {}}, ("clip_grad", "max_norm", {})),
    ],
)
def test_options_without_sense(options, words):
    with pytest.raises(UserError, match=naming(*words)):
        DCANHook(**{"target_dataset": {}, "generator": {}, **options})


def test_options_that_are_misspelt(refused):
    with pytest.raises(TypeError, match=naming("DCANHook", "'num_target'")):
        DCANHook(target_dataset={}, generator={}, num_target=2)
    message = refused(generator={"encoder": "small_vgg", "encoder_weight": "random"})
    assert names(message, "generator", "'encoder_weight'")
