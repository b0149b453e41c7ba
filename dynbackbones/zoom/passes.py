"""The two passes of a model over images, reduced as a whole and patches in full, and their cost."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dynbackbones.errors import UserError
from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.costs import Costs, Size
from dynbackbones.zoom.images import ImageSource, as_source, resized
from dynbackbones.zoom.options import check_options
from dynbackbones.zoom.policies import CoarsePass


class TwoPasses(nn.Module):
    """Base of `Zoom`, which chooses the patches and merges what both passes find.

    Attributes:
        model: the wrapped one, unchanged.
    """

    def __init__(
        self,
        model: nn.Module,
        adapter: Any,
        *,
        patch: int,
        scale: float,
        halo: int,
        batch_crops: int,
        model_scale: float,
    ) -> None:
        super().__init__()
        check_options(patch, scale, halo, batch_crops, model_scale)
        self.model = model
        self.adapter = adapter
        self.patch, self.scale, self.halo = int(patch), float(scale), int(halo)
        self.batch_crops = int(batch_crops)
        self.model_scale = float(model_scale)
        self._costs = Costs(self._run_in_evaluation)

    @torch.no_grad()
    def full_macs(self, height: int, width: int) -> float:
        """Multiply-accumulates of one pass of the model over a whole image of this size."""
        return self._macs(self._at_model_scale((height, width)))

    @abstractmethod
    def _look(self, sources: Sequence[ImageSource], seconds: dict) -> list[CoarsePass]:
        """The coarse pass over each image."""

    @abstractmethod
    def _look_closer(self, crops: Sequence[Tensor], size: Size) -> list[Any]:
        """The fine pass over equally large crops, at the model's scale, in pixels of the image.

        Args:
            crops: what the model sees.
            size: (height, width) of each in the image.
        """

    @abstractmethod
    def _run_once(self, image: Tensor) -> None:
        """A pass of the model over an image as it is."""

    def _run_in_evaluation(self, image: Tensor) -> None:
        """The same in evaluation mode, so that counting teaches no norm what noise looks like."""
        modes = [(m, m.training) for m in (*self.modules(), self.model)]
        self.eval()
        try:
            self._run_once(image)
        finally:
            for module, mode in modes:
                module.training = mode

    def _crops(
        self,
        sources: Sequence[ImageSource],
        grids: Sequence[PatchGrid],
        wanted: Sequence[Sequence[int]],
        seconds: dict,
    ) -> Iterator[tuple[int, int, Any]]:
        """The fine pass over the wanted patches of all images, equally large crops together."""
        by_size = defaultdict(list)
        for image, patches in enumerate(wanted):
            by_size[grids[image].crop_size] += [(image, patch) for patch in patches]
        for size, requests in by_size.items():
            for start in range(0, len(requests), self.batch_crops):
                chunk = requests[start : start + self.batch_crops]
                with self._timed(seconds, "fine"):
                    crops = [self._crop(sources[i], grids[i], p) for i, p in chunk]
                    found = self._look_closer(crops, size)
                for (image, patch), result in zip(chunk, found, strict=True):
                    yield image, patch, result

    def _found_closely(
        self, image: Tensor | ImageSource, patches: Sequence[int] | None
    ) -> Iterator[tuple[PatchGrid, int, Any]]:
        """The fine pass over patches of an image, by default all; as `_look_closer` returns it."""
        source = as_source(image)
        grid = self._grid(source)
        wanted = range(len(grid)) if patches is None else patches
        for _, patch, found in self._crops([source], [grid], [wanted], defaultdict(float)):
            yield grid, patch, found

    def _grid(self, source: ImageSource) -> PatchGrid:
        return PatchGrid(source.size, self.patch, self.halo)

    def _crop(self, source: ImageSource, grid: PatchGrid, patch: int) -> Tensor:
        crop = self.adapter.prepared(source.crop(grid.crops[patch]))
        return resized(crop, self._at_model_scale(crop.shape[1:]))

    def _everything(self, source: ImageSource) -> Tensor:
        """The whole image as the model would see it without zoom."""
        height, width = source.size
        image = self.adapter.prepared(source.crop((0, 0, width, height)))
        return resized(image, self._at_model_scale(source.size))

    def _reduced(self, source: ImageSource) -> Tensor:
        image = self.adapter.prepared(source.reduced(self._coarse_size(source.size)))
        if image.is_floating_point() and not image.isfinite().all():
            raise UserError("an image holds NaN or infinity, of which no patch can be chosen")
        return image

    def _coarse_size(self, size: Sequence[int]) -> tuple[int, int]:
        factor = self.model_scale / self.scale
        return tuple(max(1, math.ceil(length * factor - 1e-6)) for length in size)

    def _at_model_scale(self, size: Sequence[int]) -> tuple[int, int]:
        return tuple(max(1, round(length * self.model_scale)) for length in size)

    def _macs(self, size: tuple[int, int]) -> float:
        """Multiply-accumulates of a pass over an image of this size, as the model sees it."""
        return self._costs.macs(size, self.adapter.example())

    @contextmanager
    def _timed(self, seconds: dict, part: str) -> Iterator[None]:
        pixel = self.adapter.example()
        start = _now(pixel)
        yield
        seconds[part] += _now(pixel) - start


def _now(on: Tensor) -> float:
    if on.is_cuda:
        torch.cuda.synchronize(on.device)
    return time.perf_counter()
