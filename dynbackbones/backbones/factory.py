"""Names of backbones to their constructors."""

import difflib
from functools import partial

from dynbackbones.backbones import cifar_resnet, resnet
from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.blockdrop import resnet as blockdrop_resnet
from dynbackbones.backbones.sar import cifar_resnet as sar_cifar_resnet
from dynbackbones.backbones.sar import resnet as sar_resnet

_CONSTRUCTORS = {
    **{f"resnet{depth}": partial(resnet.ResNet, depth) for depth in resnet.LAYOUTS},
    **{f"sar_resnet{depth}": partial(sar_resnet.SARResNet, depth) for depth in sar_resnet.LAYOUTS},
    **{
        f"blockdrop_resnet{depth}": partial(blockdrop_resnet.BlockDropResNet, depth)
        for depth in resnet.LAYOUTS
    },
    **{
        f"cifar_resnet{depth}": partial(cifar_resnet.CifarResNet, depth)
        for depth in cifar_resnet.DEPTHS
    },
    **{
        f"sar_cifar_resnet{depth}": partial(sar_cifar_resnet.SARCifarResNet, depth)
        for depth in sar_cifar_resnet.DEPTHS
    },
    **{
        f"blockdrop_cifar_resnet{depth}": partial(blockdrop_resnet.BlockDropCifarResNet, depth)
        for depth in cifar_resnet.DEPTHS
    },
}


def list_backbones() -> list[str]:
    """Names that `build_backbone` knows, sorted."""
    return sorted(_CONSTRUCTORS)


def build_backbone(name: str, **options) -> Backbone:
    """Builds a backbone by name.

    Args:
        name: one of `list_backbones`.
        **options: of the class's constructor, for instance `SARResNet`.

    Raises:
        ValueError: the name is not known.
        TypeError: an option is not known.
    """
    if name not in _CONSTRUCTORS:
        near = difflib.get_close_matches(name, _CONSTRUCTORS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"unknown backbone {name!r}{hint}; known: {', '.join(list_backbones())}")
    return _CONSTRUCTORS[name](**options)
