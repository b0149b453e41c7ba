from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from dynbackbones.integrations.openmmlab.pictures import (
    TITLE_HEIGHT,
    refined_shares,
    segmentation_picture,
)

RECIPES = Path(__file__).parents[3] / "configs" / "pretrain" / "_base_" / "recipes"
CLASSIFIER = f"""
_base_ = {str(RECIPES / "sar_resnet20_cifar10-small.py")!r}
custom_hooks = [*_base_.custom_hooks, dict(type="RegionPictureHook", num_images=2)]
model = dict(backbone=dict(selector_margin=0))
"""
CAMVID = "mmseg/{}r18_pspnet_1xb4-3k_camvid-240x320.py"
PANEL = (64 + TITLE_HEIGHT + 2, 80 + 2)


@pytest.mark.parametrize(("kind", "rows"), [("sar-", 2), ("", 1)])
def test_validation_and_test_draw(tiny_config, tmp_path, kind, rows):
    cfg = tiny_config(CAMVID.format(kind), train_cfg__max_iters=1, train_cfg__val_interval=1)
    runner = Runner.from_cfg(cfg)
    runner.train()
    runner.test()
    files = sorted((tmp_path / "work").glob("*/vis_data/vis_image/*.png"))
    assert [path.name.rsplit("_", 1)[0] for path in files] == ["test_0", "test_1", "val_0", "val_1"]
    for path in files:
        assert cv2.imread(str(path)).shape == (rows * PANEL[0], 3 * PANEL[1], 3)


def test_no_more_pictures_than_asked_for(tiny_config, tmp_path):
    cfg = tiny_config(custom_hooks__1__num_images=1, train_cfg__max_iters=1)
    runner = Runner.from_cfg(cfg)
    runner.test()
    runner.test()
    assert len(list((tmp_path / "work").glob("*/vis_data/vis_image/*.png"))) == 1


def test_flips_and_scales_at_test_time(config_file, tool, tmp_path, tiny_config):
    init_default_scope("mmseg")
    model = MODELS.build(tiny_config().model)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    config = config_file()
    arguments = (config, tmp_path / "weights.pth", "--work-dir")
    tool("test", *arguments, tmp_path / "plain")
    tool("test", *arguments, tmp_path / "tta", "--tta")
    plain, tta = (
        sorted((tmp_path / name).glob("*/vis_data/vis_image/*.png")) for name in ("plain", "tta")
    )
    assert len(plain) == len(tta) == 2
    for first, second in zip(plain, tta, strict=True):
        first, second = cv2.imread(str(first)), cv2.imread(str(second))
        # Image, ground truth and regions are those of the image that is not flipped.
        assert np.array_equal(first[:, : 2 * PANEL[1]], second[:, : 2 * PANEL[1]])


@pytest.fixture
def model(tiny_config, attached):
    torch.manual_seed(0)
    init_default_scope("mmseg")
    model = MODELS.build(tiny_config(model__backbone__selector_margin=0).model)
    return attached(model.eval())


def test_shares_are_those_of_the_image_asked_for(model):
    images = [torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8) for _ in range(3)]
    samples = [SegDataSample(metainfo={"img_shape": (64, 80)}) for _ in images]
    batch = {"inputs": images, "data_samples": samples}
    flipped = [image.flip(-1) for image in images]
    augmented = {"inputs": [images, flipped], "data_samples": [samples, samples]}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for index, image in enumerate(images):
        inputs = model.data_preprocessor({"inputs": [image]}, False)["inputs"]
        with torch.no_grad():
            model.backbone(inputs)
        rates = model.backbone.decisions.stages["res2"].block_rates()
        expected = refined_shares(model, batch, index)
        assert set(expected) == {"res2", "res3", "res4"}
        assert expected["res2"].shape == (64, 80)
        assert float(expected["res2"].mean()) == pytest.approx(float(rates.mean()), abs=0.02)
        found = refined_shares(model, augmented, index)
        assert all(torch.equal(found[stage], expected[stage]) for stage in expected)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_look_at_the_image_leaves_no_trace(model):
    model.train()
    image = torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8)
    sample = SegDataSample(metainfo={"img_shape": (64, 80)})
    model.backbone(torch.randn(1, 3, 64, 64))
    model.backbone.auxiliary_losses()
    before = model.backbone.decisions
    refined_shares(model, {"inputs": [image], "data_samples": [sample]}, 0)
    assert model.backbone.training
    assert model.backbone.decisions is before
    assert model.backbone.auxiliary_losses() == {}


def test_what_a_picture_shows():
    image = np.full((40, 90, 3), 200, np.uint8)
    labels = np.zeros((40, 90), np.uint8)
    labels[:, 45:] = 255
    share = torch.zeros(20, 45)
    share[:10] = 1
    picture = segmentation_picture(image, {"prediction": labels}, {"res2": share}, [[0, 0, 200]])
    assert picture.shape == (40 + TITLE_HEIGHT + 2, 3 * 92, 3)
    assert picture.dtype == np.uint8
    panels = picture[TITLE_HEIGHT:-2].reshape(40, 3, 92, 3)[:, :, :-2].swapaxes(0, 1)
    assert np.array_equal(panels[0], image)
    assert (panels[1][:, :45] == [80, 80, 200]).all()
    # No colour for pixels without a class.
    assert (panels[1][:, 45:] == 200).all()
    # What was refined is bright.
    assert panels[2][5:15].mean() > panels[2][25:35].mean()


def test_an_image_that_cannot_be_read(tiny_config, tmp_path, tiny_root, caplog):
    cfg = tiny_config()
    runner = Runner.from_cfg(cfg)
    hook = next(h for h in runner.hooks if type(h).__name__ == "RegionPictureHook")
    sample = SegDataSample(metainfo={"img_path": str(tmp_path / "absent.jpg")})
    said = []
    runner.logger.warning = said.append
    hook._show(runner, "val", {}, [sample])
    assert said == [f"no picture of {tmp_path / 'absent.jpg'}: it cannot be read"]


def test_classified_images_are_drawn_as_the_network_saw_them(tool, tmp_path):
    from dynbackbones.integrations.openmmlab import checks

    (tmp_path / "config.py").write_text(CLASSIFIER)
    torch.manual_seed(0)
    model = checks.build_model(checks.load_config(tmp_path / "config.py"))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    greys = np.array([60, 120, 180], np.uint8)
    images = np.broadcast_to(greys[:, None, None, None], (3, 32, 32, 3))
    np.savez(tmp_path / "val.npz", images=images, labels=np.array([3, 1, 2]))
    tool(
        "test", tmp_path / "config.py", tmp_path / "weights.pth", "--work-dir", tmp_path / "work",
        "--cfg-options", f"test_dataloader.dataset.data_root={tmp_path}",
    )  # fmt: skip
    files = sorted((tmp_path / "work").glob("*/vis_data/vis_image/test_*.png"))
    assert [path.stem.rsplit("_", 1)[0] for path in files] == ["test_0", "test_1"]
    for path, grey in zip(files, greys, strict=False):
        picture = cv2.imread(str(path))
        # The image and three stages, in rows of three.
        assert picture.shape == (2 * (224 + TITLE_HEIGHT + 2), 3 * (224 + 2), 3)
        assert (picture[TITLE_HEIGHT : TITLE_HEIGHT + 224, :224] == grey).all()
        stage = picture[TITLE_HEIGHT : TITLE_HEIGHT + 224, 226 : 226 + 224]
        assert (stage < grey).any(), "not everything is refined with this margin"
