"""Several threads ask one segmentor, as a server's do."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmseg.structures import SegDataSample

from tests.threads import scattered, share

SIZES = [(64, 80), (49, 97), (65, 33), (48, 48)]
TESTS = {
    "whole": {"mode": "whole"},
    "slide": {"mode": "slide", "crop_size": (48, 48), "stride": (32, 32)},
}


def sample(size):
    return SegDataSample(
        metainfo={"img_shape": size, "ori_shape": size}
    )


@torch.no_grad()
@pytest.mark.parametrize("test_cfg", TESTS)
def test_each_thread_has_its_own_map_and_decisions(tiny_config, attached, test_cfg):
    torch.manual_seed(0)
    init_default_scope("mmseg")
    model = MODELS.build(tiny_config().model)
    scattered(model)
    attached(model.eval())
    model.test_cfg = type(model.test_cfg)(TESTS[test_cfg])

    def ask(job):
        kind, images = job
        size = tuple(images.shape[-2:])
        (result,) = model(images, [sample(size)], mode="predict") if kind is None else chosen(job)
        return result.seg_logits.data, result.pred_sem_seg.data, model.backbone.decisions

    def chosen(job):
        kind, images = job
        with model.backbone.select(kind):
            return model(images, [sample(tuple(images.shape[-2:]))], mode="predict")

    batches = [torch.randn(1, 3, *size) for size in SIZES]
    found = share(ask, [(kind, images) for images in batches for kind in (None, "none")])
    rates = torch.cat([decisions.rate for *_, decisions in found])
    assert (rates[1::2] == 0).all() and (rates[::2] > 0).all()
