"""``dynbackbones blockdrop-table``: BlockDrop's three stages beside fixed policies."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dynbackbones.cli.arguments import parse
from dynbackbones.experiments.policy_table import NAMES, PolicyTable
from dynbackbones.experiments.table import Table
from dynbackbones.integrations.openmmlab.blockdrop_classifier.classifier import STAGES


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description="Train BlockDrop's three stages with several seeds, and compare its policies "
        "with fixed ones."
    )
    options.add_argument(
        "--configs", nargs=3, required=True, metavar=("PLAIN", "CURRICULUM", "JOINT")
    )
    options.add_argument("--work-dir", required=True, metavar="FOLDER")
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options.add_argument(
        "--finetune",
        nargs="*",
        default=[],
        choices=tuple(NAMES),
        help="fixed policies to train the plain network with as long as the third stage takes",
    )
    options.add_argument(
        "--cfg-options", nargs="+", metavar="KEY=VALUE", help="overrides of all three configs"
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Fills the table's cells and writes ``table.json`` and ``table.md`` into the work dir.

    Raises:
        UserError: the input is at fault, or a training failed.
    """
    args = parse(parser(), arguments)
    table = Table(Path(args.work_dir), imports=args.imports)
    configs = dict(zip(STAGES, args.configs, strict=True))
    PolicyTable(configs, table, args.cfg_options or [], args.finetune).fill(args.seeds)
    print(table.text())
