"""Measures what a forward pass needs at its peak, in float16 and channels-last on the GPU.

    python -m tests.gpu.memory --folder output/gpu/memory --json FILE
"""

from __future__ import annotations

import torch

import dynbackbones
from dynbackbones.analysis.memory import peak_memory
from tests.gpu.step import Step, run_step

NETWORKS = {
    "resnet50": {"resnet50": {}},
    "sar_resnet50": {
        f"sar_resnet50 {execution}": {"execution": execution}
        for execution in ("auto", "masked", "sparse")
    },
    "blockdrop_resnet50": {"blockdrop_resnet50 sparse": {"execution": "sparse"}},
}


def main(step: Step) -> None:
    """All networks, at rate 0.5."""
    size = (1, 3, 64, 96) if step.tiny else (4, 3, 800, 1344)
    dtype = torch.float32 if step.tiny else torch.float16
    images = torch.rand(size).to(step.device, dtype, memory_format=torch.channels_last)
    step.figure("images", "x".join(map(str, size)))
    for name, cases in NETWORKS.items():
        torch.manual_seed(0)
        net = dynbackbones.build_backbone(name).eval()
        net.to(step.device, dtype, memory_format=torch.channels_last)
        for case, options in cases.items():
            step.part(case, lambda c=(case, net, options): _measure(step, images, *c))


def _measure(step: Step, images: torch.Tensor, case: str, net, options: dict) -> None:
    step.figure(f"{case}, MiB", round(peak_memory(net, images, rate=0.5, **options) / 2**20))


if __name__ == "__main__":
    run_step(main)
