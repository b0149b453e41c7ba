"""The networks that the benchmark compares."""

from __future__ import annotations

import argparse
import ast
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dynbackbones
from dynbackbones.analysis.candidates import backbone_of
from dynbackbones.cli.arguments import check_backbone
from dynbackbones.cli.benchmark.options import DTYPES
from dynbackbones.cli.engines import check_installed
from dynbackbones.errors import UserError


def build(args: argparse.Namespace) -> dict[str, nn.Module]:
    """The networks by name, all treated alike.

    Raises:
        UserError: there is no network of a name, or one cannot be treated like the others or
            does not know this kind of choice.
    """
    if args.detectors:
        nets = {Path(file).stem: build_whole(file) for file in args.detectors}
    else:
        nets = {name: build_named(name) for name in args.backbones}
    for name, net in nets.items():
        if args.treatment != "eager" and backbone_of(net) is None:
            raise UserError(
                f"{name} cannot be treated like the others: leave --treatment {args.treatment}"
            )
        # On a GPU the treatment is another one.
        net = treated(net.to(args.device), args.treatment).to(DTYPES[args.dtype]).eval()
        _check_selection(net, args.selection)
        nets[name] = net
    return nets


class Segmentor(nn.Module):
    """A model of mmseg that takes a list of images, as detectors do.

    Args:
        model: an ``EncoderDecoder``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: list[Tensor]) -> Tensor:
        """The head's logits, which are not enlarged."""
        batch = torch.stack(images)
        return self.model(batch.contiguous(memory_format=torch.channels_last), mode="tensor")


def build_whole(file: str) -> nn.Module:
    """The detector of a YAML config or the segmentor of a Python config, with random weights.

    Raises:
        UserError: the config is wrong, or what it needs is not installed.
    """
    if Path(file).suffix == ".py":
        check_installed("openmmlab")
        from dynbackbones.integrations.openmmlab import checks

        return Segmentor(checks.build_model(checks.load_config(file)))
    from dynbackbones.integrations.torchvision.config import load_config
    from dynbackbones.integrations.torchvision.detectors import build_detector

    return build_detector(load_config(file))


def build_named(name: str) -> nn.Module:
    """A network by its name, with the options behind it.

    Raises:
        UserError: there is none of that name, or an option is wrong.
    """
    library, _, model = name.rpartition(":")
    if library in ("torchvision", "timm"):
        if importlib.util.find_spec(library) is None:
            raise UserError(f"--backbones {name}: {library} is not installed")
        if library == "torchvision":
            from torchvision.models import get_model as create
        else:
            from timm import create_model as create
        try:
            return create(model)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"--backbones: {library} has no model {model}") from error
    name, *options = name.split(",")
    check_backbone("--backbones", name)
    try:
        return dynbackbones.build_backbone(name, **dict(map(_option, options)))
    except (TypeError, ValueError) as error:
        raise UserError(f"--backbones {','.join([name, *options])}: {error}") from error


def _option(text: str) -> tuple[str, Any]:
    """The name and the value of ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise ValueError(f"{text!r} is no option; write NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def treated(net: nn.Module, treatment: str) -> nn.Module:
    """The network prepared for inference as ``--treatment`` says."""
    if treatment == "eager":
        return net
    return dynbackbones.optimize_for_inference(
        net, pack=treatment != "folded", native_rows=treatment == "native"
    )


def opponent_of(name: str, args: argparse.Namespace) -> nn.Module:
    """The static network that other runtimes run, as they like it best: norm layers folded.

    Raises:
        UserError: it is none of ours, or it is dynamic.
    """
    net = build_named(name)
    if backbone_of(net) is not net or isinstance(net, dynbackbones.DynamicBackbone):
        raise UserError(
            f"--opponents run the first of --backbones, which must be a static one of this "
            f"package, such as resnet50; got {name}"
        )
    return treated(net, "folded").to(DTYPES[args.dtype])


def images_for(args: argparse.Namespace) -> Tensor:
    """The input of all networks, (N, 3, H, W)."""
    images = torch.randn(args.batch_size, 3, *args.size).to(args.device, DTYPES[args.dtype])
    if args.treatment == "eager" and not args.opponents:
        return images
    return images.contiguous(memory_format=torch.channels_last)


def _check_selection(net: nn.Module, selection: str) -> None:
    backbone = backbone_of(net)
    if isinstance(backbone, dynbackbones.DynamicBackbone):
        try:
            with backbone.select(selection):
                pass
        except ValueError as error:
            raise UserError(f"--selection {selection}: {error}") from error
