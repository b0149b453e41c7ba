"""How a stream calls a model: a frame in, the model's own result out."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.errors import UserError
from dynbackbones.video.cuts import Cut
from dynbackbones.video.propagation import Instances, Kept, Maps, Opaque
from dynbackbones.zoom.costs import Costs
from dynbackbones.zoom.wrapper import Zoom

# By the package that a model's class comes from; each has a function ``adapter``.
_MODULES = {
    "torchvision": "dynbackbones.integrations.torchvision.video",
    "detectron2": "dynbackbones.integrations.detectron2.video",
    "mmseg": "dynbackbones.integrations.openmmlab.video_segmentor",
}


class Adapter(Protocol):
    """What `Stream` asks of a model."""

    def run(self, image: np.ndarray) -> tuple[Any, Kept]:
        """The model's own result for an (H, W, 3) uint8 RGB image, and what of it can be moved.

        What is kept shares no memory with the result, which is the caller's to change.
        """

    def result(self, kept: Kept) -> Any:
        """The model's own result, from what was kept and perhaps moved."""

    def macs(self, size: tuple[int, int]) -> float | None:
        """Multiply-accumulates for a frame of a size; None where they cannot be counted."""

    def moved_macs(self, size: tuple[int, int]) -> float | None:
        """The same of ``result``, which runs no part of most models."""


def adapter_of(model: Any) -> Adapter:
    """The adapter for a model.

    Args:
        model: of torchvision, detectron2 or mmseg, also inside of a zoom; a predictor of one of
            this package's engines; or a function of an (H, W, 3) uint8 RGB image.

    Raises:
        UserError: its framework is known and a stream cannot serve it, or it is neither.
    """
    for base in type(unzoomed(model)).__mro__:
        package = base.__module__.partition(".")[0]
        if package in _MODULES:
            return importlib.import_module(_MODULES[package]).adapter(model)
    if callable(getattr(model, "predict", None)) and not isinstance(model, torch.nn.Module):
        return PredictorAdapter(model)
    if callable(model):
        return FunctionAdapter(model)
    raise UserError(
        f"a stream cannot run a {type(model).__name__}: give a model of {', '.join(_MODULES)}, a "
        "predictor, a function of an (H, W, 3) uint8 RGB image, or an adapter=... of your own"
    )


def unzoomed(model: Any) -> Any:
    """The model that a zoom wraps; any other model itself."""
    return model.model if isinstance(model, Zoom) else model


def check_plain(model: Any) -> None:
    """Refuses a zoom, which looks at parts of a frame one by one, where features are to move.

    Raises:
        UserError: it is one.
    """
    if isinstance(model, Zoom):
        raise UserError(
            f"moves='features' needs a model that sees a frame once, and a {type(model).__name__} "
            "looks again at parts of it; give the model inside, or set moves='result'"
        )


class CountsMacs:
    """Counts a model once for each size of frame, for noise."""

    def __init__(self) -> None:
        # A method, so that a copy counts its own model.
        self._costs = Costs(self._run_for)

    def _run_for(self, noise: Tensor) -> tuple[Any, Kept]:
        return self.run(self.pixels(noise))

    def macs(self, size: tuple[int, int]) -> float | None:
        return self.counted(self._costs, size)

    def moved_macs(self, size: tuple[int, int]) -> float | None:
        return 0.0

    @staticmethod
    def pixels(noise: Tensor) -> np.ndarray:
        """(H, W, 3) of the (3, H, W) that is counted for."""
        return noise.permute(1, 2, 0).cpu().numpy()

    @staticmethod
    def counted(costs: Costs, size: tuple[int, int]) -> float:
        """Multiply-accumulates for a frame of a size."""
        # A thread of its own leaves a dynamic backbone's decisions about the last frame alone.
        with ThreadPoolExecutor(1) as thread:
            like = torch.zeros(3, 1, 1, dtype=torch.uint8)
            return thread.submit(costs.macs, size, like).result()


class FunctionAdapter:
    """Any function of an image; maps and `Prediction` can be moved, anything else is shown again.

    Args:
        function: of (H, W, 3) uint8, RGB.
    """

    def __init__(self, function: Callable[[np.ndarray], Any]) -> None:
        self._function = function

    def run(self, image: np.ndarray) -> tuple[Any, Kept]:
        result = self._function(image)
        if isinstance(result, Tensor) and result.dim() == 3 and result.is_floating_point():
            return result, Maps(result.detach().clone())
        if isinstance(result, Prediction):
            found = (v.clone() for v in (result.boxes, result.scores, result.labels))
            return result, Instances(*found, context=result.input_size)
        return result, Opaque(result)

    def result(self, kept: Kept) -> Any:
        if isinstance(kept, Maps):
            return kept.values.clone()
        if isinstance(kept, Instances):
            found = (v.clone() for v in (kept.boxes, kept.scores, kept.labels))
            return Prediction(*found, kept.context)
        return kept.result

    def macs(self, size: tuple[int, int]) -> float | None:
        return None

    def moved_macs(self, size: tuple[int, int]) -> float | None:
        return 0.0


class PredictorAdapter(CountsMacs, FunctionAdapter):
    """A predictor of one of this package's engines, which gives a `Prediction`."""

    def __init__(self, predictor: Any) -> None:
        FunctionAdapter.__init__(self, predictor.predict)
        CountsMacs.__init__(self)
        self._predictor = predictor

    def cut(self) -> Cut:
        model = getattr(self._predictor, "model", None)
        if not isinstance(model, torch.nn.Module):
            raise UserError(
                f"moves='features': a {type(self._predictor).__name__} without a model, whose "
                "backbone and heads could run apart; set moves='result'"
            )
        quiet = ("transform",) if hasattr(model, "transform") else ()
        return Cut(model, quiet=quiet)

    def around(self, model: torch.nn.Module) -> Adapter:
        predictor = copy.copy(self._predictor)
        predictor.model = model
        return PredictorAdapter(predictor)

    def prepared(self, image: np.ndarray, result: Prediction) -> tuple[int, int]:
        return result.input_size
