"""The contract of backbones: features out, decisions and auxiliary losses out of band."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from dynbackbones.backbones.decisions import Decisions

Key = TypeVar("Key")
Value = TypeVar("Value")

REMEMBERED = 1024
"""Results that a backbone keeps, such as costs of image sizes."""


def remember(known: dict[Key, Value], key: Key, make: Callable[[Key], Value]) -> Value:
    """``make(key)``, from a dict that keeps a limited number of results."""
    if key not in known:
        if len(known) >= REMEMBERED:
            known.clear()
        known[key] = make(key)
    return known[key]


class FeatureInfo(NamedTuple):
    """A feature map of a backbone.

    Attributes:
        channels: of the map.
        stride: input pixels per feature pixel.
        module: name of the submodule whose output is the feature and feeds everything after it.
    """

    channels: int
    stride: int
    module: str


class Backbone(nn.Module):
    """Base of all backbones, static ones included.

    ``forward(images, image_sizes=None)`` maps (N, in_channels, H, W) to a dict from feature name
    to (N, channels, ceil(H / stride), ceil(W / stride)).

    Attributes:
        feature_info: feature name to `FeatureInfo`, from high to low resolution.
        decisions: of the last forward pass, detached; None before the first.
        freeze_at: number of leading parts (stem, stages) that are frozen.
    """

    feature_info: dict[str, FeatureInfo]

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.decisions: Decisions | None = None
        self.freeze_at = 0
        self._next_image_sizes: list[tuple[int, int]] | None = None

    def parts(self) -> list[list[nn.Module]]:
        """The modules of stem, stage 1, stage 2, ... in the order in which they freeze."""
        stages = [child for name, child in self.named_children() if name.startswith("layer")]
        return [[self.conv1, self.bn1], *([stage] for stage in stages)]

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
        """Gives the sizes of the images in the next forward pass, which then forgets them.

        For frameworks that call ``backbone(images)`` without sizes.

        Args:
            image_sizes: (height, width) of each image in pixels, without padding.
        """
        self._next_image_sizes = [(int(h), int(w)) for h, w in image_sizes]

    @contextmanager
    def image_sizes_kept(self) -> Iterator[None]:
        """Forward passes inside neither use nor forget sizes that `set_image_sizes` gave before."""
        pending, self._next_image_sizes = self._next_image_sizes, None
        try:
            yield
        finally:
            self._next_image_sizes = pending

    def _check_inputs(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None
    ) -> list[tuple[int, int]] | None:
        """Checks the arguments of a forward pass and returns the sizes that hold for it."""
        sizes = self._next_image_sizes if image_sizes is None else image_sizes
        self._next_image_sizes = None
        if images.dim() != 4 or images.shape[1] != self.in_channels:
            raise ValueError(
                f"images must be (N, {self.in_channels}, H, W), got {tuple(images.shape)}"
            )
        if not images.is_floating_point():
            raise ValueError(f"images must be floating point, got {images.dtype}; normalise them")
        if 0 in images.shape:
            raise ValueError(f"images must not be empty, got {tuple(images.shape)}")
        if sizes is None:
            return None
        height, width = images.shape[-2:]
        sizes = [(int(h), int(w)) for h, w in sizes]
        if len(sizes) != len(images):
            raise ValueError(f"image_sizes has {len(sizes)} entries for {len(images)} images")
        for h, w in sizes:
            if not (0 < h <= height and 0 < w <= width):
                raise ValueError(
                    f"image_sizes has ({h}, {w}), which is not inside the batch of "
                    f"{height} x {width} pixels"
                )
        return sizes


class DynamicBackbone(Backbone):
    """Base of backbones that choose what they compute.

    Attributes:
        progress: share of training done, set by `set_progress`.
        execution: ``"auto"``, ``"sparse"`` (really skipping) or ``"masked"`` (computing densely
            and multiplying); what holds in training mode is each network's to say.
    """

    executions = ("auto", "sparse", "masked")

    def __init__(self, in_channels: int, execution: str = "auto") -> None:
        super().__init__(in_channels)
        self.execution = execution
        self.progress = 0.0
        self._record_auxiliary = True
        self._warned = False
        self._auxiliary: dict[str, Tensor] = {}

    @property
    def execution(self) -> str:
        return self._execution

    @execution.setter
    def execution(self, value: str) -> None:
        if value not in self.executions:
            raise ValueError(f"execution must be one of {self.executions}, got {value!r}")
        self._execution = value

    def set_progress(self, fraction: float) -> None:
        """Moves every schedule to a share of training done.

        Raises:
            ValueError: ``fraction`` is outside [0, 1].
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction of training must lie in [0, 1], got {fraction}")
        self.progress = float(fraction)

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """The losses of the last training forward, which this call takes off the module."""
        losses, self._auxiliary = self._auxiliary, {}
        return losses

    @contextmanager
    def no_auxiliary(self) -> Iterator[None]:
        """Forward passes inside leave the auxiliary losses of an earlier one alone.

        `decisions` follow every forward pass all the same.
        """
        before, self._record_auxiliary = self._record_auxiliary, False
        try:
            yield
        finally:
            self._record_auxiliary = before

    @property
    def records_auxiliary(self) -> bool:
        """Whether the next forward pass will keep auxiliary losses."""
        return self.training and self._record_auxiliary and torch.is_grad_enabled()

    def _keep_auxiliary(self, losses: dict[str, Tensor]) -> None:
        if self._auxiliary and not self._warned:
            self._warned = True
            warnings.warn(
                f"the auxiliary losses of {type(self).__name__} ({', '.join(self._auxiliary)}) "
                f"were not collected, so its decisions are not trained; call "
                f"dynbackbones.attach_auxiliary_losses(model) once on the outermost model, or use "
                f"no_auxiliary() or eval() for forward passes that are not trained",
                stacklevel=3,
            )
        self._auxiliary = losses

    def __getstate__(self) -> dict:
        # Copies (an EMA, say) start without the graph of a loss that was not yet collected.
        return {**self.__dict__, "_auxiliary": {}}


def find_backbones(model: nn.Module) -> list[Backbone]:
    """All backbones of this package inside a model, static ones included."""
    return [module for module in model.modules() if isinstance(module, Backbone)]
