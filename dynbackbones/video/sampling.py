"""Frames that are chosen without looking: evenly, at random, in FrameExit's order."""

from __future__ import annotations

import torch
from torch import Tensor

from dynbackbones.video.checks import check_at_least

FRAME_EXIT_ORDER = (5, 0, 9, 2, 7, 4, 6, 3, 8, 1)
"""Of ten segments of a video, from coarse to fine (Ghodrati et al., FrameExit, CVPR 2021)."""


def uniform_indices(lengths: Tensor, count: int) -> Tensor:
    """The middles of equal segments: (N,) frames of each video to (N, count) indices.

    Raises:
        UserError: a number is below 1.

    Example:
        >>> import torch
        >>> from dynbackbones import video
        >>> video.uniform_indices(torch.tensor([60, 2]), 3).tolist()
        [[10, 30, 50], [0, 1, 1]]
    """
    check_at_least(1, count=count)
    return _middles(lengths, torch.arange(count), count)


def memory_indices(lengths: Tensor, count: int) -> Tensor:
    """Frames of AdaFrame's memory: evenly spaced ones, or all of a video that has no more.

    What stands behind the ``min(count, length)`` frames of a video only fills its row.

    Returns:
        (N, min(count, longest)) indices.

    Raises:
        UserError: a number is below 1.
    """
    check_at_least(1, count=count, lengths=int(lengths.min()))
    frames = torch.arange(min(count, int(lengths.max())), device=lengths.device)
    parts = lengths.clamp(max=count)[:, None]
    return ((lengths[:, None] * (2 * frames + 1)) // (2 * parts)).clamp(max=lengths[:, None] - 1)


def random_indices(lengths: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Frames at random, different ones as long as there are: (N,) to (N, count) indices.

    Raises:
        UserError: a number is below 1.

    Example:
        >>> import torch
        >>> from dynbackbones import video
        >>> sorted(video.random_indices(torch.tensor([3]), 3)[0].tolist())
        [0, 1, 2]
    """
    check_at_least(1, count=count, lengths=int(lengths.min()))
    frames = int(lengths.max())
    order = torch.rand(len(lengths), frames, generator=generator)
    order = order.masked_fill(torch.arange(frames) >= lengths[:, None], 2.0).argsort(dim=1)
    return order.gather(1, torch.arange(count) % lengths[:, None])


def frame_exit_indices(lengths: Tensor, count: int) -> Tensor:
    """The middles of ten segments in `FRAME_EXIT_ORDER`: (N,) to (N, count), at most ten.

    Raises:
        UserError: a number is out of range.

    Example:
        >>> import torch
        >>> from dynbackbones import video
        >>> video.frame_exit_indices(torch.tensor([60]), 3).tolist()
        [[33, 3, 57]]
    """
    check_at_least(1, count=count)
    check_at_least(count, frames_of_the_order=len(FRAME_EXIT_ORDER))
    return _middles(lengths, torch.tensor(FRAME_EXIT_ORDER[:count]), len(FRAME_EXIT_ORDER))


def _middles(lengths: Tensor, segments: Tensor, count: int) -> Tensor:
    """Frames in the middles of some of ``count`` segments."""
    check_at_least(1, lengths=int(lengths.min()))
    return (lengths[:, None] * (2 * segments + 1)) // (2 * count)
