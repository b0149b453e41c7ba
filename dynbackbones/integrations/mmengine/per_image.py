"""What each image of a test was given, as figures and pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.runner import Runner
from torch import Tensor

from dynbackbones.analysis.canvas import import_matplotlib
from dynbackbones.analysis.costs import DecisionMeter
from dynbackbones.analysis.policies import save_policy_picture
from dynbackbones.analysis.spread import RateSpread, correlation, save_spread_picture
from dynbackbones.integrations.mmengine.decision_meter import Counted, DecisionMeterHook
from dynbackbones.integrations.mmengine.runner import unwrap_model

PER_IMAGE = "per_image.json"
_SHOWN, _POLICIES = 10, 200  # images kept of a policy, and policies of which any are


class PerImageHook(DecisionMeterHook):
    """Writes how the images of a test differ in what they are given into the work dir.

    ``per_image.json`` has the spread of their rates (SAR, figure 5), for classifiers with its
    correlation with the loss and the confidence (BlockDrop, figure 2.4), and ``rates.png`` the
    histograms; of networks that choose blocks ``policies.png`` shows images that share a policy
    (figure 2.3). Of recognizers of videos the rate is the share of a video's frames that they
    looked at closely (``looked`` of their samples).

    Attributes:
        lines: for people, after the test.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._forget()

    def _forget(self) -> None:
        self._hardness: list[tuple[float, float]] = []  # loss and confidence of each image
        self._images_of: list[tuple[Tensor, np.ndarray]] = []  # policy and pixels of some
        self._videos: list[tuple[float, float | None]] = []  # share of frames, and MACs, of each
        self._kept: Counter[bytes] = Counter()
        self._policies: Tensor | None = None  # of the last forward pass

    def _record(self, counted: Counted, inputs: tuple, output: Any) -> None:
        super()._record(counted, inputs, output)
        blocks = counted.decisions.blocks()
        self._policies = None if blocks is None else blocks.actions.cpu()

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        import_matplotlib("matplotlib.figure")  # or it would be missed after the whole test

    def _before_epoch(self, runner: Runner, mode: str = "train") -> None:
        super()._before_epoch(runner, mode)
        self._forget()

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | dict | None = None,
        mode: str = "train",
    ) -> None:
        super()._after_iter(runner, batch_idx, data_batch, outputs, mode)
        if mode != "test":
            return
        self._hardness += [_hardness(sample) for sample in outputs if _is_classified(sample)]
        self._videos += [_looked(sample) for sample in outputs if hasattr(sample, "looked")]
        policies, self._policies = self._policies, None
        if policies is None or len(policies) != len(outputs):
            return
        swap = getattr(unwrap_model(runner).data_preprocessor, "to_rgb", False)
        for pixels, policy in zip(data_batch["inputs"], policies, strict=True):
            self._keep(pixels, policy, swap)

    def _keep(self, pixels: Tensor, policy: Tensor, swap: bool) -> None:
        key = policy.numpy().tobytes()
        known = key in self._kept or len(self._kept) < _POLICIES
        if known and self._kept[key] < _SHOWN and pixels.dtype == torch.uint8:
            self._kept[key] += 1
            image = pixels.permute(1, 2, 0).cpu().numpy()
            self._images_of.append((policy, image[..., ::-1] if swap else image))

    def _report(self, runner: Runner, mode: str, metrics: dict[str, float] | None) -> None:
        if mode != "test":
            return
        own = (self._images, self._meter, self._hardness, self._images_of, self._videos)
        parts = all_gather_object(own)
        total = DecisionMeter()
        total.merge([part[1] for part in parts])
        if not is_main_process():
            return
        videos = [video for part in parts for video in part[4]]
        spread = _of_videos(videos) if videos else total.spread()
        if spread is None:
            self.lines = ["no image was given more than another: the network decided nothing"]
            return
        folder = Path(runner.work_dir)
        figures: dict[str, Any] = spread.to_dict()
        self.lines = [spread.table()]
        if not videos and total.passes != (images := sum(part[0] for part in parts)):
            figures["passes"] = figures.pop("images")
            self.lines.append(f"of {total.passes} passes (windows, scales) of {images} images")
        figures |= self._with_hardness(spread, [pair for part in parts for pair in part[2]])
        (folder / PER_IMAGE).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        self.lines.append(f"figures: {folder / PER_IMAGE}")
        self.lines.append(f"picture: {save_spread_picture(folder / 'rates.png', spread)}")
        shown = [pair for part in parts for pair in part[3]]
        if shown:
            policies, images_of = zip(*shown, strict=True)
            path = save_policy_picture(
                folder / "policies.png", images_of, torch.stack(policies), of=total.policies
            )
            self.lines.append(f"picture: {path}")

    def _with_hardness(
        self, spread: RateSpread, pairs: Sequence[tuple[float, float]]
    ) -> dict[str, float | None]:
        if len(pairs) != len(spread.rates):
            return {}
        losses, confidences = torch.tensor(pairs, dtype=torch.float64).unbind(dim=1)
        found = {
            "correlation_with_loss": correlation(spread.rates, losses),
            "correlation_with_confidence": correlation(spread.rates, confidences),
        }
        texts = ["none, as one is constant" if c is None else f"{c:+.3f}" for c in found.values()]
        self.lines.append(f"correlation with the loss {texts[0]}, with the confidence {texts[1]}")
        return found


def _looked(sample: Any) -> tuple[float, float | None]:
    return float(sample.looked.double().mean()), sample.get("macs")


def _of_videos(videos: Sequence[tuple[float, float | None]]) -> RateSpread:
    shares, macs = (list(column) for column in zip(*videos, strict=True))
    gmacs = None if None in macs else torch.tensor(macs, dtype=torch.float64) / 1e9
    rates = torch.tensor(shares, dtype=torch.float64)
    return RateSpread("share_of_frames", rates, gmacs, what="video")


def _is_classified(sample: Any) -> bool:
    return hasattr(sample, "pred_score") and hasattr(sample, "gt_label")


def _hardness(sample: Any) -> tuple[float, float]:
    """An image's loss and the largest of its probabilities."""
    scores = sample.pred_score.double()
    return float(-scores[sample.gt_label].clamp(min=1e-12).log().mean()), float(scores.max())
