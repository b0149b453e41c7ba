"""The backbones in OpenMMLab's idiom: its option names, a tuple of feature maps, `init_cfg`.

Every registered backbone has a class here, which mmengine's root registry knows by the name of the
backbone's own class. A backbone that was registered with a function is refused when it is built.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dynbackbones.backbones.factory import RegisteredBackbone, on_registration
from dynbackbones.backbones.signature import unknown_option
from dynbackbones.integrations.openmmlab.option_values import (
    check_init,
    norm_of,
    output_stride_of,
)
from dynbackbones.integrations.openmmlab.weights import load_pretrained
from dynbackbones.integrations.options import signature_of

CLASSES: dict[str, type[nn.Module]] = {}
"""The classes by the names of `dynbackbones.register_backbone`."""

STAGES = 4
# OpenMMLab's options -> the argument of the backbone's own constructor that they speak of.
_SPEAK_OF = {
    "output_stride": "output_stride",
    "strides": "output_stride",
    "dilations": "output_stride",
    "norm_cfg": "norm",
    "with_cp": "activation_checkpointing",
    "selection": "selection",
    "selection_rate": "selection",
}
# mmseg, mmpretrain and mmdet have these too, which report no MACs.
_NAMES = {"ResNet": "StaticResNet", "MobileNetV2": "StaticMobileNetV2"}
# With three stages these classify: the last one's features come out unless others are asked for.
_LAST_STAGE_ONLY = ("cifar_resnet", "sar_cifar_resnet", "blockdrop_cifar_resnet")


class OpenMMLabBackbone:
    """What OpenMMLab expects of a backbone, to be mixed into one of this package's.

    The class stands before the backbone and `BaseModule` after it, so that parameter names are the
    backbone's own.

    Args:
        depth: of a family, such as 50.
        out_indices: stages whose features come out: 0 is the first, of stride 4 in networks for
            large images.
        output_stride: 32, 16 or 8; or, as in mmseg's configs,
        strides, dilations: of the four stages, both or none.
        norm_cfg: of the norm layers, such as ``dict(type="SyncBN")``.
        norm_eval: keep the statistics of all norm layers as they are.
        frozen_stages: -1 freezes nothing, 0 the stem, 1 also stage 1, and so on.
        with_cp: activation checkpointing, memory for time.
        init_cfg: mmengine's; ``dict(type="Pretrained", checkpoint=..., prefix="backbone.")`` reads
            a file, a URL or ``torchvision://resnet50``, and refuses weights that do not fit.
        selection: overrides the decisions, as for `DynamicBackbone.select`.
        selection_rate: share of the regions or blocks that a named selection selects.
        options: of the backbone's own constructor.

    Raises:
        ValueError: an option has a wrong value.
    """

    default_indices: tuple[int, ...] = tuple(range(STAGES))
    norm_eval = False

    def __init__(
        self,
        *depth: int,
        out_indices: Sequence[int] | None = None,
        output_stride: int | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        selection: Any = None,
        selection_rate: float = 0.5,
        **options: Any,
    ) -> None:
        named = isinstance(selection, str)
        translated = {
            "output_stride": output_stride_of(output_stride, strides, dilations),
            "norm": norm_of(norm_cfg),
            "activation_checkpointing": with_cp or None,
            "selection": None if named else selection,
        }
        options |= {name: value for name, value in translated.items() if value is not None}
        super().__init__(*depth, **options)
        if named:
            self.selection = self.make_selection(selection, selection_rate, seed=0)
        names, stages = list(self.feature_info), len(self.parts()) - 1
        if out_indices is None:
            out_indices = [index for index in self.default_indices if index < len(names)]
        if not out_indices or not all(index in range(len(names)) for index in out_indices):
            raise ValueError(
                f"out_indices must name stages 0 to {len(names) - 1} ({', '.join(names)}), got "
                f"{tuple(out_indices)}"
            )
        if not -1 <= frozen_stages <= stages:
            raise ValueError(f"frozen_stages must lie in -1..{stages}, got {frozen_stages}")
        self.out_indices = tuple(out_indices)
        self.out_names = tuple(names[index] for index in out_indices)
        configs = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg or ())
        for cfg in configs:
            check_init(cfg)
        self._pretrained = [dict(cfg) for cfg in configs if cfg["type"] == "Pretrained"]
        self.init_cfg = [dict(cfg) for cfg in configs if cfg["type"] != "Pretrained"]
        self.norm_eval = norm_eval
        self.freeze(frozen_stages + 1)

    def forward(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None = None
    ) -> tuple[Tensor, ...]:
        features = super().forward(images, image_sizes)
        return tuple(features[name] for name in self.out_names)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Loads what `init_cfg` names; see `load_pretrained`."""
        super().init_weights()
        for cfg in self._pretrained:
            load_pretrained(self, cfg["checkpoint"], cfg.get("prefix"))


def _register(entry: RegisteredBackbone) -> None:
    """Makes and registers a backbone's class.

    Raises:
        ValueError: the registry has another class of the name.
    """
    core = entry.constructor
    if not isinstance(core, type):
        MODELS.register_module(entry.name, module=_refusal_of(entry))
        return
    kind = next((kind for kind in CLASSES.values() if core in kind.__bases__), None)
    if kind is None:
        kind = _class_of(entry)
        if kind.__name__ in MODELS.module_dict:
            raise ValueError(
                f"mmengine's registry has a class called {kind.__name__} already; call that of "
                f"the backbone {entry.name!r} something else"
            )
        MODELS.register_module(module=kind)
    CLASSES[entry.name] = kind


def _refusal_of(entry: RegisteredBackbone) -> Any:
    def refuse(**options: Any) -> NoReturn:
        raise ValueError(
            f"{entry.name} was registered with a function, and OpenMMLab's types are classes: "
            f"call register_backbone with a class"
        )

    return refuse


def _class_of(entry: RegisteredBackbone) -> type[nn.Module]:
    core = entry.constructor
    name, signature = _NAMES.get(core.__name__, core.__name__), _signature_of(entry)

    def __init__(self, *args: Any, **options: Any) -> None:
        unknown = unknown_option(options, signature)
        if unknown is not None:
            raise TypeError(
                f"{name}.__init__() got an unexpected keyword argument {unknown[0]!r}{unknown[1]}"
            )
        try:
            signature.bind(self, *args, **options)
        except TypeError as error:
            raise TypeError(f"{name}.__init__(): {error}") from None
        OpenMMLabBackbone.__init__(self, *args, **options)

    __init__.__signature__ = signature
    members = {
        "__init__": __init__,
        "__module__": __name__,
        "__doc__": f"""`{core.__module__}.{core.__name__}` for OpenMMLab's libraries.

    It takes the options of `OpenMMLabBackbone` and the other ones of that class.
    """,
        "default_indices": signature.parameters["out_indices"].default,
    }
    bases = (OpenMMLabBackbone, core, BaseModule)
    return types.new_class(name, bases, exec_body=lambda space: space.update(members))


def _signature_of(entry: RegisteredBackbone) -> inspect.Signature:
    """Of the class's ``__init__``: the core's arguments, OpenMMLab's in the place of some."""
    core = signature_of(entry.constructor).parameters
    theirs = inspect.signature(OpenMMLabBackbone.__init__).parameters
    found = {"self": theirs["self"]}
    for name, parameter in core.items():
        if parameter.default is parameter.empty:  # a family's depth, and what takes all the rest
            found[name] = parameter
    for name, parameter in theirs.items():
        wanted = _SPEAK_OF.get(name)
        if parameter.kind is parameter.KEYWORD_ONLY and (wanted is None or wanted in core):
            found[name] = parameter
    replaced = {"freeze_at", *_SPEAK_OF.values()}
    for name, parameter in core.items():
        if name not in replaced and name not in found:
            found[name] = parameter.replace(kind=parameter.KEYWORD_ONLY)
    last = (STAGES - 2,)
    indices = last if entry.name in _LAST_STAGE_ONLY else OpenMMLabBackbone.default_indices
    found["out_indices"] = found["out_indices"].replace(default=indices)
    return inspect.Signature(sorted(found.values(), key=lambda parameter: parameter.kind))


def __getattr__(name: str) -> type[nn.Module]:
    for kind in CLASSES.values():
        if kind.__name__ == name:
            return kind
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


on_registration(_register)
