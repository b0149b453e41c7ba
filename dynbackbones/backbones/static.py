"""What static networks share: a stem, then stages that all run."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.decisions import Decisions
from dynbackbones.layers.convolutions import chain_macs
from dynbackbones.layers.stem import run_stem, stem_layers


class StaticBackbone(Backbone):
    """A stem, then stages that all run."""

    @abstractmethod
    def stages(self) -> dict[str, list[nn.Module]]:
        """By the name of the feature in which each ends, what runs for it, in order."""

    def forward(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Tensor]:
        batch = self._check_inputs(images, image_sizes)
        x = run_stem(self, images)
        features = {}
        for name, modules in self.stages().items():
            for module in modules:
                x = module(x)
            features[name] = x
        self.decisions = Decisions(batch, self._count_macs)
        return features

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for an image of this size in pixels."""
        layers = [module for modules in self.stages().values() for module in modules]
        return chain_macs([*stem_layers(self), self.maxpool, *layers], height, width)
