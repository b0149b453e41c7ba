"""The networks that the benchmark compares."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

import dynbackbones
from dynbackbones.analysis.candidates import backbone_of
from dynbackbones.cli.arguments import check_backbone
from dynbackbones.cli.benchmark.options import DTYPES
from dynbackbones.errors import UserError


def build(args: argparse.Namespace) -> dict[str, nn.Module]:
    """The networks by name, all treated alike.

    Raises:
        UserError: there is no network of a name, or one cannot be treated like the others or
            does not know this kind of choice.
    """
    if args.detectors:
        from dynbackbones.integrations.torchvision.config import load_config
        from dynbackbones.integrations.torchvision.detectors import build_detector

        nets = {Path(file).stem: build_detector(load_config(file)) for file in args.detectors}
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


def build_named(name: str) -> nn.Module:
    """A network by its name.

    Raises:
        UserError: there is none of that name.
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
    check_backbone("--backbones", name)
    return dynbackbones.build_backbone(name)


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
