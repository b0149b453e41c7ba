"""The contract of backbones: features out, decisions and auxiliary losses out of band."""

import threading
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from dynbackbones.backbones.decisions import Batch, Decisions, Size, sizes_macs
from dynbackbones.layers.tracing import is_traced

Key = TypeVar("Key")
Value = TypeVar("Value")

PATIENCE = 10
"""Training passes without `set_progress` after which a warning says so."""

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

    Example:
        >>> import dynbackbones
        >>> dynbackbones.build_backbone("sar_resnet50").feature_info["res4"]
        FeatureInfo(channels=1024, stride=16, module='layer3.transition')
    """

    channels: int
    stride: int
    module: str


class _Trace:
    """What a forward pass leaves behind."""

    def __init__(self) -> None:
        self.decisions: Decisions | None = None
        self.image_sizes: list[Size] | None = None
        self.losses: dict[str, Tensor] = {}


class _Traces(threading.local):
    """The trace of each thread's last forward pass; a copy of a network starts without any.

    Its one attribute never changes: the compiler follows writes to a plain object, and drops those
    to a thread's own attributes.
    """

    def __init__(self) -> None:
        self.mine = _Trace()

    def __deepcopy__(self, memo: dict) -> "_Traces":
        return _Traces()

    def __reduce__(self) -> tuple:
        return _Traces, ()


class Backbone(nn.Module):
    """Base of all backbones, static ones included.

    ``forward(images, image_sizes=None)`` maps (N, in_channels, H, W) to a dict from feature name
    to (N, channels, ceil(H / stride), ceil(W / stride)). A derived class begins it with
    `_check_inputs` and ends it by setting `decisions`.

    Attributes:
        feature_info: feature name to `FeatureInfo`, from high to low resolution.
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
        self.freeze_at = 0
        self._traces = _Traces()

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
        stem = [self.conv1, self.bn1, self.maxpool]
        stages = [(n, m) for n, m in self.named_children() if n.startswith("layer")]
        return {"stem": stem, **{name: [stage] for name, stage in stages}}

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
        """Gives the sizes of the images in this thread's next forward pass, which forgets them.

        For frameworks that call ``backbone(images)`` without sizes.

        Args:
            image_sizes: (height, width) of each image in pixels, without padding.
        """
        self._traces.mine.image_sizes = [(int(h), int(w)) for h, w in image_sizes]

    @contextmanager
    def state_kept(self) -> Iterator[None]:
        """Forward passes inside leave no trace, and do not see sizes that wait for another one.

        Decisions, auxiliary losses and sizes that `set_image_sizes` gave are afterwards as before.
        """
        last = self._traces.mine
        before, last.image_sizes = dict(vars(last)), None
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
        if images.dim() != 4 or images.shape[1] != self.in_channels:
            raise ValueError(
                f"images must be (N, {self.in_channels}, H, W), got {tuple(images.shape)}"
            )
        if not images.is_floating_point():
            raise ValueError(f"images must be floating point, got {images.dtype}; normalise them")
        if images.numel() == 0:
            raise ValueError(f"images must not be empty, got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        if sizes is not None:
            sizes = [(int(h), int(w)) for h, w in sizes]
            _check_sizes(sizes, images.shape[0], height, width)
        return Batch(images.shape[0], (height, width), sizes)


def _check_sizes(sizes: list[Size], images: int, height: int, width: int) -> None:
    if len(sizes) != images:
        raise ValueError(f"image_sizes has {len(sizes)} entries for {images} images")
    for h, w in sizes:
        if not (0 < h <= height and 0 < w <= width):
            raise ValueError(
                f"image_sizes has ({h}, {w}), which is not inside the batch of "
                f"{height} x {width} pixels"
            )


class DynamicBackbone(Backbone):
    """Base of backbones that choose what they compute.

    Attributes:
        progress: share of training done, set by `set_progress`.
        execution: ``"auto"``, ``"sparse"`` (really skipping) or ``"masked"`` (computing densely
            and multiplying); what holds in training mode is each network's to say.
        lr_factors: by the names of `own_parameters`, the factors of the learning rate that hold
            unless a config says otherwise.
        policy_training: None where auxiliary losses train the decisions; ``"frozen"``, or
            ``"reinforce"`` where rewards do, see `dynbackbones.training.policy`.
        training_options: dataclass of what else trains the decisions, such as rewards; its fields
            are options in configs.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_backbone("sar_resnet18", target_rate=0.5).eval()
        >>> images = torch.rand(1, 3, 224, 224)
        >>> with net.select("uniform", rate=0.5):
        ...     _ = net(images)
        >>> net.decisions.rate_name, round(float(net.decisions.rate), 2)
        ('activation_rate', 0.5)
        >>> chosen = net.decisions.choices()
        >>> with net.select(chosen):  # the same once more
        ...     _ = net(images)
        >>> net.set_progress(0.2)
        >>> round(net.scheduled_target_rate, 3)
        0.833
    """

    executions = ("auto", "sparse", "masked")
    lr_factors: ClassVar[dict[str, float]] = {}
    training_options: ClassVar[type | None] = None
    policy_training: str | None = None

    def __init__(self, in_channels: int, execution: str = "auto", selection: Any = None) -> None:
        super().__init__(in_channels)
        self.execution = execution
        self.progress = 0.0
        self._selection = selection
        self._record_auxiliary = True
        self._warned = False
        # Training passes since the start in which nobody moved the schedules; None if one did.
        self._unmoved: int | None = 0

    @property
    def execution(self) -> str:
        return self._execution

    @execution.setter
    def execution(self, value: str) -> None:
        if value not in self.executions:
            raise ValueError(f"execution must be one of {self.executions}, got {value!r}")
        self._execution = value

    @property
    def selection(self) -> Any:
        """The override of the decisions that holds at present; None for the network's own."""
        return self._selection

    @selection.setter
    def selection(self, value: Any) -> None:
        """Overrides the decisions for good with what `make_selection` returned, or no longer."""
        self._selection = value

    @abstractmethod
    def make_selection(self, kind: Any, rate: float, seed: int) -> Any:
        """What `select` puts in place of the decisions; arguments as there.

        Raises:
            ValueError: one of them has a wrong value.
        """

    @contextmanager
    def select(self, kind: Any, *, rate: float = 0.5, seed: int = 0) -> Iterator[None]:
        """Overrides the decisions of forward passes inside: ablations, latency, tests.

        What decides still runs, so that time and MACs are those of a real decision.

        Args:
            kind: ``"all"``, ``"none"``, ``"random"`` and what else the network's selection knows;
                or choices as `Decisions.choices` returns them.
            rate: share to compute, for the kinds that need one.
            seed: of ``"random"``.

        Raises:
            ValueError: one of them has a wrong value.
        """
        before, self._selection = self._selection, self.make_selection(kind, rate, seed)
        try:
            yield
        finally:
            self._selection = before

    @abstractmethod
    def macs(self, height: int, width: int, share: float = 1.0) -> float:
        """Multiply-accumulates for an image of this size in pixels.

        Args:
            height, width: of the image.
            share: of what could be computed, in [0, 1]: the rate of the decisions.
        """

    def _count_macs(self, decisions: Decisions) -> Tensor:
        rates = decisions.rate.double().tolist()
        macs = [self.macs(*s, r) for s, r in zip(decisions.image_sizes, rates, strict=True)]
        return torch.tensor(macs, dtype=torch.float64)

    def thresholds(self) -> list[Tensor]:
        """Buffers that `dynbackbones.calibrate` moves; higher ones compute less."""
        return []

    def own_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of what decides, for learning rates of their own; see `lr_factors`."""
        return {}

    def set_progress(self, fraction: float) -> None:
        """Moves every schedule to a share of training done.

        Raises:
            ValueError: ``fraction`` is outside [0, 1].
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction of training must lie in [0, 1], got {fraction}")
        self.progress = float(fraction)
        self._unmoved = None

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """The losses of this thread's last training forward, which are taken off the module."""
        last = self._traces.mine
        losses, last.losses = last.losses, {}
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
        last = self._traces.mine
        if last.losses and not self._warned:
            self._warned = True
            warnings.warn(
                f"the auxiliary losses of {type(self).__name__} ({', '.join(last.losses)}) "
                f"were not collected, so its decisions are not trained; call "
                f"dynbackbones.attach_auxiliary_losses(model) once on the outermost model, or use "
                f"no_auxiliary() or eval() for forward passes that are not trained",
                stacklevel=3,
            )
        last.losses = losses
        self._look_for_progress()

    def _look_for_progress(self) -> None:
        if self._unmoved is None or is_traced():
            return
        self._unmoved += 1
        if self._unmoved == PATIENCE:
            warnings.warn(
                f"nobody moved the schedules of {type(self).__name__} in {PATIENCE} training "
                "passes, so they stand at their start: call dynbackbones.set_progress(model, "
                "iteration / max_iterations) in each, or register your framework's "
                "DynamicBackboneHook",
                stacklevel=4,
            )


def find_backbones(model: nn.Module) -> list[Backbone]:
    """All backbones of this package inside a model, static ones included."""
    return [module for module in model.modules() if isinstance(module, Backbone)]
