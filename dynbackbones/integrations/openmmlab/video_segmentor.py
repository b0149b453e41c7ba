"""How a stream calls what mmseg's ``init_model`` returns."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import CascadeEncoderDecoder, DepthEstimator, EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.errors import UserError
from dynbackbones.video.adapters import CountsMacs, check_plain, unzoomed
from dynbackbones.video.cuts import Cut
from dynbackbones.video.propagation import Kept, Maps, Opaque
from dynbackbones.zoom.wrapper import Zoom

_LOADING = ("LoadImage", "LoadAnnotations", "CheckLabels")


def adapter(model: nn.Module) -> SegmentorAdapter:
    """The adapter for a segmentor with its config, or a zoom around one.

    Raises:
        UserError: it is another model of mmseg, or has no config.
    """
    inner = unzoomed(model)
    name = type(inner).__name__
    if not isinstance(inner, EncoderDecoder) or isinstance(inner, DepthEstimator):
        raise UserError(f"a stream moves maps of classes, and mmseg's {name} makes none")
    if getattr(inner, "cfg", None) is None:
        raise UserError(
            f"this {name} has no config, which says how frames are prepared: build it with mmseg's "
            "init_model(config, checkpoint), or set model.cfg"
        )
    return SegmentorAdapter(model)


def with_config(model: nn.Module, cfg: Config) -> nn.Module:
    """A model as ``init_model`` leaves it: with the config that it was built from.

    Raises:
        UserError: the config is another library's.
    """
    if cfg.get("default_scope") != "mmseg":
        raise UserError(
            f"{cfg.filename} is of {cfg.get('default_scope')}; a stream runs segmentors of mmseg, "
            "and detectors from YAML"
        )
    model.cfg = cfg
    return model


@dataclass(frozen=True)
class Made:
    """What turns logits into the segmentor's result.

    Attributes:
        sample: of the frame, with its sizes.
        early: whether the logits are those of the head, before they are enlarged.
    """

    sample: SegDataSample
    early: bool


class SegmentorAdapter(CountsMacs):
    """Calls a segmentor as mmseg's ``inference_model`` does, and keeps the logits of its head.

    Args:
        model: put into evaluation mode; of a zoom the result itself is kept.
    """

    def __init__(self, model: EncoderDecoder | Zoom) -> None:
        super().__init__()
        self._whole, self._model = model.eval(), unzoomed(model)
        model = self._model
        self._pipeline = _pipeline(model)
        # Windows overlap, and other heads refine what they made: there the result itself is moved.
        self._early = (
            self._whole is model
            and (model.test_cfg or {}).get("mode", "whole") == "whole"
            and not isinstance(model, CascadeEncoderDecoder)
            and type(model).inference is EncoderDecoder.inference
            and type(model).encode_decode is EncoderDecoder.encode_decode
            and type(model.decode_head).predict is BaseDecodeHead.predict
        )

    @torch.no_grad()
    def run(self, image: np.ndarray) -> tuple[SegDataSample, Kept]:
        # What OpenCV reads, which the pipeline and the preprocessor expect, is BGR.
        data = pseudo_collate([self._pipeline({"img": np.ascontiguousarray(image[:, :, ::-1])})])
        if not self._early:
            (result,) = self._whole.test_step(data)
            if "seg_logits" not in result:  # of a zoom, where they would be too large
                return result, Opaque(result)
            made = Made(copy.deepcopy(_bare(result)), False)
            return result, Maps(result.seg_logits.data.clone(), self._threshold(False), made)
        data = self._model.data_preprocessor(data, False)
        (sample,) = data["data_samples"]
        size = tuple(sample.img_shape[:2])
        if size != tuple(data["inputs"].shape[-2:]):
            for backbone in find_backbones(self._model):
                backbone.set_image_sizes([size])
        logits = self._model.decode_head.forward(self._model.extract_feat(data["inputs"]))
        made = Made(copy.deepcopy(_bare(sample)), True)
        kept = Maps(logits[0], self._threshold(True), made)
        return self._finished(logits, [sample]), kept

    def result(self, kept: Kept) -> SegDataSample:
        if isinstance(kept, Opaque):
            return kept.result
        sample = copy.deepcopy(kept.context.sample)
        if kept.context.early:
            return self._finished(kept.values[None], [sample])
        sample.set_metainfo({"padding_size": [0] * 4, "flip": False})
        sample.set_metainfo({"ori_shape": tuple(kept.values.shape[-2:])})
        if self._model.out_channels == 1:
            return _thresholded(kept.values, sample, self._model.decode_head.threshold)
        return self._model.postprocess_result(kept.values[None], [sample])[0]

    def cut(self) -> Cut:
        """Between backbone (and neck) and head."""
        check_plain(self._whole)
        with_neck = self._model.with_neck
        return Cut(self._model, ("backbone", "neck") if with_neck else ("backbone",))

    def around(self, model: nn.Module) -> SegmentorAdapter:
        """The same with another model of the same class."""
        other = copy.copy(self)
        other._whole = other._model = model
        return other

    def prepared(self, image: np.ndarray, result: SegDataSample) -> tuple[int, int]:
        """Size after the pipeline, which the preprocessor pads."""
        return tuple(result.img_shape[:2])

    def _threshold(self, early: bool) -> float:
        """Of the logits of a head with one channel, or of the probabilities made of them."""
        share = getattr(self._model.decode_head, "threshold", None) or 0.5
        return math.log(share / (1 - share)) if early else share

    def _finished(self, logits: Tensor, samples: Sequence[SegDataSample]) -> SegDataSample:
        """What the segmentor's ``predict`` does once its head has run."""
        metas = [sample.metainfo for sample in samples]
        enlarged = self._model.decode_head.predict_by_feat(logits, metas)
        return self._model.postprocess_result(enlarged, samples)[0]


def _bare(sample: SegDataSample) -> SegDataSample:
    """A sample's sizes, without maps."""
    return SegDataSample(metainfo=dict(sample.metainfo))


def _thresholded(values: Tensor, sample: SegDataSample, threshold: float) -> SegDataSample:
    """The result of a segmentor with one channel, whose values are probabilities already."""
    from mmengine.structures import PixelData

    sample.set_data({"seg_logits": PixelData(data=values.clone())})
    sample.set_data({"pred_sem_seg": PixelData(data=(values > threshold).to(values))})
    return sample


def _pipeline(model: EncoderDecoder) -> Any:
    """The test pipeline of the model's config for pixels in memory, without annotations."""
    init_default_scope(model.cfg.get("default_scope", "mmseg"))
    steps = model.cfg.get("test_pipeline")
    if steps is None:
        raise UserError("the segmentor's config has no test_pipeline, which prepares frames")
    kept = [step for step in steps if not str(step["type"]).startswith(_LOADING)]
    return Compose([{"type": "LoadImageFromNDArray"}, *kept])
