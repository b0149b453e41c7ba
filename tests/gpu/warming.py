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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from tests.gpu import groups
from tests.gpu.contestants import Contestant, Preparation

SHARE = 0.5
"""Of the time that is left, at most."""

JOBS = 6
"""Processes at a time, which share the GPU's memory."""


def warm(chosen: Sequence[groups.Group], args: argparse.Namespace, seconds_left: float) -> float:
    """Compiles each network of each group in a process of its own; returns the seconds it took.

    What fails or takes too long is compiled later, when its turn has come.
    """
    start = time.perf_counter()
    cache = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    folder = cache / "warming"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [(g.name, network) for g in chosen for network in groups.compiled_networks(g)]
    threads = max((os.cpu_count() or 1) // max(min(len(tasks), JOBS), 1), 1)
    env = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": str(threads)}

    def compile_one(task: tuple[str, str]) -> bool:
        name, network = task
        stem = f"{name}_{network.replace(' ', '_')}"
        command = [sys.executable, "-m", "tests.gpu.opponents", "--compile-alone", network]
        command += ["--json", str(folder / f"{stem}.json"), "--only", name]
        command += ["--device", args.device, "--execution", args.execution]
        command += ["--tiny"] if args.tiny else []
        share = 1 if args.warm_only else SHARE
        left = share * seconds_left - (time.perf_counter() - start)
        with open(folder / f"{stem}.log", "w") as log:
            try:
                result = subprocess.run(
                    command, env=env, stdout=log, stderr=log, timeout=max(left, 0.1), check=False
                )
            except subprocess.TimeoutExpired:
                return False
        return result.returncode == 0

    with ThreadPoolExecutor(JOBS) as pool:
        done = list(pool.map(compile_one, tasks))
    for file in cache.rglob("*.best_config"):
        file.unlink()
    seconds = round(time.perf_counter() - start, 1)
    failed = [task for task, fine in zip(tasks, done, strict=True) if not fine]
    print(f"compiled ahead in {seconds} s" + (f", but for {failed}" if failed else ""), flush=True)
    return seconds


@torch.no_grad()
def compile_groups(
    chosen: Sequence[groups.Group], network: str, preparation: Preparation, execution: str
) -> None:
    """Compiles one network of each of some groups here, which is all that this process is for.

    Raises:
        RuntimeError: it failed.
    """
    for group in chosen:
        for one in groups.prepared(groups.alone(group, network), preparation, execution):
            label = one.label if isinstance(one, Contestant) else one
            print(group.name, label, getattr(one, "error", ""), flush=True)
            if getattr(one, "error", ""):
                raise RuntimeError(one.error)
