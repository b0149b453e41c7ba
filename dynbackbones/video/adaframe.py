"""AdaFrame: an agent that jumps through a video and answers after few frames.

Wu et al., AdaFrame: Adaptive Frame Selection for Fast Video Recognition, CVPR 2019, at the level
of features. Where the paper is silent or contradicts itself, ``docs/results/video_recognition.md``
says what is done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dynbackbones.errors import UserError
from dynbackbones.video import checks, costs
from dynbackbones.video.adaframe_learning import REWARDS, SUPERVISED, losses
from dynbackbones.video.adaframe_run import AdaFrameAnswer, AdaFrameRun, frame_index
from dynbackbones.video.memory import POSITIONS, Memory, MemoryAttention
from dynbackbones.video.stopping import Lookahead

FIRST = ("middle", "start")
_LOG_ROOT = 0.5 * math.log(2 * math.pi)


class AdaFrame(nn.Module):
    """Looks at K frames of a video, one after the other, and learns by reward where to look.

    A memory of small frames of the whole video (``memory_frames`` of them, or as many as it has)
    gives context. State of a video lives in a call, never in the model.

    Args:
        frame_channels: of the features of frames.
        memory_channels: of the memory's.
        num_classes: at least 2.
        hidden: units of the LSTM.
        steps: K in training and at most in inference.
        memory_frames: Td.
        use_memory: False leaves the context out, for comparison.
        first: where to begin: ``"middle"`` is the location that the printed equations give for an
            empty state, ``"start"`` the first frame.
        position: ``"keys_and_values"`` or ``"keys"``, as printed; see `MemoryAttention`.
        supervise: ``"last"``, as printed, or ``"all"`` steps, whose answers early stops give.
        reward: ``"margin"``, ``"probability"`` or ``"probability_gain"``.
        sigma: standard deviation of locations in training.
        discount: gamma of the returns.
        utility_weight, selection_weight: lambda of these losses.

    Raises:
        UserError: an argument is out of range.

    Example:
        >>> import torch
        >>> from dynbackbones import video
        >>> agent = video.AdaFrame(frame_channels=8, memory_channels=4, num_classes=3, hidden=16,
        ...                        steps=5)
        >>> run = agent(torch.rand(2, 60, 8), torch.rand(2, 16, 4))
        >>> run.scores.shape, run.indices[:, 0].tolist()
        (torch.Size([2, 5, 3]), [30, 30])
        >>> sorted(name for name in agent.losses(run, torch.tensor([0, 2])) if "loss" in name)
        ['loss_classification', 'loss_selection', 'loss_utility']
        >>> answer = agent.eval().classify(lambda frame: torch.ones(8), torch.rand(16, 4), 60)
        >>> answer.frames[0], len(answer.frames) <= 5
        (30, True)
    """

    def __init__(
        self,
        frame_channels: int,
        memory_channels: int,
        num_classes: int,
        *,
        hidden: int = 1024,
        steps: int = 10,
        memory_frames: int = 16,
        use_memory: bool = True,
        first: str = "middle",
        position: str = "keys_and_values",
        supervise: str = "last",
        reward: str = "margin",
        sigma: float = 0.1,
        discount: float = 0.9,
        utility_weight: float = 1.0,
        selection_weight: float = 1.0,
    ) -> None:
        super().__init__()
        checks.check_at_least(
            1,
            frame_channels=frame_channels,
            memory_channels=memory_channels,
            hidden=hidden,
            steps=steps,
            memory_frames=memory_frames,
        )
        checks.check_at_least(2, num_classes=num_classes)
        checks.check_at_least(0, utility_weight=utility_weight, selection_weight=selection_weight)
        checks.check_choice("first", first, FIRST)
        checks.check_choice("position", position, POSITIONS)
        checks.check_choice("supervise", supervise, SUPERVISED)
        checks.check_choice("reward", reward, REWARDS)
        if not 0 < sigma < math.inf:
            raise UserError(f"sigma must be positive, got {sigma}")
        if not 0 <= discount <= 1:
            raise UserError(f"discount must lie in [0, 1], got {discount}")
        self.frame_channels, self.memory_channels = frame_channels, memory_channels
        self.hidden, self.steps, self.use_memory = hidden, steps, use_memory
        self.first, self.supervise, self.reward = first, supervise, reward
        self.sigma, self.discount = sigma, discount
        self.utility_weight, self.selection_weight = utility_weight, selection_weight
        self.attention = MemoryAttention(memory_channels, hidden, memory_frames, position)
        self.cell = nn.LSTMCell(frame_channels + memory_channels, hidden)
        self.classifier = nn.Linear(hidden, num_classes)
        # Without bias, as printed, so that an empty state means the middle.
        self.location = nn.Linear(hidden, 1, bias=False)
        self.utility = nn.Linear(hidden, 1)

    def forward(
        self,
        frames: Tensor,
        memory: Tensor,
        lengths: Tensor | None = None,
        *,
        indices: Tensor | None = None,
    ) -> AdaFrameRun:
        """Takes all steps: locations are drawn in training mode, in evaluation they are the means.

        Args:
            frames: (N, T, frame_channels) features.
            memory: (N, Td, memory_channels) features of Td evenly spaced small frames; of a video
                of fewer frames the first ``min(Td, length)`` count.
            lengths: (N,) frames of each video; by default T. What stands behind them is ignored.
            indices: (N, K) frames to look at instead, for fixed choices, without selection loss.

        Raises:
            UserError: an argument has another shape, or features are not finite.
        """
        frames, lengths, stored = self._checked(frames, memory, lengths)
        given = None if indices is None else self._given(indices, lengths)
        n, rows = len(frames), torch.arange(len(frames), device=frames.device)
        state = (frames.new_zeros(n, self.hidden), frames.new_zeros(n, self.hidden))
        seen = torch.arange(frames.shape[1], device=frames.device) >= lengths[:, None]
        taken, location = torch.zeros_like(lengths), self._first(n, frames)
        log_probs, steps = [], []
        count = self.steps if given is None else given.shape[1]
        for step in range(count):
            taken = taken + ~seen.all(dim=1)
            if given is None:
                index = frame_index(location, lengths)
            else:
                index, location = given[:, step], (given[:, step] + 0.5) / lengths
            seen = seen.scatter(1, index[:, None], True)
            state, weights = self._look(frames[rows, index], stored, state)
            steps.append((self.classifier(state[0]), location, index,
                          self.utility(state[0]).squeeze(1), weights))  # fmt: skip
            if step + 1 < count and given is None:
                location, log_prob = self._next(state[0])
                log_probs.append(log_prob)
        logs = torch.stack(log_probs, dim=1) if log_probs else frames.new_zeros(n, 0)
        logits, locations, visited, utilities, weights = (
            torch.stack(values, dim=1) for values in zip(*steps, strict=True)
        )
        return AdaFrameRun(logits, locations, visited, utilities, logs, taken, weights)

    def losses(self, run: AdaFrameRun, labels: Tensor) -> dict[str, Tensor]:
        """Losses, and what to log beside them (names without "loss").

        Args:
            run: of a forward pass in training mode.
            labels: (N,) classes.

        Raises:
            UserError: they do not fit.
        """
        checks.check_labels(labels, run.logits[:, 0])
        return losses(
            run,
            labels,
            supervise=self.supervise,
            reward=self.reward,
            discount=self.discount,
            utility_weight=self.utility_weight,
            selection_weight=self.selection_weight,
        )

    @torch.no_grad()
    def classify(
        self,
        read_features: Callable[[int], Tensor],
        memory: Tensor,
        num_frames: int,
        *,
        margin: float = math.inf,
        patience: int = 2,
        min_steps: int = 1,
    ) -> AdaFrameAnswer:
        """Classifies one video, and asks for the frames that it wants, each once.

        Args:
            read_features: from a frame's index to its features (frame_channels,).
            memory: (Td, memory_channels).
            num_frames: of the video, at least 1.
            margin, patience, min_steps: when to stop before `steps`, see `Lookahead`; by default
                never.

        Raises:
            UserError: there are no frames, or features have another shape or are not finite.
        """
        checks.check_at_least(1, num_frames=num_frames)
        lengths = torch.tensor([num_frames], device=memory.device)
        checks.check_shape("memory", memory, (None, self.memory_channels),
                           f"(Td, {self.memory_channels})")  # fmt: skip
        stored = self._stored(memory[None], lengths)
        state = tuple(memory.new_zeros(1, self.hidden) for _ in range(2))
        location, known = self._first(1, memory), {}
        stop, visited, reason = Lookahead(margin, patience, min_steps), [], "steps"
        for _ in range(self.steps):
            index = int(frame_index(location, lengths))
            visited.append(index)
            if index not in known:
                known[index] = self._read(read_features, index)
            state, _weights = self._look(known[index][None].to(memory), stored, state)
            if stop(float(self.utility(state[0]))):
                reason = "utility"
                break
            if len(known) == num_frames:
                reason = "seen"
                break
            location = self.location(state[0]).sigmoid().squeeze(1)
        return AdaFrameAnswer(self.classifier(state[0]).softmax(dim=1)[0], visited, reason)

    def step_macs(self) -> float:
        """Multiply-accumulates of a step beside its frame: attention, LSTM and heads."""
        inputs = self.frame_channels + self.memory_channels
        heads = self.hidden * (self.classifier.out_features + 2)
        attention = costs.attention_macs(self.hidden, self.memory_channels, self.attention.frames)
        return costs.lstm_step_macs(inputs, self.hidden) + heads + self.use_memory * attention

    def _checked(
        self, frames: Tensor, memory: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Memory]:
        shape = (None, None, self.frame_channels)
        checks.check_shape("frames", frames, shape, f"(N, T, {self.frame_channels})")
        shape = (len(frames), None, self.memory_channels)
        checks.check_shape("memory", memory, shape, f"({len(frames)}, Td, {self.memory_channels})")
        lengths = checks.checked_lengths(lengths, frames)
        frames, _ = checks.without_padding("frames", frames, lengths)
        return frames, lengths, self._stored(memory, lengths)

    def _stored(self, memory: Tensor, lengths: Tensor) -> Memory:
        if memory.shape[1] > self.attention.frames:
            raise UserError(
                f"memory has {memory.shape[1]} frames, more than memory_frames="
                f"{self.attention.frames}; sample as many, or build the agent for more"
            )
        lengths = lengths.clamp(max=memory.shape[1])
        memory, _ = checks.without_padding("memory", memory, lengths)
        return self.attention.prepare(memory, lengths)

    def _given(self, indices: Tensor, lengths: Tensor) -> Tensor:
        checks.check_shape("indices", indices, (len(lengths), None), f"({len(lengths)}, K)")
        if bool(((indices < 0) | (indices >= lengths[:, None])).any()):
            raise UserError(
                f"indices must be frames of their videos, got up to {int(indices.max())} for "
                f"videos of {lengths.unique().tolist()}"
            )
        return indices

    def _read(self, read_features: Callable[[int], Tensor], index: int) -> Tensor:
        features = read_features(index)
        checks.check_shape(f"features of frame {index}", features, (self.frame_channels,),
                           f"({self.frame_channels},)")  # fmt: skip
        if not features.isfinite().all():
            raise UserError(f"features of frame {index} hold NaN or infinity; leave it out")
        return features

    def _first(self, n: int, like: Tensor) -> Tensor:
        return like.new_full((n,), 0.5 if self.first == "middle" else 0.0)

    def _look(
        self, features: Tensor, memory: Memory, state: tuple[Tensor, Tensor]
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """State after a frame (N, frame_channels), and the weights of the memory (N, Td)."""
        context, weights = self.attention(state[0], memory)
        if not self.use_memory:
            context, weights = 0 * context, 0 * weights  # with gradient, which DDP waits for
        return self.cell(torch.cat([features, context], dim=1), state), weights

    def _next(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The next location (N,), and its log density, with gradient."""
        mean = self.location(hidden).sigmoid().squeeze(1)
        drawn = mean.detach()
        if self.training:
            drawn = drawn + self.sigma * torch.randn_like(drawn)
        distance = (drawn - mean) / self.sigma
        return drawn, -0.5 * distance.square() - math.log(self.sigma) - _LOG_ROOT
