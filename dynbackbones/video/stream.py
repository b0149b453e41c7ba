"""Runs a trained detector or segmentor on some frames, and shows the others what these say."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynbackbones.errors import UserError
from dynbackbones.video import choosing
from dynbackbones.video.adapters import Adapter, adapter_of
from dynbackbones.video.choosing import Choice, Limits, Place
from dynbackbones.video.decisions import FrameDecision
from dynbackbones.video.features import FeatureAdapter
from dynbackbones.video.flow import PRESETS
from dynbackbones.video.frames import Frame
from dynbackbones.video.pairs import Seen
from dynbackbones.video.propagation import MOVES, WAYS, Kept, Opaque
from dynbackbones.video.schedules import Every, Schedule, meet_rate

FORMATS = ("RGB", "BGR")
Clip = list[tuple[Seen | None, float | None]]
_NO_KEYS = ("propagated", "unreadable")
_NO_FIRST = (
    "the first frame of the video cannot be read, and there is no earlier result to show; leave it "
    "out"
)


class Stream:
    """A model on a video: it runs on key frames, whose results are shown in between.

    The state, which is the last key and its result, belongs to the stream and not to the model, so
    that any number of streams may share one. An error in the middle of a frame leaves it as it was.

    Args:
        model: a detector or segmentor of torchvision, what mmseg's ``init_model`` returns, a zoom
            around one of these, detectron2's ``DefaultPredictor``, a predictor of this package's
            engines, or a function of an (H, W, 3) uint8 RGB image. What it returns is what the
            stream returns.
        schedule: `Every`, `Difference`, `Agreement`, `Random` or `Keys`.
        propagation: ``"warp"`` moves the result by optical flow (OpenCV's DIS), logits before they
            are enlarged, boxes by the median flow inside; ``"copy"`` shows it again as it is.
        moves: ``"result"``; or ``"features"``, of which the model's heads make a result for each
            frame anew (Deep Feature Flow). For models of torchvision, mmseg and detectron2 whose
            frames pass through the backbone once.
        max_age: frames that a result may be shown for after its own; None for any number.
        max_gap: seconds between two frames, where their times are known, beyond which the model
            runs; None for any.
        cut: mean absolute difference in grey of two frames in succession, in [0, 1], that is taken
            for a cut; None for no such test.
        flow: ``"ultrafast"``, ``"fast"`` or ``"medium"``.
        format: order of the frames' channels, ``"RGB"`` or ``"BGR"``.
        strict: whether a change of the frames' size is an error instead of a new start.
        adapter: how the model is called, for one that the package does not know.

    Attributes:
        decision: what was done for the last frame; None before the first.

    Raises:
        ValueError: an option is out of range.
        UserError: a stream cannot run this model.

    Example:
        >>> import numpy as np, torch
        >>> import dynbackbones
        >>> model = lambda image: torch.from_numpy(image[::2, ::2].copy()).permute(2, 0, 1).float()
        >>> stream = dynbackbones.video.Stream(model, schedule=dynbackbones.video.Every(2))
        >>> clip = [np.full((32, 32, 3), value, np.uint8) for value in (10, 20, 30)]
        >>> [float(stream(frame).mean()) for frame in clip]
        [10.0, 10.0, 30.0]
        >>> stream.decision.key, stream.decision.reason
        (True, 'schedule')
    """

    def __init__(
        self,
        model: Any,
        *,
        schedule: Schedule | None = None,
        propagation: str = "warp",
        moves: str = "result",
        max_age: int | None = None,
        max_gap: float | None = 1.0,
        cut: float | None = 0.2,
        flow: str = "fast",
        format: str = "RGB",
        strict: bool = False,
        adapter: Adapter | None = None,
    ) -> None:
        for name, value, known in (
            ("propagation", propagation, WAYS),
            ("moves", moves, MOVES),
            ("flow", flow, PRESETS),
            ("format", format, FORMATS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if schedule is not None and not isinstance(schedule, Schedule):
            raise ValueError(f"schedule must be one like Every(5), got {schedule!r}")
        self.schedule = schedule or Every(5)
        self.propagation, self.moves, self.format, self.strict = propagation, moves, format, strict
        self.limits = Limits(max_age, max_gap, cut, flow)
        self.decision: FrameDecision | None = None
        self._adapter = adapter or adapter_of(model)
        if moves == "features":
            self._adapter = FeatureAdapter(self._adapter)
        self._place: Place | None = None
        self._kept: Kept | None = None

    def reset(self) -> None:
        """Forgets the video: the next frame is the first of another."""
        self._place = self._kept = self.decision = None

    @torch.no_grad()
    def __call__(
        self,
        frame: np.ndarray | Tensor | Frame | None,
        *,
        seconds: float | None = None,
        new_video: bool = False,
    ) -> Any:
        """The model's result for a frame, or what the key's says of it.

        Args:
            frame: (H, W, 3) or (3, H, W) uint8; a `Frame`; None where it could not be read.
            seconds: of the frame since the start, if that is known; a `Frame` may say it.
            new_video: whether it is the first of another video.

        Returns:
            What the model returns.

        Raises:
            ValueError: the frame is none, or has another size and ``strict`` holds.
            UserError: the first frame cannot be read, the model's result is not finite or cannot be
                moved.
        """
        start = time.perf_counter()
        if isinstance(frame, Frame):
            frame, seconds = frame.image, frame.seconds if seconds is None else seconds
        place = None if new_video else self._place
        if frame is None:
            return self._show_again(place, start)
        image = as_image(frame, self.format)
        choice = choosing.choose(self.schedule, self.limits, place, Seen(image), seconds)
        if choice.reason == "size" and self.strict:
            raise ValueError(
                f"frame {choice.place.index} has {image.shape[:2]} pixels after {place.key.size}, "
                "and strict=True"
            )
        result, kept = self._run(image, choice) if choice.key else self._propagate(choice)
        self._end(choice.place, kept, choice.reason, start)
        return result

    def calibrate(
        self,
        images: Iterable[np.ndarray | Tensor | Frame],
        *,
        target_rate: float | None = None,
        target_macs: float | None = None,
    ) -> float:
        """Changes the schedule so that a share of a clip's frames become keys.

        The model is not run. `dynbackbones.calibrate` calls this.

        Args:
            images: the frames of a typical clip in their order.
            target_rate: share of key frames, in (0, 1].
            target_macs: multiply-accumulates of a frame in the mean instead.

        Returns:
            The share that was reached; a warning says where it misses the target by over 0.01.

        Raises:
            ValueError: the clip is empty or an argument out of range.
        """
        if (target_rate is None) == (target_macs is None):
            raise ValueError("a Stream is set for a target_rate or for target_macs; give one")
        clip = _clip(images, self.format)
        if target_rate is None:
            target_rate = self._rate_for(target_macs, clip[0][0].size)
        # A key and a frame that several of the thresholds pair are looked at once.
        return meet_rate(self.schedule, target_rate, partial(self._rate_on, clip, {}))

    def choices(self, images: Iterable[np.ndarray | Tensor | Frame]) -> list[str]:
        """The reasons that a video's frames would have, without running the model."""
        return self._reasons(_clip(images, self.format), {})

    def _rate_for(self, macs: float, size: tuple[int, int]) -> float:
        """The share of key frames at which a frame costs so much in the mean."""
        whole, moved = self._adapter.macs(size), self._adapter.moved_macs(size)
        if not whole:
            raise ValueError("the MACs of this model cannot be counted; give a target_rate")
        if not moved < macs:
            raise ValueError(
                f"target_macs must be above {moved:.4g}, which the model's heads cost on every "
                f"frame, got {macs:.4g}"
            )
        return min(1.0, (macs - moved) / (whole - moved))

    def _reasons(self, clip: Clip, described: dict[tuple[int, int], Tensor]) -> list[str]:
        place, reasons = None, []
        for seen, seconds in clip:
            if seen is None:
                place = choosing.passed_by(place)
                reasons.append("unreadable")
                continue
            choice = choosing.choose(self.schedule, self.limits, place, seen, seconds, described)
            place = choice.place
            reasons.append(choice.reason)
        return reasons

    def _rate_on(self, clip: Clip, described: dict[tuple[int, int], Tensor]) -> float:
        reasons = self._reasons(clip, described)
        return sum(reason not in _NO_KEYS for reason in reasons) / len(reasons)

    def _run(self, image: np.ndarray, choice: Choice) -> tuple[Any, Kept]:
        result, kept = self._adapter.run(image)
        if not kept.finite():
            raise UserError(
                f"the model's result for frame {choice.place.index} holds NaN or infinity, which a "
                "stream does not show to later frames; check the weights"
            )
        return result, kept

    def _propagate(self, choice: Choice) -> tuple[Any, Kept]:
        if self.propagation == "copy":
            return self._adapter.result(self._kept), self._kept
        if isinstance(self._kept, Opaque):
            raise UserError(
                f"the model returns a {type(self._kept.result).__name__}, which a stream cannot "
                "move: set propagation='copy', return (C, H, W) float maps or a Prediction, or "
                "give an adapter=..."
            )
        return self._adapter.result(self._kept.moved(choice.pair)), self._kept

    def _show_again(self, place: Place | None, start: float) -> Any:
        if place is None:
            raise UserError(_NO_FIRST)
        result = self._adapter.result(self._kept)
        self._end(choosing.passed_by(place), self._kept, "unreadable", start)
        return result

    def _end(self, place: Place, kept: Kept, reason: str, start: float) -> None:
        """Takes over a frame's state, now that nothing can fail any more."""
        self._place, self._kept = place, kept
        self.decision = FrameDecision(
            place.index,
            place.age == 0,
            place.age,
            reason,
            1000 * (time.perf_counter() - start),
            partial(self._adapter.moved_macs if place.age else self._adapter.macs, place.key.size),
        )


def as_image(frame: np.ndarray | Tensor, format: str = "RGB") -> np.ndarray:
    """A frame as (H, W, 3) uint8, RGB.

    Args:
        frame: (H, W, 3) or (3, H, W) uint8.
        format: order of its channels.

    Raises:
        ValueError: another shape or type.
    """
    pixels = frame.detach().cpu().numpy() if isinstance(frame, Tensor) else np.asarray(frame)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or 3 not in (pixels.shape[0], pixels.shape[2]):
        raise ValueError(
            f"frame must be (H, W, 3) or (3, H, W) uint8, got {pixels.shape} {pixels.dtype}; a "
            "stream takes one frame at a time"
        )
    if pixels.shape[2] != 3:
        pixels = pixels.transpose(1, 2, 0)
    if 0 in pixels.shape:
        raise ValueError(f"frame must have pixels, got {pixels.shape}")
    return np.ascontiguousarray(pixels[:, :, ::-1] if format == "BGR" else pixels)


def _clip(frames: Iterable[np.ndarray | Tensor | Frame], format: str) -> Clip:
    """The frames with their times; None in place of those that cannot be read.

    Raises:
        ValueError: there are none.
        UserError: the first one cannot be read.
    """
    named = (frame if isinstance(frame, Frame) else Frame(frame) for frame in frames)
    clip = [
        (None if f.image is None else Seen(as_image(f.image, format)), f.seconds) for f in named
    ]
    if not clip:
        raise ValueError("images must not be empty: give the frames of a typical clip")
    if clip[0][0] is None:
        raise UserError(_NO_FIRST)
    return clip
