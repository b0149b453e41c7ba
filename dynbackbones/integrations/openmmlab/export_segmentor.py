"""mmseg's segmentors as ONNX files: from pixels to a label for each."""

from __future__ import annotations

import os
from functools import partial

import torch
from mmseg.models import EncoderDecoder
from onnxruntime import InferenceSession
from torch import Tensor, nn

from dynbackbones.backbones.base import Backbone
from dynbackbones.errors import UserError
from dynbackbones.export import images, running
from dynbackbones.export.backbones import Exported
from dynbackbones.export.files import ExportReport, begun, choices_out, write_checked
from dynbackbones.export.graph import Graph
from dynbackbones.integrations.openmmlab.export_heads import REMEDY, decode, neck_nodes
from dynbackbones.integrations.openmmlab.export_inputs import backbone_of_pixels

_CHECKED_SIZES = ((96, 128), (75, 90))


def segmentor_to_onnx(
    model: nn.Module, path: str | os.PathLike, *, overwrite: bool = False
) -> ExportReport:
    """Writes a whole segmentor as an ONNX file that takes pixels and gives labels.

    The file takes ``images``, float32 (N, C, H, W) as the config's pipeline gives them (0..255, in
    its order of channels), and returns ``labels``, (N, H, W) int64, the head's ``logits``,
    (N, classes, h, w), and what the backbone chose. The data preprocessor is in the file.

    Args:
        model: mmseg's `EncoderDecoder` with an `FCNHead`, `PSPHead`, `ASPPHead` or `FPNHead`,
            without neck or with an `FPN`, on a backbone of this package; it stays as it is.
        path: of the file, ending in ``.onnx``.
        overwrite: replace a file that is there.

    Raises:
        UserError: the segmentor cannot be exported, or the file may not be written.
        RuntimeError: ONNX Runtime computes something else, which is a defect.
    """
    path, model, graph = begun(path, overwrite, model, _check)
    exported = _nodes(graph, model)
    meta = {"execution": exported.execution}
    title = f"{type(model).__name__} on {model.backbone.title}"
    return write_checked(path, graph, title, meta, partial(_difference, model))


def _check(model: nn.Module) -> None:
    if type(model) is not EncoderDecoder or not isinstance(model.backbone, Backbone):
        raise UserError(
            f"a {type(model).__name__} cannot be exported as a whole, only an EncoderDecoder on a "
            f"backbone of this package can: {REMEDY}"
        )
    mode = model.test_cfg.get("mode", "whole")
    if mode != "whole" or model.data_preprocessor.test_cfg:
        raise UserError(
            f"test_cfg.mode={mode!r}: only 'whole', without a data_preprocessor.test_cfg, can be "
            f"exported: set it, or {REMEDY}"
        )
    head = model.decode_head
    if head.out_channels == 1 or head.input_transform == "resize_concat":
        raise UserError(
            f"a {type(head).__name__} of one output channel, or of features that it joins, cannot "
            f"be exported: {REMEDY}"
        )


def _nodes(graph: Graph, model: EncoderDecoder) -> Exported:
    """The file's inputs, nodes and outputs."""
    head, exported = model.decode_head, backbone_of_pixels(graph, model)
    features = [exported.features[name] for name in model.backbone.out_names]
    if model.with_neck:
        features = neck_nodes(model.neck, graph, features)
    logits = decode(head, graph, features)
    size = images.size_of(graph, "images")
    scores = images.interpolate(graph, logits, size, head.align_corners)
    labels = graph.node("ArgMax", scores, axis=1, keepdims=0)
    graph.output("labels", labels, (exported.batch, "height", "width"), "int64")
    shape = (exported.batch, head.out_channels, "logits_height", "logits_width")
    graph.output("logits", logits, shape)
    choices_out(graph, exported)
    return exported


@torch.no_grad()
def _difference(model: EncoderDecoder, file: InferenceSession) -> float:
    """The largest of the logits of a few random images, relative to the largest logit."""
    generator, found = torch.Generator().manual_seed(0), []
    for size in _CHECKED_SIZES:
        shape = (1, model.backbone.in_channels, *size)
        pixels = 255 * torch.rand(shape, generator=generator)
        wanted = logits_of(model, pixels)
        logits = running.run(file, {"images": pixels})["logits"]
        found.append((logits - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
    return float(torch.stack(found).max())  # NaN if one is


@torch.no_grad()
def logits_of(model: EncoderDecoder, pixels: Tensor) -> Tensor:
    """What a segmentor in evaluation mode says of images as its pipeline gives them."""
    inputs = model.data_preprocessor({"inputs": list(pixels)})["inputs"]
    return model.decode_head(model.extract_feat(inputs))
