"""Times exported dynamic networks, their decisions included, beside the plain ResNet-50.

    taskset -c 1 python -m tests.export_speed --size 224 224 --rounds 15
    taskset -c 1 python -m tests.export_speed --network sar_resnet50 --size 800 1344 --rounds 5

All exported the same way, in ONNX Runtime on one thread, asked in turn. Of BlockDrop the first
block of each stage is always kept, the others at random; of SAR each selector chooses the same
share. Processor time; a ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

import dynbackbones
from dynbackbones.analysis.candidates import Candidate
from dynbackbones.analysis.latency import measure
from dynbackbones.backbones.blockdrop.network import BlockDropBackbone
from dynbackbones.backbones.sar.network import SARBackbone
from dynbackbones.export import running, to_onnx

RATES = (1.0, 0.75, 0.5, 0.25)


def keep_blocks(net: BlockDropBackbone, rate: float) -> None:
    """Makes a policy network choose a share of the blocks for every image."""
    count = round(rate * net.num_blocks)
    starts = torch.tensor([0, *net.block_counts[:-1]]).cumsum(0)
    order = torch.randperm(net.num_blocks, generator=torch.Generator().manual_seed(count))
    order = torch.cat([starts, order[~torch.isin(order, starts)]])
    torch.nn.init.constant_(net.policy.fc.bias, -3.0)
    net.policy.fc.bias.data[order[:count]] = 3.0


@torch.no_grad()
def keep_regions(net: SARBackbone, rate: float, images: Tensor) -> None:
    """Makes every selector choose a share of the regions of these images."""
    net.eval()
    for stage in net.stages().values():
        for selector in stage.selectors:
            torch.nn.init.normal_(selector.fc.weight)

    def follow(selector, args, both: Tensor) -> None:
        logits = (both[..., 1] - both[..., 0]).flatten()
        bound = logits.quantile(1 - rate) if rate < 1 else logits.min() - 1
        selector.threshold.copy_(bound)

    selectors = [s for stage in net.stages().values() for s in stage.selectors]
    hooks = [selector.register_forward_hook(follow) for selector in selectors]
    net(images)
    for hook in hooks:
        hook.remove()


def candidates(network: str, folder: Path, images: Tensor) -> list[Candidate]:
    """What is timed, the plain network first."""
    plain = dynbackbones.build_backbone("resnet50")
    files = {"resnet50": to_onnx(plain, folder / "plain.onnx").path}
    net = dynbackbones.build_backbone(network)
    for rate in RATES:
        if isinstance(net, SARBackbone):
            keep_regions(net, rate, images)
        else:
            keep_blocks(net, rate)
        files[f"{network}, {rate:.0%}"] = to_onnx(net, folder / f"{rate}.onnx").path
    sessions = {name: running.session(path) for name, path in files.items()}
    return [
        Candidate(name, lambda file=file: running.run(file, {"images": images}))
        for name, file in sessions.items()
    ]


def main() -> None:
    """Prints a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="blockdrop_resnet50", metavar="NAME")
    parser.add_argument("--size", nargs=2, type=int, default=[224, 224], metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        timed = candidates(args.network, Path(folder), torch.randn(1, 3, *args.size))
        times = measure(timed, repeats=args.rounds, warmup=1, clock=time.process_time)
    plain = times[0]
    for candidate, own in zip(timed, times, strict=True):
        ratio = statistics.median(a / b for a, b in zip(own, plain, strict=True))
        print(f"{candidate.backbone:<30} {1000 * statistics.median(own):8.1f} ms {ratio:6.2f}")


if __name__ == "__main__":
    main()
