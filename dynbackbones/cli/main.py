"""The command ``dynbackbones``, whose first word says what to do."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from typing import NamedTuple

from dynbackbones import __version__
from dynbackbones.cli.arguments import VERBOSE
from dynbackbones.cli.engines import check_installed
from dynbackbones.cli.running import run
from dynbackbones.errors import UserError
from dynbackbones.inference.allocator import tune_allocator
from dynbackbones.integrations.console import silence_libraries
from dynbackbones.integrations.shipped_configs import shipped_folder


class Command(NamedTuple):
    """A command.

    Attributes:
        module: below `dynbackbones.cli`; its ``main`` takes the arguments from ``sys.argv``.
        purpose: one line for the list.
        needs: engine whose packages must be installed.
    """

    module: str
    purpose: str
    needs: str | None = None


COMMANDS = {
    "train-net": Command("train_net", "train or evaluate a detector from YAML"),
    "train": Command("train", "train a config of mmseg or mmpretrain", "openmmlab"),
    "test": Command("test", "test a checkpoint of mmseg or mmpretrain", "openmmlab"),
    "zoom": Command("zoom", "look closer where it pays in large images"),
    "stream-table": Command("stream_table", "key frames of a video beside the alternatives"),
    "make-proposals": Command("make_proposals", "find boxes in unlabelled images"),
    "visualize": Command("visualize", "draw what a detector refined or ran"),
    "video-features": Command(
        "video_features", "encode videos, to train AdaFrame and LiteEval on"
    ),
    "stream": Command("stream", "run a trained model on some frames of a video"),
    "convert": Command("convert", "give a checkpoint another library's names"),
    "export": Command("export", "write a trained network as an ONNX file that skips"),
    "benchmark": Command("benchmark", "measure latency side by side"),
    "configs": Command("configs", "list the configs that come with the package, or copy them"),
    "compare": Command("compare", "train variants over seeds, in one table", "openmmlab"),
    "blockdrop-table": Command(
        "blockdrop_table", "BlockDrop's stages beside fixed policies", "openmmlab"
    ),
    "patchdrop": Command("patchdrop", "PatchDrop's experiments beside fixed patches", "openmmlab"),
    "glance-focus": Command(
        "glance_focus", "Glance and Focus beside crops in the centre and anywhere", "openmmlab"
    ),
    "spatial-context": Command(
        "spatial_context", "spatial context networks beside controls", "openmmlab"
    ),
    "needle": Command("needle", "AdaFrame's and LiteEval's frames beside fixed ones", "openmmlab"),
    "adaptation-pictures": Command(
        "adaptation_pictures", "predictions before and after adaptation", "openmmlab"
    ),
}


def main(command: str | None = None) -> None:
    """Runs a command; a mistake of the user ends in one line and exit code 2.

    Args:
        command: by default the first argument, which is then taken out of ``sys.argv``.
    """
    run(lambda: _call(COMMANDS[command or _first_word()]))


def _call(command: Command) -> None:
    if command.needs:
        check_installed(command.needs)
    if VERBOSE not in sys.argv:  # some are given when a library is imported
        silence_libraries()
    tune_allocator()
    importlib.import_module(f"dynbackbones.cli.{command.module}").main()


def _first_word() -> str:
    width = max(map(len, COMMANDS)) + 2
    parser = argparse.ArgumentParser(
        prog="dynbackbones",
        usage="%(prog)s COMMAND [...]",
        description="Dynamic backbones for dense prediction.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {name:<{width}}{entry.purpose}" for name, entry in COMMANDS.items())
        + f"\n\nEach has a --help of its own. Documents are in {shipped_folder('docs')}.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="see below")
    command = parser.parse_args(sys.argv[1:2] or ["--help"]).command
    if command not in COMMANDS:
        nearest = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0.5)
        remedy = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(COMMANDS)}"
        raise UserError(f"command {command} is unknown; {remedy}")
    sys.argv[:2] = [f"{parser.prog} {command}"]  # what the command's usage begins with
    return command
