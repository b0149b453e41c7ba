"""One frame of LiteEval: two LSTMs, and the gate that says which of them the answer follows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynbackbones.backbones.sar.schedules import scheduled_temperature
from dynbackbones.backbones.scheduled import Scheduled
from dynbackbones.layers.gumbel import gumbel_select
from dynbackbones.video import costs
from dynbackbones.video.liteeval_run import Cell


class LiteEvalCells(Scheduled, nn.Module):
    """Base of `LiteEval`, which says what the arguments mean and checks them.

    The coarse LSTM sees every frame. From its features and the state of the fine LSTM the gate
    decides whether that one sees the frame too, or takes over what the coarse one knows.
    """

    def __init__(
        self,
        coarse_channels: int,
        fine_channels: int,
        num_classes: int,
        *,
        coarse_hidden: int,
        fine_hidden: int,
        temperature: tuple[float, float],
        synchronise: bool,
    ) -> None:
        super().__init__()
        self.coarse_channels, self.fine_channels = coarse_channels, fine_channels
        self.coarse_hidden, self.fine_hidden = coarse_hidden, fine_hidden
        self.temperature, self.synchronise = temperature, synchronise
        self.coarse_cell = nn.LSTMCell(coarse_channels, coarse_hidden)
        self.fine_cell = nn.LSTMCell(coarse_channels + fine_channels, fine_hidden)
        self.gate = nn.Linear(coarse_channels + 2 * fine_hidden, 2)
        self.classifier = nn.Linear(fine_hidden, num_classes)
        self.register_buffer("gate_threshold", torch.zeros(()))

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

    def _empty(self, n: int) -> tuple[Cell, Cell]:
        """Of the coarse and of the fine LSTM before the first frame."""
        zeros = self.classifier.weight.new_zeros
        quick, slow = zeros(n, self.coarse_hidden), zeros(n, self.fine_hidden)
        return (quick, quick), (slow, slow)

    def _look(self, coarse: Tensor, quick: Cell, slow: Cell) -> tuple[Cell, Cell, Tensor]:
        """What every frame costs, for coarse features (N, coarse_channels).

        Returns:
            The coarse LSTM, the fine one if the frame is skipped, and (N, 2) of "skip" and "fine".
        """
        quick = self.coarse_cell(coarse, quick)
        wanted = self.gate(torch.cat([coarse, *slow], dim=1))
        if self.synchronise:
            pairs = zip(quick, slow, strict=True)
            slow = tuple(torch.cat([q, s[:, self.coarse_hidden :]], dim=1) for q, s in pairs)
        else:  # parameters without any gradient would stop DDP
            slow = slow[0] + 0 * quick[0].sum(), slow[1]
        return quick, slow, wanted

    def _look_closer(self, coarse: Tensor, fine: Tensor, slow: Cell) -> Cell:
        """The fine LSTM behind a frame with fine features."""
        return self.fine_cell(torch.cat([coarse, fine], dim=1), slow)

    def _is_open(self, wanted: Tensor) -> Tensor:
        return margin(wanted) > self.gate_threshold

    def _decide(self, wanted: Tensor) -> Tensor:
        """(N,) of 0 and 1, drawn in training mode."""
        if self.training:
            return gumbel_select(wanted, self.scheduled_temperature)
        return self._is_open(wanted).to(wanted)


def margin(wanted: Tensor) -> Tensor:
    """(N,), logit of "fine" minus that of "skip"."""
    return wanted[:, 1] - wanted[:, 0]
