import sys

import pytest
import torch

import dynbackbones
from dynbackbones.analysis.memory import peak_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures through /proc")


def test_larger_images_need_more():
    net = dynbackbones.optimize_for_inference(dynbackbones.build_backbone("sar_resnet18"))
    small, large = (
        peak_memory(net, torch.zeros(1, 3, size, size), execution="sparse") for size in (64, 512)
    )
    # The stem's output of 64 channels at half the resolution alone.
    assert large > 64 * 256 * 256 * 4
    assert small < large


def test_a_failure_is_not_silent():
    net = dynbackbones.build_backbone("resnet18")
    with pytest.raises(RuntimeError, match="exit code 1"):
        peak_memory(net, torch.zeros(1, 4, 64, 64))
