"""Zoom for mmseg's segmentors; needs mmseg, so configs import it.

    custom_imports = dict(imports=["dynbackbones.integrations.openmmlab.zoom_segmentor"])
    model = dict(type="ZoomSegmentor", segmentor=dict(type="EncoderDecoder", ...), patch=256)
    custom_hooks = [dict(type="DecisionMeterHook")]

The test pipeline leaves images as they are: no `Resize` in it, and no flips.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.models.segmentors import DepthEstimator, EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn import functional as F

from dynbackbones import zoom
from dynbackbones.backbones.base import find_backbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.recorded_features import LastFeatures
from dynbackbones.layers.patches import Box
from dynbackbones.zoom.adapters import Call, Features, Segmented
from dynbackbones.zoom.images import ImageSource, TensorImage
from dynbackbones.zoom.merge_maps import ClassMap, LogitRules


def segmentor(model: nn.Module) -> MMSegAdapter:
    """The adapter for a segmentor.

    Raises:
        UserError: it is no `EncoderDecoder`, or looks at images in windows.
    """
    name = type(model).__name__
    if not isinstance(model, EncoderDecoder) or isinstance(model, DepthEstimator):
        raise UserError(
            f"zoom merges the maps of classes that an EncoderDecoder of mmseg makes, and {name} "
            "makes none; give one of these"
        )
    if (model.test_cfg or {}).get("mode") == "slide":
        raise UserError(
            "test_cfg.mode 'slide' cuts windows out of what zoom cuts patches of; set "
            "test_cfg=dict(mode='whole') in the segmentor"
        )
    return MMSegAdapter(model)


class MMSegAdapter:
    """Calls a segmentor with images as they are; see `SegmentorAdapter`.

    Args:
        model: the segmentor. A shallow copy of it is called, which has its layers and hooks.
    """

    def __init__(self, model: EncoderDecoder) -> None:
        self._preprocessor = model.data_preprocessor
        self._recorded = _RecordedFeatures(model)
        self._model = copy.copy(model)
        self._model.extract_feat = self._recorded
        self.num_classes = max(2, int(model.out_channels))
        threshold = getattr(model.decode_head, "threshold", None)
        self.rules = LogitRules(bool(model.align_corners), 0.5 if threshold is None else threshold)

    def batch(self, data: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """Images as the pipeline packed them; each part is normalised when it is looked at."""
        samples = self._preprocessor.cast_data(data.get("data_samples"))
        images = [_Normalised(image, self._preprocessor) for image in data["inputs"]]
        return (images, samples), {"mode": "predict"}

    def read(
        self,
        inputs: Tensor | Sequence[Tensor | ImageSource],
        data_samples: Sequence[SegDataSample] | None = None,
        mode: str = "predict",
    ) -> Call:
        """Normalised images, as the segmentor takes them."""
        if mode != "predict":
            raise UserError(
                f"mode {mode!r} of a segmentor with zoom is its training's; in evaluation call it "
                "with mode='predict', or the segmentor itself"
            )
        samples = list(data_samples or [SegDataSample() for _ in inputs])
        images = [_checked(*pair) for pair in zip(inputs, samples, strict=True)]
        return Call(images, samples)

    def prepared(self, image: Tensor) -> Tensor:
        return image.to(self._parameter.device, torch.float32)

    def example(self) -> Tensor:
        return torch.zeros(3, 1, 1, device=self._parameter.device)

    def segment(self, images: Sequence[Tensor]) -> list[Segmented]:
        by_size = defaultdict(list)
        for index, image in enumerate(images):
            by_size[image.shape].append(index)
        found: dict[int, Segmented] = {}
        for indices in by_size.values():
            batch = torch.stack([images[index] for index in indices])
            found |= dict(zip(indices, self._segment_equal(batch), strict=True))
        return [found[index] for index in range(len(images))]

    def write(self, call: Call, results: Sequence[ClassMap]) -> list[SegDataSample]:
        """The samples that were given, in mmseg's form; without logits where there are none."""
        for sample, result in zip(call.inputs, results, strict=True):
            labels, logits = result.labels[None], result.logits
            if self._model.out_channels == 1:
                labels = labels.float()
                logits = None if logits is None else logits.sigmoid()
            sample.set_data({"pred_sem_seg": PixelData(data=labels)})
            if logits is not None:
                sample.set_data({"seg_logits": PixelData(data=logits)})
        return list(call.inputs)

    def _segment_equal(self, batch: Tensor) -> list[Segmented]:
        height, width = batch.shape[-2:]
        padded = self._padded(batch)
        size = tuple(padded.shape[-2:])
        if size != (height, width):
            for backbone in find_backbones(self._model):
                backbone.set_image_sizes([(height, width)] * len(batch))
        meta = {"img_shape": size, "pad_shape": size, "ori_shape": size, "padding_size": [0] * 4}
        logits = self._model.inference(padded, [dict(meta) for _ in batch])
        logits = logits[..., :height, :width]
        features = self._recorded.take()
        if features is None:
            return [Segmented(one) for one in logits]
        rows, columns = (-int(-length // features.stride) for length in (height, width))
        maps = features.maps[..., :rows, :columns]
        return [Segmented(*pair, features.stride) for pair in zip(logits, maps, strict=True)]

    def _padded(self, batch: Tensor) -> Tensor:
        """To the multiple of pixels that the segmentor's own preprocessor pads test images to."""
        options = getattr(self._preprocessor, "test_cfg", None) or {}
        divisor = options.get("size_divisor") or 1
        right, bottom = (-length % divisor for length in (batch.shape[-1], batch.shape[-2]))
        return F.pad(batch, (0, right, 0, bottom), value=self._preprocessor.pad_val)

    @property
    def _parameter(self) -> Tensor:
        return next(self._model.parameters())


def _checked(image: Tensor | ImageSource, sample: SegDataSample) -> Tensor | ImageSource:
    """An image without padding.

    Raises:
        UserError: a pipeline resized or flipped it.
    """
    meta = sample.metainfo
    if meta.get("flip"):
        raise UserError(
            "zoom looks at images as they are, and these are flipped: test it without test-time "
            "augmentation, and without RandomFlip in the test pipeline"
        )
    if isinstance(image, Tensor) and "img_padding_size" in meta:
        left, right, top, bottom = meta["img_padding_size"]
        image = image[:, top : image.shape[1] - bottom, left : image.shape[2] - right]
    size = tuple(image.shape[-2:] if isinstance(image, Tensor) else image.size)
    original = tuple(meta.get("ori_shape", size)[:2])
    if size != original:
        raise UserError(
            f"the test pipeline resizes an image of {original[0]}x{original[1]} pixels to "
            f"{size[0]}x{size[1]}, and zoom has a resolution of its own: take Resize out of the "
            "pipeline; segmentor_scale says what scale the segmentor was trained at"
        )
    return image


class _Normalised(TensorImage):
    """An image of bytes whose parts a segmentor's own preprocessor normalises, and pads not."""

    def __init__(self, image: Tensor, preprocessor: nn.Module) -> None:
        super().__init__(image)
        self._preprocessor = preprocessor

    def reduced(self, size: tuple[int, int]) -> Tensor:
        return self._normalised(super().reduced(size))

    def crop(self, box: Box) -> Tensor:
        return self._normalised(super().crop(box))

    def _normalised(self, part: Tensor) -> Tensor:
        data = {"inputs": [part], "data_samples": [SegDataSample()]}
        inputs = self._preprocessor(data, False)["inputs"]
        return inputs[0, :, : part.shape[1], : part.shape[2]]


class _RecordedFeatures:
    """Stands in the place of a segmentor's `extract_feat` and keeps a map of its last pass."""

    def __init__(self, model: EncoderDecoder) -> None:
        self._model = model
        self._mine = LastFeatures()

    def __call__(self, inputs: Tensor) -> Any:
        features = self._model.extract_feat(inputs)
        maps = [features] if isinstance(features, Tensor) else features
        maps = [m for m in maps if isinstance(m, Tensor) and m.dim() == 4]
        if maps:
            # Levels of a pyramid know the same things; of a backbone, the last one knows most.
            best = max(maps, key=lambda m: m.shape[-1]) if self._model.with_neck else maps[-1]
            self._mine.features = Features(best, inputs.shape[-1] / best.shape[-1])
        return features

    def take(self) -> Features | None:
        """What this thread's last pass left, once."""
        return self._mine.take()


@MODELS.register_module(name="ZoomSegmentor")
class MMSegZoomSegmentor(zoom.ZoomSegmentor, BaseModel):
    """`dynbackbones.zoom.ZoomSegmentor` in a config, in the place of a plain segmentor.

    Its layers are the segmentor's, under their own names: it loads and writes the segmentor's
    checkpoints, and trains as the segmentor does.

    Args:
        segmentor: a config, or a model.
        policy: a name, or the file of a trained one.
        rate: see `dynbackbones.zoom.ZoomSegmentor`, as for the other options; or
        threshold: of values above which patches are looked at, as `calibrate` found it.
        data_preprocessor: of a config that names none for the segmentor itself.
        init_cfg: mmengine's; the segmentor's own stands in its config.

    Raises:
        ValueError: an option is out of range, or both ``rate`` and ``threshold`` are given.
        UserError: zoom cannot serve the segmentor, or the policy does not fit.
    """

    def __init__(
        self,
        segmentor: Mapping[str, Any] | nn.Module,
        *,
        patch: int = 512,
        scale: float = 4,
        halo: int = 32,
        rate: float | None = None,
        threshold: float | None = None,
        policy: str = "entropy",
        batch_crops: int = 8,
        segmentor_scale: float = 1.0,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        if rate is not None and threshold is not None:
            raise ValueError(f"give either rate {rate} or threshold {threshold}, not both")
        if not isinstance(segmentor, nn.Module):
            own = {} if data_preprocessor is None else {"data_preprocessor": data_preprocessor}
            segmentor = MODELS.build({**own, **segmentor})
        if policy.endswith((".pth", ".pt")):
            policy = zoom.load_policy(policy)
        super().__init__(
            segmentor,
            patch=patch,
            scale=scale,
            halo=halo,
            rate=rate,
            policy=policy,
            batch_crops=batch_crops,
            segmentor_scale=segmentor_scale,
        )
        self.init_cfg = init_cfg
        # The segmentor's checkpoints have no place for what zoom adds to it.
        self.register_buffer("threshold", self.threshold, persistent=False)
        if threshold is not None:
            self.threshold.fill_(threshold)
        for name in ("model", "policy"):
            if name in self._modules:
                self.__dict__[name] = self._modules.pop(name)
        self._modules |= self.model._modules

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "model" not in self.__dict__:
                raise
            # What is asked of a segmentor, such as `with_neck`.
            return getattr(self.model, name)

    def train(self, mode: bool = True) -> nn.Module:
        self.model.training = mode
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        if self.learns:
            self.policy._apply(fn)
        return super()._apply(fn, recurse)
