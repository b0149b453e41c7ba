"""Whole models: RetinaNet of the torchvision engine, PSPNet of mmseg."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.inference import optimize_for_inference
from dynbackbones.layers.residual import ResidualBlock
from tests.gpu.contestants import Contestant, Preparation, compiled, one_line, replayed
from tests.gpu.networks import GAMMA, Inputs, Place

if TYPE_CHECKING:
    from tests.gpu.groups import Group

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = {
    "retinanet": ("retinanet_r50.yaml", "sar_retinanet.yaml"),
    "pspnet": (
        "mmseg/r50_pspnet_4xb4-20k_voc12aug-513x513.py",
        "mmseg/sar-r50_pspnet_4xb4-20k_voc12aug-513x513.py",
    ),
}
LIBRARIES = {"retinanet": "fvcore", "pspnet": "mmseg"}
TREATMENTS = ("eager", "compiled backbone")
"""Of models; RetinaNet's pyramid counts as its backbone."""

RATE = 0.5
Forward = Callable[[nn.Module, Tensor], object]


def prepared(
    group: Group, inputs: Inputs, preparation: Preparation
) -> Iterator[Contestant | tuple[str, str]]:
    """The contestants of a group of whole models, and (what, why) of those left out."""
    library = LIBRARIES[group.models]
    if importlib.util.find_spec(library) is None:
        yield group.models, f"no {library}"
        return
    for treatment in TREATMENTS:
        for file in FILES[group.models]:
            name = Path(file).stem.partition("_4x")[0]
            if not preparation.fits(treatment.split()[0]):
                yield f"{name}, {treatment}", "no time left"
                continue
            try:
                model, forward = _built(group, file, preparation.place)
                yield _contestant(name, treatment, model, forward, inputs, preparation)
            except Exception as error:  # whatever it is, the others go on
                yield Contestant(name, treatment, "sar" not in name, error=one_line(error))


def _built(group: Group, file: str, place: Place) -> tuple[nn.Module, Forward]:
    """A model of random weights, prepared like the backbones, and how it takes a batch."""
    build = {"retinanet": retinanet, "pspnet": pspnet}[group.models]
    model, forward = build(str(CONFIGS / file), group.depth)
    for block in model.modules():
        if isinstance(block, ResidualBlock):
            nn.init.constant_(block.residual_layers()[-1][1].weight, GAMMA)
    model = model.to(place.device).eval().requires_grad_(False)
    model = optimize_for_inference(model, pack=False)
    return model.to(memory_format=torch.channels_last), forward


def _contestant(
    name: str,
    treatment: str,
    model: nn.Module,
    forward: Forward,
    inputs: Inputs,
    preparation: Preparation,
) -> Contestant:
    place = preparation.place
    (backbone,) = find_backbones(model)

    def run(images: Tensor) -> object:
        # Casts that are kept would not be in a graph that is captured.
        options = {"dtype": place.dtype, "enabled": place.on_gpu, "cache_enabled": False}
        with torch.autocast(place.device.type, **options):
            return forward(model, images.float())

    rate = None
    if isinstance(backbone, DynamicBackbone):
        rate = RATE
        with backbone.select("random", rate=rate):
            run(inputs.images)
        backbone.selection = backbone.make_selection(backbone.decisions.choices(), rate, 0)
    run(inputs.images)
    macs = float(backbone.decisions.macs.mean())
    if treatment != "eager":
        model.backbone = Replayed(model.backbone, preparation.place)
    part = model.backbone
    start = time.perf_counter()
    forward_pass, _, _ = preparation.start(run, inputs.images, "eager")
    return Contestant(
        name,
        treatment,
        plain=rate is None,
        run=forward_pass,
        context=inputs.turn,
        rate=rate,
        macs=macs,
        seconds=time.perf_counter() - start,
        note="; ".join(filter(None, ["MACs are the backbone's", getattr(part, "note", "")])),
    )


def retinanet(file: str, depth: int) -> tuple[nn.Module, Forward]:
    """A detector of the torchvision engine, and how it takes a batch.

    Args:
        file: of its config.
        depth: of its backbone.
    """
    from dynbackbones.integrations.torchvision.config import load_config
    from dynbackbones.integrations.torchvision.detectors import build_detector

    options = ["MODEL.RESNETS.DEPTH", str(depth), "MODEL.SAR.DEPTH", str(depth)]
    if depth == 18:
        options += ["MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
    detector = build_detector(load_config(file, options))
    return detector, lambda model, images: model(list(images))


def pspnet(file: str, depth: int) -> tuple[nn.Module, Forward]:
    """A segmentor of mmseg, and how it takes a batch; arguments as for `retinanet`."""
    import mmseg.models  # noqa: F401  registers
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    cfg = Config.fromfile(file).model
    init_default_scope("mmseg")
    cfg.data_preprocessor = None
    cfg.backbone.depth = depth
    for head in filter(None, (cfg.decode_head, cfg.get("auxiliary_head"))):
        if depth == 18:
            head.in_channels, head.channels = head.in_channels // 4, 32
    return MODELS.build(cfg), _segment


def _segment(model: nn.Module, images: Tensor) -> Tensor:
    return model.encode_decode(images, [{"img_shape": tuple(images.shape[-2:])}] * len(images))


class Replayed(nn.Module):
    """A part of a model that is compiled, and on a GPU captured, at its first input's shape."""

    def __init__(self, part: nn.Module, place: Place) -> None:
        super().__init__()
        self.part = part
        self._place = place
        self._run: Callable[[], object] | None = None
        self.note = ""
        self.out_channels = getattr(part, "out_channels", None)

    def forward(self, images: Tensor) -> object:
        if self._run is None:
            self._start(images)
        self._images.copy_(images)
        return self._run()

    def _start(self, images: Tensor) -> None:
        self._images = images.contiguous(memory_format=torch.channels_last).clone()
        part = compiled(self.part, "compiled", self._place)
        self._run = partial(part, self._images)
        if self._place.on_gpu:
            self._run, self.note = replayed(self._run, needed=False)
