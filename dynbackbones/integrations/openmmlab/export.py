"""mmpretrain's classifiers as ONNX files: from pixels to scores."""

from __future__ import annotations

import os
from functools import partial

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.models.necks import GlobalAveragePooling
from onnxruntime import InferenceSession
from torch import Tensor, nn

from dynbackbones.backbones.base import Backbone
from dynbackbones.classifiers import GlanceFocusClassifier
from dynbackbones.errors import UserError
from dynbackbones.export import glance_focus, running
from dynbackbones.export.backbones import Exported
from dynbackbones.export.files import ExportReport, begun, choices_out, write_checked
from dynbackbones.export.glance_focus_nodes import add_walk
from dynbackbones.export.graph import Graph
from dynbackbones.export.layers import layer
from dynbackbones.integrations.openmmlab.export_inputs import backbone_of_pixels, preprocessed

_CHECKED_SIZES = ((64, 96), (75, 53), (40, 40))


def classifier_to_onnx(
    model: nn.Module, path: str | os.PathLike, *, overwrite: bool = False
) -> ExportReport:
    """Writes a whole classifier as an ONNX file that takes pixels and gives scores.

    The file takes ``images``, float32 (N, C, H, W) as the config's pipeline gives them (0..255,
    in its order of channels, resized and cropped), and returns ``scores``, (N, classes), which add
    up to 1, and what the backbone chose. The data preprocessor is in the file.

    Args:
        model: mmpretrain's `ImageClassifier`, or `BlockDropClassifier`, on a backbone of this
            package with global average pooling and a linear head, or `GlanceFocusClassifier`, whose
            file is that of `glance_focus_to_onnx`; it stays as it is.
        path: of the file, ending in ``.onnx``.
        overwrite: replace a file that is there.

    Raises:
        UserError: the classifier cannot be exported, or the file may not be written.
        RuntimeError: ONNX Runtime computes something else, which is a defect.
    """
    if isinstance(getattr(model, "net", None), GlanceFocusClassifier):
        return _focus_to_onnx(model, path, overwrite)
    path, model, graph = begun(path, overwrite, model, _check)
    exported = _nodes(graph, model)
    meta = {"execution": exported.execution}
    title = f"{type(model).__name__} on {model.backbone.title}"
    return write_checked(path, graph, title, meta, partial(_difference, model))


def _focus_to_onnx(model: nn.Module, path: str | os.PathLike, overwrite: bool) -> ExportReport:
    """The same of Glance and Focus, whose file returns what `glance_focus_to_onnx` says."""
    path, model, graph = begun(path, overwrite, model, _check_focus)
    graph.input("images", (1, model.net.in_channels, "height", "width"))
    pixels = preprocessed(graph, model.data_preprocessor, model.net)
    add_walk(graph, model.net, pixels)

    def prepare(images: Tensor) -> Tensor:
        return model.data_preprocessor({"inputs": images})["inputs"]

    compare = partial(glance_focus.largest_difference, model.net, prepare=prepare)
    meta = {"execution": glance_focus.EXECUTION}
    return write_checked(path, graph, type(model).__name__, meta, compare)


def _check_focus(model: nn.Module) -> None:
    _check_unpadded(model)
    glance_focus.check_free(model.net)


def _check(model: nn.Module) -> None:
    remedy = "add --part backbone"
    if not (isinstance(model, ImageClassifier) and isinstance(model.backbone, Backbone)):
        raise UserError(
            f"a {type(model).__name__} cannot be exported as a whole, only an ImageClassifier on a "
            f"backbone of this package can: {remedy}"
        )
    for part, wanted in ((model.neck, GlobalAveragePooling), (model.head, LinearClsHead)):
        if type(part) is not wanted:
            raise UserError(
                f"a classifier with a {type(part).__name__} cannot be exported as a whole, only "
                f"with a {wanted.__name__}: {remedy}"
            )
    _check_unpadded(model)
    if getattr(model, "stage", None) == "plain":
        raise UserError(
            "a BlockDropClassifier of stage 'plain' leaves its policy network out: export it as of "
            f"stage 'joint', or {remedy}"
        )


def _check_unpadded(model: nn.Module) -> None:
    if model.data_preprocessor.pad_size_divisor != 1:
        raise UserError(
            "a classifier whose data_preprocessor has a pad_size_divisor cannot be exported as a "
            "whole: leave it away, or add --part backbone"
        )


def _nodes(graph: Graph, model: ImageClassifier) -> Exported:
    """The file's inputs, nodes and outputs."""
    exported = backbone_of_pixels(graph, model)
    last = exported.features[model.backbone.out_names[-1]]
    mean = graph.node("ReduceMean", last, graph.weight([2, 3]), keepdims=0)
    scores = graph.node("Softmax", layer(model.head.fc, graph, mean), axis=1)
    graph.output("scores", scores, (exported.batch, model.head.fc.out_features))
    choices_out(graph, exported)
    return exported


@torch.no_grad()
def _difference(model: ImageClassifier, file: InferenceSession) -> float:
    """The largest of the scores of a few random images."""
    generator, found = torch.Generator().manual_seed(0), []
    for size in _CHECKED_SIZES:
        shape = (1, model.backbone.in_channels, *size)
        images = 255 * torch.rand(shape, generator=generator)
        wanted = scores_of(model, images)
        scores = running.run(file, {"images": images})["scores"]
        found.append((scores - wanted).abs().max())
    return float(torch.stack(found).max())  # NaN if one is


@torch.no_grad()
def scores_of(model: ImageClassifier, images: Tensor) -> Tensor:
    """What a classifier in evaluation mode says of images as its pipeline gives them."""
    prepared_images = model.data_preprocessor({"inputs": images})["inputs"]
    return model.head(model.extract_feat(prepared_images)).softmax(dim=1)
