"""What `calibrate` is asked to meet."""

from collections.abc import Mapping


def one_target(targets: Mapping[str, float | None]) -> tuple[str, float]:
    """The one of several targets that is given, and its name.

    Args:
        targets: by name; None where it is not given.

    Raises:
        ValueError: none is given, or several are.
    """
    given = [(name, value) for name, value in targets.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(name for name, _ in given) or "none"
        raise ValueError(f"give one of {', '.join(targets)}; got {names}")
    return given[0]
