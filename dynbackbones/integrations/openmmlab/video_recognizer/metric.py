"""What a recognizer of videos gets right, and on how many frames."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch.nn.utils.rnn import pad_sequence

from dynbackbones.policy import PolicyStatistics


@METRICS.register_module()
class VideoMetric(BaseMetric):
    """Accuracy of a `VideoRecognizer`, and which frames it looked at closely.

    ``top1`` in per cent; ``frames``, mean number of different frames with fine features;
    ``fine_share``, of a video's frames, mean over videos; ``distinct_policies``,
    ``largest_policy_share`` and ``policy_entropy_bits`` of the frames chosen, see
    `PolicyStatistics`: 1 policy for all videos is a fixed choice, whatever the network. ``gmacs``
    (10^9 multiply-accumulates of a video) if the model knows what a frame's features cost.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Takes what was predicted for a batch."""
        for sample in data_samples:
            right = sample["pred_label"] == sample["gt_label"]
            self.results.append((right, sample["looked"], sample.get("macs")))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The figures over all videos."""
        policies = PolicyStatistics()
        looked = [entry[1] for entry in results]
        policies.update(pad_sequence(looked, batch_first=True))
        figures = policies.to_dict()
        found = {
            "top1": 100 * statistics.fmean(entry[0] for entry in results),
            "frames": figures["mean_actions"],
            "fine_share": statistics.fmean(float(frames.float().mean()) for frames in looked),
            "distinct_policies": figures["distinct_policies"],
            "largest_policy_share": figures["largest_policy_share"],
            "policy_entropy_bits": figures["policy_entropy_bits"],
        }
        macs = [entry[2] for entry in results if entry[2] is not None]
        return {**found, "gmacs": statistics.fmean(macs) / 1e9} if macs else found
