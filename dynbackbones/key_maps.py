"""Names of a ResNet's weights: torchvision's, which this package has, and detectron2's.

    torchvision                          detectron2
    conv1, bn1                           stem.conv1, stem.conv1.norm
    layer1.0.conv1, layer1.0.bn1         res2.0.conv1, res2.0.conv1.norm
    layer1.0.downsample.0, .1            res2.0.shortcut, res2.0.shortcut.norm

OpenMMLab's names are torchvision's.
"""

import re
from collections.abc import Collection, Mapping

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
# Where files keep a backbone: alone; in a model of OpenMMLab's; in a detectron2 detector, its own
# ResNet and then one of this package's.
_PREFIXES = ("", "backbone.", "backbone.bottom_up.", "backbone.bottom_up.net.")
_CLASSIFIERS = ("fc.", "head.fc.", "classifier.", "stem.fc.", "fc1000.")


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
    renamed = {}
    for key, value in state.items():
        name = from_detectron2(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if name is None:
            renamed[key] = value
            continue
        renamed[new_prefix + name] = value
        layer = key.removesuffix(".bias")
        if layer.endswith(".norm") and layer != key and f"{layer}.running_mean" not in state:
            shape, layer = tuple(value.shape), new_prefix + name.removesuffix(".bias")
            renamed[f"{layer}.running_mean"] = torch.zeros(shape)
            renamed[f"{layer}.running_var"] = torch.ones(shape)
    return renamed


def backbone_alone(
    state: Mapping[str, Tensor], wanted: Collection[str]
) -> tuple[dict[str, Tensor], list[str]] | None:
    """Finds a backbone's weights in a file of torchvision, OpenMMLab, detectron2 or this package.

    Args:
        state: a file's weights, of a backbone with or without a classifier, or of a whole model.
        wanted: names in the backbone's `state_dict()`.

    Returns:
        The weights under the backbone's own names, perhaps with others that do not fit it, and the
        names of the file's other weights; None if it has nothing for this backbone.
    """
    best: tuple[int, dict[str, Tensor], list[str]] = (0, {}, [])
    for prefix in _PREFIXES:
        below = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        rest = [key for key in state if not key.startswith(prefix)]
        heads = [key for key in below if key.startswith(_CLASSIFIERS) and key not in wanted]
        found = rename_detectron2({k: v for k, v in below.items() if k not in heads})
        count = sum(key in found for key in wanted)
        if count > best[0]:
            best = count, found, sorted(rest + [prefix + key for key in heads])
    return best[1:] if best[0] else None
