"""AdaFrame and LiteEval as a model of mmengine's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor

from dynbackbones.data.video_features import COARSE, FINE
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.weights import refuse_other_networks
from dynbackbones.video import AdaFrame, LiteEval, Lookahead, costs, lookahead_steps
from dynbackbones.video.sampling import memory_indices

NETWORKS = {"AdaFrame": AdaFrame, "LiteEval": LiteEval}


@MODELS.register_module()
class VideoRecognizer(BaseModel):
    """Trains and tests `video.AdaFrame` or `video.LiteEval` on batches of `pad_videos`.

    AdaFrame's memory is of the coarse features of evenly spaced frames. `ScheduleHook` moves
    LiteEval's temperature. A checkpoint of another network is refused; `load_weights` puts one into
    a `video.AdaFrame` or `video.LiteEval` of the same arguments.

    Args:
        net: ``type``, ``"AdaFrame"`` or ``"LiteEval"``, and the arguments of that class.
        stop: of AdaFrame in evaluation: ``margin``, ``patience`` and ``min_steps`` of `Lookahead`;
            by default it takes all steps.
        frame_macs: ``coarse`` and ``fine``, multiply-accumulates of a frame's features, which a
            video's cost is then counted with.
        data_preprocessor, init_cfg: see mmengine's `BaseModel`.

    Raises:
        UserError: an option has a wrong value.
    """

    def __init__(
        self,
        net: Mapping[str, Any],
        *,
        stop: Mapping[str, float] | None = None,
        frame_macs: Mapping[str, float] | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.net = _build(net)
        if stop is not None:
            self._check_stop(stop)
        if frame_macs is not None and set(frame_macs) != {COARSE, FINE}:
            raise UserError(f"frame_macs needs {COARSE} and {FINE}, got {dict(frame_macs)}")
        self.stop, self.frame_macs = stop, frame_macs
        self.register_load_state_dict_pre_hook(_refuse_other_networks)

    def forward(
        self,
        coarse: Tensor,
        fine: Tensor,
        lengths: Tensor,
        labels: Tensor | None = None,
        names: Sequence[str] = (),
        mode: str = "tensor",
    ) -> Any:
        """What the network returns, its losses, or predictions.

        Args:
            coarse, fine, lengths, labels, names: a batch of `pad_videos`.
            mode: ``"tensor"``, ``"loss"`` or ``"predict"``.

        Raises:
            UserError: features have other channels than the network, or labels are no classes.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ValueError(f"mode must be tensor, loss or predict, got {mode!r}")
        run = self._run(coarse, fine, lengths)
        if mode == "loss":
            return self.net.losses(run, labels)
        return run if mode == "tensor" else self._predictions(run, lengths, labels, names)

    def _run(self, coarse: Tensor, fine: Tensor, lengths: Tensor) -> Any:
        if isinstance(self.net, LiteEval):
            return self.net(coarse, fine, lengths)
        index = memory_indices(lengths, self.net.attention.frames)
        rows = torch.arange(len(coarse), device=coarse.device)[:, None]
        return self.net(fine, coarse[rows, index], lengths)

    def _predictions(
        self, run: Any, lengths: Tensor, labels: Tensor | None, names: Sequence[str]
    ) -> list[BaseDataElement]:
        """Samples with ``pred_score`` (C,), ``pred_label``, ``looked`` (T,), ``name``.

        Also ``gt_label`` and ``macs``, where what they need is known.
        """
        logits, looked, macs = self._answers(run, lengths)
        scores = logits.softmax(dim=1).cpu()
        samples = []
        for row, length in enumerate(lengths.tolist()):
            sample = BaseDataElement(
                pred_score=scores[row],
                pred_label=int(scores[row].argmax()),
                looked=looked[row, :length].cpu(),
            )
            if labels is not None:
                sample.gt_label = int(labels[row])
            if len(names):
                sample.name = names[row]
            if self.frame_macs is not None:
                sample.macs = macs[row]
            samples.append(sample)
        return samples

    def _answers(self, run: Any, lengths: Tensor) -> tuple[Tensor, Tensor, list[float]]:
        """Logits (N, C), (N, T) bool where fine features were used, and each video's MACs."""
        cost = self.frame_macs or {COARSE: 0.0, FINE: 0.0}
        if isinstance(self.net, LiteEval):
            looked = run.gates > 0.5
            quick, slow = (self.net.step_macs(fine) for fine in (False, True))
            macs = [
                costs.liteeval_video_macs(
                    length, count, cost[COARSE] + quick, cost[FINE] + slow - quick
                )
                for length, count in zip(lengths.tolist(), looked.sum(1).tolist(), strict=True)
            ]
            return run.answers(), looked, macs
        steps = run.taken
        if self.stop is not None:
            steps = lookahead_steps(run.utilities, steps, **self.stop)
        happens = torch.arange(run.indices.shape[1], device=steps.device) < steps[:, None]
        looked = F.one_hot(run.indices, int(lengths.max())).bool() & happens[..., None]
        looked, memory = looked.any(dim=1), self.net.attention.frames
        rows = zip(lengths.tolist(), looked.sum(1).tolist(), steps.tolist(), strict=True)
        stored = cost[COARSE] * self.net.use_memory
        macs = [
            costs.adaframe_video_macs(count, cost[FINE], stored * min(memory, length))
            + taken * self.net.step_macs()
            for length, count, taken in rows
        ]
        return run.answers(steps), looked, macs

    def _check_stop(self, stop: Mapping[str, float]) -> None:
        if isinstance(self.net, LiteEval):
            raise UserError("stop is for AdaFrame; LiteEval sees all frames: remove it")
        try:
            Lookahead(**stop)
        except TypeError as error:
            raise UserError(f"stop takes margin, patience and min_steps, got {stop}") from error


def _build(options: Mapping[str, Any]) -> AdaFrame | LiteEval:
    options = dict(options)
    kind = options.pop("type", None)
    if kind not in NETWORKS:
        raise UserError(f"net.type must be one of {', '.join(NETWORKS)}, got {kind!r}")
    try:
        return NETWORKS[kind](**options)
    except TypeError as error:
        raise UserError(f"{kind}: {error}") from error


def _refuse_other_networks(
    model: VideoRecognizer, state: Mapping[str, Tensor], prefix: str, *rest: Any
) -> None:
    refuse_other_networks(model, state, prefix, type(model.net).__name__)
