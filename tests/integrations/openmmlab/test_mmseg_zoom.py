import copy
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from dynbackbones.errors import UserError
from dynbackbones.zoom import LearnedPolicy, ZoomSegmentor
from dynbackbones.zoom.images import resized
from dynbackbones.zoom.learned import describe
from tests.messages import naming

CONFIGS = Path(__file__).parents[3] / "configs"
PLAIN = "demo/semantic_fpn.py"
MODULE = "dynbackbones.integrations.openmmlab.zoom_segmentor"
OPTIONS = {"patch": 64, "scale": 4, "halo": 16, "rate": 0.25}


@pytest.fixture
def segmentor(tiny_config):
    torch.manual_seed(0)
    init_default_scope("mmseg")
    return trained(tiny_config(PLAIN).model)


def trained(cfg):
    """With norms that have statistics of their own."""
    model = MODELS.build(cfg)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(2, 3, 64, 64))
    return model.eval()


@pytest.fixture
def zoom_file(config_file, tmp_path):
    """Writes a config whose plain segmentor zoom wraps."""

    def write(name=PLAIN, hook="DynamicBackboneHook", **options):
        plain = Config.fromfile(config_file(name))
        cfg = copy.deepcopy(plain)
        cfg.model = ConfigDict(type="ZoomSegmentor", segmentor=plain.model, **OPTIONS | options)
        cfg.custom_imports.imports = [*cfg.custom_imports.imports, MODULE]
        cfg.custom_hooks = [{"type": hook}]
        cfg.work_dir = str(tmp_path / "zoomed")
        path = tmp_path / "zoom.py"
        cfg.dump(path)
        return path

    return write


def sample(height, width, **metainfo):
    size = (height, width)
    return SegDataSample(metainfo={"img_shape": size, "ori_shape": size, **metainfo})


def picture(height=130, width=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def batch(*images):
    samples = [sample(*image.shape[1:]) for image in images]
    return {"inputs": list(images), "data_samples": samples}


def sizes_seen(module):
    seen = []
    module.register_forward_hook(lambda net, inputs, output: seen.append(tuple(inputs[0].shape)))
    return seen


@pytest.mark.parametrize("align_corners", [False, True])
def test_nothing_chosen_is_mmsegs_own_pass_over_the_reduced_image(segmentor, align_corners):
    segmentor.align_corners = segmentor.decode_head.align_corners = align_corners
    zoom = ZoomSegmentor(segmentor, **OPTIONS | {"rate": 0.0})
    (found,) = zoom.test_step(batch(picture()))
    small = resized(picture(), (33, 50))
    own = sample(33, 50)
    own.set_metainfo({"ori_shape": (130, 200)})
    (expected,) = segmentor.test_step({"inputs": [small], "data_samples": [own]})
    torch.testing.assert_close(
        found.seg_logits.data, expected.seg_logits.data, rtol=1e-4, atol=1e-4
    )
    assert found.pred_sem_seg.data.shape == (1, 130, 200)
    assert found.pred_sem_seg.data.dtype == expected.pred_sem_seg.data.dtype
    assert torch.equal(found.pred_sem_seg.data[0], found.seg_logits.data.argmax(0))


def test_the_backbone_sees_the_reduced_image_and_crops_and_nothing_else(segmentor):
    zoom = ZoomSegmentor(segmentor, **OPTIONS | {"batch_crops": 2})
    seen = sizes_seen(segmentor.backbone)
    zoom.test_step(batch(picture(200, 300)))
    # 3 x 5 patches, the last row and column as wide as what is left and the halo before it.
    assert zoom.decisions.grids[0].shape == (3, 5)
    assert seen == [(1, 3, 50, 75), (2, 3, 96, 96), (2, 3, 96, 96)]
    zoom.test_step(batch(picture(60, 61)))
    assert seen[3:] == [(1, 3, 15, 16)]
    assert zoom.decisions.rate.tolist() == [0]
    zoom.test_step(batch(picture(60, 61), picture(60, 61)))
    assert seen[4:] == [(2, 3, 15, 16)]


def test_parts_are_normalised_as_the_whole_is(segmentor):
    zoom = ZoomSegmentor(segmentor, **OPTIONS | {"rate": None, "policy": "all"})
    (stepped,) = zoom.test_step(batch(picture()))
    data = segmentor.data_preprocessor(batch(picture()), False)
    (called,) = zoom(**data, mode="predict")
    torch.testing.assert_close(stepped.seg_logits.data, called.seg_logits.data)


def test_images_are_padded_to_the_segmentors_divisor_and_results_are_not(segmentor):
    segmentor.data_preprocessor.test_cfg = {"size_divisor": 32}
    zoom = ZoomSegmentor(segmentor, **OPTIONS)
    seen = sizes_seen(segmentor.backbone)
    (found,) = zoom.test_step(batch(picture()))
    assert {size[-2:] for size in seen} == {(64, 64), (96, 96)}
    assert segmentor.backbone.decisions.image_sizes == [(96, 96)] * 2
    assert found.seg_logits.data.shape[1:] == (130, 200)
    data = segmentor.data_preprocessor(batch(picture()), False)
    assert data["inputs"].shape[-2:] == (160, 224)
    (called,) = zoom(**data, mode="predict")
    # Bytes are reduced to bytes, so a few pixels differ.
    same = called.pred_sem_seg.data == found.pred_sem_seg.data
    assert same.shape == (1, 130, 200)
    assert same.double().mean() > 0.95


def test_a_model_with_one_channel_answers_in_mmsegs_way(tiny_config):
    cfg = tiny_config(PLAIN)
    cfg.model.decode_head.update(num_classes=2, out_channels=1, threshold=0.4)
    cfg.model.decode_head.loss_decode = {"type": "CrossEntropyLoss", "use_sigmoid": True}
    init_default_scope("mmseg")
    model = trained(cfg.model)
    zoom = ZoomSegmentor(model, **OPTIONS)
    (found,) = zoom.test_step(batch(picture()))
    (own,) = model.test_step(batch(picture()))
    for key in ("seg_logits", "pred_sem_seg"):
        ours, theirs = found.get(key).data, own.get(key).data
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert torch.equal(found.pred_sem_seg.data, (found.seg_logits.data > 0.4).float())
    assert zoom.looks(picture().float())[0].probabilities.shape[0] == 2


def test_a_policy_reads_the_pyramid_or_the_last_map(segmentor):
    zoom = ZoomSegmentor(segmentor, **OPTIONS)
    coarse, _ = zoom.looks(torch.randn(3, 130, 200))
    assert coarse.features.shape == (64, 9, 13)
    assert coarse.stride == pytest.approx(16, rel=0.05)
    inputs = describe(coarse, 6)
    assert inputs.shape == (len(coarse.grid), 64 * 2 + 6 + 1)
    learned = ZoomSegmentor(segmentor, **OPTIONS, policy=LearnedPolicy(inputs.shape[1], 6, {}))
    learned.test_step(batch(picture()))
    assert learned.decisions.values[0].isfinite().all()
    segmentor.neck = None
    segmentor.decode_head = _Sum()
    assert ZoomSegmentor(segmentor, **OPTIONS).looks(torch.randn(3, 130, 200))[
        0
    ].features.shape == (512, 2, 2)


class _Sum(torch.nn.Module):
    """A head without weights."""

    def predict(self, features, metas, test_cfg):
        size = metas[0]["img_shape"]
        return F.interpolate(features[-1][:, :6], size=size, mode="bilinear")


def test_windows_flips_and_resized_images_are_refused(segmentor):
    segmentor.test_cfg = ConfigDict(mode="slide", crop_size=(48, 48), stride=(32, 32))
    with pytest.raises(UserError, match=naming("slide", "whole", "test_cfg")):
        ZoomSegmentor(segmentor, **OPTIONS)
    segmentor.test_cfg = ConfigDict(mode="whole")
    zoom = ZoomSegmentor(segmentor, **OPTIONS)
    data = batch(picture())
    data["data_samples"][0].set_metainfo({"flip": True, "flip_direction": "horizontal"})
    with pytest.raises(UserError, match=naming("flipped", "test pipeline")):
        zoom.test_step(data)
    data = batch(picture())
    data["data_samples"][0].set_metainfo({"ori_shape": (260, 400)})
    with pytest.raises(UserError, match=naming("260x400", "130x200", "Resize", "segmentor_scale")):
        zoom.test_step(data)
    with pytest.raises(UserError, match=naming("tensor", "predict")):
        zoom(torch.randn(1, 3, 64, 64), mode="tensor")


def test_what_makes_no_map_of_classes_is_refused(segmentor):
    from mmseg.models.segmentors import DepthEstimator

    segmentor.__class__ = DepthEstimator
    with pytest.raises(UserError, match=naming("DepthEstimator", "EncoderDecoder")):
        ZoomSegmentor(segmentor, **OPTIONS)


def test_a_plain_segmentor_is_wrapped_for_the_stock_loop(zoom_file, config_file):
    """Stock mmseg from end to end: its model and its loop, and nothing of ours but zoom."""
    cfg = Config.fromfile(zoom_file(hook="DecisionMeterHook"))
    cfg.model.segmentor.backbone = {"type": "ResNetV1c", "depth": 18, "norm_cfg": {"type": "BN"}}
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()
    assert {"mIoU", "gmacs", "patch_rate", "pixel_rate"} <= metrics.keys()
    # 3 x 4 patches of 64 px in 192 x 256 px.
    assert metrics["patch_rate"] == 0.25
    assert metrics["pixel_rate"] == pytest.approx(3 * 96 * 96 / (192 * 256) + 1 / 16)
    assert metrics["gmacs"] == pytest.approx(runner.model.macs(192, 256, 0.25) / 1e9)
    again = runner.test()
    assert again["gmacs"] == metrics["gmacs"]
    plain = Config.fromfile(config_file(PLAIN))
    plain.model.backbone = cfg.model.segmentor.backbone
    plain.custom_hooks = [{"type": "DecisionMeterHook"}]
    plain.work_dir = cfg.work_dir
    wrapped = Runner.from_cfg(plain)
    wrapped.model = ZoomSegmentor(wrapped.model, **OPTIONS)
    assert wrapped.test()["patch_rate"] == 0.25


def test_a_plain_checkpoint_is_tested_and_trained_on(tool, config_file, zoom_file, tmp_path):
    tool("train", config_file(PLAIN))
    plain = tmp_path / "work/iter_2.pth"
    weights = torch.load(plain, weights_only=False)["state_dict"]
    tool("test", zoom_file(), plain)
    results = json.loads((tmp_path / "zoomed/test_results.json").read_text())
    assert results["patch_rate"] == 0.25
    assert 0 < results["mIoU"] <= 100
    options = ("--work-dir", tmp_path / "further", "--cfg-options", f"load_from={plain}")
    tool("train", zoom_file(), *options)
    further = torch.load(tmp_path / "further/iter_2.pth", weights_only=False)["state_dict"]
    assert further.keys() == weights.keys()
    # And the other way round.
    tool("test", config_file(PLAIN), tmp_path / "further/iter_2.pth")


def test_it_trains_as_the_segmentor_does(tiny_config):
    init_default_scope("mmseg")
    plain = MODELS.build(tiny_config(PLAIN).model)
    zoom = MODELS.build({"type": "ZoomSegmentor", "segmentor": copy.deepcopy(plain), **OPTIONS})
    assert zoom.training
    labels = torch.randint(0, 6, (1, 64, 64))
    images = torch.randn(2, 3, 64, 64)
    losses = []
    for model in (plain, zoom):
        samples = [SegDataSample(gt_sem_seg=PixelData(data=labels)) for _ in images]
        losses.append(model(images, samples, mode="loss"))
    assert losses[0].keys() == losses[1].keys()
    torch.testing.assert_close(losses[0]["decode.loss_ce"], losses[1]["decode.loss_ce"])
    assert zoom.state_dict().keys() == plain.state_dict().keys()
    zoom.macs(64, 64, 0.5)
    assert zoom.model.training and zoom.backbone.training
    zoom.eval()
    assert not zoom.model.training


def test_a_policy_of_a_file_moves_with_the_model(segmentor, tmp_path):
    policy = LearnedPolicy(64 * 2 + 6 + 1, 6, {"patch": 64, "scale": 4.0, "halo": 16})
    policy.save(tmp_path / "policy.pth")
    options = {**OPTIONS, "policy": str(tmp_path / "policy.pth")}
    zoom = MODELS.build({"type": "ZoomSegmentor", "segmentor": segmentor, **options})
    assert zoom.double().policy.mean.dtype == torch.float64
    assert zoom.state_dict().keys() == segmentor.state_dict().keys()
    with pytest.raises(UserError, match=naming("patch", 64, 128)):
        MODELS.build({"type": "ZoomSegmentor", "segmentor": segmentor, **options, "patch": 128})


def test_a_threshold_stands_in_the_place_of_a_rate(segmentor):
    options = {**OPTIONS, "type": "ZoomSegmentor", "segmentor": segmentor}
    with pytest.raises(ValueError, match=naming("rate", "threshold")):
        MODELS.build({**options, "threshold": 0.5})
    del options["rate"]
    zoom = MODELS.build({**options, "threshold": 1e9}).eval()
    zoom.test_step(batch(picture()))
    assert zoom.decisions.rate.tolist() == [0]


def test_the_shipped_config_is_its_plain_twin_with_zoom():
    zoom = Config.fromfile(CONFIGS / "demo/wide_zoom_semantic_fpn.py")
    plain = Config.fromfile(CONFIGS / "demo/wide_semantic_fpn.py")
    assert zoom.model.segmentor == plain.model
    assert zoom.test_dataloader == plain.test_dataloader
    assert zoom.test_dataloader.dataset.type == "WideDigitsDataset"
    init_default_scope("mmseg")
    model = MODELS.build(zoom.model)
    assert (model.patch, model.scale, model.halo, model.rate) == (256, 4.0, 32, 0.25)
    assert 0.5 < model.break_even(768, 1024) < 0.7
