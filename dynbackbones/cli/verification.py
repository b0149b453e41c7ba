"""Running a checkpoint's network in the library that it is for; every library imported on use."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.checkpoints.conversion import Architecture, Conversion
from dynbackbones.errors import UserError

TOLERANCE = 1e-3
"""Largest difference between two networks' outputs, relative to the outputs' largest value."""
_IMAGE_SIZE = (96, 64)
_NAMES = {"caffe2": "detectron2", "blockdrop": "the published BlockDrop code"}
_STAGES = ("res2", "res3", "res4", "res5")

Outputs = dict[str, Tensor]


class NotBuilt(Exception):
    """A library's network cannot be built here; the text says why."""


@dataclass
class Verification:
    """How far a checkpoint's networks agree before and after conversion.

    Attributes:
        networks: what was run.
        difference: the largest difference of an output from this package's network; None if
            nothing else could be run.
        relative: the same, over the largest value of that output.
        problems: why a network could not be run; empty if both were.
    """

    networks: list[str] = field(default_factory=list)
    difference: float | None = None
    relative: float | None = None
    problems: list[str] = field(default_factory=list)

    def as_meta(self) -> dict[str, Any]:
        """Plain data for a checkpoint's ``meta``."""
        return {
            "verified": not self.problems,
            "networks": list(self.networks),
            "largest_difference": self.difference,
            "relative": self.relative,
            "problems": list(self.problems),
        }

    def __str__(self) -> str:
        found = []
        if self.difference is not None:
            both = "give the same outputs"
            one = "gives the same outputs as this package's network"
            found = [
                f"{' and '.join(self.networks)} {both if len(self.networks) > 1 else one}: largest "
                f"difference {self.difference:.2g}, relative {self.relative:.2g}"
            ]
        if not self.problems:
            return f"verified: {found[0]}"
        return "; ".join(["NOT verified: " + "; ".join(self.problems), *found])


def verify(conversion: Conversion) -> Verification:
    """Runs the file's network and the result's on random images and compares them.

    Both are compared with this package's network: features of all stages and, with a classifier,
    its scores.

    Raises:
        UserError: the networks differ.
    """
    architecture, source = conversion.architecture, conversion.source
    images = torch.randn(
        2,
        architecture.options.get("in_channels", 3),
        *_IMAGE_SIZE,
        generator=torch.Generator().manual_seed(0),
    )
    with _quiet():
        own = _run_own(architecture, conversion.backbone, conversion.head, images)
    layout, result = conversion.layout, Verification()
    before = {key.removeprefix(source.prefix): source.state[key] for key in source.names}
    after = {layout.bare(name): value for name, value in conversion.backbone.items()}
    for side, library, state in (
        ("the file", "caffe2" if source.caffe2 else source.format, before),
        ("the result", layout.format, after),
    ):
        name = f"{_NAMES.get(library, library)} ({side})"
        try:
            with _quiet(), torch.random.fork_rng(devices=[]):
                outputs = _RUNNERS[library](architecture, state, conversion.head, images)
        except NotBuilt as error:
            result.problems.append(f"{side} was not run in {_NAMES.get(library, library)}, {error}")
            continue
        result.networks.append(name)
        _compare(own, outputs, name, result)
    return result


def _compare(own: Outputs, other: Outputs, name: str, result: Verification) -> None:
    for output, value in other.items():
        difference = float((value - own[output]).abs().max())
        relative = difference / max(float(own[output].abs().max()), 1e-12)
        if not relative <= TOLERANCE:
            raise UserError(
                f"{output} of {name} differs from this package's network by {difference:.2g} "
                f"(relative {relative:.2g}): nothing is written"
            )
        result.difference = max(result.difference or 0.0, difference)
        result.relative = max(result.relative or 0.0, relative)


@torch.no_grad()
def _run_own(
    architecture: Architecture,
    state: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
    images: Tensor,
) -> Outputs:
    net = _filled(architecture.build(), state)
    return _scored(net(images), head)


def _scored(features: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> Outputs:
    """Features, and the scores of a linear layer behind average pooling."""
    outputs = dict(features)
    if head:
        pooled = outputs[list(outputs)[-1]].mean(dim=(2, 3))
        outputs["scores"] = F.linear(pooled, head["weight"].float(), head["bias"].float())
    return outputs


@torch.no_grad()
def _hooked(net: nn.Module, stages: Mapping[str, str], head: bool, images: Tensor) -> Outputs:
    """Outputs of the named modules of a classification network, and its scores."""
    outputs: Outputs = {}
    for name, module in stages.items():
        net.get_submodule(module).register_forward_hook(
            lambda _module, _inputs, value, name=name: outputs.update({name: value})
        )
    scores = net(images)
    return {**outputs, "scores": scores} if head else outputs


def _run_torchvision(architecture, state, head, images) -> Outputs:
    models = _imported("torchvision.models")
    if images.shape[1] != 3:
        raise NotBuilt("whose ResNets take 3 channels")
    if not architecture.plain:
        raise NotBuilt(f"which has no {architecture.name}")
    net = models.get_model(architecture.name, weights=None, num_classes=_classes(head))
    return _run_classifier(net, state, head, images)


def _run_timm(architecture, state, head, images) -> Outputs:
    timm = _imported("timm")
    net = timm.create_model(
        architecture.name, pretrained=False, num_classes=_classes(head), in_chans=images.shape[1]
    )
    return _run_classifier(net, state, head, images)


def _run_classifier(net, state, head, images) -> Outputs:
    """For torchvision's and timm's ResNets, which have the same names."""
    if not head:
        net.fc = nn.Identity()
    net = _filled(net, {**state, **{f"fc.{part}": value for part, value in head.items()}})
    stages = {f"res{number + 1}": f"layer{number}" for number in range(1, 5)}
    return _hooked(net, stages, bool(head), images)


@torch.no_grad()
def _run_openmmlab(architecture, state, head, images) -> Outputs:
    backbone = _openmmlab_backbone(architecture)
    features = _filled(backbone, state)(images)
    names = _STAGES[: len(features)]
    outputs = dict(zip(names, features, strict=True))
    try:
        heads = _imported("mmpretrain.models.heads")
    except NotBuilt:
        return outputs  # the other libraries do not classify
    if head:
        last = outputs[names[-1]].mean(dim=(2, 3))
        linear = heads.LinearClsHead(*head["weight"].shape)
        outputs["scores"] = _filled(linear, {f"fc.{k}": v for k, v in head.items()})((last,))
    return outputs


def _openmmlab_backbone(architecture: Architecture) -> nn.Module:
    if not architecture.plain:
        own = _imported("dynbackbones.integrations.openmmlab.backbones")
        kinds = {"sar": "SAR", "blockdrop": "BlockDrop"}
        family = kinds.get(architecture.name.partition("_")[0], "")
        kind = getattr(own, f"{family}{'Cifar' if architecture.cifar else ''}ResNet")
        stages = 3 if architecture.cifar else 4
        return kind(architecture.depth, out_indices=tuple(range(stages)), **architecture.options)
    options = dict(architecture.options)
    style = "caffe" if options.pop("stride_in_1x1", False) else "pytorch"
    for library in ("mmpretrain", "mmseg", "mmdet"):
        try:
            models = _imported(f"{library}.models.backbones")
        except NotBuilt:
            continue
        return models.ResNet(architecture.depth, out_indices=(0, 1, 2, 3), style=style, **options)
    raise NotBuilt("since none of mmpretrain, mmseg and mmdet can be imported")


@torch.no_grad()
def _run_detectron2(architecture, state, head, images) -> Outputs:
    if not architecture.plain:
        adapters = _imported("dynbackbones.integrations.detectron2.backbone")
        net = architecture.build()
        adapter = adapters.BackboneAdapter(net, list(net.feature_info))
        filled = _filled(adapter, {f"net.{key}": value for key, value in state.items()})
        return _scored(filled(images), head)
    net = _detectron2_resnet(architecture, head, images.shape[1])
    linear = {f"linear.{part}": value for part, value in head.items()}
    return _named_by_detectron2(_filled(net, {**state, **linear})(images))


@torch.no_grad()
def _run_caffe2(architecture, state, head, images) -> Outputs:
    """A file with Caffe2's names, matched by detectron2 itself."""
    net = _detectron2_resnet(architecture, {}, images.shape[1])
    loading = _imported("detectron2.checkpoint.c2_model_loading")
    matched = loading.align_and_update_state_dicts(net.state_dict(), dict(state))
    return _scored(_filled(net, matched)(images), head)


def _detectron2_resnet(architecture, head, in_channels: int) -> nn.Module:
    resnet = _imported("detectron2.modeling.backbone.resnet")
    options = {"norm": "BN"}
    if architecture.depth >= 50:
        options["stride_in_1x1"] = bool(architecture.options.get("stride_in_1x1"))
    return resnet.ResNet(
        resnet.BasicStem(in_channels, 64, norm="BN"),
        resnet.ResNet.make_default_stages(architecture.depth, **options),
        num_classes=_classes(head) if head else None,
        out_features=[*_STAGES, *(["linear"] if head else [])],
    )


def _named_by_detectron2(outputs: Mapping[str, Tensor]) -> Outputs:
    return {"scores" if name == "linear" else name: value for name, value in outputs.items()}


@torch.no_grad()
def _run_dynbackbones(architecture, state, head, images) -> Outputs:
    return _run_own(architecture, state, head, images)


def _run_blockdrop(architecture, state, head, images) -> Outputs:
    raise NotBuilt("which is no importable package")


_RUNNERS: dict[str, Callable[..., Outputs]] = {
    "dynbackbones": _run_dynbackbones,
    "torchvision": _run_torchvision,
    "timm": _run_timm,
    "openmmlab": _run_openmmlab,
    "detectron2": _run_detectron2,
    "caffe2": _run_caffe2,
    "blockdrop": _run_blockdrop,
}


def _classes(head: Mapping[str, Tensor]) -> int:
    return len(head["bias"]) if head else 0


def _filled(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """The network in evaluation mode with these weights, which must be all that matter."""
    missing, unexpected = net.load_state_dict(dict(state), strict=False)
    wrong = [
        key
        for key in (*missing, *unexpected)
        if not key.endswith(("num_batches_tracked", "running_mean", "running_var"))
    ]
    if wrong:
        raise UserError(
            f"{type(net).__module__}.{type(net).__name__} does not take these weights: "
            f"{len(wrong)} keys do not match ({', '.join(wrong[:3])})"
        )
    net.eval()  # which returns nothing in mmpretrain
    return net


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # half-installed libraries raise anything
        raise NotBuilt(f"which cannot be imported ({type(error).__name__}: {error})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what networks say of their weights, and libraries of each other."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
