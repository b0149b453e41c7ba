"""The command ``dynbackbones``, whose first word says what to do."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import NamedTuple

from dynbackbones.cli.engines import check_installed
from dynbackbones.cli.running import run


class Command(NamedTuple):
    """A command.

    Attributes:
        module: below `dynbackbones.cli`, with the function.
        function: that takes the arguments from ``sys.argv``.
        needs: engine whose packages must be installed.
        purpose: one line for the list.
    """

    module: str
    function: str
    needs: str | None
    purpose: str


COMMANDS = {
    "train-net": Command("train_net", "main", None, "train or evaluate a detector from YAML"),
    "train": Command("train", "train", "openmmlab", "train a config of mmseg or mmpretrain"),
    "test": Command("train", "test", "openmmlab", "test a checkpoint of mmseg or mmpretrain"),
    "visualize": Command("visualize", "main", None, "draw what a detector refined or ran"),
    "convert": Command("convert", "main", None, "give a checkpoint another library's names"),
    "benchmark": Command("benchmark", "main", None, "measure latency side by side"),
    "compare": Command("compare", "main", "openmmlab", "train variants over seeds, in one table"),
    "blockdrop-table": Command(
        "blockdrop_table", "main", "openmmlab", "BlockDrop's stages beside fixed policies"
    ),
    "adaptation-pictures": Command(
        "adaptation_pictures", "main", "openmmlab", "predictions before and after adaptation"
    ),
}


def main(command: str | None = None) -> None:
    """Runs a command; a mistake of the user ends in one line and exit code 2.

    Args:
        command: by default the first argument, which is then taken out of ``sys.argv``.
    """
    if command is None:
        command = _first_word()
    entry = COMMANDS[command]
    run(lambda: _call(entry))


def _call(entry: Command) -> None:
    if entry.needs:
        check_installed(entry.needs)
    module = importlib.import_module(f"dynbackbones.cli.{entry.module}")
    getattr(module, entry.function)()


def _first_word() -> str:
    width = max(map(len, COMMANDS)) + 2
    parser = argparse.ArgumentParser(
        prog="dynbackbones",
        usage="dynbackbones COMMAND [...]",
        description="Dynamic backbones for dense prediction.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {name:<{width}}{entry.purpose}" for name, entry in COMMANDS.items())
        + "\n\nEach has a --help of its own.",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    command = parser.parse_args(sys.argv[1:2]).command
    sys.argv[:2] = [f"{sys.argv[0]} {command}"]
    return command
