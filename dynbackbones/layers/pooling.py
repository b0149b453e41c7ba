"""Average pooling whose gradient can be trusted."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PaddedAvgPool2d(nn.AvgPool2d):
    """`nn.AvgPool2d` with the right gradient for channels-last tensors on GPUs too.

    Where it pads, PyTorch computes a wrong one for them, silently, up to some version of 2026
    (pytorch/pytorch#188344 has it for CUDA, #189233 for MPS). Padding apart does the same.

    Args:
        kernel_size, stride, padding: see `nn.AvgPool2d`; padding counts as zeros.
    """

    def __init__(self, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__(kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        return F.avg_pool2d(F.pad(x, [self.padding] * 4), self.kernel_size, self.stride)
