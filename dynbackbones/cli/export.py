"""``dynbackbones export``: writes a trained network as a file that other runtimes compute."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

import dynbackbones
from dynbackbones.backbones.base import Backbone, find_backbones
from dynbackbones.cli.arguments import check_backbone, parse
from dynbackbones.cli.engines import add_engine_option
from dynbackbones.cli.trained_models import (
    is_yaml,
    open_detector,
    open_mmengine_model,
    refuse_overrides,
)
from dynbackbones.errors import UserError

if TYPE_CHECKING:
    from dynbackbones.export import ExportReport

FORMATS = ("onnx",)
_DESCRIPTION = """\
Write a trained network as an ONNX file that decides for each image and computes only what it
decided. The file is held against the network by ONNX Runtime before it is written. RetinaNets,
mmpretrain's classifiers, and mmseg's FCN, PSPNet, DeepLabv3 and semantic FPN are written whole.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=_DESCRIPTION)
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--config-file",
        metavar="FILE",
        help="of a detector (YAML), or of a model of mmseg or mmpretrain (Python)",
    )
    source.add_argument(
        "--backbone", metavar="NAME", help="of dynbackbones.list_backbones(), without a config"
    )
    add_engine_option(options)
    options.add_argument(
        "--weights",
        metavar="FILE",
        help="trained weights; of a YAML config by default OUTPUT_DIR/model_final.pth",
    )
    options.add_argument(
        "--part",
        choices=("model", "backbone"),
        default="model",
        help="of a config's model: all of it (default), or the features of its backbone",
    )
    options.add_argument("--to", choices=FORMATS, default="onnx", help="format (default onnx)")
    options.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FILE.onnx", help="file to write"
    )
    options.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    options.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="YAML config overrides, last"
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Exports as the command line (default ``sys.argv``) says.

    Raises:
        UserError: the input is at fault; nothing is written.
    """
    args = parse(parser(), arguments)
    # Before anything is built, and not for --help: onnx may be missing.
    from dynbackbones.export import check_output, to_onnx

    check_output(args.output, args.overwrite)
    refuse_overrides(args)
    if args.backbone:
        report = to_onnx(_named(args.backbone, args.weights), args.output, overwrite=args.overwrite)
    elif is_yaml(args):
        report = _detector(args)
    else:
        report = _mmengine_model(args)
    print(report)


def _named(name: str, weights: str | None) -> Backbone:
    check_backbone("--backbone", name)
    if weights is None:
        raise UserError(f"--backbone {name}: give its --weights")
    net = dynbackbones.build_backbone(name)
    print(dynbackbones.load_weights(net, weights))
    return net


def _detector(args: argparse.Namespace) -> ExportReport:
    from dynbackbones.export import to_onnx

    engine, cfg, predictor = open_detector(args)
    if args.part == "backbone":
        net = _backbone_of(predictor.model, args)
        return to_onnx(net, args.output, overwrite=args.overwrite)
    if engine == "torchvision":
        from dynbackbones.integrations.torchvision.export import detector_to_onnx
    else:
        from dynbackbones.integrations.detectron2.export import detector_to_onnx
    return detector_to_onnx(predictor, cfg, args.output, overwrite=args.overwrite)


def _mmengine_model(args: argparse.Namespace) -> ExportReport:
    from dynbackbones.export import to_onnx

    cfg, model, _ = open_mmengine_model(args)
    if args.part == "model" and cfg.get("default_scope") == "mmpretrain":
        from dynbackbones.integrations.openmmlab.export import classifier_to_onnx

        return classifier_to_onnx(model, args.output, overwrite=args.overwrite)
    if args.part == "model" and cfg.get("default_scope") == "mmseg":
        from dynbackbones.integrations.openmmlab.export_segmentor import segmentor_to_onnx

        return segmentor_to_onnx(model, args.output, overwrite=args.overwrite)
    return to_onnx(_backbone_of(model, args), args.output, overwrite=args.overwrite)


def _backbone_of(model: nn.Module, args: argparse.Namespace) -> Backbone:
    if args.part == "model":
        raise UserError(
            f"the {type(model).__name__} of {args.config_file} cannot be exported as a whole, only "
            "a RetinaNet, classifier or segmentor can: add --part backbone"
        )
    found = find_backbones(model)
    if len(found) != 1:
        raise UserError(
            f"--config-file {args.config_file} has {len(found)} backbones of this package, and one "
            "is wanted"
        )
    return found[0]
