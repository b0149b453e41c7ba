import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.adaptation import PixelFormat
from dynbackbones.backbones import find_backbones
from dynbackbones.pretraining import Teacher, pooled
from tests.messages import naming


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.teacher = Teacher(dynbackbones.build_backbone("resnet18"))


def test_a_model_that_holds_one_does_not_contain_it():
    model = Student()
    assert sorted(model.state_dict()) == ["layer.bias", "layer.weight"]
    assert find_backbones(model) == []
    model.train()
    assert not model.teacher.network.training
    assert not any(p.requires_grad for p in model.teacher.network.parameters())


def test_it_has_its_own_pixels_and_no_gradient():
    network = nn.Conv2d(3, 3, 1, bias=False)
    nn.init.zeros_(network.weight)
    network.weight.data[range(3), range(3)] = 1
    teacher = Teacher(network, PixelFormat((1, 2, 3), (2, 2, 2), bgr=True))
    images = torch.tensor([10.0, 20.0, 30.0])[None, :, None, None].expand(1, 3, 4, 4)
    features = teacher(images.clone().requires_grad_())
    assert features.tolist() == [[14.5, 9.0, 3.5]]
    assert not features.requires_grad


def test_the_last_features_count():
    maps = [torch.zeros(2, 3, 8, 8), torch.arange(8.0).reshape(2, 1, 2, 2)]
    for features in (maps, {"a": maps[0], "b": maps[1]}, maps[1], torch.tensor([[1.5], [5.5]])):
        assert pooled(features).tolist() == [[1.5], [5.5]]


def test_features_of_another_kind():
    with pytest.raises(ValueError, match=naming("features", (2, 3, 4))):
        pooled(torch.zeros(2, 3, 4))
