import re

import cv2
import numpy as np
import pytest
from mmengine.runner import Runner

from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab import DCANHook

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

    message = refused(change)
    assert re.search(
        r"target_dataset loads labels \(LoadAnnotations in its pipeline\);.* take it", message
    )


def test_labels_that_come_some_other_way_are_refused(refused):
    from mmengine.registry import TRANSFORMS

    @TRANSFORMS.register_module(force=True)
    class SmuggledLabels:
        def __call__(self, results):
            return {**results, "gt_seg_map": np.zeros(results["img_shape"], np.uint8)}

    message = refused(lambda dataset: dataset.pipeline.insert(1, {"type": "SmuggledLabels"}))
    assert "target_dataset gives labels (gt_sem_seg); target images are used without" in message


def test_a_crop_by_labels_is_refused(refused):
    message = refused(lambda dataset: dataset.pipeline[1].update(cat_max_ratio=0.75))
    assert "RandomCrop has cat_max_ratio=0.75, which needs labels" in message


def test_an_empty_target_set(refused, tmp_path):
    write_images(tmp_path / "images", [])
    message = refused(images_of(tmp_path / "images"))
    assert "target_dataset (BaseSegDataset) is empty: check data_root, data_prefix" in message


def test_target_images_of_several_sizes(refused, tmp_path):
    write_images(tmp_path / "images", [(48, 64, 3), (64, 64, 3)])
    message = refused(images_of(tmp_path / "images"))
    assert "differ in size (48 x 64 and 64 x 64); add Resize(keep_ratio=False) or Random" in message


@pytest.mark.parametrize("generator", [True, False])
def test_target_images_that_are_too_small(dcan_config, tmp_path, generator):
    write_images(tmp_path / "images", [(12, 64, 3)])
    cfg = dcan_config(**({} if generator else {"generator": None}))
    images_of(tmp_path / "images")(cfg.custom_hooks[-1].target_dataset)
    if generator:
        with pytest.raises(ValueError, match="target images must be at least 16 x 16 .* 12 x 64"):
            start(cfg)
    else:
        start(cfg)


def test_grey_target_images(refused, tmp_path):
    write_images(tmp_path / "images", [(48, 64)])
    message = refused(images_of(tmp_path / "images", color_type="grayscale"))
    assert re.search(
        r"must have 3 channels, got 1 \(.*0.png\); load them .*color_type='color'", message
    )


def test_target_images_that_would_be_padded(refused):
    message = refused(model__data_preprocessor__test_cfg={"size_divisor": 32})
    assert (
        "target images of 48 x 64 pixels are padded to 64 x 64 by data_preprocessor.test" in message
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"data_root": "absent"},
            "target_dataset: BaseSegDataset: data_root absent does not exist",
        ),
        (
            {"data_prefix": {"img_path": "absent"}},
            "folder .*absent of data_prefix.img_path does not",
        ),
        ({"ann_file": "absent.txt"}, "the split file .*absent.txt of ann_file does not exist"),
        ({"sufix": "png"}, "target_dataset cannot be built: .*unexpected keyword argument 'sufix'"),
        (
            {"type": "BaseSegDatset"},
            "target_dataset cannot be built: .*BaseSegDatset is not in the",
        ),
    ],
)
def test_a_target_dataset_that_is_not_there(refused, change, message):
    found = refused(lambda dataset: dataset.update(change))
    assert re.search(message, found), found


def test_the_tool_looks_for_the_target_images_first(dcan_config, tool, tmp_path):
    cfg = dcan_config()
    cfg.custom_hooks[-1].target_dataset.data_root = "absent"
    cfg.dump(tmp_path / "config.py")
    with pytest.raises(
        UserError, match="target_dataset: BaseSegDataset: data_root absent does not"
    ):
        tool("train", tmp_path / "config.py")
    assert not (tmp_path / "work").exists()


def test_a_stage_that_the_backbone_has_not(refused):
    message = refused(align_after="res6")
    assert "cannot align after 'res6': StaticResNet has no such feature or module" in message
    assert "choose res2, res3, res4, res5" in message


def test_weights_that_are_missing(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    message = refused(generator={"encoder": "vgg19"})
    assert re.search(
        "weights of VGG-19 are missing: download https://.* to .*vgg19-dcbb9e9d.pth", message
    )
    assert "encoder small_vgg has no weights" in refused(generator={"encoder": "small_vgg"})
    absent = {"encoder": "small_vgg", "weights": "absent.pth"}
    assert "absent.pth does not exist" in refused(generator=absent)


def test_the_tool_looks_for_the_generator_first(dcan_config, tool, tmp_path):
    generator = {"encoder": "small_vgg", "weights": "absent.pth"}
    dcan_config(generator=generator).dump(tmp_path / "config.py")
    with pytest.raises(UserError, match=r"absent\.pth does not exist"):
        tool("train", tmp_path / "config.py")
    assert not (tmp_path / "work").exists()


def test_averaged_weights_beside_it(dcan_config):
    cfg = dcan_config()
    cfg.custom_hooks = [{"type": "EMAHook"}, *cfg.custom_hooks]
    with pytest.raises(UserError, match="DCANHook does not work beside EMAHook"):
        start(cfg)


def test_an_option_that_the_optimiser_has_not(refused):
    assert "gen_optim: SGD has no option 'betas'" in refused(gen_optim={"betas": (0.5, 0.9)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"generator": None, "align_after": None},
            "has nothing to do: give a generator .* or both",
        ),
        ({"num_targets": 0}, "num_targets must be a whole number from 1 on, got 0"),
        ({"num_targets": 1.5}, "num_targets must be a whole number from 1 on, got 1.5"),
        ({"picture_interval": -1}, "picture_interval must be a whole number from 0 on, got -1"),
        ({"generator_scale": 0}, "generator_scale must be positive, got 0"),
        ({"gen_loss_weight": -0.1}, "gen_loss_weight must not be negative, got -0.1"),
        ({"clip_grad": {"norm": 1}}, "clip_grad takes max_norm and norm_type, got {'norm': 1}"),
        ({"clip_grad": {}}, "clip_grad takes max_norm and norm_type, got {}"),
    ],
)
def test_options_without_sense(options, message):
    with pytest.raises(UserError, match=message):
        DCANHook(**{"target_dataset": {}, "generator": {}, **options})


def test_options_that_are_misspelt(refused):
    with pytest.raises(TypeError, match="num_target'"):
        DCANHook(target_dataset={}, generator={}, num_target=2)
    message = refused(generator={"encoder": "small_vgg", "encoder_weight": "random"})
    assert re.search("generator cannot be built: .*keyword argument 'encoder_weight'", message)
