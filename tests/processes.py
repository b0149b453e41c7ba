"""Several processes that compute together, for tests of what is the same as in one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
WATCHDOG = 300
"""Seconds after which processes count as waiting for each other."""


def run_processes(program, world_size: int, folder: Path, *words) -> list:
    """What each process saved as ``folder/RANK.pth``.

    Args:
        program: file that is run with the rank, the number of processes, the folder and the words.
        world_size: number of processes.
        folder: which is made.
        words: further arguments.
    """
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT), "OMP_NUM_THREADS": "1"}
    last = [str(world_size), os.fspath(folder), *map(str, words)]
    processes = [
        subprocess.Popen([sys.executable, program, str(rank), *last], env=environment)
        for rank in range(world_size)
    ]
    try:
        assert [process.wait(WATCHDOG) for process in processes] == [0] * world_size
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pth") for rank in range(world_size)]


@contextmanager
def process_group(rank: int, world_size: int, folder: str) -> Iterator[None]:
    """Inside, several processes form a group on the CPU; a single one forms none."""
    torch.set_num_threads(1)
    if world_size > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
        )
    yield
    if world_size > 1:
        torch.distributed.destroy_process_group()
