"""Prints what each kernel of a SAR network must do and move beside a GPU's limits, as Markdown.

python -m tests.gpu.roofline --size 800 1344 --batch-size 8 --rate 0.5
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

import dynbackbones
from dynbackbones.backbones.sar.network import SARBackbone
from tests.gpu.work import (
    H100,
    Card,
    Input,
    StageWork,
    Work,
    parts_seconds,
    refinement_work,
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    options.add_argument("--depth", type=int, default=50, help="of SAR-ResNet and plain ResNet")
    options.add_argument("--layout", default="paper", choices=["paper", "resnet"])
    options.add_argument("--groups", type=int, default=2)
    options.add_argument("--base-scale", type=int, default=2)
    options.add_argument("--alpha", type=int, default=2)
    options.add_argument("--size", type=int, nargs=2, default=[800, 1344], metavar=("H", "W"))
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--rate", type=float, default=0.5)
    options.add_argument("--bytes", type=int, default=2, help="of a value: 2 for float16")
    options.add_argument("--bandwidth", type=float, default=H100.bandwidth / 1e12, help="TB/s")
    options.add_argument("--peak", type=float, default=H100.peak / 1e12, help="TFLOP/s, dense")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    args = parser().parse_args(arguments)
    card = Card(args.bandwidth * 1e12, args.peak * 1e12)
    given = Input(tuple(args.size), args.batch_size, args.bytes, args.rate)
    plain = dynbackbones.ResNet(args.depth)
    net = dynbackbones.SARResNet(
        args.depth,
        layout=args.layout,
        groups=args.groups,
        base_scale=args.base_scale,
        alpha=args.alpha,
    )
    print(kernel_table(net, given, card))
    print()
    print(summary(net, plain, given, card))


def kernel_table(net: SARBackbone, given: Input, card: Card) -> str:
    """A line for each kernel of the refinement branches; like blocks share theirs."""
    lines = [
        "| stage | kernel | times | MMAC | MB | FLOP/B | floor us | bound | dense MMAC | "
        "dense MB | dense floor us |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, stage in refinement_work(net, given).items():
        lines += [f"| {name} | {line}" for line in _stage_lines(stage, card)]
    return "\n".join(lines)


def _stage_lines(stage: StageWork, card: Card) -> Iterator[str]:
    blocks = list(zip(stage.blocks, stage.dense, strict=True))
    seen: list[tuple[dict[str, Work], Work]] = []
    for block in blocks:
        if block in seen:
            continue
        seen.append(block)
        kernels, dense = block
        first, count = blocks.index(block) + 1, blocks.count(block)
        for name, work in kernels.items():
            yield _line(f"block {first}, {name}", count, work, card) + " | | | |"
        total = sum(work.seconds(card) for work in kernels.values())
        whole = sum(kernels.values(), Work(0, 0))
        yield (
            f"block {first}, all | {count} | {whole.macs / 1e6:.0f} | {whole.bytes / 1e6:.1f} | "
            f"{whole.intensity:.0f} | {1e6 * total:.1f} | | {dense.macs / 1e6:.0f} | "
            f"{dense.bytes / 1e6:.1f} | {1e6 * dense.seconds(card):.1f} |"
        )
    yield _line("fusion", 1, stage.fusion, card) + " | | | |"


def _line(name: str, count: int, work: Work, card: Card) -> str:
    return (
        f"{name} | {count} | {work.macs / 1e6:.0f} | {work.bytes / 1e6:.1f} | "
        f"{work.intensity:.0f} | {1e6 * work.seconds(card):.1f} | {work.bound(card)}"
    )


def summary(net: SARBackbone, plain: dynbackbones.ResNet, given: Input, card: Card) -> str:
    """Sums over the stages, and over whole networks."""
    stages = refinement_work(net, given).values()
    blocks = sum(w.seconds(card) for s in stages for kernels in s.blocks for w in kernels.values())
    fusion = sum(stage.fusion.seconds(card) for stage in stages)
    dense = sum(work.seconds(card) for stage in stages for work in stage.dense)
    parts, plain_parts = (parts_seconds(one, given, card) for one in (net, plain))
    sar, whole = sum(parts.values()), sum(plain_parts.values())
    unfused = replace(given, fused=False)
    compiled = [sum(parts_seconds(one, unfused, card).values()) for one in (net, plain)]
    described = ", ".join(f"{part} {1e6 * seconds:.0f}" for part, seconds in parts.items())
    return "\n".join(
        [
            "| | floor us | of plain |",
            "|---|---|---|",
            f"| refinement, the same blocks in {plain.title} | {1e6 * dense:.0f} | 1.00 |",
            f"| refinement, K1, K2, shortcuts at rate {given.rate} | {1e6 * blocks:.0f} | "
            f"{blocks / dense:.2f} |",
            f"| and fusion | {1e6 * (blocks + fusion):.0f} | {(blocks + fusion) / dense:.2f} |",
            f"| whole {plain.title} | {1e6 * whole:.0f} | 1.00 |",
            f"| whole {net.title} | {1e6 * sar:.0f} | {sar / whole:.2f} |",
            f"| whole {plain.title}, as compiled | {1e6 * compiled[1]:.0f} | 1.00 |",
            f"| whole {net.title}, as compiled | {1e6 * compiled[0]:.0f} | "
            f"{compiled[0] / compiled[1]:.2f} |",
            f"\n{net.title}, floors of its parts in us: {described}",
        ]
    )


if __name__ == "__main__":
    main()
