"""What zoom does for detectors and segmentors alike: look, choose, look closer, count."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dynbackbones.backbones.decisions import Batch
from dynbackbones.backbones.traces import Traces
from dynbackbones.errors import UserError
from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.budget import best_of, worth_looking
from dynbackbones.zoom.calibration import find_threshold
from dynbackbones.zoom.decisions import ZoomDecisions
from dynbackbones.zoom.images import ImageSource, as_source
from dynbackbones.zoom.learned import LearnedPolicy
from dynbackbones.zoom.options import find_policy, find_rate
from dynbackbones.zoom.passes import TwoPasses
from dynbackbones.zoom.policies import CoarsePass


class Zoom(TwoPasses):
    """Base of `ZoomDetector` and `ZoomSegmentor`, which say what their arguments mean.

    In training mode it is the wrapped model. Patches are chosen by a share of each image
    (``rate``) until `calibrate` finds one threshold for all images; a trained policy comes with
    thresholds.

    Attributes:
        model: the wrapped one, unchanged.
        threshold: buffer; NaN where ``rate`` chooses.
    """

    def __init__(
        self,
        model: nn.Module,
        adapter: Any,
        *,
        patch: int,
        scale: float,
        halo: int,
        rate: float | None,
        policy: str | LearnedPolicy,
        batch_crops: int,
        model_scale: float,
    ) -> None:
        super().__init__(
            model,
            adapter,
            patch=patch,
            scale=scale,
            halo=halo,
            batch_crops=batch_crops,
            model_scale=model_scale,
        )
        self.policy = find_policy(policy)
        if self.learns:
            own = {"patch": self.patch, "scale": self.scale, "halo": self.halo}
            self.policy.check_settings(**own, model_scale=self.model_scale)
            if self.policy.num_classes != adapter.num_classes:
                raise UserError(
                    f"the policy was trained for a model of {self.policy.num_classes} classes, "
                    f"this one has {adapter.num_classes}"
                )
        self.rate = find_rate(policy, rate)
        # A trained policy knows the threshold for a rate; others compare the patches of an image.
        start = self.policy.threshold_at(self.rate) if self.learns else math.nan
        self.register_buffer("threshold", torch.tensor(start))
        self._traces = Traces()
        self.train(model.training)

    @property
    def decisions(self) -> ZoomDecisions | None:
        """Decisions of this thread's last call; None before the first."""
        return self._traces.mine.decisions

    @property
    def detail(self) -> str:
        """The settings in a line of text."""
        amount = f"{self.rate:g} of its patches"
        if not self.threshold.isnan():
            amount = f"its patches worth more than {self.threshold:.4g}"
        chosen_by = "a trained policy" if self.learns else self.policy.__name__
        return (
            f"zoom: each image at 1/{self.scale:g}, then {amount} of {self.patch} pixels (and "
            f"{self.halo} around them), chosen by {chosen_by}"
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the wrapped model returns for the same arguments."""
        if self.training:
            return self.model(*args, **kwargs)
        call = self.adapter.read(*args, **kwargs)
        return self.adapter.write(call, self.run(call.images))

    @torch.no_grad()
    def run(self, images: Sequence[Tensor | ImageSource]) -> list[Any]:
        """Results of images, in zoom's own types, whatever the framework."""
        return self._zoom([as_source(image) for image in images])

    @torch.no_grad()
    def calibrate(
        self,
        images: Iterable[Tensor | ImageSource],
        *,
        target_rate: float | None = None,
        target_macs: float | None = None,
        target_ms: float | None = None,
    ) -> float:
        """Finds the one threshold with which images cost a budget in the mean.

        Args:
            images: typical ones, not those of the evaluation.
            target_rate: share of patches, in [0, 1]; or
            target_macs: of an image, coarse pass and policy included; or
            target_ms: milliseconds of an image alone on this machine, which are measured first for
                each size, so give the zoom as it will run.

        Returns:
            The rate, the MACs or the milliseconds that the images reach.

        Raises:
            ValueError: not one of them is given, it is out of range, or there are no images.
            UserError: the target is less than the coarse pass costs.
        """
        targets = {"target_rate": target_rate, "target_macs": target_macs, "target_ms": target_ms}
        return find_threshold(self, images, targets)

    @torch.no_grad()
    def anytime(
        self,
        image: Tensor | ImageSource,
        *,
        price: float = -math.inf,
        macs: float = math.inf,
    ) -> Iterator[Any]:
        """Results of one image that become better until the caller stops.

        Args:
            image: (C, H, W), as the model takes it.
            price: it ends where the next patch is expected to gain less.
            macs: it ends where the next patch would exceed these multiply-accumulates.

        Yields:
            What is known after the coarse pass, and after each ``batch_crops`` more patches, the
            most valuable first, as `run` returns it; `decisions` says which patches.

        Raises:
            ValueError: ``price`` is not a number, or ``macs`` do not pay for the coarse pass.
        """
        source = as_source(image)
        coarse, values = self.looks(source)
        order = worth_looking(values, price, macs, self.prices(coarse.grid))
        fine: dict[int, Any] = {}
        for start in range(-self.batch_crops, len(order), self.batch_crops):
            if start >= 0:
                more = order[start : start + self.batch_crops]
                for _, patch, found in self._found_closely(source, more):
                    fine[patch] = self._kept(coarse, patch, found)
            chosen = torch.zeros(len(values), dtype=torch.bool)
            chosen[list(fine)] = True
            self._record([coarse], [values], [chosen], {})
            yield self._merge(coarse, fine)

    @torch.no_grad()
    def macs(self, height: int, width: int, rate: float) -> float:
        """Multiply-accumulates for an image of this size if a share of its patches is chosen."""
        grid = PatchGrid((height, width), self.patch, self.halo)
        parts = self.prices(grid)
        return parts["coarse"] + parts["policy"] + rate * len(grid) * parts["crop"]

    def break_even(self, height: int, width: int) -> float:
        """Share of patches above which zoom costs more MACs than one pass over the whole image.

        Time has a share of its own, which only measuring tells: small crops keep a machine less
        busy than a large image does.
        """
        nothing, everything = self.macs(height, width, 0.0), self.macs(height, width, 1.0)
        return max(0.0, (self.full_macs(height, width) - nothing) / (everything - nothing))

    def looks(self, image: Tensor | ImageSource) -> tuple[CoarsePass, Tensor]:
        """The coarse pass over an image, and what its policy expects of each patch: (P,)."""
        with torch.no_grad():
            (coarse,) = self._look([as_source(image)], defaultdict(float))
            return coarse, self.policy(coarse)

    @abstractmethod
    def _kept(self, coarse: CoarsePass, patch: int, found: Any) -> Any:
        """What `_merge` needs of what was found in a patch's crop."""

    @abstractmethod
    def _merge(self, coarse: CoarsePass, fine: Mapping[int, Any]) -> Any:
        """The result of an image, of what `_kept` left of each patch."""

    def _zoom(self, sources: Sequence[ImageSource]) -> list[Any]:
        seconds: dict[str, float] = defaultdict(float)
        passes = self._look(sources, seconds)
        with self._timed(seconds, "policy"):
            values = [self.policy(coarse) for coarse in passes]
            chosen = [self._choose(value) for value in values]
        wanted = [torch.nonzero(mask)[:, 0].tolist() for mask in chosen]
        fine: list[dict[int, Any]] = [{} for _ in sources]
        grids = [coarse.grid for coarse in passes]
        for image, patch, found in self._crops(sources, grids, wanted, seconds):
            fine[image][patch] = self._kept(passes[image], patch, found)
        with self._timed(seconds, "merge"):
            results = [self._merge(*pair) for pair in zip(passes, fine, strict=True)]
        self._record(passes, values, chosen, seconds)
        return results

    def _choose(self, values: Tensor) -> Tensor:
        if not self.threshold.isnan():
            return values > self.threshold.to(values)
        return best_of(values, self.rate)

    def prices(self, grid: PatchGrid) -> dict[str, float]:
        """Multiply-accumulates of the coarse pass, of the policy, and of one crop."""
        return {
            "coarse": self._macs(self._coarse_size(grid.size)),
            "policy": float(self.policy.macs(len(grid))) if self.learns else 0.0,
            "crop": self._macs(self._at_model_scale(grid.crop_size)),
        }

    @property
    def learns(self) -> bool:
        """Whether the policy is a trained one."""
        return isinstance(self.policy, LearnedPolicy)

    def _record(
        self,
        passes: Sequence[CoarsePass],
        values: list[Tensor],
        chosen: list[Tensor],
        seconds: Mapping[str, float],
    ) -> None:
        grids = [coarse.grid for coarse in passes]
        size = tuple(max(lengths) for lengths in zip(*(g.size for g in grids), strict=True))
        self._traces.mine.decisions = ZoomDecisions(
            Batch(len(grids), size, [grid.size for grid in grids]),
            self._count,
            grids,
            [value.detach().cpu() for value in values],
            [mask.cpu() for mask in chosen],
            self.scale,
            dict(seconds),
        )

    def _count(self, decisions: ZoomDecisions) -> Tensor:
        """(N,) float64, multiply-accumulates of each image."""
        totals = []
        for grid, mask in zip(decisions.grids, decisions.chosen, strict=True):
            parts = self.prices(grid)
            totals.append(parts["coarse"] + parts["policy"] + int(mask.sum()) * parts["crop"])
        return torch.tensor(totals, dtype=torch.float64)
