"""What ``dynbackbones stream`` writes: the video, the picture, the figures."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.checkpoints.whole_file import whole_file, write_json
from dynbackbones.cli.arguments import check_output
from dynbackbones.cli.stream_schedules import video_frames
from dynbackbones.data.images import import_cv2
from dynbackbones.training.progress import show_time_left
from dynbackbones.video.adapters import Adapter
from dynbackbones.video.decisions import FrameDecision
from dynbackbones.video.frames import Frame, frame_count, frame_rate
from dynbackbones.video.pictures import (
    Look,
    describe,
    draw_result,
    draw_strip,
    level_of,
    picture,
)
from dynbackbones.video.report import Reservoir, agreement, figures, table
from dynbackbones.video.stream import Stream
from dynbackbones.video.video_file import CODECS, whole_video

_PANELS = 4  # of the picture
Shown = Callable[[Any], Prediction | Tensor]


@dataclass(frozen=True)
class Outputs:
    """Files that the command writes."""

    video: Path
    json: Path
    picture: Path

    @classmethod
    def of(cls, args: argparse.Namespace, source: str | int) -> Outputs:
        """Those of the command line, or those that follow from the others."""
        name = f"camera{source}" if isinstance(source, int) else Path(source).resolve().stem
        video = args.output or Path(f"{name}_stream.mp4")
        json, picture = (video.with_suffix(suffix) for suffix in (".json", ".png"))
        return cls(video, args.json or json, args.picture or picture)

    def check(self, overwrite: bool) -> None:
        """Makes sure that they may be written.

        Raises:
            UserError: one may not.
        """
        for path, suffixes in (
            (self.video, tuple(CODECS)),
            (self.json, (".json",)),
            (self.picture, (".png",)),
        ):
            check_output(path, suffixes, overwrite)


@dataclass
class Recording:
    """A video under way.

    Attributes:
        decisions: of the frames so far.
        levels: how bright each is in a strip.
        unreadable: names of frames that could not be read.
        panels: number, caption and drawn frame of some frames: the first one and random others.
        sample: image, result and decision of some frames, to compare with the full model.
    """

    sample: Reservoir[tuple[np.ndarray, Prediction | Tensor, FrameDecision]]
    decisions: list[FrameDecision] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    panels: Reservoir[tuple[int, str, np.ndarray]] = field(
        default_factory=lambda: Reservoir(4 * (_PANELS - 1))
    )
    first: tuple[int, str, np.ndarray] | None = None
    _last: np.ndarray | None = None

    def add(
        self, frame: Frame, result: Prediction | Tensor, decision: FrameDecision, look: Look
    ) -> np.ndarray:
        """Takes a frame in; returns it drawn."""
        self.decisions.append(decision)
        self.levels.append(level_of(decision))
        image = self._last if frame.image is None else frame.image
        if frame.image is None:
            self.unreadable.append(frame.name)
        else:
            self._last = image
            place = self.sample.place()
            if place is not None:
                self.sample.put(place, (np.ascontiguousarray(image), result, decision))
        drawn = draw_result(image, result, look)
        panel = (decision.index, describe(decision), drawn)
        if self.first is None:
            self.first = panel
        elif (place := self.panels.place()) is not None:
            self.panels.put(place, panel)
        return drawn

    def share(self) -> str:
        """Computed frames so far, for the line of progress."""
        keys = sum(decision.key for decision in self.decisions)
        return f"{keys / max(len(self.decisions), 1):.0%} computed"

    def picture(self) -> np.ndarray:
        """The first frame and some others in a row, above all of them as a strip."""
        others = {panel[0]: panel for panel in self.panels.items()}
        total, count = len(self.decisions), min(_PANELS - 1, len(others))
        chosen = []
        for wanted in ((i + 1) * total / (count + 1) for i in range(count)):
            chosen.append(others.pop(min(others, key=lambda index: abs(index - wanted))))
        chosen.sort(key=lambda panel: panel[0])
        keys = sum(decision.key for decision in self.decisions)
        text = f"bright: the model ran, on {keys} of {total} frames"
        return picture([self.first, *chosen], self.levels, text)


def record(
    args: argparse.Namespace,
    source: str | int,
    stream: Stream,
    adapter: Adapter,
    shown: Shown,
    look: Look,
    outputs: Outputs,
) -> None:
    """Runs a stream over a video, writes all files and prints the table.

    Args:
        args: of the command.
        source: of the video.
        stream: which runs.
        adapter: of its model.
        shown: see `Trained`.
        look: how results are drawn.
        outputs: where to.

    Raises:
        UserError: the video gives nothing, or files cannot be written.
        KeyboardInterrupt: it was stopped; what was done until then is written.
    """
    recording, total = Recording(Reservoir(args.agreement_sample)), frame_count(source)
    if args.max_frames is not None:
        total = args.max_frames if total is None else min(total, args.max_frames)
    stopped = False
    with whole_video(outputs.video, frame_rate(source)) as video:
        given = _warmed_up(video_frames(args, source), adapter)
        try:
            for frame in show_time_left(given, total, "frame", recording.share):
                result = shown(stream(_timed(frame, source)))
                drawn = recording.add(frame, result, stream.decision, look)
                text = f"{describe(stream.decision)}, {stream.decision.milliseconds:.0f} ms"
                at = [len(recording.levels) - 1]
                strip = draw_strip(drawn.shape[1], recording.levels, total, at, text)
                video.add(np.concatenate([drawn, strip]))
        except KeyboardInterrupt:
            stopped = True
            if not video.frames:
                raise
    _write_picture(outputs.picture, recording.picture())
    content = {
        "video": str(source),
        "schedule": repr(stream.schedule),
        "propagation": args.propagation,
        "moves": args.moves,
        "max_age": args.max_age,
        **figures(recording.decisions),
        "unreadable": recording.unreadable,
        "agreement": None if stopped else _agreement(recording, adapter, shown, args),
    }
    write_json(outputs.json, content, indent=2)
    way = f"{args.propagation} of the {args.moves}"
    print(f"\n{stream.schedule!r}, {way}\n{table(content)}\n")
    if recording.unreadable:
        names = ", ".join(recording.unreadable[:5])
        print(f"{len(recording.unreadable)} frames cannot be read: {names}")
    print(f"video: {outputs.video}\npicture: {outputs.picture}\nfigures: {outputs.json}")
    if stopped and not isinstance(source, int):
        raise KeyboardInterrupt


def _warmed_up(given: Iterator[Frame], adapter: Adapter) -> Iterator[Frame]:
    """The frames, after the model has seen the first one: what is slow only once does not count."""
    for number, frame in enumerate(given):
        if not number and frame.image is not None:
            with torch.no_grad():
                adapter.run(np.ascontiguousarray(frame.image))
        yield frame


def _timed(frame: Frame, source: str | int) -> Frame:
    """The frame of a camera with the time that it came at."""
    return frame._replace(seconds=time.monotonic()) if isinstance(source, int) else frame


def _agreement(
    recording: Recording, adapter: Adapter, shown: Shown, args: argparse.Namespace
) -> dict[str, Any] | None:
    """How far what was shown agrees with the full model, on the sample."""
    sample = sorted(recording.sample.items(), key=lambda item: item[2].index)
    if not sample:
        return None
    of_all, of_propagated = [], []
    for image, result, decision in show_time_left(sample, len(sample), "agreement"):
        if decision.key:
            of_all.append(1.0)
            continue
        with torch.no_grad():
            full = shown(adapter.run(image)[0])
        of_propagated.append(agreement(result, full, args.score_threshold))
    of_all += of_propagated
    boxes = isinstance(sample[0][1], Prediction)
    measure = f"F1 of boxes from a score of {args.score_threshold:g} at an IoU of 0.5"
    return {
        "measure": measure if boxes else "share of pixels",
        "frames": len(of_all),
        "mean": sum(of_all) / len(of_all),
        "propagated_frames": len(of_propagated),
        "propagated_mean": sum(of_propagated) / len(of_propagated) if of_propagated else None,
    }


def _write_picture(path: Path, image: np.ndarray) -> None:
    cv2 = import_cv2()
    _, data = cv2.imencode(".png", np.ascontiguousarray(image[:, :, ::-1]))
    with whole_file(path) as file:
        file.write(data.tobytes())
