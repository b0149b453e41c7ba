"""LiteEval: cheap features of every frame, dear ones of those that a gate asks for, online.

Wu et al., LiteEval: A Coarse-to-Fine Framework for Resource Efficient Video Recognition, NeurIPS
2019, at the level of features. ``docs/results/video_recognition.md`` says where the text and the
authors' code differ, and what is done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dynbackbones.backbones.sar.loss import activation_rate_loss
from dynbackbones.errors import UserError
from dynbackbones.inference.calibration import meet_rate
from dynbackbones.video import checks
from dynbackbones.video.liteeval_cells import LiteEvalCells, margin
from dynbackbones.video.liteeval_run import LiteEvalRun, LiteEvalState

RATE_LOSSES = ("sample", "batch")


class LiteEval(LiteEvalCells):
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
        super().__init__(
            coarse_channels,
            fine_channels,
            num_classes,
            coarse_hidden=coarse_hidden,
            fine_hidden=fine_hidden,
            temperature=tuple(temperature),
            synchronise=synchronise,
        )
        self.target_rate, self.rate_weight, self.rate_loss = target_rate, rate_weight, rate_loss

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
        quick, slow = self._empty(len(coarse))
        logits, chosen, margins = [], [], []
        for t in range(coarse.shape[1]):
            quick, skipped, wanted = self._look(coarse[:, t], quick, slow)
            margins.append(margin(wanted))
            gate = self._decide(wanted) if gates is None else gates[:, t].to(coarse)
            gate = gate * real[:, t]
            seen = self._look_closer(coarse[:, t], fine[:, t], slow)
            mix = gate[:, None]
            slow = tuple(mix * a + (1 - mix) * b for a, b in zip(seen, skipped, strict=True))
            logits.append(self.classifier(slow[0]))
            chosen.append(gate)
        return LiteEvalRun(*(torch.stack(x, dim=1) for x in (logits, chosen, margins)), lengths)

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
        return LiteEvalState(*self._empty(n), none, none, none.bool())

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
        quick, (hidden, cell), wanted = self._look(coarse, state.coarse, state.fine)
        is_open = self._is_open(wanted)
        rows = is_open.nonzero().flatten()
        if len(rows):
            fine = fine_of(rows)
            checks.check_shape("fine", fine, (len(rows), self.fine_channels),
                               f"({len(rows)}, {self.fine_channels})")  # fmt: skip
            checks.check_finite("fine", fine)
            before = tuple(values[rows] for values in state.fine)
            seen = self._look_closer(coarse[rows], fine, before)
            hidden, cell = (
                values.index_copy(0, rows, new)
                for values, new in zip((hidden, cell), seen, strict=True)
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
