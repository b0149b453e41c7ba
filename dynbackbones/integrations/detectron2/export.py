"""detectron2's RetinaNets as ONNX files: from pixels to boxes."""

from __future__ import annotations

import os
from functools import partial

import torch
from detectron2.modeling import RetinaNet
from detectron2.modeling.backbone.fpn import FPN, LastLevelP6P7
from fvcore.common.config import CfgNode
from torch import nn

from dynbackbones.errors import UserError
from dynbackbones.export import boxes, images
from dynbackbones.export.backbones import Exported
from dynbackbones.export.files import ExportReport, backbone_in, begun, choices_out, write_checked
from dynbackbones.export.graph import Graph
from dynbackbones.export.layers import chain, convolution
from dynbackbones.integrations.detectron2.backbone import BackboneAdapter
from dynbackbones.integrations.detectron2.predictor import Predictor
from dynbackbones.integrations.exported_detector import TOLERANCE, largest_difference


def detector_to_onnx(
    predictor: Predictor, cfg: CfgNode, path: str | os.PathLike, *, overwrite: bool = False
) -> ExportReport:
    """Writes a whole RetinaNet as an ONNX file that takes the pixels of an image and gives boxes.

    The file takes and returns what that of a RetinaNet of the torchvision engine does.

    Args:
        predictor: of the detector, whose model is on the CPU afterwards.
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
    move = partial(setattr, model, "test_score_thresh")
    before, predictor.model = predictor.model, model
    try:
        compare = partial(largest_difference, predictor, move, cfg)
        return write_checked(path, graph, "RetinaNet", meta, compare, TOLERANCE)
    finally:
        predictor.model = before


def _check(cfg: CfgNode, model: nn.Module) -> None:
    remedy = "export its backbone, --part backbone"
    if not isinstance(model, RetinaNet):
        raise UserError(
            f"a {type(model).__name__} cannot be exported as a whole, only a RetinaNet can: "
            f"{remedy}"
        )
    pyramid = model.backbone
    if not (isinstance(pyramid, FPN) and isinstance(pyramid.bottom_up, BackboneAdapter)):
        raise UserError(
            "a RetinaNet cannot be exported as a whole but with an FPN on a backbone of this "
            f"package: {remedy}"
        )
    if not isinstance(pyramid.top_block, LastLevelP6P7) or pyramid._fuse_type != "sum":
        raise UserError(f"only an FPN that sums, with p6 and p7, can be exported: {remedy}")
    if cfg.MODEL.ZOOM.ENABLED:
        raise UserError(
            f"MODEL.ZOOM.ENABLED: what zooms cannot be exported; set it to False, or {remedy}"
        )


def _nodes(graph: Graph, cfg: CfgNode, model: RetinaNet) -> Exported:
    """The file's inputs, nodes and outputs."""
    bound = graph.input("score_threshold", (1,), torch.tensor([float(model.test_score_thresh)]))
    limits = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    pixels, original, size = images.pixels_in(graph, *limits)
    mean, std = (values.flatten().tolist() for values in (model.pixel_mean, model.pixel_std))
    x = images.normalize(graph, pixels, mean, std)
    x = images.pad_to_multiple(graph, x, model.backbone.size_divisibility)
    exported = backbone_in(graph, model.backbone.bottom_up.net, x, size)
    maps = pyramid(graph, model.backbone, exported.features)
    found = _candidates(graph, model, [maps[name] for name in model.head_in_features], bound)
    limit = model.max_detections_per_image
    found = boxes.suppress(graph, found, model.num_classes, model.test_nms_thresh, limit)
    scaled = boxes.scaled(graph, found.boxes, size, original)
    found = found._replace(boxes=boxes.clip(graph, scaled, original))
    boxes.boxes_out(graph, boxes.without_empty(graph, found))
    choices_out(graph, exported)
    return exported


def pyramid(graph: Graph, fpn: FPN, features: dict[str, str]) -> dict[str, str]:
    """The maps of an FPN by name."""
    results, above = [], ""
    layers = zip(reversed(fpn.in_features), fpn.lateral_convs, fpn.output_convs, strict=True)
    for name, lateral, output in layers:
        x = _normed(graph, features[name], lateral)
        x = graph.node("Add", x, images.grown(graph, above, x)) if above else x
        results.insert(0, _normed(graph, x, output))
        above = x
    top = fpn.top_block
    source = features.get(top.in_feature)
    source = source or results[fpn._out_features.index(top.in_feature)]
    p6 = convolution(graph, source, top.p6)
    results += [p6, convolution(graph, graph.node("Relu", p6), top.p7)]
    return dict(zip(fpn._out_features, results, strict=True))


def _normed(graph: Graph, x: str, conv: nn.Conv2d) -> str:
    """detectron2's convolution, which has its norm layer inside."""
    return convolution(graph, x, conv, conv.norm)


def _candidates(
    graph: Graph, model: RetinaNet, maps: list[str], bound: str
) -> boxes.Candidates:
    """The best boxes of each map."""
    head, anchors, levels = model.head, model.anchor_generator, []
    for x, cells, stride in zip(maps, anchors.cell_anchors, anchors.strides, strict=True):
        logits = chain(graph, x, [head.cls_subnet, head.cls_score])
        offsets = chain(graph, x, [head.bbox_subnet, head.bbox_pred])
        shifted = cells + anchors.offset * stride
        levels.append(
            boxes.best(
                graph,
                boxes.by_anchor(graph, logits, len(cells), model.num_classes),
                boxes.by_anchor(graph, offsets, len(cells), 4),
                boxes.grid_anchors(graph, x, graph.weight([stride, stride]), shifted),
                model.num_classes,
                bound,
                model.test_topk_candidates,
            )
        )
    return boxes.joined(graph, levels)
