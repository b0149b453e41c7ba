"""Networks of torchvision as encoders: those that are pretrained for phones, and DenseNets."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dynbackbones.backbones.base import remember
from dynbackbones.backbones.decisions import Batch, Decisions
from dynbackbones.classifiers.encoder import Looks, Seen
from dynbackbones.layers.packed import packed_formulas

FAMILIES = ("mobilenet_v3", "efficientnet", "densenet", "regnet")
NAMES = (
    *(f"mobilenet_v3_{size}" for size in ("small", "large")),
    *(f"efficientnet_b{size}" for size in range(8)),
    *(f"densenet{depth}" for depth in (121, 169, 201)),
    *(f"regnet_y_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf")),
)


class TorchvisionEncoder(Looks):
    """A network of torchvision beside `Encoder`, with the same members; needs torchvision.

    Args:
        name: one of `NAMES`.
        num_classes: number of classes.

    Attributes:
        model: torchvision's, so that its weights load into it.
    """

    in_channels = 3

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        from torchvision.models import get_model

        self.name = name
        self.model = get_model(name, weights=None, num_classes=num_classes)
        self.start_untrained()
        self._costs: dict[tuple[int, int], float] = {}

    @property
    def fc(self) -> nn.Linear:
        """The last layer."""
        if hasattr(self.model, "fc"):
            return self.model.fc
        last = self.model.classifier
        return last[-1] if isinstance(last, nn.Sequential) else last

    def look(self, images: Tensor) -> Seen:
        last, vector = _look(self.model, images)
        batch = Batch(len(images), tuple(images.shape[-2:]))

        def count(_: Decisions) -> Tensor:
            return torch.full((len(images),), self.look_macs(*batch.size), dtype=torch.float64)

        return Seen(last, vector, Decisions(batch, count))

    def look_macs(self, height: int, width: int) -> float:
        return remember(self._costs, (height, width), self._count)

    @torch.no_grad()
    def _count(self, size: tuple[int, int]) -> float:
        # A copy without numbers: nothing is computed, and no statistics move.
        model = copy.deepcopy(self.model).to("meta").eval()
        with FlopCounterMode(display=False, custom_mapping=packed_formulas()) as counter:
            _look(model, torch.zeros(1, self.in_channels, *size, device="meta"))
        return counter.get_total_flops() / 2


def _look(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The last map, and what the last layer takes."""
    if hasattr(model, "trunk_output"):
        last = model.trunk_output(model.stem(images))
    else:
        last = model.features(images)
    if isinstance(getattr(model, "classifier", None), nn.Linear):
        last = last.relu()  # DenseNet's, outside of its features
    vector = last.mean(dim=(2, 3))
    classifier = getattr(model, "classifier", None)
    if isinstance(classifier, nn.Sequential):
        vector = classifier[:-1](vector)
    return last, vector
