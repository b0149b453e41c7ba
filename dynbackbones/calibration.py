"""The spending knob: meet an activation rate in evaluation without retraining."""

from collections.abc import Iterable

import torch
from torch import Tensor

from dynbackbones.backbones.sar_resnet import SARResNet
from dynbackbones.layers.regions import RegionSelector


@torch.no_grad()
def calibrate(
    net: SARResNet,
    images: Tensor | Iterable[Tensor],
    *,
    target_rate: float,
    tolerance: float = 0.01,
    max_steps: int = 20,
) -> float:
    """Shifts the decision thresholds so that a trained network meets an activation rate.

    All selectors get the same threshold on their logit difference, found by bisection, so that
    blocks keep spending where they were trained to. The threshold is saved with the weights.

    Args:
        net: the backbone; its mode is restored, and where this fails its thresholds.
        images: (N, in_channels, H, W), normalised as in training, or batches of these; without
            padding, which would count like the images.
        target_rate: mean activation rate to reach, in [0, 1].
        tolerance: distance from the target that is good enough.
        max_steps: forward passes over ``images`` at most, besides the first two.

    Returns:
        The activation rate reached; where decisions are tied it can miss the target.

    Raises:
        ValueError: an argument is out of range, there are no images, the decisions are
            overridden, or the network chooses no regions.
    """
    if not isinstance(net, SARResNet):
        raise ValueError(
            f"calibrate shifts the thresholds of region selectors, which a "
            f"{type(net).__name__} does not have; give it a SARResNet"
        )
    if net.selection is not None:
        raise ValueError("calibrate needs the network's own decisions; leave select(...) first")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    if not 0 <= target_rate <= 1:
        raise ValueError(f"target_rate must lie in [0, 1], got {target_rate}")
    batches = [images] if isinstance(images, Tensor) else list(images)
    if not batches:
        raise ValueError("images must not be empty: calibration needs some typical images")
    was_training, before = net.training, [s.threshold.clone() for s in _selectors(net)]
    net.eval()
    try:
        return _bisect(net, batches, target_rate, tolerance, max_steps)
    except BaseException:
        for selector, threshold in zip(_selectors(net), before, strict=True):
            selector.threshold.copy_(threshold)
        raise
    finally:
        net.train(was_training)


def _bisect(
    net: SARResNet, batches: list[Tensor], target: float, tolerance: float, max_steps: int
) -> float:
    low, high = -1.0, 1.0  # thresholds that select at least and at most the target
    while _rate_at(net, batches, low) < target and low > -1e4:
        low *= 4
    while _rate_at(net, batches, high) > target and high < 1e4:
        high *= 4
    best_rate, best = None, 0.0
    for _ in range(max_steps):
        middle = (low + high) / 2
        rate = _rate_at(net, batches, middle)
        if best_rate is None or abs(rate - target) < abs(best_rate - target):
            best_rate, best = rate, middle
        if abs(rate - target) <= tolerance:
            break
        low, high = (middle, high) if rate > target else (low, middle)
    _set_threshold(net, best)
    return best_rate


def _rate_at(net: SARResNet, batches: list[Tensor], threshold: float) -> float:
    _set_threshold(net, threshold)
    rates = []
    for batch in batches:
        net(batch)
        rates.append(net.decisions.activation_rate)
    return float(torch.cat(rates).mean())


def _set_threshold(net: SARResNet, threshold: float) -> None:
    for selector in _selectors(net):
        selector.threshold.fill_(threshold)


def _selectors(net: SARResNet) -> list[RegionSelector]:
    return [selector for stage in net.stages().values() for selector in stage.selectors]
