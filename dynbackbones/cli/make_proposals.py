"""``dynbackbones make-proposals``: boxes of unlabelled images, once, into a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dynbackbones.checkpoints.whole_file import whole_file
from dynbackbones.cli.arguments import check_output, parse, positive
from dynbackbones.data.edge_boxes import edge_boxes
from dynbackbones.data.images import image_files, read_image
from dynbackbones.data.proposals import LONGEST_ASPECT, Proposals, random_boxes
from dynbackbones.data.proposals_file import write_proposals
from dynbackbones.errors import UserError
from dynbackbones.training.progress import show_time_left

METHODS = ("edges", "random")
_PICTURES, _COLUMNS, _TILE = 6, 3, (400, 300)


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description="Find boxes in the images of a folder that may hold something, without labels, "
        "and write them in COCO's format of results, as pretraining on spatial context reads them."
    )
    options.add_argument("images", type=Path, metavar="FOLDER", help="images, also in subfolders")
    options.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    options.add_argument("--overwrite", action="store_true", help="replace files that exist")
    options.add_argument(
        "--method",
        choices=METHODS,
        default="edges",
        help="where whole edges are, or squares anywhere (default: edges)",
    )
    options.add_argument(
        "--count", type=positive, default=8, help="boxes of each image at most (default: 8)"
    )
    options.add_argument(
        "--size",
        type=positive,
        default=64,
        metavar="PIXELS",
        help="edge of random squares (default: 64)",
    )
    options.add_argument(
        "--min-size",
        type=positive,
        default=16,
        metavar="PIXELS",
        help="shortest side of a box by edges (default: 16)",
    )
    options.add_argument(
        "--max-aspect",
        type=float,
        default=LONGEST_ASPECT,
        metavar="RATIO",
        help=f"length to breadth of the longest box by edges (default: {LONGEST_ASPECT:g})",
    )
    options.add_argument("--seed", type=int, default=0, help="of random squares (default: 0)")
    options.add_argument(
        "--picture", type=Path, metavar="FILE.png", help=f"the boxes of {_PICTURES} images, drawn"
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the file and says how many boxes there are.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(parser(), arguments)
    if not args.max_aspect >= 1:
        raise UserError(f"--max-aspect {args.max_aspect:g} must be at least 1")
    check_output(args.output, [".json"], args.overwrite)
    if args.picture is not None:
        check_output(args.picture, [".png"], args.overwrite)
    found, unreadable = _find(args)
    write_proposals(args.output, found)
    counts = [len(each.boxes) for each in found.values()]
    print(
        f"{args.output}: {sum(counts)} boxes of {len(counts)} images, "
        f"{sum(count < 2 for count in counts)} of them with fewer than two"
    )
    if unreadable:
        print(
            f"{len(unreadable)} images could not be read and are left out, the first: "
            f"{unreadable[0]}",
            file=sys.stderr,
        )
    if args.picture is not None:
        _draw(args.picture, args.images, found)
        print(f"{args.picture}: boxes of the first images")


def _find(args: argparse.Namespace) -> tuple[dict[str, Proposals], list[str]]:
    """The boxes of each image, and what is wrong with those that cannot be read."""
    names = image_files(args.images)
    found, unreadable = {}, []
    for number, name in enumerate(show_time_left(names, len(names))):
        try:
            image = np.asarray(read_image(args.images / name))
        except UserError as error:
            unreadable.append(str(error))
            continue
        if args.method == "random":
            # Of its own for each image, so that others beside it change nothing.
            generator = np.random.default_rng([args.seed, number])
            boxes = random_boxes(*image.shape[:2], args.count, args.size, generator)
            found[name] = Proposals(boxes, np.ones(len(boxes), np.float32))
        else:
            found[name] = edge_boxes(
                image, args.count, max_aspect=args.max_aspect, min_size=args.min_size
            )
    if not any(len(each.boxes) for each in found.values()):
        raise UserError(
            f"no box in any of the {len(names)} images in {args.images}"
            + (f"; {unreadable[0]}" if unreadable else ": lower --min-size, or use --method random")
        )
    return found, unreadable


def _draw(path: Path, folder: Path, found: Mapping[str, Proposals]) -> None:
    from PIL import Image, ImageDraw

    names = list(found)[:_PICTURES]
    rows = -(-len(names) // _COLUMNS)
    width, height = _TILE
    sheet = Image.new("RGB", (_COLUMNS * width, rows * height), "white")
    for number, name in enumerate(names):
        image = read_image(folder / name)
        scale = min(width / image.width, height / image.height)
        image = image.resize([max(1, round(side * scale)) for side in image.size])
        pen = ImageDraw.Draw(image)
        for box in found[name].boxes:
            pen.rectangle([float(value * scale) for value in box], outline="red", width=2)
        sheet.paste(image, (number % _COLUMNS * width, number // _COLUMNS * height))
    with whole_file(path) as file:
        sheet.save(file, "PNG")
