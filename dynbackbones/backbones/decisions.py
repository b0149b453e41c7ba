"""What a network chose in one forward pass."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Decisions:
    """Decisions of a network without any: its cost.

    Attributes:
        image_sizes: (height, width) of each image in pixels, without padding.
        macs: (N,) float64, multiply-accumulates of the backbone for each image. Convolutions and
            linear layers count; padding does not.
    """

    image_sizes: list[tuple[int, int]]
    macs: Tensor

    def summary(self, per_block: bool = False) -> dict[str, Tensor]:
        """Named values for logs and reports, each of shape (N,).

        Args:
            per_block: add one value for each selector.
        """
        return {"macs": self.macs}
