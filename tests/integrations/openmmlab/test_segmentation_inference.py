import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from dynbackbones.layers.regions import RegionSelector

WHOLE = {"mode": "whole"}
SLIDE = {"mode": "slide", "crop_size": (48, 48), "stride": (32, 32)}


@pytest.fixture
def segmentor(tiny_config, attached):
    """A SAR segmentor in evaluation mode that refines some of its regions."""
    torch.manual_seed(0)
    init_default_scope("mmseg")
    model = MODELS.build(tiny_config().model)
    for module in model.modules():
        if isinstance(module, RegionSelector):
            torch.nn.init.normal_(module.fc.weight, std=3)
            torch.nn.init.zeros_(module.fc.bias)
    # Norms with statistics of their own, so that nothing cancels.
    model.train()
    with torch.no_grad(), model.backbone.no_auxiliary():
        for _ in range(3):
            model(torch.randn(2, 3, 65, 65))
    return attached(model.eval())


def sample(height, width, **metainfo):
    shape = (height, width)
    return SegDataSample(metainfo={"img_shape": shape, "ori_shape": shape, **metainfo})


def logits(model, execution, images, samples):
    model.backbone.execution = execution
    with torch.no_grad():
        results = model(images, samples, mode="predict")
    return [result.seg_logits.data for result in results]


@pytest.mark.parametrize("test_cfg", [WHOLE, SLIDE], ids=["whole", "slide"])
@pytest.mark.parametrize("size", [(64, 80), (49, 97)])
def test_sparse_equals_masked(segmentor, test_cfg, size):
    segmentor.test_cfg = type(segmentor.test_cfg)(test_cfg)
    images = torch.randn(2, 3, *size)
    found = [
        logits(segmentor, execution, images, [sample(*size), sample(*size)])
        for execution in ("sparse", "masked")
    ]
    rates = segmentor.backbone.decisions.activation_rate
    assert (rates > 0.1).all()
    assert (rates < 0.9).all()
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
    # The decisions have a part in the result.
    with segmentor.backbone.select("none"):
        other = logits(segmentor, "sparse", images, [sample(*size), sample(*size)])
    assert not torch.allclose(found[0][0], other[0], rtol=1e-4, atol=1e-4)


def test_a_window_is_computed_as_an_image_of_its_size(segmentor):
    segmentor.test_cfg = type(segmentor.test_cfg)(SLIDE)
    seen = []
    segmentor.backbone.register_forward_hook(
        lambda net, inputs, output: seen.append((tuple(inputs[0].shape[-2:]), net.decisions))
    )
    logits(segmentor, "sparse", torch.randn(1, 3, 64, 80), [sample(64, 80)])
    assert [size for size, _ in seen] == [(48, 48)] * 4
    assert all(decisions.image_sizes == [(48, 48)] for _, decisions in seen)


@pytest.mark.parametrize("execution", ["sparse", "masked"])
def test_flips_at_test_time(segmentor, execution):
    init_default_scope("mmseg")
    tta = MODELS.build({"type": "SegTTAModel", "module": segmentor})
    segmentor.backbone.execution = execution
    image = torch.randint(0, 256, (3, 49, 80), dtype=torch.uint8)
    flip = {"flip": True, "flip_direction": "horizontal"}
    data = {
        "inputs": [[image], [image.flip(-1)]],
        "data_samples": [[sample(49, 80, img_path="")], [sample(49, 80, img_path="", **flip)]],
    }
    (merged,) = tta.test_step(data)
    normalised = segmentor.data_preprocessor({"inputs": [image]}, False)["inputs"]
    straight = logits(segmentor, execution, normalised, [sample(49, 80)])[0]
    turned = logits(segmentor, execution, normalised.flip(-1), [sample(49, 80)])[0].flip(-1)
    expected = (straight.softmax(0) + turned.softmax(0)).argmax(0)
    assert torch.equal(merged.pred_sem_seg.data.squeeze(0), expected)


def test_padding_counts_nowhere(segmentor):
    small, large = (33, 50), (64, 80)
    batch = torch.randn(2, 3, *large)
    batch[0, :, small[0] :] = 0
    batch[0, :, :, small[1] :] = 0
    backbone = segmentor.backbone
    logits(segmentor, "sparse", batch, [sample(*small), sample(*large)])
    decisions = backbone.decisions
    assert decisions.image_sizes == [small, large]
    # With another companion, and alone.
    batch[1] = torch.randn(3, *large)
    logits(segmentor, "sparse", batch, [sample(*small), sample(*large)])
    assert backbone.decisions.macs[0] == decisions.macs[0]
    assert backbone.decisions.activation_rate[0] == decisions.activation_rate[0]
    for name, masks in decisions.masks.items():
        assert torch.equal(masks[0], backbone.decisions.masks[name][0])
    logits(segmentor, "sparse", batch[:1], [sample(*small)])
    assert backbone.decisions.macs[0] == decisions.macs[0]
    # Whatever the padding, a whole image costs what it costs.
    with backbone.select("all"):
        logits(segmentor, "sparse", batch, [sample(*small), sample(*large)])
        padded = backbone.decisions
        logits(segmentor, "sparse", batch[:1, :, : small[0], : small[1]], [sample(*small)])
    assert padded.macs[0] == backbone.decisions.macs[0] == backbone.macs(*small)
    assert padded.macs[1] == backbone.macs(*large)
    assert padded.activation_rate.tolist() == [1, 1]


def test_crops_of_different_sizes_in_training(segmentor):
    segmentor.train()
    sizes = [(40, 65), (65, 33)]
    data = {
        "inputs": [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes],
        "data_samples": [
            SegDataSample(
                gt_sem_seg=PixelData(data=torch.zeros(1, *size, dtype=torch.long)),
                metainfo={"img_shape": size},
            )
            for size in sizes
        ],
    }
    data = segmentor.data_preprocessor(data, True)
    assert data["inputs"].shape[-2:] == (65, 65)
    losses = segmentor(**data, mode="loss")
    assert "loss_activation_rate" in losses
    assert segmentor.backbone.decisions.image_sizes == sizes


def test_sizes_are_not_kept_for_the_next_batch(segmentor):
    logits(segmentor, "sparse", torch.randn(1, 3, 64, 80), [sample(33, 50)])
    logits(segmentor, "sparse", torch.randn(1, 3, 64, 80), [sample(64, 80)])
    assert segmentor.backbone.decisions.image_sizes == [(64, 80)]
    with torch.no_grad():
        segmentor(torch.randn(1, 3, 64, 80))
    assert segmentor.backbone.decisions.image_sizes == [(64, 80)]


def test_an_auxiliary_head_on_res4(segmentor):
    segmentor.train()
    target = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 65, 65, dtype=torch.long)))
    losses = segmentor(torch.randn(2, 3, 65, 65), [target, target], mode="loss")
    assert {"decode.loss_ce", "aux.loss_ce", "loss_activation_rate"} <= set(losses)
    losses["aux.loss_ce"].backward()
    backbone = segmentor.backbone
    assert all(p.grad is None for p in backbone.layer4.parameters())
    gradients = [p.grad for p in backbone.layer3.parameters()]
    assert all(gradient is not None for gradient in gradients)
    assert np.isfinite(sum(float(gradient.abs().sum()) for gradient in gradients))
