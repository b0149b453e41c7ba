"""``dynbackbones export``: writes a trained network as a file that other runtimes compute."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.backbones.base import Backbone, find_backbones
from dynbackbones.cli.arguments import parse
from dynbackbones.cli.engines import add_engine_option, check_installed, open_engine
from dynbackbones.cli.visualize import use_trained_weights
from dynbackbones.errors import UserError

FORMATS = ("onnx",)
_DESCRIPTION = """\
Write a trained network as an ONNX file that decides for each image and computes only what it
decided. The file is held against the network by ONNX Runtime before it is written.
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
    if args.opts and not _is_yaml(args):
        raise UserError(f"{' '.join(args.opts)}: overrides are for a YAML --config-file")
    if args.backbone:
        net = _named(args.backbone, args.weights)
    elif _is_yaml(args):
        net = _of_detector(args)
    else:
        net = _of_mmengine(args.config_file, args.weights)
    print(to_onnx(net, args.output, overwrite=args.overwrite))


def _is_yaml(args: argparse.Namespace) -> bool:
    return args.config_file is not None and Path(args.config_file).suffix != ".py"


def _named(name: str, weights: str | None) -> Backbone:
    if name not in dynbackbones.list_backbones():
        known = ", ".join(dynbackbones.list_backbones())
        raise UserError(f"--backbone {name} is not known; known are {known}")
    if weights is None:
        raise UserError(f"--backbone {name}: give its --weights")
    net = dynbackbones.build_backbone(name)
    print(dynbackbones.load_weights(net, weights))
    return net


def _of_detector(args: argparse.Namespace) -> Backbone:
    if args.weights:
        args.opts += ["MODEL.WEIGHTS", args.weights]
    _, adapter, cfg = open_engine(
        args.engine, args.config_file, args.opts, lambda cfg: use_trained_weights(cfg, args)
    )
    use_trained_weights(cfg, args)
    return _only_backbone(adapter.load_predictor(cfg).model, args.config_file)


def _of_mmengine(config: str, weights: str | None) -> Backbone:
    check_installed("openmmlab")
    from dynbackbones.integrations.openmmlab import checks

    if weights is None:
        raise UserError(f"--config-file {config}: give the model's --weights")
    model = checks.build_model(checks.load_config(config))
    state = checkpoints.state_dict_of(checkpoints.load(weights), weights)
    checkpoints.check_architecture(model.state_dict(), state, weights)
    model.load_state_dict(state)
    return _only_backbone(model, config)


def _only_backbone(model, config: str) -> Backbone:
    found = find_backbones(model)
    if len(found) != 1:
        raise UserError(
            f"--config-file {config} has {len(found)} backbones of this package, and one is wanted"
        )
    return found[0]
