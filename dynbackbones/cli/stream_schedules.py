"""The schedule of ``dynbackbones stream``, set before the video starts."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

import dynbackbones
from dynbackbones.errors import UserError
from dynbackbones.training.progress import show_time_left
from dynbackbones.video.adapters import Adapter, adapter_of
from dynbackbones.video.agreement import (
    Agreement,
    measure_agreement,
    save_agreement,
    train_agreement,
)
from dynbackbones.video.features import FeatureAdapter
from dynbackbones.video.frames import Frame, frames
from dynbackbones.video.schedules import Difference, Every, Random, Schedule
from dynbackbones.video.stream import Stream

SCHEDULES = ("every", "difference", "random", "agreement")
_THRESHOLDS = {"difference": 0.05, "agreement": 0.9}
# Of the frames that a schedule is set or learned on, which are held in memory.
_MOST_BYTES = 1 << 29
_MOST_LEARNED = 200


def check_schedule(args: argparse.Namespace) -> None:
    """Makes sure that the options of a schedule are of the one that is chosen.

    Raises:
        UserError: they are not.
    """
    for option, value, schedules in (
        ("--every", args.every, ("every",)),
        ("--threshold", args.threshold, tuple(_THRESHOLDS)),
        ("--agreement-network", args.agreement_network, ("agreement",)),
    ):
        if value is not None and args.schedule not in schedules:
            raise UserError(
                f"{option} {value} is of --schedule {' or '.join(schedules)}, and --schedule is "
                f"{args.schedule}"
            )
        if option != "--agreement-network" and value is not None and args.rate is not None:
            raise UserError(f"{option} {value} and --rate {args.rate:g} set the same; give one")


def build_stream(
    args: argparse.Namespace, model: Any, source: str | int
) -> tuple[Stream, Adapter]:
    """A stream with the schedule of the command line, calibrated and learned where it asks for it.

    Args:
        args: of the command.
        model: which `Stream` takes.
        source: of the video, whose beginning is read for that.

    Raises:
        UserError: that cannot be done.
    """
    adapter = adapter_of(model)
    stream = Stream(
        model,
        schedule=_schedule(args, model, adapter, source),
        propagation=args.propagation,
        moves=args.moves,
        max_age=args.max_age,
        adapter=adapter,
    )
    if args.rate is not None:
        if isinstance(source, int) and args.schedule in _THRESHOLDS:
            raise UserError(
                f"--rate {args.rate:g}: a camera cannot be looked at before; give --threshold, "
                "found on a recording of it"
            )
        _calibrate(args, stream, source)
    return stream, adapter


def _schedule(
    args: argparse.Namespace, model: Any, adapter: Adapter, source: str | int
) -> Schedule:
    if args.schedule == "every":
        return Every(args.every or 5)
    if args.schedule == "random":
        return Random(args.rate or 0.2)
    threshold = _THRESHOLDS[args.schedule] if args.threshold is None else args.threshold
    if args.schedule == "difference":
        return Difference(threshold)
    return Agreement(_network(args, model, adapter, source), threshold)


def _network(args: argparse.Namespace, model: Any, adapter: Adapter, source: str | int) -> Any:
    """The network of an `Agreement`, or the file that holds it."""
    file = args.agreement_network
    if file is not None and file.exists():
        return file
    if isinstance(source, int):
        raise UserError(
            "--schedule agreement: a camera cannot be looked at before; give --agreement-network, "
            "learned on a recording of it"
        )
    clip = [frame.image for frame in islice(_beginning(args, source), _MOST_LEARNED)]
    clip = [image for image in clip if image is not None and image.shape == clip[0].shape]
    print(f"learning the schedule: the model runs on {len(clip)} frames", flush=True)
    adapter = FeatureAdapter(adapter) if args.moves == "features" else adapter
    shown = show_time_left(clip, len(clip), "frame")
    samples = list(measure_agreement(model, shown, adapter=adapter))
    if not samples:
        raise UserError(f"video {source} has too few frames to learn from; give another --schedule")
    network = train_agreement(samples)
    if file is not None:
        save_agreement(network, file)
        print(f"learned schedule: {file}")
    return network


def _calibrate(args: argparse.Namespace, stream: Stream, source: str | int) -> None:
    if isinstance(source, int):
        # Nothing of these depends on what the frames show.
        stream.schedule.meet(args.rate, lambda: args.rate)
        return
    clip = list(_beginning(args, source))  # with their times, since gaps make keys
    if not clip:
        raise UserError(f"video {source} has no frame at its beginning that can be read")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reached = dynbackbones.calibrate(stream, clip, target_rate=args.rate)
    for warning in caught:  # without the line of a library that Python would show
        print(f"warning: {warning.message}", file=sys.stderr)
    print(f"{stream.schedule!r} computes {reached:.1%} of the first {len(clip)} frames", flush=True)


def _beginning(args: argparse.Namespace, source: str | int) -> Iterator[Frame]:
    """A video from the first frame that can be read, as much as is held in memory."""
    held = 0
    for frame in video_frames(args, source):
        if frame.image is not None:
            held += frame.image.nbytes
        if not held:
            continue
        if held > _MOST_BYTES:
            return
        yield frame


def video_frames(args: argparse.Namespace, source: str | int) -> Iterator[Frame]:
    """The frames that the command looks at."""
    return islice(frames(source), args.max_frames)
