"""The spending knob: meet an activation rate or block usage in evaluation without retraining."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.classifiers.base import DynamicClassifier
from dynbackbones.inference import time_budget
from dynbackbones.inference.time_budget import ReachedTime

TOLERANCE = 0.01
MAX_STEPS = 20


@runtime_checkable
class CalibratesItself(Protocol):
    """What chooses otherwise than by logits above a threshold: zooms, exits of a classifier.

    Its ``calibrate`` takes ``target_ms`` too where it knows how long its parts take.
    """

    def calibrate(
        self, images: Iterable, *, target_rate: float | None, target_macs: float | None
    ) -> float:
        """Meets a budget; returns what was reached."""


@torch.no_grad()
def calibrate(
    net: DynamicBackbone | DynamicClassifier | CalibratesItself,
    images: Tensor | Iterable[Tensor],
    *,
    target_rate: float | None = None,
    target_macs: float | None = None,
    target_ms: float | None = None,
    tolerance: float = TOLERANCE,
    max_steps: int = MAX_STEPS,
) -> float | ReachedTime:
    """Shifts the decision thresholds so that a trained network meets a rate, or a time.

    That is what `Decisions.rate` says: the activation rate of a SAR network, the block usage of a
    BlockDrop network, the patch rate of a PatchDrop classifier. All of the network's thresholds (on
    a selector's logit difference, on the policy network's logits) move by the same amount, found by
    bisection, so that computation is still spent where the network was trained to. They are saved
    with the weights.

    Args:
        net: the backbone or classifier; its mode is restored, and where this fails its thresholds.
            Or a zoom, a classifier with exits or a video's `Stream`, whose own `calibrate` says
            more.
        images: (N, in_channels, H, W), normalised as in training, or batches of these; without
            padding, which would count like the images.
        target_rate: mean activation rate or block usage to reach, in [0, 1].
        target_macs: multiply-accumulates of an image instead, which a zoom and a
            `GlanceFocusClassifier` take.
        target_ms: milliseconds of a forward pass for an image instead, which a backbone takes, in
            the median on this machine: give the network as it will run, such as what
            `optimize_for_inference` returns. How long which rate takes is measured once for each
            network, type, number of threads and size of the images, and kept below
            ``~/.cache/dynbackbones``; measure while nothing else runs. Of a zoom and of a
            classifier with exits, whose images differ in what they take, in the mean.
        tolerance: distance from the target that is good enough.
        max_steps: forward passes over ``images`` at most, besides the first two.

    Returns:
        The rate reached; with ``target_ms`` a `ReachedTime`, the rate and the times measured
        with it. Where decisions are tied it can miss the target, which a warning says, as it does
        where the time cannot be met.

    Raises:
        ValueError: an argument is out of range, there are no images, the decisions are
            overridden, or the network takes none.
        UserError: weights or images hold NaN or infinity.

    Example:
        >>> import dynbackbones, torch
        >>> _ = torch.manual_seed(0)
        >>> net = dynbackbones.build_backbone("sar_resnet18", selector_margin=0)
        >>> images = torch.rand(2, 3, 96, 96)
        >>> reached = dynbackbones.calibrate(net, images, target_rate=0.4, tolerance=0.1)
        >>> abs(reached - 0.4) <= 0.1
        True
    """
    if isinstance(net, CalibratesItself):
        if (tolerance, max_steps) != (TOLERANCE, MAX_STEPS):
            raise ValueError(
                f"tolerance and max_steps are of a bisection, which a {type(net).__name__} does "
                "not need; leave them out"
            )
        targets = {"target_rate": target_rate, "target_macs": target_macs}
        if "target_ms" in inspect.signature(net.calibrate).parameters:
            targets["target_ms"] = target_ms
        elif target_ms is not None:
            raise ValueError(f"a {type(net).__name__} is not set for target_ms; give target_macs")
        return net.calibrate(images, **targets)
    if (target_rate is None) == (target_ms is None) or target_macs is not None:
        takes = "target_rate or target_ms" if isinstance(net, DynamicBackbone) else "target_rate"
        raise ValueError(f"a {type(net).__name__} is calibrated to {takes}; give one, and no other")
    if not (isinstance(net, DynamicBackbone | DynamicClassifier) and net.thresholds()):
        raise ValueError(
            f"calibrate shifts the thresholds of decisions, which a {type(net).__name__} does not "
            "have; give it a network that decides, such as SARResNet or BlockDropResNet"
        )
    if net.selection is not None:
        raise ValueError("calibrate needs the network's own decisions; leave select(...) first")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    if target_rate is not None and not 0 <= target_rate <= 1:
        raise ValueError(f"target_rate must lie in [0, 1], got {target_rate}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    if target_ms is not None and not isinstance(net, DynamicBackbone):
        raise ValueError(f"a {type(net).__name__} is not set for target_ms; give target_rate")
    if target_ms is not None and not target_ms > 0:
        raise ValueError(f"target_ms must be positive, got {target_ms}")
    batches = [images] if isinstance(images, Tensor) else list(images)
    if not batches:
        raise ValueError("images must not be empty: calibration needs some typical images")
    for batch in batches:
        if not isinstance(batch, Tensor):
            raise ValueError(
                f"images must be tensors, got {type(batch).__name__}; of a loader's (images, "
                "labels) give the images alone"
            )
    if target_ms is not None:
        with _in_evaluation(net):
            return _meet_time(net, batches, target_ms, tolerance, max_steps)
    # `no_grad` is one of the frames up to the caller.
    return meet_rate(
        net, lambda: _mean_rate(net, batches), target_rate, tolerance, max_steps, stacklevel=5
    )


class HasThresholds(Protocol):
    """A network that decides by thresholds."""

    def thresholds(self) -> list[Tensor]:
        """Buffers that calibration moves; higher ones choose less."""


@torch.no_grad()
def meet_rate(
    net: HasThresholds,
    rate: Callable[[], float],
    target_rate: float,
    tolerance: float,
    max_steps: int,
    stacklevel: int = 6,
) -> float:
    """What `calibrate` does, for networks of other inputs than images.

    Args:
        net: a module; its mode is restored, and where this fails its thresholds.
        rate: what the network, as it is, chooses in the mean.
        target_rate, tolerance, max_steps: see `calibrate`.
        stacklevel: of the warning; by default what calls the caller of a method ``calibrate``.
    """
    with _in_evaluation(net):
        reached = _bisect(net, rate, target_rate, tolerance, max_steps)
    if abs(reached - target_rate) > tolerance:
        warnings.warn(
            f"calibrate reached a rate of {reached:.3f} instead of {target_rate:g}: between these "
            "thresholds many decisions change at once, as they do in a network that has not "
            "learned them yet; train it, give more images, or raise tolerance",
            stacklevel=stacklevel,
        )
    return reached


@contextmanager
def _in_evaluation(net: HasThresholds) -> Iterator[None]:
    """Inside the network is in evaluation mode; where that fails its thresholds are as before."""
    was_training, before = net.training, [value.clone() for value in net.thresholds()]
    net.eval()
    try:
        yield
    except BaseException:
        for threshold, value in zip(net.thresholds(), before, strict=True):
            threshold.copy_(value)
        raise
    finally:
        net.train(was_training)


def _meet_time(
    net: DynamicBackbone, batches: list[Tensor], target: float, tolerance: float, max_steps: int
) -> ReachedTime:
    """Calibrates to the rate that takes this long, and once more from what it then took."""
    images = [image for batch in batches for image in batch.split(1)]
    table, wanted = time_budget.time_table(net, images), target

    def mean_rate() -> float:
        return _mean_rate(net, batches)

    for last in (False, True):
        rate = _bisect(net, mean_rate, table.rate_for(wanted), tolerance, max_steps)
        median, late = time_budget.measure_time(net, images)
        if last or abs(median - target) <= 0.05 * target:
            break
        # Learned decisions cost more or less than random ones at the same rate.
        wanted = target * target / median
    if median > 1.1 * target:
        warnings.warn(
            f"calibrate reached {median:.3g} ms instead of {target:g}, at a rate of {rate:.2f}; "
            f"this machine takes {table.milliseconds[0]:.3g} ms at a rate of 0, and was measured "
            "with what else runs on it",
            stacklevel=4,
        )
    return ReachedTime(rate, median, late)


@torch.no_grad()
def backbone_inputs(net: DynamicBackbone, runs: Iterable[Callable[[], object]]) -> list[Tensor]:
    """What the backbone of a whole model sees, as `calibrate` wants it: without padding.

    Args:
        net: the backbone.
        runs: each runs the model, in evaluation mode, on an image.

    Returns:
        (1, in_channels, H, W) for each pass of each image.
    """
    inputs: list[Tensor] = []

    def keep(_: object, args: tuple[Tensor, ...], __: object) -> None:
        for image, (height, width) in zip(args[0], net.decisions.image_sizes, strict=True):
            inputs.append(image[None, :, :height, :width].clone())

    handle = net.register_forward_hook(keep)
    try:
        for run in runs:
            run()
    finally:
        handle.remove()
    return inputs


def _bisect(
    net: HasThresholds,
    rate_now: Callable[[], float],
    target: float,
    tolerance: float,
    max_steps: int,
) -> float:
    start = [threshold.clone() for threshold in net.thresholds()]
    rates: dict[float, float] = {}  # by shift

    def shift(by: float) -> None:
        for threshold, value in zip(net.thresholds(), start, strict=True):
            threshold.copy_(value + by)

    def rate_at(by: float) -> float:
        shift(by)
        rates[by] = rate_now()
        return rates[by]

    low, high = -1.0, 1.0  # shifts that select at least and at most the target
    while rate_at(low) < target and low > -1e4:
        low *= 4
    while rate_at(high) > target and high < 1e4:
        high *= 4
    for _ in range(max_steps):
        middle = (low + high) / 2
        rate = rate_at(middle)
        if abs(rate - target) <= tolerance:
            break
        low, high = (middle, high) if rate > target else (low, middle)
    best = min(rates, key=lambda by: abs(rates[by] - target))
    shift(best)
    return rates[best]


def _mean_rate(net: DynamicBackbone | DynamicClassifier, batches: list[Tensor]) -> float:
    rates = []
    for batch in batches:
        net(batch)
        net.decisions.check_finite()
        rates.append(net.decisions.rate)
    return float(torch.cat(rates).mean())
