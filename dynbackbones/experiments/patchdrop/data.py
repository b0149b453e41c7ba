"""Images in memory, and batches of them."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dynbackbones.data.array_files import read_arrays
from dynbackbones.demo.digit_tiles import EDGE, make_tiles
from dynbackbones.errors import UserError

DIGIT_HEIGHTS = (8.0, 11.0)
_PADDING = 4


class Split(NamedTuple):
    """Images of one size.

    Attributes:
        images: (N, 3, H, W) uint8.
        labels: (N,).
        boxes: (N, 4) top, left, height and width of what the class is of; None if not known.
        augment: whether training shifts and mirrors them.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor | None = None
    augment: bool = False

    def part(self, start: int, stop: int) -> Split:
        """Some of the images, in order."""
        boxes = None if self.boxes is None else self.boxes[start:stop]
        return Split(self.images[start:stop], self.labels[start:stop], boxes, self.augment)

    def normalised(self, index: Tensor | slice, generator: torch.Generator | None) -> Tensor:
        """Images by index, channels last; shifted and mirrored where a generator is given."""
        images = self.images[index]
        if self.augment and generator is not None:
            images = _augmented(images, generator)
        images = images.float().sub_(127.0).div_(52.0)
        return images.contiguous(memory_format=torch.channels_last)


def _augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    n, _, height, width = images.shape
    padded = F.pad(images, [_PADDING] * 4, value=127)
    top, left = torch.randint(2 * _PADDING + 1, (2, n), generator=generator)
    rows = top[:, None] + torch.arange(height)
    cols = left[:, None] + torch.arange(width)
    cols = torch.where(torch.rand(n, 1, generator=generator) < 0.5, cols, cols.flip(1))
    moved = padded.permute(0, 2, 3, 1)[
        torch.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]
    ]
    return moved.permute(0, 3, 1, 2)


def digits_anywhere(
    folder: Path,
    train: int,
    val: int,
    heights: tuple[float, float] = DIGIT_HEIGHTS,
    edge: int = EDGE,
) -> tuple[Split, Split]:
    """Textured square scenes with a small digit anywhere; kept in a file. See `make_tiles`."""
    usual = (heights, edge) == (DIGIT_HEIGHTS, EDGE)
    kind = "" if usual else f"-{edge}-{heights[0]:g}-{heights[1]:g}"
    file = folder / f"digits{kind}-{train}-{val}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {}
        for split, count in (("train", train), ("val", val)):
            tiles = make_tiles(split, count, heights=heights, edge=edge)
            arrays |= {
                f"{split}_{key}": getattr(tiles, key) for key in ("images", "labels", "boxes")
            }
        part = file.with_suffix(".part.npz")
        np.savez(part, **arrays)
        part.replace(file)
    arrays = read_arrays(file, "scenes")
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    return tuple(
        Split(tensors[f"{s}_images"].permute(0, 3, 1, 2), tensors[f"{s}_labels"].long(),
              tensors[f"{s}_boxes"])
        for s in ("train", "val")
    )  # fmt: skip


def packed(path: str | os.PathLike, *, augment: bool = False) -> Split:
    """A ``.npz`` file of images as `PackedImages` takes them.

    Raises:
        UserError: there is none, or it holds something else.
    """
    from PIL import Image

    if not Path(path).is_file():
        raise UserError(f"image file {path} does not exist; name the folder that has it")
    arrays = read_arrays(path, "image file")
    if not {"data", "offsets", "labels"} <= arrays.keys():
        raise UserError(f"image file {path} must hold labels, data and offsets")
    data, offsets = arrays["data"].tobytes(), arrays["offsets"].tolist()
    labels = torch.from_numpy(arrays["labels"]).long()
    images = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(data[start:end])).convert("RGB"))
            for start, end in zip(offsets[:-1], offsets[1:], strict=True)
        ]
    )
    return Split(torch.from_numpy(images).permute(0, 3, 1, 2), labels, None, augment)
