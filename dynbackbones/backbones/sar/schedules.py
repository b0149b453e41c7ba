"""Values that change over training, as functions of the share of training done."""


def scheduled_target(target_rate: float, progress: float, schedule: str) -> float:
    """The target rate after a share of training (SAR, appendix B).

    Args:
        target_rate: t at the end.
        progress: share of training done, in [0, 1].
        schedule: ``"ramp"``: 1 at first, then three equal steps that reach t at half of training;
            ``"constant"``: t throughout, for fine-tuning.
    """
    if schedule == "constant":
        return target_rate
    steps = min(int(progress * 6 + 1e-9), 3)
    return 1.0 + (target_rate - 1.0) * steps / 3


def scheduled_temperature(temperature: tuple[float, float], progress: float) -> float:
    """Exponential decay between two temperatures over training (SAR, III-C.2)."""
    first, last = temperature
    return first * (last / first) ** progress
