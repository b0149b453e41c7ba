"""``dynbackbones compare``: variants of one training, side by side over several seeds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction

from dynbackbones.cli.arguments import parse
from dynbackbones.errors import UserError
from dynbackbones.experiments.comparison import Comparison
from dynbackbones.experiments.table import Table


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
    options.add_argument("--variants", nargs="+", metavar="NAME", help="only these")
    options.add_argument(
        "--cfg-options",
        nargs="+",
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
    table = Table(work_dir, imports=args.imports)
    comparison = Comparison.from_file(args.config, args.cfg_options or {}, table)
    comparison.fill(args.seeds, args.variants or ())
    print(table.text())
