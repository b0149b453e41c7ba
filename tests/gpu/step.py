"""What the steps of ``make check-gpu`` share: their command line, and the file with their figures.

A step is a module with a ``main``; it prints as it goes, writes figures and failures as JSON, and
ends with 1 if anything failed. ``--device cpu`` tries the step itself in tiny form.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Step:
    """A step in progress.

    Args:
        device: where it runs.
        folder: for what it writes.

    Attributes:
        figures: what it found, by name.
        failures: lines that say what is wrong.
    """

    def __init__(self, device: torch.device, folder: Path) -> None:
        self.device = device
        self.folder = folder
        self.figures: dict[str, Any] = {}
        self.failures: list[str] = []

    @property
    def tiny(self) -> bool:
        """Whether this is a try without a GPU."""
        return self.device.type != "cuda"

    def figure(self, name: str, value: Any) -> None:
        """Keeps a figure and prints it."""
        self.figures[name] = value
        print(f"{name}: {value}", flush=True)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Fails with a line unless something holds."""
        if not holds:
            self.failures.append(otherwise)
            print(f"FAILED: {otherwise}", flush=True)

    def part(self, name: str, work: Callable[[], None]) -> None:
        """Does one part of the step; its error is a failure that does not stop the others."""
        begin = time.perf_counter()
        try:
            work()
        except BaseException as error:  # an exit too
            traceback.print_exc()
            self.expect(False, f"{name}: {type(error).__name__}: {error}".splitlines()[0])
            if isinstance(error, KeyboardInterrupt):
                raise
        print(f"{name}: {time.perf_counter() - begin:.1f} s", flush=True)


def run_step(main: Callable[..., None], *names: str) -> None:
    """The command line of a step.

    Args:
        main: takes the `Step`, and one of the names if there are any.
        names: what the step can be about.
    """
    options = argparse.ArgumentParser()
    if names:
        options.add_argument("name", choices=names)
    options.add_argument("--device", default="cuda", help="cpu tries the step in tiny form")
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--json", type=Path, required=True)
    args = options.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    step = Step(torch.device(args.device), args.folder.resolve())
    step.part("whole step", lambda: main(step, *([args.name] if names else [])))
    content = {"figures": step.figures, "failures": step.failures}
    args.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(step.failures))
