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

from dynbackbones.analysis.costs import dataset_values, headline, image_values
from dynbackbones.backbones.base import find_backbones


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
        self._backbones = find_backbones(model)
        self._static = None if self._backbones else StaticCost(model.backbone)
        self._logger = logging.getLogger("dynbackbones")
        self.reset()

    def reset(self) -> None:
        # Of each backbone, or of the static one.
        self._values: list[dict[str, list[float]]] = [
            defaultdict(list) for _ in range(max(len(self._backbones), 1))
        ]

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        if self._static is not None:
            shapes = [tuple(entry["image"].shape) for entry in inputs]
            self._values[0]["macs"].extend(self._static.macs(*shape) for shape in shapes)
        for backbone, own in zip(self._backbones, self._values, strict=False):
            for name, values in image_values(backbone.decisions).items():
                own[name].extend(values)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Means over the images of all processes, on the main process.

        Returns:
            ``{"backbone": {"macs": ..., "activation_rate": ..., "activation_rate_res2": ...}}``;
            the names of a second backbone end with ``_backbone2``.
        """
        gathered = comm.gather([dict(values) for values in self._values])
        if not comm.is_main_process():
            return None
        results = {}
        for index in range(len(self._values)):
            suffix = "" if index == 0 else f"_backbone{index + 1}"
            figures = dataset_values(_joined([part[index] for part in gathered]))
            results |= {name + suffix: value for name, value in figures.items()}
        if results:
            rates = "  ".join(
                f"{k}: {v:.3f}" for k, v in results.items() if headline(k) and "macs" not in k
            )
            self._logger.info(f"backbone: {results['macs'] / 1e9:.3f} GMACs per image  {rates}")
        return {"backbone": results}


def _joined(parts: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """The values of several processes together."""
    names = dict.fromkeys(itertools.chain.from_iterable(parts))
    return {n: list(itertools.chain.from_iterable(p.get(n, []) for p in parts)) for n in names}


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
