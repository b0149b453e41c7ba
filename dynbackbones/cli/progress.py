"""How far a command is, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
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


def show_time_left(images: Iterable[T], total: int) -> Iterator[T]:
    """Passes images on, and prints their count and the time left, every second or so."""
    start = shown = time.monotonic()
    terminal = sys.stderr.isatty()
    for done, image in enumerate(images):
        now = time.monotonic()
        if done and now - shown > (0.5 if terminal else 20):
            shown, left = now, (now - start) / done * (total - done)
            line = f"image {done}/{total}, {left:.0f} s left"
            print(
                f"\r{line:<40}" if terminal else line,
                end="" if terminal else "\n",
                file=sys.stderr,
                flush=True,
            )
        yield image
    if terminal:
        print(f"\r{'':<40}\r", end="", file=sys.stderr, flush=True)
