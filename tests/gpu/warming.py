"""Compiles networks of several groups at once, so that the processor's cores do not wait in turn.

What is compiled lies in the compiler's caches, from which the process that measures takes it. What
was chosen by timing while others used the GPU is thrown away and chosen again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.gpu import groups
from tests.gpu.contestants import Contestant, Preparation

SHARE = 0.4
"""Of the time that is left, at most."""


def warm(chosen: Sequence[groups.Group], args: argparse.Namespace, seconds_left: float) -> float:
    """Compiles each group's networks in a process of its own; returns the seconds that it took.

    A process that fails or takes too long is ended: its group is then compiled later.
    """
    start = time.perf_counter()
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) / "warming"
    folder.mkdir(parents=True, exist_ok=True)
    threads = max((os.cpu_count() or 1) // max(len(chosen), 1), 1)
    env = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": str(threads)}
    processes: list[subprocess.Popen] = []
    for group in chosen:
        if group.models:
            continue
        command = [sys.executable, "-m", "tests.gpu.opponents", "--compile-alone"]
        command += ["--json", str(folder / f"{group.name}.json"), "--only", group.name]
        command += ["--device", args.device, "--execution", args.execution]
        command += ["--tiny"] if args.tiny else []
        with open(folder / f"{group.name}.log", "w") as log:
            processes.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
    for process in processes:
        left = SHARE * seconds_left - (time.perf_counter() - start)
        try:
            process.wait(timeout=max(left, 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for file in Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).rglob("*.best_config"):
        file.unlink()
    seconds = round(time.perf_counter() - start, 1)
    failed = [process.args[5] for process in processes if process.returncode]
    print(f"compiled ahead in {seconds} s" + (f", but for {failed}" if failed else ""), flush=True)
    return seconds


@torch.no_grad()
def compile_groups(
    chosen: Sequence[groups.Group], preparation: Preparation, execution: str
) -> None:
    """Compiles the networks of groups in this process, which is all that it is for."""
    for group in map(groups.compiled_alone, chosen):
        for one in groups.prepared(group, preparation, execution):
            label = one.label if isinstance(one, Contestant) else one
            print(group.name, label, getattr(one, "error", ""), flush=True)
