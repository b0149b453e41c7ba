"""The residual block of the networks for CIFAR."""

import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.layers.norm import NormLayer
from dynbackbones.layers.residual import BasicBlock


class ZeroChannels(nn.Module):
    """Appends channels that are zero: (N, C, H, W) to (N, C + added, H, W)."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.added))


class CifarBlock(BasicBlock):
    """`BasicBlock` whose shortcut has no parameters: average pooling and zero channels.

    As in the authors' BlockDrop code; He et al. (2016), option A, subsample instead of averaging.
    """

    def _shortcut(self, stride: int, norm: NormLayer, pooled: bool) -> nn.Sequential | None:
        layers: list[nn.Module] = []
        if stride != 1:
            # Rounds up, as the residual branch does; a window at the border averages its pixels.
            layers.append(nn.AvgPool2d(stride, ceil_mode=True))
        if self.in_channels != self.out_channels:
            layers.append(ZeroChannels(self.out_channels - self.in_channels))
        return nn.Sequential(*layers) if layers else None
