import pytest
import torch

import dynbackbones
from dynbackbones.checkpoints import names as key_maps

NAMES = {
    "conv1.weight": "stem.conv1.weight",
    "bn1.running_var": "stem.conv1.norm.running_var",
    "layer1.0.conv1.weight": "res2.0.conv1.weight",
    "layer3.22.bn3.bias": "res4.22.conv3.norm.bias",
    "layer4.0.downsample.0.weight": "res5.0.shortcut.weight",
    "layer4.0.downsample.1.num_batches_tracked": "res5.0.shortcut.norm.num_batches_tracked",
}


@pytest.mark.parametrize("torchvision", NAMES)
def test_names_of_both_sides(torchvision):
    assert key_maps.to_detectron2(torchvision) == NAMES[torchvision]
    assert key_maps.from_detectron2(NAMES[torchvision]) == torchvision


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_every_weight_of_a_resnet_comes_back(name):
    state = dynbackbones.build_backbone(name).state_dict()
    there = {key_maps.to_detectron2(key): value for key, value in state.items()}
    assert None not in there and len(there) == len(state)
    back = key_maps.rename_detectron2(there)
    assert back.keys() == state.keys()
    assert all(back[key] is value for key, value in state.items())


@pytest.mark.parametrize("key", ["fc.weight", "policy.conv1.weight", "res6.0.conv1.weight"])
def test_other_names_are_left_alone(key):
    assert key_maps.from_detectron2(key) is None and key_maps.to_detectron2(key) is None
    assert key_maps.rename_detectron2({key: 1}) == {key: 1}


def test_only_what_is_below_the_prefix_is_renamed():
    state = {"a.stem.conv1.weight": 1, "stem.conv1.weight": 2, "a.fpn.weight": 3}
    assert key_maps.rename_detectron2(state, "a.", "a.net.") == {
        "a.net.conv1.weight": 1,
        "stem.conv1.weight": 2,
        "a.fpn.weight": 3,
    }


def test_norms_without_statistics_get_a_new_layers():
    norm = {"res2.0.conv1.norm.weight": torch.ones(4), "res2.0.conv1.norm.bias": torch.ones(4)}
    state = key_maps.rename_detectron2({**norm, "res2.0.conv1.weight": torch.ones(4, 4, 1, 1)})
    assert len(state) == 5
    assert state["layer1.0.bn1.running_mean"].tolist() == [0] * 4
    assert state["layer1.0.bn1.running_var"].tolist() == [1] * 4
