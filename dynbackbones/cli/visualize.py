"""Shows what a trained detector found and what its backbone chose.

SAR: prints for each stage how many of the refined regions touch an object, and draws a few images
with their detections and refined regions. BlockDrop: prints which blocks ran for how many images,
and draws images from those that used the least blocks to those that used the most, and those that
share a policy. Either: a histogram of the rates of the images, and how they go with the number of
objects.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from dynbackbones.analysis.pictures import save_region_picture
from dynbackbones.analysis.policies import save_policy_picture
from dynbackbones.analysis.spread import save_spread_picture
from dynbackbones.analysis.survey import CocoSamples, Survey, survey
from dynbackbones.analysis.usage import save_usage_picture
from dynbackbones.cli.arguments import check_output, parse
from dynbackbones.cli.engines import add_config_options
from dynbackbones.cli.trained_models import open_trained
from dynbackbones.data import coco
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import num_classes
from dynbackbones.integrations.datasets import classes_of_weights, find_dataset
from dynbackbones.training.progress import show_time_left
from dynbackbones.training.results import results_table

# Images in a picture unless the command line says otherwise.
ROWS = 4
THUMBNAILS = 48


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_options(parser)
    parser.add_argument(
        "--num-images", type=int, help="in the picture (default 4; 48 for BlockDrop)"
    )
    parser.add_argument(
        "--max-images", type=int, help="of the dataset for the table (default: all of them)"
    )
    parser.add_argument(
        "--score-threshold", type=float, default=0.5, help="of drawn detections (default 0.5)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.png",
        help="default: OUTPUT_DIR/regions.png, or blocks.png for BlockDrop",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="OUTPUT_DIR of another run, such as the plain network's, for a table of both",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config overrides, last; MODEL.WEIGHTS is OUTPUT_DIR/model_final.pth by default and "
        "the dataset is the first of DATASETS.TEST",
    )
    args = parse(parser, arguments)
    for name in ("num_images", "max_images"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if not 0 <= args.score_threshold <= 1:
        parser.error(f"--score-threshold must lie in [0, 1], got {args.score_threshold}")
    return args


def open_dataset(cfg, engine: str, limit: int | None) -> CocoSamples:
    """The first dataset of DATASETS.TEST, checked.

    Raises:
        UserError: there is none, it has no COCO annotations, or see `dynbackbones.data.coco`.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name a dataset to look at")
    name = cfg.DATASETS.TEST[0]
    if engine == "detectron2" and name not in coco.known_datasets(cfg.DATASETS.COCO_FORMAT):
        source = find_in_catalog(name)
    else:
        source = find_dataset(cfg, name)
    classes = classes_of_weights(cfg, cfg.MODEL.WEIGHTS)
    return CocoSamples(source, coco.check(source, num_classes(cfg), classes), limit)


def find_in_catalog(name: str) -> coco.CocoSource:
    """The files of a dataset that only detectron2's catalog knows."""
    from detectron2.data import MetadataCatalog

    metadata = MetadataCatalog.get(name)
    files = metadata.get("json_file"), metadata.get("image_root")
    if not all(files):
        raise UserError(f"dataset {name} has no COCO annotation file; its regions cannot be judged")
    return coco.CocoSource(name, Path(files[0]), Path(files[1]))


def report(name: str, result: Survey) -> str:
    """The figures of a survey as text."""
    means = result.means()
    figures = [f"{result.coverage.images} images of {name}"]
    for rate in result.meter.rate_names:
        figures.append(f"mean {rate.replace('_', ' ')} {means[rate]:.3f}")
    if "gmacs" in means:
        figures.append(f"{means['gmacs']:.2f} GMACs per image in the backbone")
    line = ", ".join(figures)
    spread = result.meter.spread()
    if spread is not None:
        line += f"\n\n{spread.table()}\n\n{result.rates_by_objects().table()}"
    if result.chose_blocks:
        return f"{line}\n\n{result.usage.table()}"
    if not result.coverage.stages:
        return f"{line}\nthe backbone does not choose regions: the picture shows detections only"
    return (
        f"{line}\n\n{result.coverage.table()}\n\n"
        "ratio: above 1 a stage prefers objects, below 1 the background"
    )


def draw_regions(
    result: Survey, samples: CocoSamples, folder: Path, args: argparse.Namespace
) -> Path:
    """A picture of a few images with their detections and, of a SAR network, refined regions."""
    return save_region_picture(
        args.output or folder / "regions.png",
        result.rows,
        samples.class_names,
        score_threshold=args.score_threshold,
        coverage=result.coverage,
    )


def draw_blocks(
    result: Survey, samples: CocoSamples, folder: Path, args: argparse.Namespace
) -> Path:
    """A picture of images in the order of the number of blocks that ran for them."""
    return save_usage_picture(
        args.output or folder / "blocks.png",
        samples.pixels,
        result.usage.blocks,
        num_blocks=len(result.usage.block_names),
        limit=args.num_images or THUMBNAILS,
    )


def draw_differences(result: Survey, samples: CocoSamples, folder: Path) -> Iterator[Path]:
    """Pictures of how images differ: their rates, and of a BlockDrop network their policies."""
    spread, policies = result.meter.spread(), result.meter.policies
    if spread is not None:
        yield save_spread_picture(folder / "rates.png", spread)
    if policies is not None:
        yield save_policy_picture(folder / "policies.png", samples.pixels, policies)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a detector over a dataset, and writes figures and a picture.

    Raises:
        UserError: the input is at fault.
    """
    args = parse_args(arguments)
    if args.output is not None:
        # Such pictures are drawn anew in each run, but not instead of other things.
        check_output(args.output, [".png"], overwrite=True)
    if args.beside:
        results_table(args.beside)  # wrong ones are found now, and not behind the work
    engine, adapter, cfg = open_trained(args)
    samples = open_dataset(cfg, engine, args.max_images)
    result = survey(
        adapter.load_predictor(cfg),
        show_time_left(samples, len(samples)),
        num_rows=args.num_images or ROWS,
    )
    name = cfg.DATASETS.TEST[0]
    print(report(name, result))
    draw = draw_blocks if result.chose_blocks else draw_regions
    picture = draw(result, samples, Path(cfg.OUTPUT_DIR), args)
    print(f"picture: {picture}")
    for other in draw_differences(result, samples, Path(cfg.OUTPUT_DIR)):
        print(f"picture: {other}")
    figures = Path(cfg.OUTPUT_DIR) / "coverage.json"
    figures.parent.mkdir(parents=True, exist_ok=True)
    figures.write_text(json.dumps({"dataset": name, **result.to_dict()}, indent=2) + "\n")
    print(f"figures: {figures}")
    if args.beside:
        print(f"\n{results_table([*args.beside, Path(cfg.OUTPUT_DIR)])}")

