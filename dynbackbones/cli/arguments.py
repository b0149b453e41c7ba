"""Parsing a command's arguments, with the options that several commands have."""

from __future__ import annotations

import argparse
import os
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from dynbackbones.backbones import list_backbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.user_modules import import_modules

VERBOSE = "--verbose"


def parse(
    parser: ArgumentParser,
    arguments: Sequence[str] | None = None,
    actions: Sequence[ArgumentParser] = (),
    *,
    intermixed: bool = False,
) -> argparse.Namespace:
    """Parses a command's arguments, and imports the modules that ``--import`` names.

    Args:
        parser: the command's own options; gets ``--import`` too.
        arguments: by default those of ``sys.argv``.
        actions: parsers of the command's actions, which get ``--import`` in its place.
        intermixed: whether options may stand between positional arguments.

    Raises:
        UserError: a module cannot be imported.
    """
    for each in actions or (parser,):
        each.add_argument(
            "--import",
            dest="imports",
            action="append",
            default=[],
            metavar="MODULE",
            help="import your own module, such as one that registers a backbone, before anything "
            "is built; may be given several times",
        )
    args = (parser.parse_intermixed_args if intermixed else parser.parse_args)(arguments)
    import_modules(args.imports)
    return args


def experiment_parser(description: str, output: str = "steps and tables") -> ArgumentParser:
    """The options of every experiment whose finished steps are kept.

    Args:
        description: what it trains.
        output: what its folder gets.
    """
    parser = ArgumentParser(
        description=f"{description} Finished steps are not run again: an interrupted experiment "
        "continues."
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help=output)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    return parser


def add_bfloat16(parser: ArgumentParser) -> None:
    """Adds ``--bfloat16``."""
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="mixed precision: twice as fast on CPUs that have it",
    )


def positive(text: str) -> int:
    """A number of at least 1, as the ``type`` of an option."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def shares(text: str) -> list[float]:
    """``S,S`` in (0, 1], as the ``type`` of an option."""
    values = [float(part) for part in text.split(",")]
    if not all(0 < value <= 1 for value in values):
        raise argparse.ArgumentTypeError(f"must lie in (0, 1], got {text}")
    return values


def assignment(text: str) -> str:
    """``KEY=VALUE``, as the ``type`` of an option."""
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got {text!r}")
    return text


def check_output(path: Path, suffixes: Sequence[str], overwrite: bool) -> None:
    """Makes sure that a file may be written.

    Args:
        path: of the file.
        suffixes: that its name may have.
        overwrite: whether it may be there already.

    Raises:
        UserError: it may not.
    """
    if path.suffix not in suffixes:
        raise UserError(f"output {path}: the file's name must end in {', '.join(suffixes)}")
    check_folder(path)
    if path.is_dir():
        raise UserError(f"output {path} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise UserError(f"output {path} exists; name another file, or add --overwrite")


def check_folder(path: Path) -> None:
    """Makes sure that the folder of an output is one, or can be made: now, not after the work.

    Raises:
        UserError: it cannot.
    """
    try:
        above = next(parent for parent in path.absolute().parents if parent.exists())
        path.exists()
    except OSError as error:
        raise UserError(f"output {path}: {error.strerror}; name another one") from error
    if not above.is_dir():
        raise UserError(f"output {path}: {above} is no folder; name another one")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(
            f"output {path}: {above} may not be written; name another folder, or allow it"
        )


def check_backbone(option: str, name: str) -> None:
    """Makes sure that a backbone of this name is registered.

    Raises:
        UserError: none is; it names the option and what there is.
    """
    if name not in list_backbones():
        known = ", ".join(list_backbones())
        raise UserError(f"{option} {name} is not known; known are {known}")


def add_verbose(parser: ArgumentParser) -> None:
    """Adds ``--verbose``, for commands whose runs have a log file."""
    parser.add_argument(
        VERBOSE,
        action="store_true",
        help="print what otherwise the log file alone has, such as environment, config and the "
        "values of each stage, and the warnings of libraries",
    )
