"""A trained segmentor that looks at the whole image small, and at chosen patches closely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.adapters import SegmentorAdapter, adapter_of
from dynbackbones.zoom.costs import Size
from dynbackbones.zoom.images import ImageSource, as_source
from dynbackbones.zoom.learned import LearnedPolicy
from dynbackbones.zoom.merge_maps import ClassMap, merge_maps, rows_and_columns
from dynbackbones.zoom.policies import CoarsePass
from dynbackbones.zoom.wrapper import Zoom

LOGITS_UP_TO = 2**26
"""Classes x height x width of an image up to which its logits are kept: 256 MiB of float32."""


class ZoomSegmentor(Zoom):
    """Segments the whole image at low resolution, and the patches where it pays in full.

    The counterpart of `ZoomDetector` for maps: the coarse pass's logits are enlarged as the
    segmentor enlarges its own, and the core of each patch that was looked at takes what was found
    in its crop. It takes what the segmentor takes and returns what it returns, in the image's own
    size; a result has logits where these are at most ``LOGITS_UP_TO`` numbers. The image comes at
    its own resolution: nothing resizes it but zoom.

    Args:
        segmentor: trained, of mmseg; nothing in it is changed. It should know its classes at both
            scales, so train it on images of several sizes.
        patch: edge of a patch in pixels.
        scale: by which the coarse pass is smaller than the image.
        halo: pixels around a patch that its crop shows too, for context.
        rate: share of each image's patches to look at closely, by default 1/4; `calibrate` finds
            one threshold for all images instead.
        policy: ``"entropy"`` (how undecided the coarse pass was), ``"center"``, ``"random"``,
            ``"all"``, ``"none"``, or a trained one of `load_policy`.
        batch_crops: crops in a pass at most.
        segmentor_scale: by which images are enlarged for the segmentor in the closer look, where
            it was trained on enlarged ones.
        adapter: how the segmentor is called, if it is of no framework that is known.

    Raises:
        ValueError: an option is out of range.
        UserError: the segmentor is of an unknown framework, or has windows of its own.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        *,
        patch: int = 512,
        scale: float = 4,
        halo: int = 32,
        rate: float | None = None,
        policy: str | LearnedPolicy = "entropy",
        batch_crops: int = 8,
        segmentor_scale: float = 1.0,
        adapter: SegmentorAdapter | None = None,
    ) -> None:
        if policy == "score":
            raise ValueError(
                "policy 'score' counts detections, and a segmentor has none; take 'entropy'"
            )
        adapter = adapter or adapter_of(segmentor, "segmentor")
        super().__init__(
            segmentor,
            adapter,
            patch=patch,
            scale=scale,
            halo=halo,
            rate=rate,
            policy=policy,
            batch_crops=batch_crops,
            model_scale=segmentor_scale,
        )

    def test_step(self, data: Any) -> Any:
        """Results for a batch as the framework's data loader gives it, for its evaluation."""
        args, kwargs = self.adapter.batch(data)
        return self(*args, **kwargs)

    def val_step(self, data: Any) -> Any:
        """The same as `test_step`."""
        return self.test_step(data)

    @torch.no_grad()
    def closely(
        self, image: Tensor | ImageSource, patches: Sequence[int] | None = None
    ) -> dict[int, Tensor]:
        """What is found in patches, by default in all: labels (height, width) of their cores.

        Args:
            image: as for `looks`.
            patches: their numbers.
        """
        found, labels = self._found_closely(image, patches), self.adapter.rules.labels
        return {patch: labels(_core(logits, grid, patch)) for grid, patch, logits in found}

    @torch.no_grad()
    def whole(self, image: Tensor | ImageSource) -> Tensor:
        """One pass over the whole image at full resolution, to compare with: (H, W) labels."""
        source = as_source(image)
        (logits,) = self._look_closer([self._everything(source)], source.size)
        return self.adapter.rules.labels(logits)

    def merged(self, coarse: CoarsePass, fine: Mapping[int, Tensor]) -> Tensor:
        """(H, W) labels of a coarse pass and some of what `closely` returned."""
        return merge_maps(coarse.logits, fine, coarse.grid, self.adapter.rules, False).labels

    def _look(self, sources: Sequence[ImageSource], seconds: dict) -> list[CoarsePass]:
        with self._timed(seconds, "coarse"):
            images = [self._reduced(source) for source in sources]
            passes = []
            for source, image, found in zip(
                sources, images, self.adapter.segment(images), strict=True
            ):
                passes.append(
                    CoarsePass(
                        self._grid(source),
                        image,
                        probabilities=self.adapter.rules.probabilities(found.logits),
                        features=found.features,
                        stride=found.stride * self.scale / self.model_scale,
                        logits=found.logits,
                    )
                )
        return passes

    def _look_closer(self, crops: Sequence[Tensor], size: Size) -> list[Tensor]:
        found = [segmented.logits for segmented in self.adapter.segment(crops)]
        if self.model_scale == 1:
            return found
        align = self.adapter.rules.align_corners
        return [
            F.interpolate(one[None], size=size, mode="bilinear", align_corners=align)[0]
            for one in found
        ]

    def _kept(self, coarse: CoarsePass, patch: int, found: Tensor) -> Tensor:
        core = _core(found, coarse.grid, patch)
        # A copy, or the rest of the crop would stay in memory with it.
        return core.clone() if _keeps(coarse) else self.adapter.rules.labels(core)

    def _merge(self, coarse: CoarsePass, fine: Mapping[int, Tensor]) -> ClassMap:
        return merge_maps(coarse.logits, fine, coarse.grid, self.adapter.rules, _keeps(coarse))

    def _run_once(self, image: Tensor) -> None:
        self.adapter.segment([image])


def _core(crop: Tensor, grid: PatchGrid, patch: int) -> Tensor:
    left, top, _, _ = grid.crops[patch]
    return crop[(slice(None), *rows_and_columns(grid.cores[patch], left, top))]


def _keeps(coarse: CoarsePass) -> bool:
    """Whether an image is small enough for a result with logits."""
    height, width = coarse.grid.size
    return len(coarse.logits) * height * width <= LOGITS_UP_TO
