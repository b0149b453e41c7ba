"""What a detector's backbone cost per image, beside what the detector found."""

import copy
import itertools
import logging
from collections import defaultdict
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dynbackbones.integrations.auxiliary import find_backbones


class BackboneCostEvaluator(DatasetEvaluator):
    """Mean multiply-accumulates and activation rates per image of the backbone in a model.

    It reads the decisions of each forward pass, so it goes with ``inference_on_dataset`` (alone
    or in a list with other evaluators) and needs the model that is evaluated. A backbone of
    detectron2 itself, as in a baseline, has no decisions: its MACs follow from the image sizes.

    Args:
        model: the model under evaluation, wrapped for distributed training or not.
    """

    def __init__(self, model: nn.Module) -> None:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        self._backbones = find_backbones(model)
        self._static = None if self._backbones else StaticCost(model.backbone)
        self._values: dict[str, list[float]] = defaultdict(list)
        self._logger = logging.getLogger("dynbackbones")

    def reset(self) -> None:
        self._values = defaultdict(list)

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        if self._static is not None:
            shapes = [tuple(entry["image"].shape) for entry in inputs]
            self._values["macs"].extend(self._static.macs(*shape) for shape in shapes)
        for index, backbone in enumerate(self._backbones, start=1):
            suffix = "" if index == 1 else f"_backbone{index}"
            for name, values in backbone.decisions.summary().items():
                self._values[name + suffix].extend(values.tolist())

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Means over the images of all processes, on the main process.

        Returns:
            ``{"backbone": {"macs": ..., "activation_rate": ..., "activation_rate_res2": ...}}``.
        """
        gathered = comm.gather(dict(self._values))
        if not comm.is_main_process():
            return None
        means = {}
        for name in dict.fromkeys(itertools.chain.from_iterable(gathered)):
            values = list(itertools.chain.from_iterable(part.get(name, []) for part in gathered))
            means[name] = sum(values) / len(values)
        if means:
            rates = "  ".join(f"{k}: {v:.3f}" for k, v in means.items() if not k.startswith("macs"))
            self._logger.info(f"backbone: {means['macs'] / 1e9:.3f} GMACs per image  {rates}")
        return {"backbone": means}


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
