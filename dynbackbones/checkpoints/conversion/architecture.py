"""Which backbone of this package has weights of these names and shapes."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dynbackbones import checkpoints
from dynbackbones.backbones import Backbone, MobileNetV2, ResNet, build_backbone, list_backbones
from dynbackbones.backbones.cifar_resnet import BOTTLENECKS, PAPER_DEPTHS, cifar_layout
from dynbackbones.backbones.factory import Arguments, find_registered, registered_backbones
from dynbackbones.backbones.mobilenet import ROWS
from dynbackbones.checkpoints.names import LAST_CONVS
from dynbackbones.errors import UserError

# Relatives of the ResNets that this package does not have: what gives them away, what it is.
_RELATIVES = (
    (r"conv1\.0\.weight", "a stem of three convolutions under conv1 (resnet50d and the like)"),
    (r"layer1\.0\.se\..*", "squeeze-and-excitation layers"),
    (r"layer1\.0\.(attn|eca|aa|conv\d\.aa)\..*", "attention or anti-aliasing layers"),
)
# Beginnings of names that give a kind of network away, and what those of its backbones begin with.
_GIVEN_AWAY = {"sar_": "layer1.base.", "blockdrop_": "policy.", "": ""}
# The same of networks of inverted residuals, by their whole names.
_INVERTED = {"mobilenet_v2": "features.1.conv.", "sar_mobilenet_v2": "layer1.transition.conv."}


@dataclass(frozen=True)
class Architecture:
    """A backbone of this package.

    Attributes:
        name: one of `list_backbones`.
        options: of its constructor, as far as weights show them or the file says.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Whether it is an ordinary ResNet, which other libraries have too."""
        return find_registered(self.name).constructor is ResNet

    @property
    def libraries(self) -> tuple[str, ...]:
        """Which of torchvision and timm have the network, with the same names."""
        if find_registered(self.name).constructor is MobileNetV2 and "last_conv" in self.options:
            return ("torchvision",)
        return ("torchvision", "timm") if self.plain else ()

    @property
    def cifar(self) -> bool:
        """Whether it is a network for images as small as CIFAR's."""
        return self._outline().stride == 1

    @property
    def depth(self) -> int | None:
        """Number of layers with weights in the name; None where it has none."""
        return next(iter(self.arguments.depth), None)

    @property
    def arguments(self) -> Arguments:
        """What the name stands for."""
        return find_registered(self.name).names[self.name]

    @property
    def bottlenecks(self) -> bool:
        """Whether it holds a ResNet whose strides can be in two places."""
        return "stride_in_1x1" in self.parameters and "layer1.0.conv3.weight" in self.state()

    @property
    def holds_resnet(self) -> bool:
        """Whether the weights, but for those of what decides, are an ordinary ResNet's."""
        return self._outline().holds_resnet

    @property
    def parameters(self) -> Set[str]:
        """Names of all options of its constructor."""
        return inspect.signature(find_registered(self.name).constructor).parameters.keys()

    def build(self) -> Backbone:
        """The network, initialised anew."""
        return build_backbone(self.name, **self.options)

    def state(self) -> Mapping[str, Tensor]:
        """Names and shapes of the weights, without memory for them."""
        return self._outline().state

    def out_channels(self) -> int:
        """Channels of the last feature."""
        return self._outline().channels

    def _outline(self) -> _Outline:
        return _outline_of(self.name, tuple(sorted(self.options.items())))

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name} ({options})" if options else self.name


class _Outline(NamedTuple):
    """What a network is, without its weights.

    Attributes:
        state: names and shapes of the weights.
        channels: of the last feature.
        stride: of the first feature.
        holds_resnet: see `Backbone`.
    """

    state: Mapping[str, Tensor]
    channels: int
    stride: int
    holds_resnet: bool


class _NoRandomNumbers(TorchFunctionMode):
    """Leaves weights as they are where they would be drawn, which takes time."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if args and getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0]
        return func(*args, **(kwargs or {}))


@functools.lru_cache(maxsize=128)
def _outline_of(name: str, options: tuple[tuple[str, Any], ...]) -> _Outline:
    with _NoRandomNumbers():
        net = build_backbone(name, **dict(options))
    outline = {
        key: torch.empty(value.shape, device="meta") for key, value in net.state_dict().items()
    }
    first, *_, last = net.feature_info.values()
    return _Outline(outline, last.channels, first.stride, net.holds_resnet)


def find_architecture(
    state: Mapping[str, Tensor],
    source: str,
    name: str | None = None,
    known_options: Mapping[str, Any] | None = None,
) -> Architecture:
    """Finds the backbone that has exactly these weights.

    Args:
        state: weights under this package's names.
        source: names the file in error messages.
        name: of the backbone, where the user says it.
        known_options: of the constructor, that weights do not show.

    Raises:
        UserError: no backbone has these weights, or another one than ``name``.
    """
    if name is not None and name not in list_backbones():
        raise UserError(f"--backbone {name} is unknown; known: {', '.join(list_backbones())}")
    options = {**_visible_options(state), **(known_options or {})}
    family = _family_of(state)
    kinds = {known: find_registered(known).name for known in list_backbones()}
    names = [k for k, kind in kinds.items() if k == name or kind in (family, *_unknown_families())]
    candidates = [_candidate(known, options) for known in names]
    fitting = [arch for arch in candidates if arch and not _differences(arch, state)]
    if name is None and fitting:
        # The name that says most.
        return min(fitting, key=lambda arch: len(arch.options))
    for arch in fitting:
        if arch.name == name:
            return arch
    raise UserError(_explain(state, source, name, fitting, [c for c in candidates if c]))


def _unknown_families() -> list[str]:
    """Registered backbones that no kind of layer gives away."""
    known = [f"{kind}{cifar}resnet" for kind in _GIVEN_AWAY for cifar in ("", "cifar_")]
    known += _INVERTED
    return [name for name in registered_backbones() if name not in known]


def _family_of(state: Mapping[str, Tensor]) -> str:
    """The registered backbone whose kinds of layers the weights are of."""
    for family, layer in _INVERTED.items():
        if any(name.startswith(layer) for name in state):
            return family
    stem = state.get("conv1.weight")
    cifar = "cifar_" if stem is not None and stem.shape[-1] == 3 else ""
    kind = next(k for k, layer in _GIVEN_AWAY.items() if any(n.startswith(layer) for n in state))
    return f"{kind}{cifar}resnet"


def _candidate(name: str, options: Mapping[str, Any]) -> Architecture | None:
    """A backbone, given the options that it knows; None if their values do not go together.

    A name that stands for options has no other values of them.
    """
    plain = Architecture(name)
    own = plain.arguments.options
    if any(options.get(key, value) != value for key, value in own.items()):
        return None
    strided = plain.bottlenecks or "layout" in options
    known = plain.parameters - own.keys() - (set() if strided else {"stride_in_1x1"})
    arch = Architecture(name, {key: value for key, value in options.items() if key in known})
    try:
        arch.state()
    except ValueError:
        return None
    return arch


def _visible_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that names and shapes show, where they are not the default."""
    options: dict[str, Any] = {}
    stems = (state.get(f"{name}.weight") for name in ("conv1", "stem.0", "features.0.0"))
    stem = next((weight for weight in stems if weight is not None), None)
    options.update(_mobilenet_options(state))
    if "stem.0.weight" in state:
        options["deep_stem"] = True
    if stem is not None and stem.ndim == 4 and stem.shape[1] != 3:
        options["in_channels"] = stem.shape[1]
    if "layer1.fusion.scale" in state:
        options.update(_around_resnet(state))
    elif any(key.startswith("layer1.transition.") for key in state):
        options.update(_sar_options(state))
    elif stem is not None and stem.shape[-1] == 3 and "layer1.0.bn2.weight" in state:
        width = _width(state, "layer1.0")
        if width != 1:
            options["width"] = width
    return options


def _mobilenet_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    last = state.get("features.17.conv.3.weight")
    width = 1 if last is None else len(last) / ROWS[-1][1]
    options: dict[str, Any] = {} if width == 1 else {"width": width}
    if any(f"{name}0.weight" in state for name in LAST_CONVS):
        options["last_conv"] = True
    return options


def _width(state: Mapping[str, Tensor], block: str) -> float:
    """Of a network for CIFAR by a block of its first stage, whose stem has the usual width."""
    bottleneck = f"{block}.bn3.weight" in state
    usual = cifar_layout(BOTTLENECKS if bottleneck else PAPER_DEPTHS[0]).channels(1)[0]
    return len(state[f"{block}.bn{3 if bottleneck else 2}.weight"]) / usual


def _around_resnet(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options of a SAR network around a ResNet."""
    options: dict[str, Any] = {"layout": "resnet"}
    projection = state.get("layer1.fusion.base_projection.0.weight")
    if projection is not None:
        options["alpha"] = projection.shape[0] // projection.shape[1]
    if "layer1.selectors.0.bn.running_mean" not in state:
        options["added_norm"] = "GN"
    return options | _shared_regions(state)


def _shared_regions(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Whether stages have one selector for several blocks; all of them do, or none."""
    keys = {"base.1.": False, "selectors.0.": False, "selectors.1.": False}
    for key in keys:
        keys[key] = any(name.startswith(f"layer1.{key}") for name in state)
    several, one, more = keys.values()
    return {"regions_per": "stage"} if several and one and not more else {}


def _sar_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    def channels(stage: int, part: str) -> int:
        """Of the output of a part of a stage; 0 where the stage does not have it."""
        norms = [f"layer{stage}.{part}.{norm}.weight" for norm in ("bn3", "bn2", "conv.3")]
        return next((len(state[norm]) for norm in norms if norm in state), 0)

    options: dict[str, Any] = {}
    out, base = channels(1, "transition"), channels(1, "base.0")
    if out and base:
        options["alpha"] = out // base
    if any(re.fullmatch(r"layer\d\.base\.0\.downsample\.0\.weight", key) for key in state):
        options["base"] = "dilated"  # in front of the others stands a layer that pools
    refined, out2 = channels(2, "refinement.0"), channels(2, "transition")
    selector = state.get("layer1.selectors.0.fc.bias")
    if selector is None:
        options["branches"] = "base"
    else:
        options["groups"] = len(selector) // 2
        if "layer1.fusion.attention.0.weight" not in state:
            options["branches"] = "refinement"
    if refined and out2 and refined != out2:
        options["beta"] = refined / out2
    if "layer1.transition.bn2.weight" in state:
        options["width"] = _width(state, "layer1.transition")
    return options | _shared_regions(state)


def _differences(arch: Architecture, state: Mapping[str, Tensor]) -> list[str]:
    return checkpoints.differences(arch.state(), state)


def _explain(
    state: Mapping[str, Tensor],
    source: str,
    name: str | None,
    fitting: list[Architecture],
    candidates: list[Architecture],
) -> str:
    """One line on why the weights are not those of the backbone ``name``, or of any."""
    if fitting:
        return (
            f"checkpoint {source} is not a {name} but a {fitting[0].name}: leave --backbone away, "
            "or give another file"
        )
    for pattern, what in _RELATIVES:
        if any(re.fullmatch(pattern, key) for key in state):
            return f"checkpoint {source} has {what}: this package has no such network"
    named = [arch for arch in candidates if arch.name == name]
    nearest = named[0] if named else max(candidates, key=lambda arch: _likeness(arch, state))
    found = ", ".join(_differences(nearest, state))
    return (
        f"checkpoint {source} is of no network of this package: beside {nearest} it has {found}; "
        f"known: {', '.join(list_backbones())}"
    )


def _likeness(arch: Architecture, state: Mapping[str, Tensor]) -> tuple[float, int]:
    wanted = arch.state()
    common = wanted.keys() & state.keys()
    same = sum(wanted[key].shape == state[key].shape for key in common)
    return len(common) / len(wanted.keys() | state.keys()), same
