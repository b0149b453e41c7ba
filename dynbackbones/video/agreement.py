"""A schedule that has learned how well a moved result agrees with what the model would have said.

What DVSNet calls expected confidence (Xu et al., Dynamic Video Segmentation Network, CVPR 2018),
regressed on what two frames and their flow look like. The model itself is the teacher: any video
will do, without labels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from dynbackbones.video.adapters import Adapter, adapter_of
from dynbackbones.video.agreement_measure import box_agreement, pixel_agreement
from dynbackbones.video.features import FeatureAdapter
from dynbackbones.video.flow import warp
from dynbackbones.video.pairs import Pair, Seen
from dynbackbones.video.propagation import Instances, Kept, Maps
from dynbackbones.video.schedules import Threshold

FEATURES = (
    "difference",
    "age",
    "residual",
    "large_residual",
    "motion",
    "large_motion",
    "uneven_motion",
    "outside",
    "texture",
    "brightness_change",
)
_HIDDEN = 32
_KIND = "agreement"


def describe(pair: Pair) -> Tensor:
    """(10,) float32: what is seen of a frame and its key, without the model; see `FEATURES`."""
    place = pair.index - pair.age, pair.index
    if place not in pair.described:
        pair.described[place] = _described(pair)
    return pair.described[place]


def _described(pair: Pair) -> Tensor:
    both = (torch.from_numpy(seen.grey) for seen in (pair.key, pair.frame))
    key, frame = (grey.float()[None] / 255 for grey in both)
    residual = (warp(key, pair.to_key) - frame).abs().flatten()
    flow = torch.from_numpy(pair.to_key)
    height, width = flow.shape[:2]
    length = flow.norm(dim=2).flatten() / max(height, width)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    outside = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    steps = [frame.diff(dim=d).abs().mean() if frame.shape[d] > 1 else 0.0 for d in (1, 2)]
    change = pair.frame.small.mean() - pair.key.small.mean()
    values = (
        pair.difference,
        pair.age / 10,
        residual.mean(),
        residual.square().mean().sqrt(),
        length.mean(),
        length.square().mean().sqrt(),
        flow.flatten(0, 1).std(dim=0, correction=0).norm() / max(height, width),
        outside.float().mean(),
        sum(steps),
        change.abs(),
    )
    return torch.tensor([float(value) for value in values])


class AgreementNetwork(nn.Module):
    """Expected agreement of a moved result with the model's own, in [0, 1].

    Shape:
        (N, 10) of `describe` to (N,).
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(len(FEATURES), _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1)
        )
        self.register_buffer("mean", torch.zeros(len(FEATURES)))
        self.register_buffer("std", torch.ones(len(FEATURES)))

    def forward(self, described: Tensor) -> Tensor:
        # What was never seen in training shall not extrapolate.
        normal = ((described - self.mean) / self.std).clamp(-4, 4)
        return self.layers(normal)[:, 0].sigmoid()


class Sample(NamedTuple):
    """A frame and an earlier one of a clip that the model ran on.

    Attributes:
        frame, age: number of the frame, and by how many the key is earlier.
        described: of `describe`.
        agreement: of the moved result with the frame's own, in [0, 1].
    """

    frame: int
    age: int
    described: Tensor
    agreement: float


class Agreement(Threshold):
    """A frame on which the moved result is expected to agree too little with the model's own.

    Args:
        network: of `train_agreement`, or the file that `save_agreement` wrote.
        threshold: expected agreement below which the model runs, in [0, 1]; set it by
            `dynbackbones.calibrate`.

    Raises:
        ValueError: ``threshold`` is out of range.
        UserError: the file is none of these.

    Example:
        >>> import dynbackbones
        >>> from dynbackbones.video.agreement import AgreementNetwork
        >>> dynbackbones.video.Agreement(AgreementNetwork(), threshold=0.9)
        Agreement(0.9)
    """

    rises = True

    def __init__(self, network: nn.Module | str | os.PathLike, threshold: float = 0.9) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
        self.network = network if isinstance(network, nn.Module) else load_agreement(network)
        self.network.eval()
        self.threshold = threshold

    @torch.no_grad()
    def wants_key(self, pair: Pair) -> bool:
        return float(self.network(describe(pair)[None])) < self.threshold

    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    def __repr__(self) -> str:
        return f"Agreement({self.threshold:.3g})"


def measure_agreement(
    model: Any,
    clip: Iterable[np.ndarray],
    *,
    max_age: int = 10,
    preset: str = "fast",
    adapter: Adapter | None = None,
) -> Iterator[Sample]:
    """Runs a model on every frame of a clip, and compares it with what earlier frames would say.

    Args:
        model: as `Stream` takes it.
        clip: (H, W, 3) uint8 RGB images of one size in their order.
        max_age: frames that a result may be old.
        preset: of the optical flow.
        adapter: how the model is called, for one that the package does not know.

    Yields:
        A sample for each frame and age, frame after frame; memory is that of ``max_age`` frames.

    Raises:
        UserError: the model's results cannot be moved.
    """
    adapter = adapter or adapter_of(model)
    shown = adapter.shown if isinstance(adapter, FeatureAdapter) else lambda kept: kept
    earlier: list[tuple[Seen, Kept]] = []
    for index, image in enumerate(clip):
        with torch.no_grad():
            frame, (_, kept) = Seen(image), adapter.run(image)
        for age, (key, result) in enumerate(reversed(earlier), start=1):
            pair = Pair(key, frame, age, index, preset)
            with torch.no_grad():
                agreement = agreement_of(shown(result.moved(pair)), shown(kept))
            yield Sample(index, age, describe(pair), agreement)
        earlier = [*earlier, (frame, kept)][-max_age:]


def agreement_of(one: Kept, other: Kept) -> float:
    """Share of pixels with the same label, or F1 of matched boxes (of a score of at least 0.5).

    Raises:
        UserError: nothing is known of these results.
    """
    if isinstance(one, Maps) and isinstance(other, Maps):
        return pixel_agreement(one.labels(), other.labels())
    if isinstance(one, Instances) and isinstance(other, Instances):
        return box_agreement(one, other)
    raise UserError(
        f"agreement is known of maps and of boxes, not of a {type(one).__name__}: return (C, H, W) "
        "float maps or a Prediction"
    )


def train_agreement(
    samples: Sequence[Sample], *, seed: int = 0, steps: int = 600
) -> AgreementNetwork:
    """Fits a network to what was measured, in seconds.

    Args:
        samples: of `measure_agreement`, of one clip or several.
        seed: of the initial weights.
        steps: of Adam, each over all samples.

    Raises:
        ValueError: there are no samples.

    Example:
        >>> import torch
        >>> from dynbackbones.video.agreement import Sample, train_agreement
        >>> described = torch.rand(64, 10)
        >>> samples = [Sample(0, 1, one, float(1 - 0.5 * one[0])) for one in described]
        >>> network = train_agreement(samples)
        >>> bool((network(described) - (1 - 0.5 * described[:, 0])).abs().mean() < 0.05)
        True
    """
    if not samples:
        raise ValueError("samples must not be empty: measure a clip of at least two frames")
    described = torch.stack([sample.described for sample in samples])
    wanted = torch.tensor([sample.agreement for sample in samples])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AgreementNetwork()
    network.mean.copy_(described.mean(dim=0))
    network.std.copy_(described.std(dim=0, correction=0).clamp(min=1e-4))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-4)
    for _ in range(steps):
        optimiser.zero_grad()
        (network(described) - wanted).square().mean().backward()
        optimiser.step()
    return network.eval().requires_grad_(False)


def save_agreement(network: AgreementNetwork, path: str | os.PathLike) -> None:
    """Writes a network to a file that `Agreement` takes."""
    checkpoints.save(path, network.state_dict(), {"kind": _KIND, "features": list(FEATURES)})


def load_agreement(path: str | os.PathLike) -> AgreementNetwork:
    """Reads what `save_agreement` wrote.

    Raises:
        UserError: the file is something else, or of another version.
    """
    content = checkpoints.load(path)
    meta = content.get("meta") if isinstance(content, dict) else None
    if not isinstance(meta, dict) or meta.get("kind") != _KIND:
        raise UserError(f"{path} holds no learned schedule; write one with save_agreement")
    if meta.get("features") != list(FEATURES):
        raise UserError(f"{path} was learned on other features; learn it anew")
    network = AgreementNetwork()
    state = checkpoints.state_dict_of(content, path)
    checkpoints.check_architecture(network.state_dict(), state, str(path))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
