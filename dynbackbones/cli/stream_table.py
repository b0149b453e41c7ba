"""Says what running a model on few frames of a video costs and loses, beside the alternatives.

The images of the config's test set are taken for the frames of one video, in the order of their
ids (YAML) or names (mmseg). Every k-th frame, random ones, those that differ, those that a learned
schedule asks for, an oracle, and half the resolution on every frame; copied and warped by optical
flow, features too if asked for; by age; milliseconds of real streams in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dynbackbones.checkpoints.whole_file import write_json
from dynbackbones.cli.arguments import check_output, parse, positive, shares
from dynbackbones.cli.engines import add_engine_option
from dynbackbones.cli.trained_models import is_yaml, open_detector, open_mmengine_model
from dynbackbones.experiments import stream_table
from dynbackbones.experiments.stream_data import Subject, detection, segmentation
from dynbackbones.experiments.stream_measured import FEATURES, measure
from dynbackbones.experiments.stream_table import Row
from dynbackbones.integrations.engine import import_engine
from dynbackbones.training.progress import show_time_left
from dynbackbones.video import Every, Stream
from dynbackbones.video.adapters import Adapter
from dynbackbones.video.features import FeatureAdapter
from dynbackbones.video.propagation import MOVES, WAYS

HALF = "half resolution"


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--config-file",
        required=True,
        metavar="FILE",
        help="of a detector (YAML), or of a segmentor of mmseg (Python)",
    )
    add_engine_option(options)
    options.add_argument(
        "--weights",
        metavar="FILE",
        help="trained weights; of a YAML config by default OUTPUT_DIR/model_final.pth",
    )
    options.add_argument("--max-frames", type=positive, help="of the clip (default: all)")
    options.add_argument(
        "--max-age", type=positive, default=24, help="frames that a result may be old (24)"
    )
    options.add_argument(
        "--shares",
        type=shares,
        default=stream_table.SHARES,
        metavar="S,S",
        help="of key frames (default 1/2, 1/3, 1/5, 1/10)",
    )
    options.add_argument(
        "--timed", type=positive, default=60, metavar="N", help="frames to time (default 60)"
    )
    options.add_argument(
        "--moves",
        choices=MOVES,
        default="result",
        help="features: beside moved results those of the heads on moved features of the backbone",
    )
    options.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="figures as JSON")
    options.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config overrides, last; of a Python config KEY=VALUE",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(parser(), arguments)
    if args.output is not None:
        check_output(args.output, [".json"], overwrite=True)
    subject = _subject(args)
    adapter = FeatureAdapter(subject.adapter) if args.moves == FEATURES else subject.adapter
    measured = measure(adapter, subject.clip, max_age=args.max_age)
    table = stream_table.rows(measured, args.shares)
    table.insert(1, _half_resolution(subject))
    ages, times = stream_table.by_age(measured), _times(subject, adapter, args.timed)
    _print(subject, adapter, table, ages, times)
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.output, stream_table.to_dict(table, ages, times))
        print(f"\nfigures: {args.output}")


def _subject(args: argparse.Namespace) -> Subject:
    if is_yaml(args):
        engine, cfg, predictor = open_detector(args)
        return detection(cfg, import_engine(engine), predictor, args.max_frames)
    return segmentation(*open_mmengine_model(args, args.opts), args.max_frames)


def _half_resolution(subject: Subject) -> Row:
    frames = subject.clip.frames
    shown = show_time_left(enumerate(frames), len(frames), "frame")
    outcomes = {t: subject.half(t, image) for t, image in shown}
    return Row(f"{HALF}, every frame", "", 1.0, subject.clip.score(outcomes))


def _times(subject: Subject, adapter: Adapter, count: int) -> dict[str, dict[str, float]]:
    """Of real streams; 60 frames are whole periods of each."""
    frames = subject.clip.frames[:count]
    runs = {"every frame": subject.adapter.run, HALF: lambda image: subject.half(0, image)}
    ways = [(way, way, "result") for way in WAYS]
    if isinstance(adapter, FeatureAdapter):
        ways.append((FEATURES, "warp", FEATURES))
    for name, way, moves in ways:
        for k in (2, 3, 5, 10):
            stream = Stream(
                None, schedule=Every(k), propagation=way, moves=moves, adapter=subject.adapter
            )
            runs[f"every {k}, {name}"] = stream
            for image in frames[:2]:  # what only a first call does
                stream(image)
            stream.reset()
    return stream_table.timed(runs, show_time_left(frames, len(frames), "timed frame"))


def _print(
    subject: Subject,
    adapter: Adapter,
    table: Sequence[Row],
    ages: dict[str, dict[int, float]],
    times: dict[str, dict[str, float]],
) -> None:
    height, width = subject.clip.frames[0].shape[:2]
    macs, heads = (count((height, width)) / 1e9 for count in (adapter.macs, adapter.moved_macs))
    said = f"{macs:.2f} GMACs each" + (f", {heads:.2f} of them in the heads" if heads else "")
    print(f"{len(subject.clip.frames)} frames of {height} x {width}, {said}\n")
    print(stream_table.markdown(table, subject.clip.metric))
    print(f"\n{subject.clip.metric} by age of the result:\n")
    columns = list(ages["copy"])
    print(f"| age | {' | '.join(map(str, columns))} |")
    print("|---" * (1 + len(columns)) + "|")
    for way, values in ages.items():
        print(f"| {way} | {' | '.join(f'{values[age]:.1f}' for age in columns)} |")
    print("\n| run in turn | mean ms | p95 | max | mean, of every frame's |\n|---|---|---|---|---|")
    for name, found in times.items():
        cells = [f"{found[key]:.1f}" for key in ("mean", "p95", "max")]
        print(f"| {name} | {' | '.join(cells)} | {found['ratio']:.2f} |")
