"""How far a command is, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def show_rounds(rounds: Iterable[int]) -> Iterator[int]:
    """Passes rounds on and counts them, on a terminal only."""
    rounds = list(rounds)
    for done, turn in enumerate(rounds, start=1):
        yield turn
        if sys.stderr.isatty():
            end = "\n" if done == len(rounds) else ""
            print(f"\rround {done}/{len(rounds)}", end=end, file=sys.stderr, flush=True)


def show_time_left(
    items: Iterable[T], total: int | None, title: str = "image", figures: Callable[[], str] = str
) -> Iterator[T]:
    """Passes items on, and prints their count and the time left, every second or so.

    Args:
        items: to pass on.
        total: their number, or about that; None if nothing tells, and no time left is printed.
        title: of the line.
        figures: what else there is to say by now; by default nothing.
    """
    start = shown = time.monotonic()
    terminal, width = sys.stderr.isatty(), 0
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - shown > (0.5 if terminal else 20):
            shown, said = now, (f"{title} {done}", figures())
            if total is not None and done < total:
                left = (now - start) / done * (total - done)
                said = (f"{title} {done}/{total}", f"{left:.0f} s left", figures())
            line = ", ".join(part for part in said if part)
            width = max(width, len(line))
            print(
                f"\r{line:<{width}}" if terminal else line,
                end="" if terminal else "\n",
                file=sys.stderr,
                flush=True,
            )
        yield item
    if terminal:
        print(f"\r{'':<{width}}\r", end="", file=sys.stderr, flush=True)
