"""Runs a checkpoint's network in the library that it is for; every library imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.backbones.factory import find_registered
from dynbackbones.checkpoints.conversion import Architecture
from dynbackbones.errors import UserError

_STAGES = ("res2", "res3", "res4", "res5")

Outputs = dict[str, Tensor]
State = Mapping[str, Tensor]


class NotBuilt(Exception):
    """A library's network cannot be built here; the text says why."""


@torch.no_grad()
def run(
    library: str, architecture: Architecture, state: State, head: State, images: Tensor
) -> Outputs:
    """Runs a network in evaluation mode.

    Args:
        library: ``dynbackbones``, ``torchvision``, ``timm``, ``openmmlab``, ``detectron2``,
            ``caffe2`` (that is detectron2, which matches the names) or ``blockdrop``.
        architecture: of the backbone.
        state: its weights, under the library's names.
        head: ``weight`` and ``bias`` of a linear classifier, or nothing.
        images: (N, C, H, W).

    Returns:
        The features of the stages and, of a classifier, its ``scores``.

    Raises:
        NotBuilt: the library is not installed, or has no such network.
        UserError: the weights do not fit the library's network.
    """
    return _RUNNERS[library](architecture, state, head, images)


def _run_dynbackbones(
    architecture: Architecture, state: State, head: State, images: Tensor
) -> Outputs:
    return _scored(_filled(architecture.build(), state)(images), head)


def _run_torchvision(
    architecture: Architecture, state: State, head: State, images: Tensor
) -> Outputs:
    models = _imported("torchvision.models")
    if images.shape[1] != 3:
        raise NotBuilt("whose ResNets take 3 channels")
    if "torchvision" not in architecture.libraries:
        raise NotBuilt(f"which has no {architecture.name}")
    width = architecture.options.get("width")
    options = {} if width is None else {"width_mult": width}
    name, classes = architecture.name, _classes(head)
    net = models.get_model(name, weights=None, num_classes=classes, **options)
    return _run_classifier(architecture, net, state, head, images)


def _run_timm(architecture: Architecture, state: State, head: State, images: Tensor) -> Outputs:
    timm = _imported("timm")
    net = timm.create_model(
        architecture.name, pretrained=False, num_classes=_classes(head), in_chans=images.shape[1]
    )
    return _run_classifier(architecture, net, state, head, images)


def _run_classifier(
    architecture: Architecture, net: nn.Module, state: State, head: State, images: Tensor
) -> Outputs:
    """For torchvision's and timm's networks with the same names."""
    last = "fc" if architecture.plain else "classifier"
    if not head:
        setattr(net, last, nn.Identity())
    place = f"{last}." if architecture.plain else f"{last}.1."
    net = _filled(net, {**state, **{place + part: value for part, value in head.items()}})
    outputs: Outputs = {}
    for stage, info in architecture.build().feature_info.items():
        net.get_submodule(info.module).register_forward_hook(
            lambda _module, _inputs, value, stage=stage: outputs.update({stage: value})
        )
    scores = net(images)
    return {**outputs, "scores": scores} if head else outputs


def _run_openmmlab(
    architecture: Architecture, state: State, head: State, images: Tensor
) -> Outputs:
    features = _filled(_openmmlab_backbone(architecture), state)(images)
    names = list(architecture.build().feature_info)
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
        classes = _imported("dynbackbones.integrations.openmmlab.backbones").CLASSES
        kind = classes[find_registered(architecture.name).name]
        stages = range(len(architecture.build().feature_info))
        depth, options = architecture.arguments
        return kind(*depth, out_indices=tuple(stages), **options, **architecture.options)
    options = dict(architecture.options)
    style = "caffe" if options.pop("stride_in_1x1", False) else "pytorch"
    for library in ("mmpretrain", "mmseg", "mmdet"):
        try:
            models = _imported(f"{library}.models.backbones")
        except NotBuilt:
            continue
        depth, more = architecture.arguments
        options |= {"style": style, "out_indices": (0, 1, 2, 3)}
        if not more:
            return models.ResNet(*depth, **options)
        groups, width = more["cardinality"], more["width_per_group"]
        return models.ResNeXt(*depth, groups=groups, width_per_group=width, **options)
    raise NotBuilt("since none of mmpretrain, mmseg and mmdet can be imported")


def _run_detectron2(
    architecture: Architecture, state: State, head: State, images: Tensor
) -> Outputs:
    if not architecture.plain:
        adapters = _imported("dynbackbones.integrations.detectron2.backbone")
        net = architecture.build()
        adapter = adapters.BackboneAdapter(net, list(net.feature_info))
        filled = _filled(adapter, {f"net.{key}": value for key, value in state.items()})
        return _scored(filled(images), head)
    net = _detectron2_resnet(architecture, head, images.shape[1])
    linear = {f"linear.{part}": value for part, value in head.items()}
    outputs = _filled(net, {**state, **linear})(images)
    return {"scores" if name == "linear" else name: value for name, value in outputs.items()}


def _run_caffe2(architecture: Architecture, state: State, head: State, images: Tensor) -> Outputs:
    """A file with Caffe2's names, matched by detectron2 itself."""
    net = _detectron2_resnet(architecture, {}, images.shape[1])
    loading = _imported("detectron2.checkpoint.c2_model_loading")
    matched = loading.align_and_update_state_dicts(net.state_dict(), dict(state))
    return _scored(_filled(net, matched)(images), head)


def _detectron2_resnet(architecture: Architecture, head: State, in_channels: int) -> nn.Module:
    resnet = _imported("detectron2.modeling.backbone.resnet")
    options: dict[str, Any] = {"norm": "BN"}
    if architecture.depth >= 50:
        options["stride_in_1x1"] = bool(architecture.options.get("stride_in_1x1"))
    more = architecture.arguments.options
    if more:

        def block(*, bottleneck_channels: int, **others: Any) -> nn.Module:
            inner = bottleneck_channels * more["cardinality"] * more["width_per_group"] // 64
            return resnet.BottleneckBlock(bottleneck_channels=inner, **others)

        options |= {"block_class": block, "num_groups": more["cardinality"]}
    return resnet.ResNet(
        resnet.BasicStem(in_channels, 64, norm="BN"),
        resnet.ResNet.make_default_stages(architecture.depth, **options),
        num_classes=_classes(head) if head else None,
        out_features=[*_STAGES, *(["linear"] if head else [])],
    )


def _run_blockdrop(
    architecture: Architecture, state: State, head: State, images: Tensor
) -> Outputs:
    raise NotBuilt("which is no importable package")


_RUNNERS: dict[str, Callable[[Architecture, State, State, Tensor], Outputs]] = {
    "dynbackbones": _run_dynbackbones,
    "torchvision": _run_torchvision,
    "timm": _run_timm,
    "openmmlab": _run_openmmlab,
    "detectron2": _run_detectron2,
    "caffe2": _run_caffe2,
    "blockdrop": _run_blockdrop,
}


def _scored(features: State, head: State) -> Outputs:
    """Features, and the scores of a linear layer behind average pooling."""
    outputs = dict(features)
    if head:
        pooled = outputs[list(outputs)[-1]].mean(dim=(2, 3))
        outputs["scores"] = F.linear(pooled, head["weight"].float(), head["bias"].float())
    return outputs


def _classes(head: State) -> int:
    return len(head["bias"]) if head else 0


def _filled(net: nn.Module, state: State) -> nn.Module:
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
