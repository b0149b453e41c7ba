import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dynbackbones.checkpoints.digest import sha256_of
from dynbackbones.errors import UserError
from dynbackbones.pretraining import imagenet_teacher
from tests.messages import naming


class Lite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 4, 3)
        self.classifier = nn.Linear(4, 10)

    def reset_classifier(self, classes):
        self.classifier = nn.Identity()

    def forward(self, images):
        return self.classifier(self.conv_stem(images).mean(dim=(2, 3)))


@pytest.fixture
def timm(monkeypatch):
    module = SimpleNamespace(create_model=lambda name, pretrained: Lite())
    monkeypatch.setitem(sys.modules, "timm", module)


def test_others_names_fit_in_order(timm, tmp_path):
    torch.manual_seed(0)
    state = Lite().state_dict()
    names = ("_conv_stem.weight", "_conv_stem.bias", "_fc.weight", "_fc.bias")
    path = tmp_path / "lite0.pth"
    torch.save(dict(zip(names, state.values(), strict=True)), path)
    teacher = imagenet_teacher(path)
    assert torch.equal(teacher.network.conv_stem.weight, state["conv_stem.weight"])
    assert teacher.sha256 == sha256_of(path)
    # 127 is 0 to the network: what is left is the bias.
    grey = torch.full((1, 3, 8, 8), 127, dtype=torch.uint8)
    torch.testing.assert_close(teacher(grey)[0], state["conv_stem.bias"])


def test_another_network_is_refused(timm, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({f"layer{n}": torch.zeros(3) for n in range(4)}, path)
    with pytest.raises(UserError, match=naming(path, "classifier.bias")):
        imagenet_teacher(path)


def test_without_timm(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=naming("timm", "pip install timm")):
        imagenet_teacher(tmp_path / "weights.pth")
