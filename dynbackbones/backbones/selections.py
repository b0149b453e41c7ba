"""What all overrides of decisions check of their arguments."""

from collections.abc import Sequence


def check_kind(kind: object, kinds: Sequence[str], given: str) -> None:
    """Makes sure that a selection's kind is known.

    Args:
        kind: what was asked for.
        kinds: what is known by name.
        given: what may stand in place of a name, such as ``"a dict of masks"``.

    Raises:
        ValueError: it is not.
    """
    if kind not in kinds:
        raise ValueError(f"selection must be one of {', '.join(kinds)} or {given}, got {kind!r}")


def check_rate(rate: float) -> None:
    """Makes sure that a selection's rate lies in [0, 1].

    Raises:
        ValueError: it does not.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie in [0, 1], got {rate}")
