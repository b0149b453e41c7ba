"""Values that change over training, as functions of the share of training done."""


def _ramp(target_rate: float, progress: float) -> float:
    """1 at first, then three equal steps that reach the target at half of training."""
    steps = min(int(progress * 6 + 1e-9), 3)
    return 1.0 + (target_rate - 1.0) * steps / 3


def _jump(target_rate: float, progress: float) -> float:
    """1 at first, and the target from a quarter of training on, as in the authors' code."""
    return 1.0 if progress < 0.25 - 1e-9 else target_rate


def _constant(target_rate: float, progress: float) -> float:
    """The target throughout, for fine-tuning."""
    return target_rate


TARGET_SCHEDULES = {"ramp": _ramp, "jump": _jump, "constant": _constant}
"""By name: from the target rate and the share of training done to the rate to aim at then."""

TARGET_WORDS = {
    "ramp": "ramp over the first half of training",
    "jump": "jump after a quarter of training",
    "constant": "from the start",
}
"""By name: what a person reads of it."""


def scheduled_target(target_rate: float, progress: float, schedule: str) -> float:
    """The target rate after a share of training (SAR, appendix B).

    Args:
        target_rate: t at the end.
        progress: share of training done, in [0, 1].
        schedule: a name in `TARGET_SCHEDULES`.
    """
    return TARGET_SCHEDULES[schedule](target_rate, progress)


def scheduled_temperature(temperature: tuple[float, float], progress: float) -> float:
    """Exponential decay between two temperatures over training (SAR, III-C.2)."""
    first, last = temperature
    return first * (last / first) ** progress
