"""``dynbackbones train-net``: detectron2's command line, for either engine."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dynbackbones.cli.arguments import add_verbose, parse
from dynbackbones.cli.engines import open_engine
from dynbackbones.integrations.engine import ENGINES, Launch
from dynbackbones.training.run_folder import FINAL_WEIGHTS

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode


def parser() -> argparse.ArgumentParser:
    """detectron2's command line for training tools, and ``--engine``."""
    options = argparse.ArgumentParser(
        description="Train or evaluate a detector with a dynamic backbone.",
        epilog="Example: %(prog)s --config-file configs/demo/retinanet.yaml SEED 1",
    )
    options.add_argument("--config-file", required=True, metavar="FILE", help="YAML config")
    options.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR"
    )
    options.add_argument(
        "--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS and train nothing"
    )
    options.add_argument(
        "--num-gpus", type=_at_least(1), default=1, help="processes per machine, one per GPU"
    )
    options.add_argument("--num-machines", type=_at_least(1), default=1)
    options.add_argument("--machine-rank", type=_at_least(0), default=0, help="of this machine")
    options.add_argument(
        "--dist-url",
        # A port per user, so that a second run says that the first one still lives.
        default=f"tcp://127.0.0.1:{2**15 + 2**14 + os.getuid() % 2**14}",
        help="where the processes meet",
    )
    options.add_argument(
        "--engine",
        choices=("auto", *ENGINES),
        default="auto",
        help="auto takes that of the weights to go on from, else detectron2 where it is installed",
    )
    add_verbose(options)
    options.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config overrides, last"
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line (default ``sys.argv``), choose an engine, train or evaluate."""
    args = parse(parser(), arguments)
    _, adapter, cfg = open_engine(
        args.engine,
        args.config_file,
        args.opts,
        lambda cfg: _trained(cfg, args.resume, args.eval_only),
    )
    import torch

    if not torch.cuda.is_available():
        print("no CUDA device: using the CPU", flush=True)
    launch = Launch(
        resume=args.resume,
        eval_only=args.eval_only,
        num_gpus=args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        imports=tuple(args.imports),
        verbose=args.verbose,
    )
    adapter.main(cfg, launch)


def _trained(cfg: CfgNode, resume: bool, eval_only: bool) -> str | None:
    """The weights that a run goes on from or evaluates."""
    last = Path(cfg.OUTPUT_DIR, "last_checkpoint")
    if resume and last.is_file():
        return os.fspath(last.with_name(Path(last.read_text(encoding="utf-8").strip()).name))
    if eval_only:
        return cfg.MODEL.WEIGHTS or os.fspath(Path(cfg.OUTPUT_DIR, FINAL_WEIGHTS))
    return None


def _at_least(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return count
