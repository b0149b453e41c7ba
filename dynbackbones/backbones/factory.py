"""Names of backbones to their constructors; `register_backbone` adds a user's own."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dynbackbones.backbones.base import Backbone

Constructor = Callable[..., Backbone]


class Arguments(NamedTuple):
    """What a name of `build_backbone` stands for.

    Attributes:
        depth: the constructor's first argument; empty for a network of one depth.
        options: keyword arguments.
    """

    depth: tuple[int, ...] = ()
    options: Mapping[str, Any] = {}

    @property
    def named(self) -> dict[str, Any]:
        """All of them as keyword arguments."""
        return {**dict(zip(("depth",), self.depth, strict=False)), **self.options}


@dataclass(frozen=True)
class RegisteredBackbone:
    """A backbone that configs and commands know by name.

    Attributes:
        name: such as ``"sar_resnet"``; builders in YAML are called after it.
        constructor: a class, or a function that returns its instances.
        node: of its options in YAML, ``MODEL.<node>``; None where it has none there.
        depths: that the constructor takes as its first argument; each is a name of
            `build_backbone` too, such as ``"sar_resnet50"``. Empty for a network of one depth.
        variants: further names of `build_backbone`, such as ``"resnext50_32x4d"``, and what they
            stand for.
    """

    name: str
    constructor: Constructor
    node: str | None
    depths: tuple[int, ...] = ()
    variants: Mapping[str, Arguments] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, Arguments]:
        """What `build_backbone` calls it, and the arguments that the name stands for."""
        usual = {f"{self.name}{depth}": Arguments((depth,)) for depth in self.depths}
        return {**(usual or {self.name: Arguments()}), **self.variants}


Listener = Callable[[RegisteredBackbone], None]

# Options of timm, torchvision and OpenMMLab, and what is done here instead.
_ALL_FEATURES = "all features come out in a dict: index it, as in net(images)['res4']"
_ELSEWHERE = {
    "features_only": _ALL_FEATURES,
    "out_indices": _ALL_FEATURES,
    "out_features": _ALL_FEATURES,
    "pretrained": "build it, then call dynbackbones.load_weights(net, file)",
    "weights": "build it, then call dynbackbones.load_weights(net, file)",
}

_REGISTERED: dict[str, RegisteredBackbone] = {}
_VARIANTS: dict[str, tuple[RegisteredBackbone, Arguments]] = {}
_LISTENERS: list[Listener] = []


def register_backbone(
    name: str,
    constructor: Constructor,
    *,
    node: str | None = None,
    depths: Iterable[int] = (),
    variants: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Makes a backbone known everywhere: in Python, YAML, OpenMMLab's configs and all commands.

    ``build_backbone(name)`` builds it. In YAML ``MODEL.BACKBONE.NAME`` can be
    ``build_<name>_backbone``, ``build_<name>_fpn_backbone`` and
    ``build_retinanet_<name>_fpn_backbone``, with the constructor's options under ``MODEL.<node>``
    in capitals; OpenMMLab's configs know it by the class's name. A file of yours is imported by
    ``--import MODULE`` or ``custom_imports``.

    Args:
        name: lower case, in the style of ``"sar_resnet"``.
        constructor: a class derived from `Backbone`, or from `DynamicBackbone` if it decides
            anything; its keyword arguments with defaults are its options.
        node: of the options in YAML, such as ``"SAR"``.
        depths: that the constructor takes first; see `RegisteredBackbone`.
        variants: further names, and the arguments that they stand for, ``depth`` among them.

    Raises:
        ValueError: the name or the node is taken, or is not of the form that configs need.

    Example:
        >>> import dynbackbones
        >>> class Narrow(dynbackbones.ResNet):
        ...     def __init__(self, *, in_channels: int = 3, norm: str = "BN", freeze_at: int = 0):
        ...         super().__init__(18, in_channels=in_channels, norm=norm, freeze_at=freeze_at)
        >>> dynbackbones.register_backbone("narrow", Narrow, node="NARROW")
        >>> dynbackbones.build_backbone("narrow").feature_info["res5"].channels
        512
    """
    entry = RegisteredBackbone(name, constructor, node, tuple(depths), _arguments(variants or {}))
    if not (name.isidentifier() and name == name.lower()):
        raise ValueError(f"name must be lower case letters, digits and _, got {name!r}")
    if node is not None and not (node.isidentifier() and node == node.upper()):
        raise ValueError(f"node must be upper case letters, digits and _, got {node!r}")
    for taken in (name, *entry.names):
        if taken in _REGISTERED or taken in _VARIANTS:
            raise ValueError(f"there is a backbone called {taken!r} already; choose another name")
    owner = next((other for other in _REGISTERED.values() if node and other.node == node), None)
    if owner is not None:
        raise ValueError(f"MODEL.{node} is the node of {owner.name!r}; choose another node")
    for listener in _LISTENERS:
        listener(entry)
    _REGISTERED[name] = entry
    _VARIANTS.update({variant: (entry, arguments) for variant, arguments in entry.names.items()})


def registered_backbones() -> dict[str, RegisteredBackbone]:
    """All registered backbones by name, in the order of registration."""
    return dict(_REGISTERED)


def on_registration(listener: Listener) -> None:
    """Calls a function for every backbone that is registered, and for those to come.

    For adapters, which make backbones known to their framework.
    """
    for entry in _REGISTERED.values():
        listener(entry)
    _LISTENERS.append(listener)


def find_registered(name: str) -> RegisteredBackbone:
    """The registered backbone of which ``name`` is a variant.

    Raises:
        ValueError: the name is not known.
    """
    return _variant(name)[0]


def list_backbones() -> list[str]:
    """Names that `build_backbone` knows, sorted.

    Example:
        >>> import dynbackbones
        >>> "sar_resnet50" in dynbackbones.list_backbones()
        True
    """
    return sorted(_VARIANTS)


def build_backbone(name: str, **options: Any) -> Backbone:
    """Builds a backbone by name.

    Args:
        name: one of `list_backbones`.
        **options: of the class's constructor, for instance `SARResNet`.

    Raises:
        ValueError: the name is not known.
        TypeError: an option is not known; says the nearest one, or what another library's is here.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_backbone("sar_resnet18", groups=2, target_rate=0.5).eval()
        >>> features = net(torch.rand(1, 3, 64, 96))
        >>> tuple(features["res4"].shape)
        (1, 256, 4, 6)
    """
    entry, arguments = _variant(name)
    _check_options(name, entry.constructor, len(arguments.depth), options)
    return entry.constructor(*arguments.depth, **{**arguments.options, **options})


def _check_options(
    name: str, constructor: Constructor, given: int, options: Iterable[str]
) -> None:
    """Refuses options that are not among a constructor's, but for the first ones, which are given.

    Says what their user may have meant.
    """
    parameters = list(inspect.signature(constructor).parameters.values())[given:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise TypeError(f"{name} has no option {option!r}; {_ELSEWHERE.get(option, meant)}")


def _arguments(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, Arguments]:
    found = {}
    for name, options in variants.items():
        options = dict(options)
        depth = (options.pop("depth"),) if "depth" in options else ()
        found[name] = Arguments(depth, options)
    return found


def _variant(name: str) -> tuple[RegisteredBackbone, Arguments]:
    if name not in _VARIANTS:
        near = difflib.get_close_matches(name, _VARIANTS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"unknown backbone {name!r}{hint}; known: {', '.join(list_backbones())}")
    return _VARIANTS[name]
