"""RetinaNets of the torchvision engine as ONNX files: from pixels to boxes."""

from __future__ import annotations

import os
from functools import partial

import torch
from fvcore.common.config import CfgNode
from torch import nn
from torchvision.models.detection import RetinaNet

from dynbackbones.errors import UserError
from dynbackbones.export import boxes, images
from dynbackbones.export.backbones import Exported
from dynbackbones.export.files import ExportReport, backbone_in, begun, choices_out, write_checked
from dynbackbones.export.graph import Graph
from dynbackbones.export.layers import chain, convolution, layer
from dynbackbones.integrations.exported_detector import TOLERANCE, largest_difference
from dynbackbones.integrations.torchvision.detectors import FPNBackbone
from dynbackbones.integrations.torchvision.predictor import Predictor


def detector_to_onnx(
    predictor: Predictor, cfg: CfgNode, path: str | os.PathLike, *, overwrite: bool = False
) -> ExportReport:
    """Writes a whole RetinaNet as an ONNX file that takes the pixels of an image and gives boxes.

    The file takes ``image``, uint8 (3, H, W) of any size with the channels in the order of
    ``INPUT.FORMAT``, and returns ``boxes`` (n, 4) in its pixels, ``scores`` (n,) and ``labels``
    (n,) from 0, the best first, and what the backbone chose. Resizing, normalisation, padding,
    anchors and non-maximum suppression are in the file. It also takes ``score_threshold``, (1,),
    and the ``thresholds`` of the backbone, which have defaults.

    Args:
        predictor: of `load_predictor`; it stays as it is.
        cfg: of the predictor.
        path: of the file, ending in ``.onnx``.
        overwrite: replace a file that is there.

    Raises:
        UserError: the detector cannot be exported, or the file may not be written.
        RuntimeError: ONNX Runtime finds something else, which is a defect.
    """
    path, model, graph = begun(path, overwrite, predictor.model, partial(_check, cfg))
    exported = _nodes(graph, cfg, model)
    meta = {"execution": exported.execution, "channels": cfg.INPUT.FORMAT}
    move = partial(setattr, model, "score_thresh")
    compare = partial(largest_difference, Predictor(cfg, model), move, cfg)
    return write_checked(path, graph, "RetinaNet", meta, compare, TOLERANCE)


def _check(cfg: CfgNode, model: nn.Module) -> None:
    if not isinstance(model, RetinaNet):
        raise UserError(
            f"a {type(model).__name__} cannot be exported as a whole, only a RetinaNet can: export "
            "its backbone, --part backbone"
        )
    if cfg.MODEL.ZOOM.ENABLED:
        raise UserError(
            "MODEL.ZOOM.ENABLED: what zooms cannot be exported; set it to False, or export the "
            "backbone, --part backbone"
        )


def _nodes(graph: Graph, cfg: CfgNode, model: RetinaNet) -> Exported:
    """The file's inputs, nodes and outputs."""
    bound = graph.input("score_threshold", (1,), torch.tensor([float(model.score_thresh)]))
    limits, transform = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST), model.transform
    pixels, original, size = images.pixels_in(graph, *limits)
    x = images.normalize(graph, pixels, transform.image_mean, transform.image_std)
    x = images.pad_to_multiple(graph, x, transform.size_divisible)
    exported = backbone_in(graph, model.backbone.body, x, size)
    maps = pyramid(graph, model.backbone, exported.features)
    found = _candidates(graph, model, maps, images.size_of(graph, x), bound)
    found = found._replace(boxes=boxes.clip(graph, found.boxes, size))
    classes = model.head.classification_head.num_classes
    found = boxes.suppress(graph, found, classes, model.nms_thresh, model.detections_per_img)
    labels = graph.node("Sub", found.labels, graph.weight([1]))  # without the background
    found = found._replace(boxes=boxes.scaled(graph, found.boxes, size, original), labels=labels)
    boxes.boxes_out(graph, found)
    choices_out(graph, exported)
    return exported


def pyramid(graph: Graph, backbone: FPNBackbone, features: dict[str, str]) -> list[str]:
    """The maps that the heads see, from high to low resolution."""
    fpn, names = backbone.fpn, backbone.in_features
    inner = [
        layer(block, graph, features[name])
        for name, block in zip(names, fpn.inner_blocks, strict=True)
    ]
    for index in reversed(range(len(inner) - 1)):
        below = images.grown(graph, inner[index + 1], inner[index])
        inner[index] = graph.node("Add", inner[index], below)
    made = [layer(block, graph, x) for block, x in zip(fpn.layer_blocks, inner, strict=True)]
    named = {name.replace("res", "p"): x for name, x in zip(names, made, strict=True)}
    extra = fpn.extra_blocks
    if extra is not None:
        source = made[-1] if extra.use_P5 else features[names[-1]]
        named["p6"] = convolution(graph, source, extra.p6)
        named["p7"] = convolution(graph, graph.node("Relu", named["p6"]), extra.p7)
    return [named[level] for level in backbone.levels]


def _candidates(
    graph: Graph, model: RetinaNet, maps: list[str], image_size: str, bound: str
) -> boxes.Candidates:
    """The best boxes of each map."""
    classify, regress = model.head.classification_head, model.head.regression_head
    count, levels = classify.num_classes, []
    for x, cells in zip(maps, model.anchor_generator.cell_anchors, strict=True):
        logits = chain(graph, x, [classify.conv, classify.cls_logits])
        offsets = chain(graph, x, [regress.conv, regress.bbox_reg])
        strides = graph.node("Div", image_size, images.size_of(graph, x))
        levels.append(
            boxes.best(
                graph,
                boxes.by_anchor(graph, logits, len(cells), count),
                boxes.by_anchor(graph, offsets, len(cells), 4),
                boxes.grid_anchors(graph, x, strides, cells),
                count,
                bound,
                model.topk_candidates,
            )
        )
    return boxes.joined(graph, levels)
