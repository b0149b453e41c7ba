"""Convolutions for inference on CPUs: weights in oneDNN's own layout, ReLU and sums fused.

PyTorch's convolution brings its weight into the layout that oneDNN computes in at every call, which
takes as long as the product itself where a feature map is small. These are the operators that
`torch.compile` with freezing calls.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def can_pack() -> bool:
    """Whether this build of PyTorch has oneDNN's convolutions with reordered weights."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


@cache
def _dtypes() -> tuple[torch.dtype, ...]:
    """What oneDNN computes in on this processor."""
    # Without AVX-512 it has no convolutions in bfloat16.
    half = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if half else (torch.float32,)


def packed_flops(
    x: Sequence[int], second: Sequence[int], third: Sequence[int] | None, *args: Any, **kwargs: Any
) -> int:
    """Floating-point operations of a packed convolution, two to a multiply-accumulate.

    For ``torch.utils.flop_counter.FlopCounterMode(custom_mapping=...)``, see `packed_formulas`.

    Args:
        x, second, third: shapes of the input, then of weight and bias, or of what is added and of
            the weight.
        args, kwargs: what else the operator takes; ``out_shape`` is its output's.
    """
    weight = third if third is not None and len(third) > 1 else second
    batch, _, height, width = kwargs["out_shape"]
    return 2 * batch * height * width * math.prod(weight)


def packed_formulas() -> dict[Any, Callable[..., int]]:
    """What a FLOP counter must be told of packed convolutions, where this build has them."""
    return {torch.ops.mkldnn._convolution_pointwise: packed_flops} if can_pack() else {}


class PackedConv2d(nn.Conv2d):
    """An `nn.Conv2d` that also keeps its weight reordered; to be used for inference alone.

    The best layout depends on the input's shape and the number of threads, and a wrong one can be
    fifty times slower. So a weight is reordered at the first call with a shape, for the first
    `shapes` of them; for others, for inputs on other devices than a CPU or of other types than
    float32 and, on processors with AVX-512, bfloat16, and where gradients are asked for, this is
    the ordinary convolution. Under autocast it computes in autocast's type. Loading other weights
    does not reorder anew.

    Args:
        conv: shares its parameters; zero padding.

    Shape:
        (N, C_in, H, W) to (N, C_out, H_out, W_out).
    """

    shapes = 2
    """Each takes the memory of the weight."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            conv.bias is not None,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        self._reordered: dict[tuple, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Reordered weights can be neither copied nor saved.
        return {**self.__dict__, "_reordered": {}}

    def forward(
        self,
        x: Tensor,
        add: Tensor | None = None,
        relu: bool = False,
        ceiling: float | None = None,
    ) -> Tensor:
        """The convolution of ``x``, plus ``add`` of the output's shape, with a ReLU at the end.

        Args:
            x: (N, C_in, H, W).
            add: of the output's shape.
            relu: whether a ReLU follows.
            ceiling: what it ends at; where nothing is added.
        """
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
            add = None if add is None else add.to(x.dtype)
        weight = self._weight_for(x)
        if weight is None:
            out = super().forward(x)
            out = out if add is None else out.add_(add)
            if relu and ceiling is not None:
                return F.hardtanh(out, 0.0, ceiling, inplace=True)
            return F.relu(out, inplace=True) if relu else out
        bias = None if self.bias is None else self.bias.to(x.dtype)
        geometry = self.padding, self.stride, self.dilation, self.groups
        if add is None:
            after = "relu" if relu else "none", []
            if relu and ceiling is not None:
                after = "hardtanh", [0.0, ceiling]
            return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *geometry, *after, "")
        # Torch 2.6 cannot fuse the one, none so far the other.
        if add.shape[-2:] == (1, 1) or (self.groups > 1 and x.dtype != torch.float32):
            out = torch.ops.mkldnn._convolution_pointwise(
                x, weight, bias, *geometry, "none", [], ""
            ).add_(add)
            return out.relu_() if relu else out
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, add, weight, bias, *geometry, "add", 1.0, "relu" if relu else None, [], None
        )

    def _weight_for(self, x: Tensor) -> Tensor | None:
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype not in _dtypes():
            return None
        key = (*x.shape, x.dtype, torch.get_num_threads())
        if key not in self._reordered and len(self._reordered) < self.shapes:
            self._reordered[key] = torch._C._nn.mkldnn_reorder_conv2d_weight(
                self.weight.detach().to(x.dtype).to_mkldnn(),
                self.padding,
                self.stride,
                self.dilation,
                self.groups,
                list(x.shape),
            )
        return self._reordered.get(key)
