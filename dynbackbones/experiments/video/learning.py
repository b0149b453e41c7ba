"""Training AdaFrame and LiteEval on features in memory, and what they reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.demo.needle_videos import FRAMES, VISIBLE, is_visible, spliced_frames
from dynbackbones.experiments.descent import descend, mean_of_last_tenth
from dynbackbones.experiments.video.features import Videos
from dynbackbones.policy import PolicyStatistics
from dynbackbones.training.progress import show_time_left
from dynbackbones.video import AdaFrame, LiteEval, uniform_indices

MEMORY_FRAMES = 16
Choice = Callable[[Videos, torch.Generator], Tensor]
"""From videos to frames (N, K), or gates (N, T), that are used instead of learned ones."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast, with Adam; the rate falls to 0 as a cosine after a short rise."""

    iterations: int
    batch: int
    lr: float


def memory_of(videos: Videos) -> Tensor:
    """AdaFrame's memory: coarse features of evenly spaced frames, (N, MEMORY_FRAMES, D)."""
    index = uniform_indices(torch.tensor([videos.coarse.shape[1]]), MEMORY_FRAMES)[0]
    return videos.coarse[:, index]


def spliced(videos: Videos, index: Tensor, generator: torch.Generator) -> Videos:
    """Videos by index, but with the digit's frames at another time and in another's clutter.

    Features are of single frames, so that these are as good as new videos: without them agents
    learn by heart which clutter goes with which class.
    """
    n = len(index)
    clutter = torch.randint(len(videos.labels), (n,), generator=generator)
    first = torch.randint(FRAMES - VISIBLE + 1, (n,), generator=generator)
    firsts = (x.numpy() for x in (videos.first[index], videos.first[clutter], first))
    shows, frame = map(torch.from_numpy, spliced_frames(*firsts))
    video = torch.where(shows, index[:, None], clutter[:, None])
    coarse, fine = (values[video, frame] for values in (videos.coarse, videos.fine))
    return Videos(coarse, fine, videos.labels[index], first)


def run_model(net: AdaFrame | LiteEval, videos: Videos, chosen: Tensor | None) -> Any:
    """A forward pass over videos."""
    if isinstance(net, AdaFrame):
        return net(videos.fine, memory_of(videos), indices=chosen)
    return net(videos.coarse, videos.fine, gates=chosen)


def train(
    net: AdaFrame | LiteEval,
    videos: Videos,
    schedule: Schedule,
    seed: int,
    title: str,
    choose: Choice | None = None,
) -> dict[str, float]:
    """Trains; returns means of what is logged over the last tenth."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), schedule.lr)
    count = schedule.iterations
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.lr, total_steps=max(count, 2), pct_start=0.1, cycle_momentum=False
    )
    logged: list[dict[str, float]] = []
    net.train()
    for iteration in show_time_left(range(count), count, f"{title}:", lambda: _said(logged)):
        if isinstance(net, LiteEval):
            net.set_progress(iteration / count)
        index = torch.randint(len(videos.labels), (schedule.batch,), generator=generator)
        batch = spliced(videos, index, generator)
        chosen = None if choose is None else choose(batch, generator)
        losses = net.losses(run_model(net, batch, chosen), batch.labels)
        logged.append(descend(losses, optimizer, scheduler, clipped=net.parameters()))
    net.eval()
    return mean_of_last_tenth(logged)


@torch.no_grad()
def evaluate(
    net: AdaFrame | LiteEval, videos: Videos, seed: int, choose: Choice | None = None
) -> dict[str, Any]:
    """Accuracy, and how the frames that were looked at differ between videos."""
    net.eval()
    chosen = None if choose is None else choose(videos, torch.Generator().manual_seed(seed))
    run = run_model(net, videos, chosen)
    right = run.answers().argmax(dim=1) == videos.labels
    if isinstance(net, AdaFrame):
        looked = F.one_hot(run.indices, FRAMES).amax(dim=1).bool()
    else:
        looked = run.gates > 0.5
    visible = torch.from_numpy(is_visible(videos.first.numpy()))
    statistics = PolicyStatistics()
    statistics.update(looked)
    found = (looked & visible).any(dim=1)
    figures = {
        "accuracy": 100 * float(right.float().mean()),
        "frames": float(looked.sum(dim=1).float().mean()),
        "share": float(looked.float().mean()),
        "found": float(found.float().mean()),
        "accuracy_where_found": 100 * float(right[found].float().mean()),
        "distinct_policies": len(statistics.frequencies),
        "policy_entropy_bits": statistics.entropy,
        "open_when_visible": float(looked[visible].float().mean()),
    }
    if isinstance(net, AdaFrame):
        figures["location_spread"] = run.locations.std(dim=0, correction=0).tolist()
        backward = (run.indices[:, 1:] < run.indices[:, :-1]).any(dim=1)
        figures["backward"] = float(backward.float().mean())
    return figures


def train_saliency(videos: Videos, seed: int, iterations: int = 300) -> nn.Linear:
    """A linear layer that tells, from coarse features, whether a frame shows the digit."""
    torch.manual_seed(seed)
    scorer = nn.Linear(videos.coarse.shape[2], 1)
    optimizer = torch.optim.Adam(scorer.parameters(), 0.01)
    visible = torch.from_numpy(is_visible(videos.first.numpy())).float()
    for _ in range(iterations):
        index = torch.randint(len(videos.labels), (64,))
        scores = scorer(videos.coarse[index]).squeeze(2)
        loss = F.binary_cross_entropy_with_logits(scores, visible[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return scorer


def _said(logged: list[dict[str, float]]) -> str:
    names = ("accuracy", "reward", "fine_rate", "location_spread")
    recent = logged[-20:]
    means = {n: sum(e[n] for e in recent) / len(recent) for n in names if n in recent[0]}
    return ", ".join(f"{name} {value:.3g}" for name, value in means.items())
