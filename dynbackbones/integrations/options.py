"""Options of backbones in configs: they follow from constructors, but for one table of exceptions.

Every config language asks here what a constructor takes. In YAML a registered backbone has its
options under ``MODEL.<node>``:

- each argument of its constructor with a default that YAML can hold, in capitals; where it can be
  None, 0, 0.0 or "" stands for that;
- ``DEPTH`` of a family;
- the fields of `DynamicBackbone.training_options`;
- ``<NAME>_LR_FACTOR`` of each of `DynamicBackbone.lr_factors`;
- ``SELECTION`` and ``SELECTION_RATE``, arguments of `DynamicBackbone.select`.

A config is anything with nodes as attributes; this file knows no framework.
"""

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.backbones.factory import RegisteredBackbone

# Arguments that do not stand under MODEL.<node>.
_ELSEWHERE = {
    "in_channels",  # the images say it
    "freeze_at",  # MODEL.BACKBONE.FREEZE_AT, which detectron2 has for every backbone
    "selection",  # YAML holds names of selections, and a share beside them
}
# Of networks that hold a ResNet these are read where detectron2 reads them for the plain one, so
# that its detectors run after MODEL.BACKBONE.NAME alone was changed.
_FROM_RESNETS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "depth": ("DEPTH", lambda depth: depth),
    "norm": ("NORM", lambda norm: norm),
    "stride_in_1x1": ("STRIDE_IN_1X1", lambda first: first),
    "cardinality": ("NUM_GROUPS", lambda groups: groups),
    "width_per_group": ("WIDTH_PER_GROUP", lambda width: width),
    "output_stride": ("RES5_DILATION", lambda dilation: 16 if dilation == 2 else 32),
    "dilate_first": ("RES5_DILATION", lambda dilation: dilation == 2),  # as detectron2's is
}
# Without a node, and yet in YAML: detectron2's own ResNet, in whose place an engine may have ours.
_PLAIN = "resnet"
# Beside weights of losses and thresholds of boxes, a bare TOLERANCE says nothing.
_KEYS = {"tolerance": "LOSS_TOLERANCE"}
# The depth of most baselines, where a family has it.
_USUAL_DEPTH = 50

_EMPTY = {int: 0, float: 0.0, str: ""}


def network_of(entry: RegisteredBackbone) -> type[Backbone]:
    """The class of a registered backbone; of a function, what it says that it returns."""
    made = entry.constructor
    if not isinstance(made, type):
        made = signature_of(made).return_annotation
    return made if isinstance(made, type) and issubclass(made, Backbone) else Backbone


def signature_of(constructor: Callable[..., Any]) -> inspect.Signature:
    """A constructor's signature, its annotations as types where they can be found."""
    try:
        return inspect.signature(constructor, eval_str=True)
    except NameError:  # annotations with names that only type checkers import
        return inspect.signature(constructor)


def parameters_of(constructor: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments of a constructor that have names, by these."""
    found = signature_of(constructor).parameters
    return {name: p for name, p in found.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def stands_in_yaml(entry: RegisteredBackbone) -> bool:
    """Whether ``MODEL.BACKBONE.NAME`` can name a backbone."""
    return entry.node is not None or entry.name == _PLAIN


def yaml_key(entry: RegisteredBackbone, name: str) -> str:
    """Where YAML has an option of a backbone; empty where it has it nowhere.

    Args:
        entry: the backbone.
        name: of a constructor's argument, or of what else stands under the node.
    """
    if not stands_in_yaml(entry):
        return ""
    if name == "freeze_at":
        return "MODEL.BACKBONE.FREEZE_AT"
    if network_of(entry).holds_resnet and name in _FROM_RESNETS:
        key = _FROM_RESNETS[name][0]
        return f"MODEL.RESNETS.{key}" if key != "RES5_DILATION" or dilates(entry) else ""
    known = entry.node and _key(name) in yaml_defaults(entry)
    return f"MODEL.{entry.node}.{_key(name)}" if known else ""


def yaml_defaults(entry: RegisteredBackbone) -> dict[str, Any]:
    """The options of a backbone under its node, with their defaults.

    Raises:
        ValueError: two of them would have the same key.
    """
    network = network_of(entry)
    groups = [_arguments(entry), _training_fields(network), _lr_factors(network)]
    if issubclass(network, DynamicBackbone):
        groups.append({"selection": "", "selection_rate": 0.5})
    defaults: dict[str, Any] = {}
    for name, default in (pair for group in groups for pair in group.items()):
        if _key(name) in defaults:
            raise ValueError(
                f"{network.__name__} has two options that would be called "
                f"MODEL.{entry.node}.{_key(name)}; rename one"
            )
        defaults[_key(name)] = default
    return defaults


def constructor_arguments(
    entry: RegisteredBackbone, model: Any, in_channels: int
) -> dict[str, Any]:
    """What a config says of the arguments of a backbone's constructor.

    ``freeze_at`` and ``selection`` are left to the built network's `Backbone.freeze` and
    `DynamicBackbone.selection`.

    Args:
        entry: the backbone.
        model: the config's node ``MODEL``.
        in_channels: channels of the images.
    """
    parameters, arguments = parameters_of(entry.constructor), {}
    if entry.node:
        arguments = _read(_arguments(entry), entry.constructor, getattr(model, entry.node))
    if "in_channels" in parameters:
        arguments["in_channels"] = in_channels
    if network_of(entry).holds_resnet:
        for name in _FROM_RESNETS.keys() & parameters.keys():
            key, read = _FROM_RESNETS[name]
            arguments[name] = read(getattr(model.RESNETS, key))
    return arguments


def training_arguments(entry: RegisteredBackbone, node: Any) -> dict[str, Any]:
    """What a backbone's node says of the fields of `DynamicBackbone.training_options`."""
    network = network_of(entry)
    return _read(_training_fields(network), network.training_options, node)


def lr_factors_of(entry: RegisteredBackbone, node: Any) -> dict[str, float]:
    """What a backbone's node says of `DynamicBackbone.lr_factors`."""
    names = getattr(network_of(entry), "lr_factors", {})
    return {name: getattr(node, _key(f"{name}_lr_factor")) for name in names}


def dilates(entry: RegisteredBackbone) -> bool:
    """Whether a backbone can have the dilation that detectron2 gives res5."""
    return {"output_stride", "dilate_first"} <= parameters_of(entry.constructor).keys()


def _read(
    defaults: dict[str, Any], constructor: Callable[..., Any], node: Any
) -> dict[str, Any]:
    """Values of a constructor's arguments, from what a node has in their places."""
    parameters, values = parameters_of(constructor), {}
    for name, default in defaults.items():
        value = getattr(node, _key(name))
        if isinstance(default, list):
            value = tuple(value)
        optional = type(None) in _members(parameters[name].annotation)
        values[name] = None if optional and not value else value
    return values


def _key(name: str) -> str:
    return _KEYS.get(name, name.upper())


def _arguments(entry: RegisteredBackbone) -> dict[str, Any]:
    """The constructor's arguments that stand under the node, with their defaults in YAML."""
    network, found = network_of(entry), _yaml_values(entry.constructor)
    if entry.depths:
        usual = _USUAL_DEPTH if _USUAL_DEPTH in entry.depths else entry.depths[0]
        found = {"depth": usual, **found}
    elsewhere = _ELSEWHERE | (_FROM_RESNETS.keys() if network.holds_resnet else set())
    return {name: value for name, value in found.items() if name not in elsewhere}


def _training_fields(network: type[Backbone]) -> dict[str, Any]:
    options = getattr(network, "training_options", None)
    return _yaml_values(options) if options else {}


def _lr_factors(network: type[Backbone]) -> dict[str, float]:
    factors = getattr(network, "lr_factors", {})
    return {f"{name}_lr_factor": factor for name, factor in factors.items()}


def _yaml_values(constructor: Callable[..., Any]) -> dict[str, Any]:
    """The arguments whose defaults YAML can write, with these."""
    values = {name: _yaml_value(p) for name, p in parameters_of(constructor).items()}
    return {name: value for name, value in values.items() if value is not None}


def _yaml_value(parameter: inspect.Parameter) -> Any:
    """An argument's default as YAML writes it; None for what it cannot write."""
    default = parameter.default
    if default is None:
        kinds = [kind for kind in _members(parameter.annotation) if kind in _EMPTY]
        return _EMPTY[kinds[0]] if len(kinds) == 1 else None
    if isinstance(default, bool | int | float | str):
        return default
    if isinstance(default, tuple | list):
        simple = all(isinstance(item, bool | int | float | str) for item in default)
        return list(default) if simple else None
    return None


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)
