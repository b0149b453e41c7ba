"""What a detector's backbone cost per image, beside what the detector found."""

import copy
import logging
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dynbackbones.analysis.costs import DecisionMeter, format_figures
from dynbackbones.backbones.base import find_backbones
from dynbackbones.backbones.decisions import Batch, Decisions
from dynbackbones.zoom.detector import ZoomDetector


class BackboneCostEvaluator(DatasetEvaluator):
    """Mean multiply-accumulates and choices per image of the backbone in a model.

    It reads the decisions of each forward pass, so it goes with ``inference_on_dataset`` (alone
    or in a list with other evaluators) and needs the model that is evaluated. A backbone of
    detectron2 itself, as in a baseline, has no decisions: its MACs follow from the image sizes.

    Args:
        model: the model under evaluation, wrapped for distributed training or not.
    """

    def __init__(self, model: nn.Module) -> None:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        # A zoom counts what all of the detector computes, in both passes.
        self._backbones = [model] if isinstance(model, ZoomDetector) else find_backbones(model)
        self._static = None if self._backbones else StaticCost(model.backbone)
        self._logger = logging.getLogger("dynbackbones")
        self.reset()

    def reset(self) -> None:
        self._meters = [DecisionMeter() for _ in self._backbones or [self._static]]

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        if self._static is not None:
            self._meters[0].update(self._static.decisions(inputs))
        for backbone, meter in zip(self._backbones, self._meters, strict=False):
            meter.update(backbone.decisions)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Means over the images of all processes, on the main process.

        Returns:
            ``{"backbone": {"gmacs": ..., "activation_rate": ..., "activation_rate_res2": ...}}``,
            see `DecisionMeter.result`; the names of a second backbone end with ``_backbone2``.
        """
        gathered = comm.gather(self._meters)
        if not comm.is_main_process():
            return None
        results = {}
        for index, meter in enumerate(gathered[0]):
            meter.merge([others[index] for others in gathered[1:]])
            suffix = "" if index == 0 else f"_backbone{index + 1}"
            results |= {name + suffix: value for name, value in meter.result().items()}
            headline = meter.headline()
            if headline:
                self._logger.info(f"backbone{suffix}: {format_figures(headline)}")
        return {"backbone": results}


class StaticCost:
    """Multiply-accumulates of a backbone whose cost depends on the size of the image alone.

    Convolutions and linear layers count, as for the backbones of this package.

    Args:
        backbone: of detectron2; of an FPN the network below it counts.
    """

    def __init__(self, backbone: nn.Module) -> None:
        # Shapes without data: a forward pass on the meta device computes nothing.
        self._network = copy.deepcopy(getattr(backbone, "bottom_up", backbone)).to("meta").eval()
        self._macs: dict[tuple[int, int, int], int] = {}
        self._count = 0
        for module in self._network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(self._add)

    def decisions(self, inputs: list[dict[str, Any]]) -> Decisions:
        """Those of a network that makes none, for detectron2's dicts with an ``"image"``."""
        shapes = [tuple(entry["image"].shape) for entry in inputs]
        macs = torch.tensor([self.macs(*shape) for shape in shapes], dtype=torch.float64)
        sizes = [shape[1:] for shape in shapes]
        batch = Batch(len(shapes), tuple(map(max, zip(*sizes, strict=True))), sizes)
        return Decisions(batch, lambda _: macs)

    def macs(self, channels: int, height: int, width: int) -> int:
        """Multiply-accumulates for one image of this size."""
        size = (channels, height, width)
        if size not in self._macs:
            self._count = 0
            with torch.no_grad():
                self._network(torch.empty(1, *size, device="meta"))
            self._macs[size] = self._count
        return self._macs[size]

    def _add(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        places = out.numel() // module.weight.shape[0]
        self._count += module.weight.numel() * places
