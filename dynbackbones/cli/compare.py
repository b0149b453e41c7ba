"""``dynbackbones compare``: variants of one training, side by side over several seeds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmengine.config import DictAction

from dynbackbones.cli.arguments import assignment, parse
from dynbackbones.cli.engines import choose_engine
from dynbackbones.errors import UserError
from dynbackbones.experiments.cells import train_in_a_process
from dynbackbones.experiments.comparison import Comparison
from dynbackbones.experiments.table import Table
from dynbackbones.integrations.engine import ENGINES


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description="Train the variants that a config names with several seeds, and compare them. "
        "Finished cells are not run again; an unfinished one continues from its last checkpoint."
    )
    options.add_argument("config", help="Python config with variants and variant_metrics")
    options.add_argument(
        "--work-dir", metavar="FOLDER", help="for all cells; default work_dirs/CONFIG"
    )
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options.add_argument(
        "--variants",
        "--only",
        nargs="+",
        metavar="NAME",
        help="only these, and what they start from; also those that are not run by default",
    )
    options.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="cells at a time, each in a process of one thread; 1 (the default) leaves the number "
        "of threads alone",
    )
    options.add_argument(
        "--engine",
        choices=("auto", *ENGINES),
        default="auto",
        help="of detectors; auto takes detectron2 where it is installed",
    )
    options.add_argument(
        "--cfg-options",
        nargs="+",
        type=assignment,
        action=DictAction,
        metavar="KEY=VALUE",
        help="overrides for all variants",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Fills the cells and writes ``table.json`` and ``table.md`` into the work dir.

    Raises:
        UserError: the input is at fault, or a training failed.
    """
    args = parse(parser(), arguments)
    if len(set(args.seeds)) < len(args.seeds):
        raise UserError(f"--seeds must differ from each other, got {args.seeds}")
    work_dir = Path(args.work_dir or Path("work_dirs", Path(args.config).stem))
    if args.jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {args.jobs}")
    threads = 1 if args.jobs > 1 else None
    train = partial(train_in_a_process, threads=threads)
    table = Table(work_dir, train, args.imports, threads)
    options = args.cfg_options or {}
    comparison = Comparison.from_file(args.config, options, table, lambda: _engine(args.engine))
    comparison.fill(args.seeds, args.variants or (), args.jobs)
    print(table.text())


def _engine(requested: str) -> str:
    engine, reason = choose_engine(requested)
    print(f"engine: {engine} ({reason})", flush=True)
    return engine
