"""Trains in process groups on one GPU, and holds the result against one process on the CPU.

    python -m tests.gpu.processes nccl --folder output/gpu/nccl --json FILE

``nccl`` is a group of one process, which is all that NCCL allows on one device: its layers are
made to synchronise all the same. ``two`` are two processes that share the device through gloo.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import dynbackbones
from dynbackbones.backbones.sar.loss import global_mean
from tests.gpu.made_networks import exact_float32
from tests.gpu.step import Step, run_step

IMAGES = 4
NETWORKS = {"SAR": "sar_resnet18", "BlockDrop": "blockdrop_resnet18"}


class Synchronised(nn.SyncBatchNorm):
    """Batch norm that synchronises even where there is one process, which torch's leaves out."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        self.num_batches_tracked.add_(1)
        return torch.nn.modules._functions.SyncBatchNorm.apply(
            x.contiguous(memory_format=torch.channels_last), self.weight, self.bias,
            self.running_mean, self.running_var, self.eps, self.momentum, dist.group.WORLD,
            dist.get_world_size(),
        )  # fmt: skip


def images(device: torch.device) -> Tensor:
    """(4, 3, 64, 96), float64: roundings of float32 move a ReLU, and gradients by hundredths."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(IMAGES, 3, 64, 96, generator=generator, dtype=torch.float64).to(device)


def policies(blocks: int) -> Tensor:
    """(4, K): the first half of the images keeps all blocks, the second every other one."""
    kept = torch.ones(IMAGES, blocks, dtype=torch.bool)
    kept[IMAGES // 2 :, 1::2] = False
    return kept


def train_once(kind: str, norm: str, device: torch.device, part: slice) -> dict[str, Tensor]:
    """One training pass over some of the images: loss, gradients and what norm layers saw.

    Args:
        kind: of `NETWORKS`.
        norm: kind of the norm layers.
        device: where.
        part: of the images; in a process group, of this process.
    """
    torch.manual_seed(0)
    net = dynbackbones.build_backbone(NETWORKS[kind], norm=norm).to(device, torch.float64).train()
    # Patterns that do not depend on who else is in the batch.
    net.selection = net.make_selection("uniform", 0.5, 0) if kind == "SAR" else None
    if kind == "BlockDrop":
        net.selection = net.make_selection(policies(net.num_blocks)[part], 0.5, 0)
    if norm == "SyncBN":
        for module in net.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.__class__ = Synchronised
    grouped = dist.is_initialized()
    model = DistributedDataParallel(net) if grouped else net
    features = model(images(device)[part])
    loss = sum(value.square().mean() for value in features.values())
    loss = loss + sum(net.auxiliary_losses().values())
    loss.backward()
    mean = loss.detach().clone()
    if grouped:
        dist.all_reduce(mean)
        mean /= dist.get_world_size()
    found = {"loss": mean}
    found |= {f"{n}.grad": p.grad for n, p in net.named_parameters() if p.grad is not None}
    found |= {n: b for n, b in net.named_buffers() if "running" in n}
    return {name: value.cpu() for name, value in found.items()}


def compare(
    step: Step,
    case: str,
    found: dict[str, Tensor],
    wanted: dict[str, Tensor],
    tolerance: float = 1e-6,
) -> None:
    """Keeps the largest relative difference of a training pass from what it should give."""
    step.expect(found.keys() == wanted.keys(), f"{case}: other tensors")
    differences = {}
    for key in wanted.keys() & found.keys():
        scale = wanted[key].abs().max().clamp(min=1e-5)
        differences[key] = float((found[key] - wanted[key]).abs().max() / scale)
    wrong = sorted((k for k, d in differences.items() if not d < tolerance), key=differences.get)
    step.figure(f"{case}: loss", round(float(found["loss"]), 5))
    step.figure(f"{case}: largest difference", float(f"{max(differences.values()):.1e}"))
    names = ", ".join(f"{name} by {differences[name]:.2g}" for name in wrong[-6:])
    step.expect(not wrong, f"{case}: {len(wrong)} tensors differ: {names}")


def in_group(rank: int, count: int, backend: str, device: str, folder: Path) -> None:
    """What each process of a group does; the first writes what came of it."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the name of this machine may lead nowhere
    place = torch.device(device)
    dist.init_process_group(
        backend, init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=count
    )
    try:
        with exact_float32():
            # Synchronised batch norm needs CUDA; group norm does not see the batch.
            norm = "SyncBN" if place.type == "cuda" else "GN"
            size = IMAGES // count
            part = slice(rank * size, (rank + 1) * size)
            found = {kind: train_once(kind, norm, place, part) for kind in NETWORKS}
        rate = global_mean(torch.full((3,), float(rank), device=place))
        total = torch.full((3,), float(rank + 1), device=place)
        dist.all_reduce(total)
        found["rate"] = {"mean": rate.cpu(), "sum": total.cpu()}
        if rank == 0:
            torch.save(found, folder / "found.pth")
        dist.barrier()
    finally:
        dist.destroy_process_group()


def main(step: Step, name: str) -> None:
    """The passes without a group, then those in one."""
    count = 2 if name == "two" else 1
    backend = "gloo" if name == "two" or step.tiny else "nccl"
    (step.folder / "meeting").unlink(missing_ok=True)
    arguments = (count, backend, step.device.type, step.folder)
    torch.multiprocessing.spawn(in_group, nprocs=count, args=arguments)
    found = torch.load(step.folder / "found.pth", weights_only=True)
    norm = "GN" if step.tiny else "BN"
    for kind in NETWORKS:
        with exact_float32():
            wanted = train_once(kind, norm, torch.device("cpu"), slice(0, IMAGES))
            alone = train_once(kind, norm, step.device, slice(0, IMAGES))
        compare(step, f"{kind} without a group", alone, wanted)
        compare(step, kind, found[kind], alone)
    sums = {"mean": (count - 1) / 2, "sum": count * (count + 1) / 2}
    for key, value in sums.items():
        step.expect(bool((found["rate"][key] == value).all()), f"{key}: {found['rate'][key]}")
    step.figure("group", f"{count} x {backend}")


if __name__ == "__main__":
    run_step(main, "nccl", "two")
