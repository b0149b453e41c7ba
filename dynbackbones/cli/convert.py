"""``dynbackbones convert``: gives a checkpoint another library's names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from dynbackbones.checkpoints.conversion import FORMATS, TARGETS, Conversion, convert
from dynbackbones.cli.arguments import parse
from dynbackbones.errors import UserError

_DESCRIPTION = """\
Give a checkpoint of a ResNet, SAR-ResNet or BlockDrop-ResNet the names of another library.

The source's library and network are found out. Every key that is mapped, dropped or missed is
reported, and both networks are run and compared where they can be built. Nothing is written unless
the result is complete; the file also holds where it comes from. See docs/checkpoints.md.
"""
_EXAMPLES = """\
examples:
  %(prog)s work_dirs/sar/best.pth --to detectron2 -o sar_r50_d2.pth
  %(prog)s resnet50-11ad3fa6.pth --to openmmlab -o r50_mm.pth
  %(prog)s R-50.pkl --to dynbackbones -o r50.pth
  %(prog)s ckpt_E_2000.t7 --to openmmlab -o blockdrop_r110.pth
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("source", metavar="SOURCE", help="checkpoint: .pth, .pt, .t7 or .pkl")
    options.add_argument("--to", required=True, choices=TARGETS, help="library to convert for")
    options.add_argument("-o", "--output", required=True, metavar="OUT", help=".pth file to write")
    options.add_argument(
        "--from",
        dest="source_format",
        choices=FORMATS,
        help="library that the source is of; only to be sure, it is found out",
    )
    options.add_argument(
        "--from-key",
        metavar="KEY",
        help="that the source's weights are under, as model.ema; only to be sure, or for one of "
        "several",
    )
    options.add_argument(
        "--from-prefix",
        metavar="PREFIX",
        help="of the backbone's names in the source, as teacher.; likewise",
    )
    options.add_argument(
        "--backbone",
        metavar="NAME",
        help="network, such as resnet50 or sar_resnet50; only to be sure, it is found out. A plain "
        "network's name takes it out of a BlockDrop network",
    )
    options.add_argument(
        "--prefix",
        metavar="PREFIX",
        help="of the backbone's new names, for openmmlab (default: backbone.) and detectron2 "
        "(default: backbone.bottom_up., a detector with FPN; without FPN: backbone.)",
    )
    options.add_argument(
        "--no-classifier", action="store_true", help="leave the classification layer out"
    )
    options.add_argument(
        "--stride-in-1x1",
        action="store_true",
        help="the network has its strides in the 1x1 convolutions, as detectron2's zoo has",
    )
    options.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    options.add_argument("--verbose", action="store_true", help="list every key")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Converts a checkpoint as the command line (default ``sys.argv``) says.

    Raises:
        UserError: see `convert` and `verify`; or the output may not be written. Nothing is written.
    """
    args = parse(parser(), arguments)
    _check_output(args.output, args.source, args.overwrite)
    conversion = convert(
        args.source,
        args.to,
        source_format=args.source_format,
        source_key=args.from_key,
        source_prefix=args.from_prefix,
        backbone=args.backbone,
        prefix=args.prefix,
        classifier=not args.no_classifier,
        stride_in_1x1=args.stride_in_1x1,
    )
    _print_report(conversion, args.verbose)
    from dynbackbones.cli.verification import verify

    verification = verify(conversion)
    print(verification, flush=True)
    for remark in conversion.remarks:
        print(f"note: {remark}")
    conversion.save(args.output, verification.as_meta())
    print(f"wrote {args.output}")


def _print_report(conversion: Conversion, verbose: bool) -> None:
    source, layout = conversion.source, conversion.layout
    prefix = f", names below {source.prefix!r}" if source.prefix else ""
    network = f"{conversion.architecture} of {source.format}{prefix}"
    print("; ".join([f"{source.path}: {network}", *source.remarks]))
    print(f"for {layout.format}:")
    for line in conversion.report.lines(verbose):
        print(f"  {line}")


def _check_output(output: str, source: str, overwrite: bool) -> None:
    path = Path(output)
    if path.suffix != ".pth":
        # detectron2 would read a .pkl file as a pickle of its own.
        raise UserError(f"-o {output}: the file's name must end in .pth")
    if path.is_dir():
        raise UserError(f"-o {output} is a folder; name a file in it")
    if not path.exists():
        return
    if Path(source).exists() and os.path.samefile(output, source):
        raise UserError(f"-o {output} is the source itself; name another file")
    if not overwrite:
        raise UserError(f"-o {output} exists; name another file, or add --overwrite")
