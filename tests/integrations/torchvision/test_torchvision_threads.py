"""Several threads ask one detector, as a server's do."""

import pytest
import torch
import torch.nn.functional as F

from dynbackbones.backbones.base import find_backbones
from dynbackbones.integrations.torchvision.detectors import build_detector
from tests.threads import scattered, share

CONFIGS = ["sar_retinanet_scratch", "sar_faster_rcnn", "blockdrop_retinanet"]
SIZES = [(64, 80), (70, 52), (48, 96), (33, 65)]


def batch(seed, sizes):
    generator = torch.Generator().manual_seed(seed)
    # Broad spots of colour, which tell images apart better than noise does.
    spots = [torch.rand(1, 3, 3, 3, generator=generator) for _ in sizes]
    return [255 * F.interpolate(one, size)[0] for one, size in zip(spots, sizes, strict=True)]


BATCHES = [
    batch(seed, sizes)
    for seed, sizes in enumerate([SIZES[:1], SIZES[1:2], SIZES[:2], SIZES[2:], SIZES[3:], SIZES])
]


@torch.no_grad()
def centred(model):
    """Moves a policy to where images differ in what they keep."""
    (net,), logits = find_backbones(model), []
    handle = net.policy.fc.register_forward_hook(lambda _m, _i, out: logits.append(out))
    model(BATCHES[-1])
    handle.remove()
    net.policy.fc.bias.sub_(torch.cat(logits).mean(dim=0))


@pytest.fixture
def detector(tiny_config):
    def make(config):
        key = "ROI_HEADS" if "faster" in config else "RETINANET"
        options = {f"MODEL__{key}__SCORE_THRESH_TEST": "0.0"}
        if "blockdrop" in config:
            options["MODEL__BLOCKDROP__POLICY_TRAINING"] = "frozen"
        torch.manual_seed(0)
        model = build_detector(tiny_config(config, **options)).eval()
        scattered(model)
        if "blockdrop" in config:
            centred(model)
        return model

    return make


@torch.no_grad()
@pytest.mark.parametrize("config", CONFIGS)
def test_each_thread_has_its_own_boxes_and_decisions(detector, config):
    model = detector(config)
    (net,) = find_backbones(model)

    def ask(images):
        found = model(images)
        assert all(len(one["boxes"]) for one in found)
        return found, net.decisions

    decided = share(ask, BATCHES)
    rates = torch.cat([decisions.rate for _, decisions in decided])
    assert ((rates > 0) & (rates < 1)).any() and len(rates.unique()) > 3


@torch.no_grad()
@pytest.mark.parametrize("config", CONFIGS)
def test_a_selection_does_not_reach_other_threads(detector, config):
    model = detector(config)
    (net,) = find_backbones(model)

    def ask(job):
        kind, images = job
        if kind is None:
            return model(images), net.decisions
        with net.select(kind):
            found = model(images), net.decisions
        rates = net.decisions.rate
        assert (rates == {"all": 1, "none": 0}[kind]).all()
        return found

    share(ask, [(kind, images) for images in BATCHES[:3] for kind in (None, "all", "none")])
