"""Compiles networks without breaks on the GPU and holds them against eager execution.

    python -m tests.gpu.compiled --folder output/gpu/compile --json FILE
"""

from __future__ import annotations

import time

import torch

from tests.gpu.made_networks import LAYOUTS, assert_close, batch, build, exact_float32
from tests.gpu.step import Step, run_step

CASES = {
    "SAR": ("sar_resnet18", {"groups": 2, "selector_margin": 0.0}, "auto"),
    "SAR, resnet layout": (*LAYOUTS["resnet"], "auto"),
    "BlockDrop": ("blockdrop_resnet18", {}, "masked"),
}


def main(step: Step) -> None:
    """All networks."""
    with exact_float32():
        for case, (name, options, execution) in CASES.items():
            step.part(case, lambda c=(case, name, options, execution): _compile(step, *c))


@torch.no_grad()
def _compile(step: Step, case: str, name: str, options: dict, execution: str) -> None:
    net = build(name, **options).to(step.device)
    net.execution = execution
    begin = time.perf_counter()
    # Inductor would need a C++ compiler for a try on the CPU, and longer.
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager" if step.tiny else "inductor")
    flips = 0
    for seed in range(3):
        images = batch(seed).to(step.device)
        wanted, choices = net(images), _cells(net)
        found = compiled(images)
        if seed == 0:
            step.figure(f"{case}: first call, s", round(time.perf_counter() - begin, 1))
        different = int((_cells(net) != choices).sum())
        flips += different
        # A logit at its threshold may fall to either side; what follows from it is no error.
        step.expect(different <= 0.005 * choices.numel(), f"{case}: {different} other decisions")
        if not different:
            assert_close(found, wanted, 1e-3)
    step.figure(f"{case}: decisions that flipped", flips)


def _cells(net) -> torch.Tensor:
    choices = net.decisions.choices()
    values = choices.values() if isinstance(choices, dict) else [choices]
    return torch.cat([value.flatten() for value in values])


if __name__ == "__main__":
    run_step(main)
