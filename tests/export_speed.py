"""Times an exported BlockDrop-ResNet-50, its policy network included, beside the plain ResNet-50.

    taskset -c 1 python -m tests.export_speed --size 224 224 --rounds 15
    taskset -c 1 python -m tests.export_speed --size 800 1344 --rounds 5

Both exported the same way, in ONNX Runtime on one thread, asked in turn. The first block of each
stage is always kept, the others at random. Processor time; a ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import dynbackbones
from dynbackbones.backbones.blockdrop.network import BlockDropBackbone
from dynbackbones.export import running, to_onnx

USAGES = (16, 12, 8, 4)


def keep(net: BlockDropBackbone, count: int) -> None:
    """Makes a policy network choose so many blocks for every image."""
    starts = torch.tensor([0, *net.block_counts[:-1]]).cumsum(0)
    order = torch.randperm(net.num_blocks, generator=torch.Generator().manual_seed(count))
    order = torch.cat([starts, order[~torch.isin(order, starts)]])
    torch.nn.init.constant_(net.policy.fc.bias, -3.0)
    net.policy.fc.bias.data[order[:count]] = 3.0


def runners(folder: Path, images: torch.Tensor) -> dict[str, Callable[[], object]]:
    """What is timed, by name, the plain network first."""
    files = {"resnet50": to_onnx(dynbackbones.build_backbone("resnet50"), folder / "plain.onnx")}
    net = dynbackbones.build_backbone("blockdrop_resnet50")
    for count in USAGES:
        keep(net, count)
        name = f"blockdrop_resnet50, {count} of {net.num_blocks} blocks"
        files[name] = to_onnx(net, folder / f"{count}.onnx")
    sessions = {name: running.session(report.path) for name, report in files.items()}
    return {
        name: lambda file=file: running.run(file, {"images": images})
        for name, file in sessions.items()
    }


def main() -> None:
    """Prints a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=2, type=int, default=[224, 224], metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        calls = runners(Path(folder), torch.randn(1, 3, *args.size))
        times: dict[str, list[float]] = {name: [] for name in calls}
        for index in range(args.rounds + 1):
            for name, call in calls.items():
                start = time.process_time()
                call()
                if index:  # the first warms up
                    times[name].append(time.process_time() - start)
    plain = times["resnet50"]
    for name, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(own, plain, strict=True))
        print(f"{name:<40} {1000 * statistics.median(own):8.1f} ms {ratio:6.2f}")


if __name__ == "__main__":
    main()
