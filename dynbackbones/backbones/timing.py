"""How long a forward pass takes."""

import time

import torch
from torch import Tensor, nn


def milliseconds_of(net: nn.Module, images: Tensor) -> float:
    """Milliseconds of one forward pass, to its end also on a GPU.

    Args:
        net: as it will run.
        images: (N, C, H, W).
    """
    on_gpu = images.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(images.device)
    start = time.perf_counter()
    with torch.inference_mode():
        net(images)
    if on_gpu:
        torch.cuda.synchronize(images.device)
    return 1e3 * (time.perf_counter() - start)
