"""LiteEval: cheap features of every frame, dear ones of those that a gate asks for, online.

Wu et al., LiteEval: A Coarse-to-Fine Framework for Resource Efficient Video Recognition, NeurIPS
2019, at the level of features. ``docs/results/video_recognition.md`` says where the text and the
authors' code differ, and what is done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.backbones.sar.loss import activation_rate_loss
from dynbackbones.backbones.sar.schedules import scheduled_temperature
from dynbackbones.backbones.scheduled import Scheduled
from dynbackbones.errors import UserError
from dynbackbones.inference.calibration import meet_rate
from dynbackbones.layers.gumbel import gumbel_select
from dynbackbones.video import checks, costs

RATE_LOSSES = ("sample", "batch")
Cell = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class LiteEvalRun:
    """What a model did with a batch of videos.

    Attributes:
        logits: (N, T, C) after each frame.
        gates: (N, T) of 0 and 1, where fine features were used; 0 past a video's end. In training
            with the straight-through gradient.
        gate_logits: (N, T), of "fine" minus "skip".
        lengths: (N,).
    """

    logits: Tensor
    gates: Tensor
    gate_logits: Tensor
    lengths: Tensor

    @property
    def scores(self) -> Tensor:
        """(N, T, C) probabilities."""
        return self.logits.softmax(dim=2)

    @property
    def rates(self) -> Tensor:
        """(N,) share of each video's frames with fine features."""
        return self.gates.sum(dim=1) / self.lengths

    def answers(self) -> Tensor:
        """Logits (N, C) after the last frame."""
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        return self.logits[rows, self.lengths - 1]


class LiteEvalState(NamedTuple):
    """State of N streams between frames; never changed, each step makes another.

    Attributes:
        coarse, fine: states and cells of the LSTMs.
        frames, fine_frames: (N,) seen so far, and those with fine features.
        gate: (N,) bool, whether the last frame had them.
    """

    coarse: Cell
    fine: Cell
    frames: Tensor
    fine_frames: Tensor
    gate: Tensor


class LiteEval(Scheduled, nn.Module):
    """Decides for each frame, from coarse features and the fine state, if fine ones are computed.

    Where it does not, the first ``coarse_hidden`` entries of the fine LSTM's state and cell become
    those of the coarse LSTM. An answer is ready after each frame.

    Args:
        coarse_channels, fine_channels: of the features.
        num_classes: at least 2.
        coarse_hidden, fine_hidden: units of the LSTMs; the first at most as many as the second.
        target_rate: gamma, the share of frames with *fine* features to aim at. The authors' code
            has an option of this name for the share that is skipped.
        rate_weight: lambda of the rate's loss.
        rate_loss: ``"sample"``, as printed, holds each video to the rate; ``"batch"``, as the
            authors' code, their mean.
        temperature: of the Gumbel-softmax at the start and the end of training.
        synchronise: False leaves the fine state as it is on skipped frames, for comparison.

    Attributes:
        gate_threshold: on the gate's logit difference, 0 after training, moved by `calibrate`;
            higher ones compute less.
        progress: share of training done, set by `set_progress`.

    Raises:
        UserError: an argument is out of range.

    Example:
        >>> import torch
        >>> from dynbackbones import video
        >>> _ = torch.manual_seed(0)
        >>> gate = video.LiteEval(4, 8, num_classes=3, coarse_hidden=5, fine_hidden=16).eval()
        >>> coarse, fine = torch.rand(2, 10, 4), torch.rand(2, 10, 8)
        >>> run = gate(coarse, fine)
        >>> run.scores.shape, run.gates.shape
        (torch.Size([2, 10, 3]), torch.Size([2, 10]))
        >>> state = gate.start(2)
        >>> for t in range(10):
        ...     scores, state = gate.step(coarse[:, t], lambda rows: fine[rows, t], state)
        >>> torch.allclose(scores, run.scores[:, -1], atol=1e-6)
        True
    """

    def __init__(
        self,
        coarse_channels: int,
        fine_channels: int,
        num_classes: int,
        *,
        coarse_hidden: int = 512,
        fine_hidden: int = 2048,
        target_rate: float = 0.1,
        rate_weight: float = 2.0,
        rate_loss: str = "sample",
        temperature: Sequence[float] = (1.0, 0.1),
        synchronise: bool = True,
    ) -> None:
        super().__init__()
        checks.check_at_least(
            1,
            coarse_channels=coarse_channels,
            fine_channels=fine_channels,
            coarse_hidden=coarse_hidden,
            fine_hidden=fine_hidden,
        )
        checks.check_at_least(2, num_classes=num_classes)
        checks.check_at_least(0, rate_weight=rate_weight)
        checks.check_choice("rate_loss", rate_loss, RATE_LOSSES)
        if coarse_hidden > fine_hidden:
            raise UserError(
                f"coarse_hidden must be at most fine_hidden={fine_hidden}, which it is copied "
                f"into, got {coarse_hidden}"
            )
        if not 0 <= target_rate <= 1:
            raise UserError(f"target_rate must lie in [0, 1], got {target_rate}")
        if len(temperature) != 2 or not all(0 < t < math.inf for t in temperature):
            raise UserError(f"temperature must be two positive numbers, got {temperature}")
        self.coarse_channels, self.fine_channels = coarse_channels, fine_channels
        self.coarse_hidden, self.fine_hidden = coarse_hidden, fine_hidden
        self.target_rate, self.rate_weight, self.rate_loss = target_rate, rate_weight, rate_loss
        self.temperature, self.synchronise = tuple(temperature), synchronise
        self.coarse_cell = nn.LSTMCell(coarse_channels, coarse_hidden)
        self.fine_cell = nn.LSTMCell(coarse_channels + fine_channels, fine_hidden)
        self.gate = nn.Linear(coarse_channels + 2 * fine_hidden, 2)
        self.classifier = nn.Linear(fine_hidden, num_classes)
        self.register_buffer("gate_threshold", torch.zeros(()))

    def forward(
        self,
        coarse: Tensor,
        fine: Tensor,
        lengths: Tensor | None = None,
        *,
        gates: Tensor | None = None,
    ) -> LiteEvalRun:
        """Goes through whole videos; in training mode gates are drawn.

        Args:
            coarse: (N, T, coarse_channels) features.
            fine: (N, T, fine_channels), of each frame; what the gate leaves out has no influence.
            lengths: (N,) frames of each video; by default T. What stands behind them is ignored.
            gates: (N, T) of 0 and 1 to use instead of the gate's own.

        Raises:
            UserError: an argument has another shape, or features are not finite.
        """
        coarse, fine, lengths, real = self._checked(coarse, fine, lengths)
        if gates is not None:
            checks.check_shape("gates", gates, tuple(real.shape), f"{tuple(real.shape)}")
        slow = self._empty(len(coarse), self.fine_hidden)
        quick = self._empty(len(coarse), self.coarse_hidden)
        logits, chosen, wanted = [], [], []
        for t in range(coarse.shape[1]):
            quick = self.coarse_cell(coarse[:, t], quick)
            decision = self._gate_logits(coarse[:, t], slow)
            wanted.append(decision[:, 1] - decision[:, 0])
            gate = self._decide(decision) if gates is None else gates[:, t].to(coarse)
            gate = gate * real[:, t]
            computed = self.fine_cell(torch.cat([coarse[:, t], fine[:, t]], dim=1), slow)
            copied = self._copied(quick, slow)
            mix = gate[:, None]
            slow = tuple(mix * a + (1 - mix) * b for a, b in zip(computed, copied, strict=True))
            logits.append(self.classifier(slow[0]))
            chosen.append(gate)
        return LiteEvalRun(*(torch.stack(x, dim=1) for x in (logits, chosen, wanted)), lengths)

    def losses(self, run: LiteEvalRun, labels: Tensor) -> dict[str, Tensor]:
        """Losses, and what to log beside them (names without "loss").

        Args:
            run: of a forward pass in training mode.
            labels: (N,) classes.

        Raises:
            UserError: they do not fit.
        """
        answers = run.answers()
        checks.check_labels(labels, answers)
        rates = run.rates
        losses = {"loss_classification": F.cross_entropy(answers, labels)}
        if run.gates.requires_grad:
            loss = activation_rate_loss(rates[None], self.target_rate, self.rate_loss)
            losses["loss_rate"] = self.rate_weight * loss
        return {
            **losses,
            "accuracy": 100 * (answers.argmax(dim=1) == labels).float().mean(),
            "fine_rate": rates.detach().mean(),
            "rate_spread": rates.detach().std(correction=0),
        }

    def start(self, n: int = 1) -> LiteEvalState:
        """State of n streams before their first frame.

        Raises:
            UserError: there are none.
        """
        checks.check_at_least(1, n=n)
        none = torch.zeros(n, dtype=torch.long, device=self.gate_threshold.device)
        return LiteEvalState(
            self._empty(n, self.coarse_hidden),
            self._empty(n, self.fine_hidden),
            none,
            none,
            none.bool(),
        )

    @torch.no_grad()
    def step(
        self, coarse: Tensor, fine_of: Callable[[Tensor], Tensor], state: LiteEvalState
    ) -> tuple[Tensor, LiteEvalState]:
        """One frame of each stream. Decides as in evaluation, and computes nothing that it skips.

        Args:
            coarse: (N, coarse_channels) features of the frame.
            fine_of: from rows (M,), indices of the streams whose gate is open, to their fine
                features (M, fine_channels); not called where there are none.
            state: of `start` or the step before; it stays as it is, also where this raises.

        Returns:
            Probabilities (N, C), and the state for the next frame.

        Raises:
            UserError: features have another shape or are not finite.
        """
        n = len(state.frames)
        checks.check_shape("coarse", coarse, (n, self.coarse_channels),
                           f"({n}, {self.coarse_channels})")  # fmt: skip
        checks.check_finite("coarse", coarse)
        quick = self.coarse_cell(coarse, state.coarse)
        is_open = self._is_open(self._gate_logits(coarse, state.fine))
        hidden, cell = self._copied(quick, state.fine)
        rows = is_open.nonzero().flatten()
        if len(rows):
            fine = fine_of(rows)
            checks.check_shape("fine", fine, (len(rows), self.fine_channels),
                               f"({len(rows)}, {self.fine_channels})")  # fmt: skip
            checks.check_finite("fine", fine)
            before = tuple(values[rows] for values in state.fine)
            computed = self.fine_cell(torch.cat([coarse[rows], fine], dim=1), before)
            hidden, cell = (
                values.index_copy(0, rows, new)
                for values, new in zip((hidden, cell), computed, strict=True)
            )
        after = LiteEvalState(
            quick, (hidden, cell), state.frames + 1, state.fine_frames + is_open, is_open
        )
        return self.classifier(hidden).softmax(dim=1), after

    def thresholds(self) -> list[Tensor]:
        """What calibration moves; higher ones compute less."""
        return [self.gate_threshold]

    def calibrate(
        self,
        videos: Iterable[tuple[Tensor, ...]],
        *,
        target_rate: float | None,
        target_macs: float | None = None,
        tolerance: float = 0.01,
        max_steps: int = 20,
    ) -> float:
        """Moves the gate's threshold to a share of frames with fine features.

        That is what ``dynbackbones.calibrate(model, videos, target_rate=...)`` calls. Since the
        gate sees the state that earlier gates left, the rate need not fall evenly: the best of the
        thresholds tried is kept.

        Args:
            videos: batches of ``(coarse, fine)`` or ``(coarse, fine, lengths)``.
            target_rate: mean share of fine frames, in [0, 1].
            target_macs: not known to a model of features; give a rate.
            tolerance: distance from the target that is good enough.
            max_steps: passes over the videos at most, besides the first two.

        Returns:
            The rate reached; where it misses the target there is a warning.

        Raises:
            UserError: an argument is out of range, or there are no videos.
        """
        if target_rate is None or target_macs is not None or not 0 <= target_rate <= 1:
            raise UserError(
                f"LiteEval is set for a target_rate in [0, 1], got target_rate={target_rate}, "
                f"target_macs={target_macs}"
            )
        batches = list(videos)
        if not batches:
            raise UserError("videos must not be empty: calibration needs some typical ones")

        def rate() -> float:
            return float(torch.cat([self(*batch).rates for batch in batches]).mean())

        return meet_rate(self, rate, target_rate, tolerance, max_steps)

    @property
    def scheduled_temperature(self) -> float:
        """Of the Gumbel-softmax at the present share of training."""
        return scheduled_temperature(self.temperature, self.progress)

    def step_macs(self, fine: bool) -> float:
        """Multiply-accumulates of a frame beside its features, with or without fine ones."""
        inputs = self.coarse_channels + self.fine_channels
        gate = 2.0 * self.gate.in_features
        answer = float(self.classifier.in_features * self.classifier.out_features)
        quick = costs.lstm_step_macs(self.coarse_channels, self.coarse_hidden)
        return quick + gate + answer + fine * costs.lstm_step_macs(inputs, self.fine_hidden)

    def _checked(
        self, coarse: Tensor, fine: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shape = (None, None, self.coarse_channels)
        checks.check_shape("coarse", coarse, shape, f"(N, T, {self.coarse_channels})")
        n, frames = coarse.shape[:2]
        checks.check_shape("fine", fine, (n, frames, self.fine_channels),
                           f"({n}, {frames}, {self.fine_channels})")  # fmt: skip
        lengths = checks.checked_lengths(lengths, coarse)
        coarse, real = checks.without_padding("coarse", coarse, lengths)
        return coarse, checks.without_padding("fine", fine, lengths)[0], lengths, real

    def _empty(self, n: int, hidden: int) -> Cell:
        zeros = self.classifier.weight.new_zeros(n, hidden)
        return zeros, zeros

    def _gate_logits(self, coarse: Tensor, slow: Cell) -> Tensor:
        """(N, 2), of "skip" and "fine"."""
        return self.gate(torch.cat([coarse, *slow], dim=1))

    def _is_open(self, decision: Tensor) -> Tensor:
        return decision[:, 1] - decision[:, 0] > self.gate_threshold

    def _decide(self, decision: Tensor) -> Tensor:
        if self.training:
            return gumbel_select(decision, self.scheduled_temperature)
        return self._is_open(decision).to(decision)

    def _copied(self, quick: Cell, slow: Cell) -> Cell:
        """The fine state of a skipped frame."""
        if not self.synchronise:
            return slow
        pairs = zip(quick, slow, strict=True)
        return tuple(torch.cat([q, s[:, self.coarse_hidden :]], dim=1) for q, s in pairs)
