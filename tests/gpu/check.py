"""Checks on a GPU everything that CI, which has none, cannot: ``make check-gpu``.

    python -m tests.gpu.check --folder output/gpu --limit 240

Steps run side by side in processes of their own, but for the benchmark, which has the GPU for
itself. One that fails or takes too long stops no other. At the end there are one table,
``check.json`` and ``check.md``, and a log of each step.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gpu import machine, table
from tests.gpu.device import VARIABLE

TESTS = Path(__file__).parents[1]
RESERVED = 115
"""Seconds that the other steps leave to the benchmark."""

OPENMMLAB = ("mmengine", "cv2", "sklearn")
YAML = (*OPENMMLAB, "fvcore", "pycocotools", "tensorboard")


@dataclass(frozen=True)
class Command:
    """A step of the check.

    Attributes:
        name: of it.
        words: what Python is started with, but for where results go.
        limit: seconds.
        needs: modules without which it is left out.
        alone: whether nothing else may run.
    """

    name: str
    words: tuple[str, ...]
    limit: float = 120
    needs: tuple[str, ...] = ()
    alone: bool = False


def module(name: str, *words: str, **options: Any) -> Command:
    """A step that is a module beside this one."""
    return Command(words[0] if words else name, ("-m", f"tests.gpu.{name}", *words), **options)


# What the benchmark compiles is compiled beside the other steps.
AHEAD = Command("ahead", ("-m", "tests.gpu.opponents", "--warm-only", "--only", "A", "B", "C8"))

# Long ones first.
STEPS = (
    # -v, so that the log names what failed even if time is over before all ran.
    Command("tests", ("-m", "pytest", "-v", "-m", "cuda", "-p", "no:cacheprovider"), limit=200),
    AHEAD,
    module("training", "torchvision", needs=YAML),
    module("compiled"),
    module("training", "mmseg", needs=(*OPENMMLAB, "mmcv", "mmseg")),
    module("processes", "nccl"),
    module("processes", "two"),
    module("memory"),
    module("training", "mmpretrain", needs=(*OPENMMLAB, "mmcv", "mmpretrain")),
    module("training", "detectron2", needs=("detectron2", *YAML)),
    module("opponents", limit=600, alone=True),
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="check-gpu", description=__doc__.splitlines()[0])
    options.add_argument("--folder", type=Path, default=Path("output/gpu"), help="for results")
    names = [step.name for step in STEPS]
    options.add_argument("--only", nargs="+", choices=names, metavar="STEP", help=", ".join(names))
    options.add_argument("--limit", type=float, default=240, help="seconds for all steps")
    options.add_argument("--jobs", type=int, default=5, help="steps at a time")
    # The other one tries the steps themselves, in tiny form.
    kinds = ("cuda", "cpu")
    options.add_argument("--device", choices=kinds, default="cuda", help=argparse.SUPPRESS)
    return options


class Check:
    """A check in progress.

    Args:
        args: of the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.folder = args.folder.resolve()
        self.device = args.device
        self.jobs = args.jobs
        self.begin = time.monotonic()
        self.limit = args.limit
        self.steps = [step for step in STEPS if not args.only or step.name in args.only]
        self.ends = args.limit - (RESERVED if any(step.alone for step in self.steps) else 0)
        if not any(not step.alone for step in self.steps):
            self.ends = args.limit

    def run(self) -> list[dict[str, Any]]:
        """Runs all steps; an entry for each, in their order."""
        together = [step for step in self.steps if not step.alone]
        with ThreadPoolExecutor(self.jobs) as pool:
            entries = list(pool.map(lambda step: self._entry(step, self.ends), together))
        entries += [self._entry(step, self.limit) for step in self.steps if step.alone]
        return entries

    def _entry(self, step: Command, ends: float) -> dict[str, Any]:
        """Runs a step, prints what came of it, and returns that."""
        entry: dict[str, Any] = {"name": step.name, "result": "left out", "seconds": 0.0}
        missing = [name for name in step.needs if not _installed(name)]
        left = min(step.limit, ends - (time.monotonic() - self.begin))
        if missing:
            entry["why"] = f"no {', '.join(missing)}"
        elif left < 5:
            entry["why"] = "no time left"
        else:
            begin = time.monotonic()
            entry |= self._run(step, left)
            entry["seconds"] = round(time.monotonic() - begin, 1)
        why = f": {entry['why']}" if entry.get("why") else ""
        at = time.monotonic() - self.begin
        print(f"{at:5.0f} s  {step.name}: {entry['result']}{why}, {entry['seconds']} s", flush=True)
        return entry

    def _run(self, step: Command, left: float) -> dict[str, Any]:
        folder, log = self.folder / step.name, self.folder / f"{step.name}.log"
        report = self.folder / f"{step.name}.{'xml' if step.name == 'tests' else 'json'}"
        report.unlink(missing_ok=True)
        words = [*step.words, *self._places(step, folder, report, left)]
        environment = dict(os.environ, OMP_NUM_THREADS="1", CUBLAS_WORKSPACE_CONFIG=":4096:8")
        if step.alone or step is AHEAD:
            del environment["OMP_NUM_THREADS"], environment["CUBLAS_WORKSPACE_CONFIG"]
        if self.device == "cpu":
            environment[VARIABLE] = "cpu"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            )  # fmt: skip
            try:
                code: int | None = process.wait(left)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                # What it started, such as data loaders, ends with it.
                _kill(process)
        entry = _outcome(step, report)
        if code is None:
            entry.update(result="failed", why=f"not done after {left:.0f} s")
        elif code or entry.get("why"):
            entry.update(result="failed", why=entry.get("why") or f"exit code {code}")
        if entry["result"] == "failed":
            entry["log"] = log.read_text(errors="replace").splitlines()[-40:]
        return entry

    def _places(self, step: Command, folder: Path, report: Path, left: float) -> list[str]:
        """The words that say where results go."""
        if step.name == "tests":
            split = ["-n", "6"] if _installed("xdist") else []
            return [*self._marked(), *split, f"--junitxml={report}", f"--basetemp={folder}"]
        if step.alone or step is AHEAD:
            tiny = ["--device", "cpu", "--tiny"] if self.device == "cpu" else []
            # Python's own start and end count too.
            words = ["--json", str(report), "--limit", f"{left - 8:.0f}", *tiny]
            warm = ["--no-warm"] if AHEAD in self.steps and step.alone else []
            return [*words, *warm, *(["--profile", "--seconds", "5"] if step.alone else [])]
        return ["--folder", str(folder), "--json", str(report), "--device", self.device]

    def _marked(self) -> list[str]:
        """The files with tests marked ``cuda``: others may import what is not installed."""
        where = TESTS / "gpu" if self.device == "cpu" else TESTS
        files = sorted(where.rglob("test_*.py"))
        return [str(file) for file in files if "mark.cuda" in file.read_text(encoding="utf-8")]


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(step: Command, report: Path) -> dict[str, Any]:
    """What a step's report says of it."""
    entry: dict[str, Any] = {"result": "ok", "figures": {}}
    if not report.exists():
        return entry
    try:
        if step.name == "tests":
            entry["figures"], failures = _tests(report)
        else:
            content = json.loads(report.read_text(encoding="utf-8"))
            # The benchmark's has more to it than figures.
            entry["figures"] = content.get("figures", {}) if not step.alone else {}
            failures = content.get("failures", [])
            if step.alone:
                entry["benchmark"] = content
    except (ValueError, ElementTree.ParseError) as error:
        failures = [f"{report.name}: {error}"]
    if failures:
        entry["failures"] = failures
        entry["why"] = str(failures[0])
    return entry


def _tests(report: Path) -> tuple[dict[str, int], list[str]]:
    """Counts of a JUnit file, and the tests that failed."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(failed) - skipped
    counts = {"passed": passed, "failed": len(failed), "skipped": skipped}
    return counts, [f"{case.get('classname')}::{case.get('name')}" for case in failed]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the check; the exit code is 1 if anything failed, 2 if there is nothing to check on."""
    args = parser().parse_args(arguments)
    if args.device == "cuda":
        reason = machine.missing()
        if reason:
            print(f"error: {reason}", file=sys.stderr)
            return 2
    args.folder.mkdir(parents=True, exist_ok=True)
    check = Check(args)
    content: dict[str, Any] = {"machine": machine.describe(args.device)}
    print(" ".join(f"{key} {value}," for key, value in content["machine"].items()), flush=True)
    content["steps"] = check.run()
    content["seconds"] = round(time.monotonic() - check.begin, 1)
    (check.folder / "check.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (check.folder / "check.md").write_text(table.markdown(content), encoding="utf-8")
    print(table.text(content))
    return int(any(entry["result"] == "failed" for entry in content["steps"]))


if __name__ == "__main__":
    sys.exit(main())
