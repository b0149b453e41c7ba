"""A trained detector that looks at the whole image small, and at chosen patches closely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dynbackbones.zoom.adapters import DetectorAdapter, adapter_of
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.costs import Size
from dynbackbones.zoom.images import ImageSource, as_source
from dynbackbones.zoom.learned import LearnedPolicy
from dynbackbones.zoom.merge_boxes import MergeRules, merge_boxes
from dynbackbones.zoom.policies import CoarsePass
from dynbackbones.zoom.wrapper import Zoom


class ZoomDetector(Zoom):
    """Detects in the whole image at low resolution, then in the patches where it pays in full.

    After EfficientObjectDetection (Uzkent et al., WACV 2020), with one detector for both passes,
    and merging across patches. It takes what the detector takes and returns what it returns, in
    pixels of the image. The image comes at its own resolution: nothing resizes it but zoom.

    Args:
        detector: trained, of torchvision or detectron2; nothing in it is changed. It should know
            objects at both scales, so train it on images of several sizes.
        patch: edge of a patch in pixels.
        scale: by which the coarse pass is smaller than the image.
        halo: pixels around a patch that its crop shows too; objects up to twice as large are seen
            whole.
        rate: share of each image's patches to look at closely, by default 1/4; `calibrate` finds
            one threshold for all images instead.
        policy: ``"score"`` (what the coarse pass found), ``"entropy"`` (how undecided it was),
            ``"center"``, ``"random"``, ``"all"``, ``"none"``, or a trained one of `load_policy`.
        handover: coarse boxes of at least that edge stay where a patch was looked at; by default
            half a patch.
        batch_crops: crops in a pass at most.
        detector_scale: by which images are enlarged for the detector in the closer look, where it
            was trained on enlarged ones.
        nms: intersection over union above which one of two boxes of a class goes; by default the
            detector's own.
        most: detections of an image; by default the detector's own.
        adapter: how the detector is called, if it is of no framework that is known.

    Raises:
        ValueError: an option is out of range.
        UserError: the detector is of an unknown framework, finds masks, or has fixed input sizes.

    Example:
        >>> import dynbackbones, torch, torchvision
        >>> detector = torchvision.models.detection.retinanet_resnet50_fpn(
        ...     weights=None, weights_backbone=None).eval()
        >>> zoom = dynbackbones.zoom.ZoomDetector(detector, patch=64, scale=4, halo=8, rate=0.25)
        >>> found = zoom([torch.rand(3, 128, 256)])
        >>> sorted(found[0]), zoom.decisions.rate
        (['boxes', 'labels', 'scores'], tensor([0.2500], dtype=torch.float64))
        >>> round(zoom.break_even(256, 512), 2)
        0.41
    """

    def __init__(
        self,
        detector: nn.Module,
        *,
        patch: int = 512,
        scale: float = 4,
        halo: int = 32,
        rate: float | None = None,
        policy: str | LearnedPolicy = "score",
        handover: float | None = None,
        batch_crops: int = 8,
        detector_scale: float = 1.0,
        nms: float | None = None,
        most: int | None = None,
        adapter: DetectorAdapter | None = None,
    ) -> None:
        adapter = adapter or adapter_of(detector, "detector")
        super().__init__(
            detector,
            adapter,
            patch=patch,
            scale=scale,
            halo=halo,
            rate=rate,
            policy=policy,
            batch_crops=batch_crops,
            model_scale=detector_scale,
        )
        handover = patch / 2 if handover is None else handover
        if not (math.isfinite(handover) and handover >= 0):
            raise ValueError(f"handover must be an edge in pixels of at least 0, got {handover}")
        self.rules = MergeRules(
            float(handover),
            adapter.nms if nms is None else float(nms),
            adapter.most if most is None else int(most),
        )

    def like(self, *, policy: str | LearnedPolicy, rate: float | None = None) -> ZoomDetector:
        """The same detector and settings with another policy; nothing is copied."""
        return ZoomDetector(
            self.model,
            patch=self.patch,
            scale=self.scale,
            halo=self.halo,
            rate=rate,
            policy=policy,
            handover=self.rules.handover,
            batch_crops=self.batch_crops,
            detector_scale=self.model_scale,
            nms=self.rules.nms,
            most=self.rules.most,
            adapter=self.adapter,
        )

    @torch.no_grad()
    def closely(
        self, image: Tensor | ImageSource, patches: Sequence[int] | None = None
    ) -> dict[int, Boxes]:
        """What is found in the crops of patches, by default of all: in pixels of the image."""
        found = self._found_closely(image, patches)
        return {patch: boxes.shifted(*grid.crops[patch][:2]) for grid, patch, boxes in found}

    @torch.no_grad()
    def whole(self, image: Tensor | ImageSource) -> Boxes:
        """One pass of the detector over the whole image at full resolution, to compare with."""
        source = as_source(image)
        return self._look_closer([self._everything(source)], source.size)[0]

    def merged(self, coarse: CoarsePass, fine: Mapping[int, Boxes]) -> Boxes:
        """The detections of an image of a coarse pass and some of what `closely` returned."""
        return merge_boxes(coarse.boxes, fine, coarse.grid, self.rules)

    def _look(self, sources: Sequence[ImageSource], seconds: dict) -> list[CoarsePass]:
        with self._timed(seconds, "coarse"):
            images = [self._reduced(source) for source in sources]
            found, features = self.adapter.detect(images)
            passes = []
            for index, (source, image) in enumerate(zip(sources, images, strict=True)):
                grid = self._grid(source)
                by = source.size[0] / image.shape[1], source.size[1] / image.shape[2]
                maps, stride = None, 1.0
                if features is not None:
                    # Maps of a batch go on over its padding.
                    inside = [math.ceil(n / features.stride) for n in image.shape[1:]]
                    maps = features.maps[index, :, : inside[0], : inside[1]]
                    stride = features.stride * self.scale / self.model_scale
                boxes = found[index].scaled(by[1], by[0])
                passes.append(CoarsePass(grid, image, boxes, features=maps, stride=stride))
        return passes

    def _look_closer(self, crops: Sequence[Tensor], size: Size) -> list[Boxes]:
        found, _ = self.adapter.detect(crops)
        height, width = (one / other for one, other in zip(size, crops[0].shape[1:], strict=True))
        return [boxes.scaled(width, height) for boxes in found]

    def _kept(self, coarse: CoarsePass, patch: int, found: Boxes) -> Boxes:
        return found.shifted(*coarse.grid.crops[patch][:2])

    def _merge(self, coarse: CoarsePass, fine: Mapping[int, Boxes]) -> Boxes:
        return self.merged(coarse, fine)

    def _run_once(self, image: Tensor) -> None:
        self.adapter.detect([image])
