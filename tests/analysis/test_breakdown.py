import pytest
import torch

import dynbackbones
from dynbackbones.analysis.breakdown import breakdown

IMAGES = torch.zeros(1, 3, 64, 64)


@pytest.mark.parametrize("name", ["resnet18", "blockdrop_resnet18", "sar_resnet18"])
def test_parts_add_up(name):
    net = dynbackbones.build_backbone(name).eval()
    parts = breakdown(net, IMAGES, repeats=2)
    total = parts.pop("total")
    inside = [parts.pop(name, None) for name in ("gather", "products", "scatter")]
    assert sum(parts.values()) == pytest.approx(total)
    assert {"stem", "other", "layer4"} <= parts.keys()
    assert ("policy network" in parts) == (name == "blockdrop_resnet18")
    sar = {"base branch", "selectors", "fusion", "transition", "refinement"}
    assert (sar <= parts.keys()) == (name == "sar_resnet18")
    assert all((part is None) == (name != "sar_resnet18") for part in inside)
    assert all(value > 0 for key, value in parts.items() if key not in ("other", "refinement"))


def test_hooks_are_removed():
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    with net.select("random", rate=0.5):
        breakdown(net, IMAGES, repeats=1)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
