"""Which backbone of this package has weights of these names and shapes."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dynbackbones import checkpoints
from dynbackbones.backbones import Backbone, build_backbone, list_backbones
from dynbackbones.errors import UserError
from dynbackbones.layers.stem import CIFAR_STEM_CHANNELS

# Relatives of the ResNets that this package does not have: what gives them away, what it is.
_RELATIVES = (
    (r"(conv1|stem)\.0\.weight", "a stem of three convolutions (resnet50d and the like, V1c)"),
    (r"layer1\.0\.se\..*", "squeeze-and-excitation layers"),
    (r"layer1\.0\.(attn|eca|aa|conv\d\.aa)\..*", "attention or anti-aliasing layers"),
)


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
        return re.fullmatch(r"resnet\d+", self.name) is not None

    @property
    def cifar(self) -> bool:
        """Whether it is a network for CIFAR."""
        return "cifar" in self.name

    @property
    def depth(self) -> int:
        """Number of layers with weights in the name."""
        return int(self.name.rpartition("resnet")[2])

    def build(self) -> Backbone:
        """The network, initialised anew."""
        return build_backbone(self.name, **self.options)

    def state(self) -> Mapping[str, Tensor]:
        """Names and shapes of the weights, without memory for them."""
        return self._outline()[0]

    def out_channels(self) -> int:
        """Channels of the last feature."""
        return self._outline()[1]

    def _outline(self) -> tuple[Mapping[str, Tensor], int]:
        return _outline_of(self.name, tuple(sorted(self.options.items())))

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name} ({options})" if options else self.name


class _NoRandomNumbers(TorchFunctionMode):
    """Leaves weights as they are where they would be drawn, which takes time."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if args and getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0]
        return func(*args, **(kwargs or {}))


@functools.lru_cache(maxsize=128)
def _outline_of(
    name: str, options: tuple[tuple[str, Any], ...]
) -> tuple[Mapping[str, Tensor], int]:
    with _NoRandomNumbers():
        net = build_backbone(name, **dict(options))
    outline = {
        key: torch.empty(value.shape, device="meta") for key, value in net.state_dict().items()
    }
    return outline, list(net.feature_info.values())[-1].channels


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
    names = [known for known in list_backbones() if known == name or _family(known) == family]
    candidates = [_candidate(known, options) for known in names]
    fitting = [arch for arch in candidates if arch and not _differences(arch, state)]
    if name is None and fitting:
        return fitting[0]
    for arch in fitting:
        if arch.name == name:
            return arch
    raise UserError(_explain(state, source, name, fitting, [c for c in candidates if c]))


def _family(name: str) -> str:
    return name.rstrip("0123456789")


def _family_of(state: Mapping[str, Tensor]) -> str:
    """Name without depth of the backbones whose kinds of layers the weights are of."""
    stem = state.get("conv1.weight")
    cifar = "cifar_" if stem is not None and stem.shape[-1] == 3 else ""
    if any(key.startswith("layer1.transition.") for key in state):
        return f"sar_{cifar}resnet"
    if any(key.startswith("policy.") for key in state):
        return f"blockdrop_{cifar}resnet"
    return f"{cifar}resnet"


def _candidate(name: str, options: Mapping[str, Any]) -> Architecture | None:
    """A backbone with those of the options that it has; None if they do not go together."""
    known = {"in_channels"}
    if name.startswith("sar"):
        known |= {"groups", "alpha", "beta", "base_scale"}
        known |= {"width", "branches"} if "cifar" in name else set()
    elif "cifar" not in name and Architecture(name).depth >= 50:
        known |= {"stride_in_1x1"}
    arch = Architecture(name, {key: value for key, value in options.items() if key in known})
    try:
        arch.state()
    except ValueError:
        return None
    return arch


def _visible_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that names and shapes show, where they are not the default."""
    options: dict[str, Any] = {}
    stem = state.get("conv1.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[1] != 3:
        options["in_channels"] = stem.shape[1]
    if any(key.startswith("layer1.transition.") for key in state):
        options.update(_sar_options(state))
    return options


def _sar_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    def channels(stage: int, part: str) -> int:
        """Of the output of a part of a stage; 0 where the stage does not have it."""
        norms = [f"layer{stage}.{part}.bn{number}.weight" for number in (3, 2)]
        return next((len(state[norm]) for norm in norms if norm in state), 0)

    options: dict[str, Any] = {}
    out, base = channels(1, "transition"), channels(1, "base.0")
    if out and base:
        options["alpha"] = out // base
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
    if out:
        options["width"] = out / CIFAR_STEM_CHANNELS
    return options


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
