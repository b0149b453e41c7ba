"""What the libraries that a checkpoint can go to call things, and which networks they have."""

from __future__ import annotations

from dataclasses import dataclass

from dynbackbones.checkpoints import names as key_maps
from dynbackbones.checkpoints.conversion.architecture import Architecture
from dynbackbones.errors import UserError

TARGETS = ("dynbackbones", "torchvision", "openmmlab", "detectron2", "timm")
FORMATS = (*TARGETS, "blockdrop")
# Formats whose files look alike.
ALIKE = ("dynbackbones", "torchvision", "timm")
_PLAIN_ONLY = ("torchvision", "timm")
# Options of networks that refine regions which change results and not weights.
_NOT_SHOWN = {"base_scale", "cell_size", "grid_size"}
_IMAGENET_PIXELS = "MODEL.PIXEL_MEAN [123.675,116.28,103.53] MODEL.PIXEL_STD [58.395,57.12,57.375]"


@dataclass(frozen=True)
class Layout:
    """Names of a file to be written.

    Attributes:
        format: the library, of `TARGETS`.
        prefix: of the backbone's names.
        classifier: prefix of the names of the last layer.
        detectron2_names: whether the backbone's names are detectron2's.
    """

    format: str
    prefix: str
    classifier: str
    detectron2_names: bool = False

    @property
    def weights_key(self) -> str:
        """Where the file keeps the weights: mmengine looks for them in one place only."""
        return "state_dict" if self.format == "openmmlab" else "model"

    def bare(self, name: str) -> str:
        """The name below the prefix of a weight of the backbone, given this package's."""
        return (key_maps.to_detectron2(name) or name) if self.detectron2_names else name

    def key(self, name: str) -> str:
        """The name in the file of a weight of the backbone, given this package's."""
        return self.prefix + self.bare(name)


def layout_of(target: str, architecture: Architecture, prefix: str | None = None) -> Layout:
    """How a network's weights are named in a file for a library.

    Args:
        target: of `TARGETS`.
        architecture: the network.
        prefix: of the backbone's names instead of the usual one; for OpenMMLab and detectron2.

    Raises:
        UserError: the library has no such network, or its files have no prefix.
    """
    _check_target(target, architecture)
    if prefix is not None and target not in ("openmmlab", "detectron2"):
        raise UserError(f"--prefix is for openmmlab and detectron2; leave it away for {target}")
    if prefix:
        prefix = prefix if prefix.endswith(".") else f"{prefix}."
    if target == "openmmlab":
        return Layout(target, "backbone." if prefix is None else prefix, "head.fc.")
    if target == "detectron2":
        usual = "backbone.bottom_up." if architecture.plain else "backbone.bottom_up.net."
        prefix = usual if prefix is None else prefix
        return Layout(target, prefix, f"{prefix}linear.", architecture.plain)
    inverted = target == "torchvision" and not architecture.plain
    return Layout(target, "", "classifier.1." if inverted else "fc.")


def remarks(
    origin: str,
    target: str,
    architecture: Architecture,
    stride_known: bool,
    pixels: str | None = None,
) -> list[str]:
    """What a user of the result must set, since weights do not carry it.

    Args:
        origin: format of the file that the network was trained in.
        target: of `TARGETS`.
        architecture: the network.
        stride_known: whether it is known which convolutions have the strides.
        pixels: what the file says of the order of channels, see `pixel_format`.
    """
    bottlenecks = architecture.bottlenecks
    in_1x1 = bool(architecture.options.get("stride_in_1x1"))
    found = []
    if origin == "detectron2" and bottlenecks and not stride_known:
        found.append(
            "taken as trained with MODEL.RESNETS.STRIDE_IN_1X1 False; detectron2's default and "
            "most of its zoo have True: then add --stride-in-1x1"
        )
    if origin == "detectron2" and target != "detectron2":
        found.append(
            "images must be as in the detectron2 config it comes from: INPUT.FORMAT (detectron2's "
            "default is BGR), PIXEL_MEAN and PIXEL_STD (default: values from 0 to 255, not divided)"
        )
    if origin != "detectron2" and target == "detectron2":
        stride = "MODEL.RESNETS.STRIDE_IN_1X1 False " if bottlenecks and not in_1x1 else ""
        found.append(
            f"set {stride}INPUT.FORMAT BGR, and MODEL.PIXEL_MEAN and PIXEL_STD as in the config it "
            "comes from"
            if pixels == "BGR"
            else f"detectron2's defaults differ from torchvision's training: {stride}INPUT.FORMAT "
            f"RGB {_IMAGENET_PIXELS} (this package's configs have them)"
        )
    if in_1x1 and target == "openmmlab":
        found.append("the strides are in the 1x1 convolutions: build with style='caffe'")
    if architecture.parameters >= _NOT_SHOWN:
        found.append(
            f"{', '.join(sorted(_NOT_SHOWN))} do not show in weights: build the network with those "
            "it was trained with"
        )
    if origin == "blockdrop":
        found.append(
            "images as in the published code: the CIFAR-10 ResNet-32 subtracts the mean and "
            "divides by the deviation, the other CIFAR networks take values from 0 to 1 as they "
            "are, ImageNet's take torchvision's normalisation"
        )
    return found


def _check_target(target: str, architecture: Architecture) -> None:
    name = architecture.name
    if target in _PLAIN_ONLY and target not in architecture.libraries:
        hint = (
            f"; --backbone {name.partition('_')[2]} takes its ResNet without what decides"
            if architecture.holds_resnet and architecture.depth and not architecture.cifar
            else ""
        )
        raise UserError(
            f"--to {target}: {target} has no {name} with these names; possible are "
            f"{', '.join(['dynbackbones', *architecture.libraries])}, openmmlab"
            f"{'' if architecture.cifar else ' and detectron2'}{hint}"
        )
    if target in _PLAIN_ONLY and architecture.options.get("stride_in_1x1"):
        raise UserError(
            f"--to {target}: {target}'s ResNets have their strides in the 3x3 convolutions and "
            "would give other results with these weights; possible are dynbackbones, openmmlab "
            "and detectron2"
        )
    if target == "detectron2" and architecture.cifar:
        raise UserError(
            f"--to detectron2: there is no {name} in detectron2; possible are dynbackbones and "
            "openmmlab"
        )
