"""The contract of backbones: features out, decisions and auxiliary losses out of band."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar, NamedTuple, TypeVar

from torch import Tensor, nn

from dynbackbones.backbones.decisions import Batch, Decisions, Size, sizes_macs
from dynbackbones.backbones.traces import Traces
from dynbackbones.layers.stem import stem_layers

Key = TypeVar("Key")
Value = TypeVar("Value")

REMEMBERED = 1024
"""Results that a backbone keeps, such as costs of image sizes."""


def remember(known: dict[Key, Value], key: Key, make: Callable[[Key], Value]) -> Value:
    """``make(key)``, from a dict that keeps a limited number of results."""
    if key in known:
        with suppress(KeyError):  # another thread may clear it in between
            return known[key]
    value = make(key)
    if len(known) >= REMEMBERED:
        known.clear()
    known[key] = value
    return value


class FeatureInfo(NamedTuple):
    """A feature map of a backbone.

    Attributes:
        channels: of the map.
        stride: input pixels per feature pixel.
        module: name of the submodule whose output is the feature and feeds everything after it.

    Example:
        >>> import dynbackbones
        >>> dynbackbones.build_backbone("sar_resnet50").feature_info["res4"]
        FeatureInfo(channels=1024, stride=16, module='layer3.transition')
    """

    channels: int
    stride: int
    module: str


class Backbone(nn.Module):
    """Base of all backbones, static ones included.

    ``forward(images, image_sizes=None)`` maps (N, in_channels, H, W) to a dict from feature name
    to (N, channels, ceil(H / stride), ceil(W / stride)). A derived class begins it with
    `_check_inputs` and ends it by setting `decisions`.

    Attributes:
        feature_info: feature name to `FeatureInfo`, from high to low resolution.
        title: what it is called in a line of text, such as ``"SAR-ResNet-18"``; by default the
            name of the class.
        freeze_at: number of leading parts (stem, stages) that are frozen.
        holds_resnet: whether the weights, but for `decision_keys`, are an ordinary ResNet's with
            torchvision's names.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_backbone("resnet18").eval()
        >>> features = net(torch.rand(2, 3, 64, 96), image_sizes=[(64, 96), (50, 80)])
        >>> {name: tuple(feature.shape) for name, feature in features.items()}["res5"]
        (2, 512, 2, 3)
        >>> [info.stride for info in net.feature_info.values()]
        [4, 8, 16, 32]
        >>> round(net.macs(224, 224) / 1e9, 2)
        1.81
    """

    feature_info: dict[str, FeatureInfo]
    holds_resnet: ClassVar[bool] = False

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.title = type(self).__name__
        self.freeze_at = 0
        self._traces = Traces()

    @property
    def decisions(self) -> Decisions | None:
        """Decisions of this thread's last forward pass, detached; None before the first."""
        return self._traces.mine.decisions

    @decisions.setter
    def decisions(self, value: Decisions | None) -> None:
        self._traces.mine.decisions = value

    @abstractmethod
    def macs(self, height: int, width: int) -> float:
        """Multiply-accumulates for an image of this size in pixels."""

    def _count_macs(self, decisions: Decisions) -> Tensor:
        """Multiply-accumulates of each image, (N,) float64; `Decisions` ask for them when read."""
        return sizes_macs(self.macs, decisions.image_sizes)

    def decision_keys(self) -> set[str]:
        """Names in `state_dict()` of what decides, which the plain network's weights lack."""
        return set()

    def sparse_convolutions(self) -> set[nn.Conv2d]:
        """Convolutions whose weights sparse execution reads itself, in torch's layout."""
        return set()

    def timed_parts(self) -> dict[str, list[nn.Module]]:
        """What the time of a forward pass is divided into, by name.

        A part whose modules contain those of others gets the time that these leave.
        """
        stem = [*stem_layers(self), self.maxpool]
        stages = [(n, m) for n, m in self.named_children() if n.startswith("layer")]
        return {"stem": stem, **{name: [stage] for name, stage in stages}}

    def parts(self) -> list[list[nn.Module]]:
        """The modules of stem, stage 1, stage 2, ... in the order in which they freeze."""
        stages = [child for name, child in self.named_children() if name.startswith("layer")]
        return [stem_layers(self), *([stage] for stage in stages)]

    def freeze(self, freeze_at: int) -> None:
        """Freezes the parameters and the norm statistics of the first parts, for good.

        Args:
            freeze_at: 0 freezes nothing, 1 the stem, 2 also stage 1 (res2), and so on, as
                detectron2's ``FREEZE_AT``.

        Raises:
            ValueError: ``freeze_at`` is out of range.
        """
        if not 0 <= freeze_at <= len(self.parts()):
            raise ValueError(f"freeze_at must lie in 0..{len(self.parts())}, got {freeze_at}")
        self.freeze_at = freeze_at
        for module in self._frozen():
            module.requires_grad_(False)
        self.train(self.training)

    def _frozen(self) -> Iterator[nn.Module]:
        for part in self.parts()[: self.freeze_at]:
            yield from part

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def set_image_sizes(self, image_sizes: Sequence[Sequence[int]]) -> None:
        """Gives the sizes of the images in this thread's next forward pass, which forgets them.

        For frameworks that call ``backbone(images)`` without sizes.

        Args:
            image_sizes: (height, width) of each image in pixels, without padding.
        """
        self._traces.mine.image_sizes = [(int(h), int(w)) for h, w in image_sizes]

    @contextmanager
    def state_kept(self) -> Iterator[None]:
        """Forward passes inside leave no trace, and do not see sizes that wait for another one.

        Decisions, auxiliary losses, and the sizes and guidance that were given for the next one,
        are afterwards as before.
        """
        last = self._traces.mine
        before = dict(vars(last))
        last.image_sizes = last.guidance = None
        try:
            yield
        finally:
            vars(last).update(before)

    def _check_inputs(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None
    ) -> Batch:
        """Checks the arguments of a forward pass and returns what they say of the images.

        Raises:
            ValueError: an argument has another shape or type, or sizes that do not fit.
        """
        sizes = self._traces.mine.image_sizes if image_sizes is None else image_sizes
        self._traces.mine.image_sizes = None
        check_images(images, self.in_channels)
        height, width = images.shape[-2:]
        if sizes is not None:
            sizes = [(int(h), int(w)) for h, w in sizes]
            _check_sizes(sizes, images.shape[0], height, width)
        return Batch(images.shape[0], (height, width), sizes)


def check_images(images: Tensor, in_channels: int) -> None:
    """Makes sure that a network can look at images.

    Raises:
        ValueError: they have another shape or type.
    """
    if images.dim() != 4 or images.shape[1] != in_channels:
        raise ValueError(f"images must be (N, {in_channels}, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}; normalise them")
    if images.numel() == 0:
        raise ValueError(f"images must not be empty, got {tuple(images.shape)}")


def _check_sizes(sizes: list[Size], images: int, height: int, width: int) -> None:
    if len(sizes) != images:
        raise ValueError(f"image_sizes has {len(sizes)} entries for {images} images")
    for h, w in sizes:
        if not (0 < h <= height and 0 < w <= width):
            raise ValueError(
                f"image_sizes has ({h}, {w}), which is not inside the batch of "
                f"{height} x {width} pixels"
            )


def find_backbones(model: nn.Module) -> list[Backbone]:
    """All backbones of this package inside a model, static ones included."""
    return [module for module in model.modules() if isinstance(module, Backbone)]
