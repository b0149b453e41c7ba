"""Names of a ResNet's weights: torchvision's, which this package has, and others'.

    torchvision                     detectron2                          Caffe2
    conv1, bn1                      stem.conv1, stem.conv1.norm         conv1, res_conv1_bn
    layer1.0.conv1, layer1.0.bn1    res2.0.conv1, res2.0.conv1.norm     res2_0_branch2a, .._bn
    layer1.0.downsample.0, .1       res2.0.shortcut, .shortcut.norm     res2_0_branch1, .._bn

timm's and OpenMMLab's names are torchvision's. The code published with BlockDrop has

    BlockDropResNet                 published code
    conv1, bn1                      resnet.conv1, resnet.bn1
    layer1.0.conv1                  resnet.blocks.0.0.conv1
    layer1.0.downsample.0, .1       resnet.ds.0.0, resnet.ds.0.1
    policy.conv1                    agent.features.conv1
    policy.layer1.0.conv1           agent.features.blocks.0.0.conv1
    policy.fc                       agent.logit
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_VALUE = r"(?P<value>weight|bias|running_mean|running_var|num_batches_tracked)"
_DETECTRON2 = re.compile(
    rf"(?:stem\.conv1|res(?P<stage>[2-5])\.(?P<block>\d+)\.(?:conv(?P<conv>[123])|shortcut))"
    rf"(?P<norm>\.norm)?\.{_VALUE}"
)
_TORCHVISION = re.compile(
    rf"(?:layer(?P<stage>[1-4])\.(?P<block>\d+)\.)?"
    rf"(?:(?P<layer>conv|bn)(?P<number>[123])|downsample\.(?P<shortcut>[01]))\.{_VALUE}"
)
_CAFFE2 = re.compile(
    r"(?:(?P<stem>(?:res_)?conv1)|res(?P<stage>[2-5])_(?P<block>\d+)_branch(?P<branch>1|2[abc]))"
    r"_(?P<value>w|b|bn_s|bn_b)"
)
_BLOCKDROP = re.compile(
    r"(?:(?P<stem>conv1|bn1)|blocks\.(?P<stage>\d+)\.(?P<block>\d+)\.(?P<layer>(?:conv|bn)[123])"
    rf"|ds\.(?P<shortcut_stage>\d+)\.(?P<shortcut>[01]))\.{_VALUE}"
)
PLACES = (
    "",
    "backbone.",
    "backbone.bottom_up.",
    "backbone.net.",
    "backbone.bottom_up.net.",
)
"""Prefixes of a backbone's names in files: alone; in a model of OpenMMLab's; in a detectron2
detector, its own ResNet and then one of this package's, each with and without FPN."""
OWNERS = {
    "backbone.": "openmmlab",
    "backbone.body.": "torchvision",
    "backbone.net.": "detectron2",
    "backbone.bottom_up.net.": "detectron2",
}
"""Whose models keep a backbone with torchvision's or this package's names below a prefix."""
CLASSIFIERS = ("fc.", "head.fc.", "classifier.", "classifier.1.", "stem.fc.", "linear.", "fc1000.")
"""What classification networks call their last layer; detectron2 three things."""
LAST_CONVS = ("features.18.", "layer6.")
"""Beginnings of the names of the convolution that MobileNetV2s, plain and with SAR, have before it
and for nothing else."""
HEADS = (*CLASSIFIERS, *LAST_CONVS, "head.")
"""What may stand beside a backbone's own names and is none of them."""


def from_detectron2(name: str) -> str | None:
    """torchvision's name for detectron2's name of a ResNet's weight; None if it is not one."""
    match = _DETECTRON2.fullmatch(name)
    if match is None:
        return None
    norm = match["norm"] is not None
    if match["stage"] is None:
        layer = "bn1" if norm else "conv1"
    else:
        if match["conv"] is None:
            layer = f"downsample.{int(norm)}"
        else:
            layer = ("bn" if norm else "conv") + match["conv"]
        layer = f"layer{int(match['stage']) - 1}.{match['block']}.{layer}"
    return f"{layer}.{match['value']}"


def to_detectron2(name: str) -> str | None:
    """detectron2's name for torchvision's name of a ResNet's weight; None if it is not one."""
    match = _TORCHVISION.fullmatch(name)
    if match is None or (match["stage"] is None and match["number"] != "1"):
        return None
    if match["shortcut"] is None:
        layer, norm = f"conv{match['number']}", match["layer"] == "bn"
    else:
        layer, norm = "shortcut", match["shortcut"] == "1"
    place = "stem" if match["stage"] is None else f"res{int(match['stage']) + 1}.{match['block']}"
    return f"{place}.{layer}{'.norm' if norm else ''}.{match['value']}"


def from_caffe2(name: str) -> str | None:
    """torchvision's name for Caffe2's name of a ResNet's weight; None if it is not one."""
    match = _CAFFE2.fullmatch(name)
    if match is None:
        return None
    norm = match["value"].startswith("bn_")
    if match["stem"]:
        if norm != match["stem"].startswith("res_"):
            return None
        layer = "bn1" if norm else "conv1"
    else:
        if match["branch"] == "1":
            layer = f"downsample.{int(norm)}"
        else:
            layer = ("bn" if norm else "conv") + str(1 + "abc".index(match["branch"][1]))
        layer = f"layer{int(match['stage']) - 1}.{match['block']}.{layer}"
    return f"{layer}.{'bias' if match['value'] in ('b', 'bn_b') else 'weight'}"


def from_blockdrop(name: str) -> str | None:
    """Name in a `BlockDropResNet` of a weight of the code published with BlockDrop.

    Args:
        name: in one of its state dicts, below the key that the checkpoint keeps it under:
            ``resnet.`` or ``agent.``.

    Returns:
        The name; None if the network has no such weight.
    """
    part, _, rest = name.partition(".")
    if part == "agent" and rest.startswith("logit."):
        return f"policy.fc.{rest.removeprefix('logit.')}"
    if part == "agent" and not rest.startswith("features."):
        return None
    match = _BLOCKDROP.fullmatch(rest.removeprefix("features.") if part == "agent" else rest)
    if match is None:
        return None
    if match["stem"]:
        layer = match["stem"]
    elif match["layer"]:
        layer = f"layer{int(match['stage']) + 1}.{match['block']}.{match['layer']}"
    else:
        layer = f"layer{int(match['shortcut_stage']) + 1}.0.downsample.{match['shortcut']}"
    return f"{'policy.' if part == 'agent' else ''}{layer}.{match['value']}"


def new_statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Statistics of a new layer for a ResNet's norm layers that have none, as in Caffe2's weights.

    Args:
        state: weights of a ResNet under torchvision's names.

    Returns:
        Means of 0 and variances of 1 for those layers.
    """
    added = {}
    for key, value in state.items():
        layer = key.removesuffix(".bias")
        norm = layer != key and re.search(r"(?:bn[123]|downsample\.1)$", layer)
        if norm and f"{layer}.running_mean" not in state:
            added[f"{layer}.running_mean"] = torch.zeros(tuple(value.shape))
            added[f"{layer}.running_var"] = torch.ones(tuple(value.shape))
    return added


def rename_detectron2(
    state: Mapping[str, Tensor], prefix: str = "", new_prefix: str = ""
) -> dict[str, Tensor]:
    """Gives the weights of a detectron2 ResNet torchvision's names.

    Norm layers without statistics, as Caffe2's weights have them, get those of a new layer, as they
    do in detectron2.

    Args:
        state: weights; what is not of such a ResNet keeps its name.
        prefix: of the ResNet's names in ``state``.
        new_prefix: of its new names, instead.
    """
    renamed, own = {}, {}
    for key, value in state.items():
        name = from_detectron2(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if name is None:
            renamed[key] = value
        else:
            own[new_prefix + name] = value
    return {**renamed, **own, **new_statistics(own)}
