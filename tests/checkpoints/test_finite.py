import pytest
import torch

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.checkpoints.finite import check_finite, not_finite
from dynbackbones.errors import UserError
from tests.messages import naming


def test_tensors_that_are_not_finite_are_found():
    state = {
        "good": torch.ones(2),
        "nan": torch.tensor([0.0, torch.nan]),
        "infinite": torch.tensor([-torch.inf], dtype=torch.bfloat16),
        "small": torch.ones(3).to(torch.float8_e4m3fn),
        "count": torch.tensor(3),
        "empty": torch.ones(0),
    }
    assert not_finite(state) == ["nan", "infinite"]
    with pytest.raises(UserError, match=naming("some file", "2 of its 6", "nan")):
        check_finite(state, "some file")
    check_finite({"good": torch.ones(2)}, "some file")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_of_a_diverged_training_are_refused(tmp_path, value):
    net = dynbackbones.build_backbone("sar_resnet18")
    before = net.layer4[0].bn1.bias.clone()
    state = net.state_dict()
    state["layer4.0.bn1.bias"] = torch.full_like(before, value)
    checkpoints.save(tmp_path / "model.pth", state, {})
    with pytest.raises(UserError, match=naming(tmp_path / "model.pth", "layer4.0.bn1.bias")):
        dynbackbones.load_weights(net, tmp_path / "model.pth")
    assert torch.equal(net.layer4[0].bn1.bias, before)
