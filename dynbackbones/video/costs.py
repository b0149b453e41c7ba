"""Multiply-accumulates (MACs) of what stands around the frames' encoders, and of whole videos.

The papers of AdaFrame and LiteEval call MACs "GFLOPs".
"""

from __future__ import annotations

from dynbackbones.errors import UserError

MEMORY_CHARGES = ("once", "each_frame")


def lstm_step_macs(inputs: int, hidden: int) -> float:
    """Of one step of an LSTM, whose four gates each see the input and the state.

    Example:
        >>> from dynbackbones.video import costs
        >>> round(costs.lstm_step_macs(2048 + 1280, 2048) / 1e6, 1)
        44.0
    """
    return 4.0 * hidden * (inputs + hidden)


def attention_macs(hidden: int, channels: int, frames: int) -> float:
    """Of AdaFrame's attention over a memory in one step: query, match and context."""
    return float(hidden * channels + 2 * frames * channels)


def adaframe_video_macs(
    frames: float, frame_macs: float, memory_macs: float, memory: str = "once"
) -> float:
    """Of a video of which AdaFrame looks at a number of frames, LSTM left out.

    Args:
        frames: mean number of them.
        frame_macs: of a frame's features.
        memory_macs: of the whole memory.
        memory: ``"once"`` for each video, which is what is computed, or ``"each_frame"``, as the
            tables of later papers charge it.

    Raises:
        UserError: ``memory`` is something else.
    """
    if memory not in MEMORY_CHARGES:
        raise UserError(f"memory must be one of {', '.join(MEMORY_CHARGES)}, got {memory!r}")
    return frames * frame_macs + memory_macs * (1 if memory == "once" else frames)


def liteeval_video_macs(
    frames: int,
    fine_frames: float,
    coarse_macs: float,
    fine_macs: float,
    recurrent_macs: float = 0.0,
) -> float:
    """Of a video: coarse features of each frame, fine ones of some.

    Args:
        frames: of the video.
        fine_frames: of which fine features are computed.
        coarse_macs, fine_macs: of a frame's features.
        recurrent_macs: of both LSTMs over the whole video.
    """
    return frames * coarse_macs + fine_frames * fine_macs + recurrent_macs
