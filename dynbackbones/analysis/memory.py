"""Peak memory of a backbone's forward pass."""

from __future__ import annotations

import multiprocessing
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.errors import UserError

_PROCESS = Path("/proc/self")


def peak_memory(
    net: nn.Module,
    images: Tensor,
    *,
    execution: str = "auto",
    selection: str = "random",
    rate: float = 0.5,
) -> int:
    """Bytes that a forward pass needs at its peak, beyond the network and the images.

    On a CPU a process of its own measures, which the caller's main module must allow to be started
    (``if __name__ == "__main__"``).

    Args:
        net: a backbone in evaluation mode.
        images: (N, 3, H, W), where the network is.
        execution, selection, rate: of a dynamic backbone.

    Raises:
        UserError: this system does not tell a process's peak memory.
    """
    if images.device.type == "cuda":
        return _on_cuda(net, images, execution, selection, rate)
    if not (_PROCESS / "clear_refs").exists():
        raise UserError("peak memory on a CPU is measured through Linux's /proc, which is missing")
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    arguments = (answers, torch.get_num_threads(), net, images, execution, selection, rate)
    process = context.Process(target=_in_process, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the process that measures ended with exit code {process.exitcode}")
    return answers.get()


def _in_process(answers, threads: int, net: nn.Module, images: Tensor, *options) -> None:
    torch.set_num_threads(threads)
    # Resets the peak to what is resident now.
    (_PROCESS / "clear_refs").write_text("5")
    before = _status("VmRSS")
    _forward(net, images, *options)
    answers.put(_status("VmHWM") - before)


def _on_cuda(net: nn.Module, images: Tensor, *options) -> int:
    torch.cuda.synchronize(images.device)
    torch.cuda.reset_peak_memory_stats(images.device)
    before = torch.cuda.memory_allocated(images.device)
    _forward(net, images, *options)
    torch.cuda.synchronize(images.device)
    return torch.cuda.max_memory_allocated(images.device) - before


@torch.inference_mode()
def _forward(net: nn.Module, images: Tensor, execution: str, selection: str, rate: float) -> None:
    dynamic = isinstance(net, DynamicBackbone)
    if dynamic:
        net.execution = execution
    with net.select(selection, rate=rate) if dynamic else nullcontext():
        # The second pass finds weights packed and pools of memory filled.
        for _ in range(2):
            net(images)


def _status(key: str) -> int:
    for line in (_PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise UserError(f"{_PROCESS / 'status'} has no {key}")
