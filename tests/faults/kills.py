"""Kills trainings with -9 at random moments, and holds them against a run that nobody killed.

    python -m tests.faults.kills detection --kills 20 --folder output/kills

Each life of a run ends by ``kill -9``: half of them at any moment of training, half while a
checkpoint is being written. The next one has ``--resume``. After each, every checkpoint that has
its name must be whole. At the end all that is in the checkpoints (weights, optimiser, schedules,
random states) and in ``results.json`` must be what the uninterrupted run has, bit by bit. With
detectron2, whose data start again, a resumed trainer must be in the state that was saved, and the
run must end at the same iteration and learning rate.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess as Process
from pathlib import Path
from typing import Any

import torch

from dynbackbones.checkpoints.whole_file import is_whole
from dynbackbones.cli.main import main
from dynbackbones.demo import digits
from dynbackbones.training.run_folder import newest_checkpoint
from dynbackbones.training.run_lock import LOCK

FORK = multiprocessing.get_context("fork")
ROOT = Path(__file__).parents[2]
ITERATIONS = 24
_DETECTION = {
    "INPUT.MIN_SIZE_TRAIN": "(48,64)",
    "INPUT.MIN_SIZE_TEST": "64",
    "INPUT.RANDOM_FLIP": "horizontal",
    "MODEL.FPN.OUT_CHANNELS": "32",
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "SOLVER.IMS_PER_BATCH": "2",
    "SOLVER.MAX_ITER": str(ITERATIONS),
    "SOLVER.CHECKPOINT_PERIOD": "2",
    "TEST.EVAL_PERIOD": "10",
    "DATALOADER.NUM_WORKERS": "1",
    "SEED": "1",
}
# One checkpoint is kept: the hardest case. Logs of each iteration are no part of it.
_COMMON = """
default_hooks = dict(
    checkpoint=dict(interval=2, max_keep_ckpts=1, save_best=None, _delete_=True,
                    type="CheckpointHook", by_epoch=False),
    logger=dict(interval=1),
)
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend="gloo"))
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters={iterations}, val_interval=10)
"""
_CONFIGS = {
    "segmentation": """
_base_ = "{root}/configs/demo/sar_semantic_fpn.py"
model = dict(data_preprocessor=dict(size=(64, 96)))
train_dataloader = dict(batch_size=2, num_workers=1)
param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end=24, by_epoch=False)]
""",
    # By epochs, of which each has two checkpoints within.
    "pretraining": """
_base_ = "{root}/configs/demo/pretrain_digits.py"
train_dataloader = dict(
    batch_size=4,
    sampler=dict(type="SeededEpochSampler"),
    dataset=dict(dataset=dict(count=24)),
)
val_dataloader = dict(dataset=dict(count=8))
param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end=24, by_epoch=False)]
""",
    "dcan": """
_base_ = ["{root}/configs/dcan/semantic-fpn_digits_2-adaptation.py"]
load_from = None
dcan = dict(_base_.dcan, generator=dict(_base_.small_vgg, weights=None, encoder_weights="random"))
custom_hooks = [*_base_.hooks, dcan]
train_dataloader = dict(batch_size=2)
param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end=24, by_epoch=False)]
""",
}
_BY_EPOCH = """
train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=4, val_interval=2)
"""
KINDS = ("detection", "segmentation", "pretraining", "dcan", "detectron2")


@dataclass
class Tally:
    """What came of the kills.

    Attributes:
        kills: all of them.
        writing: those while a checkpoint was being written.
        runs: that were finished and compared.
        faults: what should not have come of them.
    """

    kills: int = 0
    writing: int = 0
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def command(kind: str, folder: Path, work: Path, resume: bool) -> list[str]:
    """The command line of a run."""
    flags = ["--resume"] if resume else []
    if kind not in _CONFIGS:
        engine = "torchvision" if kind == "detection" else kind
        options = [word for pair in _DETECTION.items() for word in pair]
        config = ROOT / "configs" / "demo" / "sar_retinanet.yaml"
        words = ["--engine", engine, *flags, "--config-file", str(config), *options]
        return [str(ROOT / "tools" / "train_net.py"), *words, "OUTPUT_DIR", str(work)]
    config = folder / f"{kind}.py"
    text = (_CONFIGS[kind] + _COMMON).format(root=ROOT, iterations=ITERATIONS)
    if kind == "pretraining":
        text = text[: text.index("train_cfg")] + _BY_EPOCH
    config.write_text(text)
    return [str(ROOT / "tools" / "train.py"), str(config), "--work-dir", str(work), *flags]


def start(kind: str, folder: Path, work: Path, resume: bool) -> Process:
    """Starts a run in a process of its own; its output is added to ``output.txt``.

    Forked, so that what takes longest, importing the libraries, is done once.
    """
    importlib.import_module(f"dynbackbones.cli.{_module(kind)}")
    importlib.import_module(
        {
            "detection": "dynbackbones.integrations.torchvision.engine",
            "detectron2": "dynbackbones.integrations.detectron2.engine",
        }.get(kind, "mmseg.datasets")
    )
    process = FORK.Process(target=_life, args=(kind, folder, work, resume))
    process.start()
    return process


def _module(kind: str) -> str:
    return "train" if kind in _CONFIGS else "train_net"


def _life(kind: str, folder: Path, work: Path, resume: bool) -> None:
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    os.environ["DETECTRON2_DATASETS"] = str(folder / "datasets")
    sys.argv = command(kind, folder, work, resume)
    main(_module(kind).replace("_", "-"))


def live(process: Process, work: Path, rng: random.Random, span: float) -> str:
    """Waits for a moment and kills there.

    Returns:
        ``"writing"`` or ``"running"``, or ``""`` if the run ended before.
    """
    while process.is_alive() and not (work / LOCK).exists():
        time.sleep(0.01)
    writing, moment = rng.random() < 0.5, rng.random() * span
    begin, seen, wanted = time.monotonic(), set(), rng.randint(1, 4)
    while process.is_alive():
        if writing:
            seen.update(path.name for path in work.glob(".*.pth.*.partial"))
            due = len(seen) >= wanted
        else:
            due = time.monotonic() - begin > moment
        if due:
            if writing:
                time.sleep(rng.random() * 0.03)
            process.kill()
            process.join()
            half = any(work.glob(".*.pth.*.partial"))
            return "writing" if half else "running"
        time.sleep(0.001)
    return ""


def check_files(work: Path) -> Iterator[str]:
    """What is wrong with the files that a killed run left."""
    for path in work.glob("*.pth"):
        if not is_whole(path):
            yield f"{path} is not whole"


def differences(first: Any, second: Any, where: str = "") -> Iterator[str]:
    """Where two contents of checkpoints differ, bit by bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or not torch.equal(first, second):
            yield where
    elif isinstance(first, dict) and isinstance(second, dict):
        for key in first.keys() | second.keys():
            yield from differences(first.get(key), second.get(key), f"{where}.{key}")
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple):
        if len(first) != len(second):
            yield where
        for index, (one, other) in enumerate(zip(first, second, strict=False)):
            yield from differences(one, other, f"{where}.{index}")
    elif first != second:
        yield where


# Not of the training: when, where and in which process it was.
_ASIDE = {"meta", "message_hub", "time", "data_time"}


def compare(whole: Path, killed: Path, exact: bool) -> Iterator[str]:
    """How a run that was killed differs from one that was not."""
    names = [{path.name for path in folder.glob("*.pth")} for folder in (whole, killed)]
    if names[0] != names[1]:
        yield f"checkpoints {sorted(names[0] ^ names[1])} are in one of the runs only"
    for name in sorted(names[0] & names[1]):
        one, other = (torch.load(f / name, weights_only=True) for f in (whole, killed))
        if exact:
            parts = (one.keys() | other.keys()) - _ASIDE
            found = [d for p in parts for d in differences(one.get(p), other.get(p), p)]
        else:
            schedule = ("trainer", "hooks", "LRScheduler")
            found = list(differences(_at(one, *schedule), _at(other, *schedule), "schedule"))
            found += differences(one["iteration"], other["iteration"], "iteration")
        if found:
            yield f"{name} differs in {len(found)} values: {', '.join(sorted(found)[:4])}"
    if exact:
        results = [json.loads((f / "results.json").read_text()) for f in (whole, killed)]
        yield from (f"results.json differs in {d}" for d in differences(*results))


def _at(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content[key]
    return content


def resumed_state(folder: Path, work: Path) -> Iterator[str]:
    """How detectron2's trainer, resumed, differs from the checkpoint that it is resumed from."""
    path = newest_checkpoint(work)
    if path is None:
        return
    os.environ["DETECTRON2_DATASETS"] = str(folder / "datasets")
    from dynbackbones.integrations.detectron2.engine import setup
    from dynbackbones.integrations.detectron2.trainer import Trainer

    config = ROOT / "configs" / "demo" / "sar_retinanet.yaml"
    options = [word for pair in _DETECTION.items() for word in pair]
    trainer = Trainer(setup(str(config), [*options, "OUTPUT_DIR", str(work)]))
    trainer.resume_or_load(resume=True)
    saved = torch.load(path, weights_only=True)
    if trainer.start_iter != saved["iteration"] + 1:
        yield f"{path}: goes on at {trainer.start_iter}"
    yield from differences(saved["model"], trainer.model.state_dict(), "model")
    yield from differences(saved["trainer"], trainer.state_dict(), "trainer")


def torment(kind: str, kills: int, folder: Path, seed: int = 0) -> Tally:
    """Kills runs of a kind as often as asked for, and compares what comes of them.

    Args:
        kind: one of `KINDS`.
        kills: how many.
        folder: for data and runs.
        seed: of the moments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "datasets").exists():
        digits.write_digits(folder / "datasets", num_train=12, num_val=4)
    rng, tally, whole = random.Random(seed), Tally(), folder / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    begin = time.monotonic()
    code = _ended(start(kind, folder, whole, False))
    if code:
        raise SystemExit(f"the run that nobody kills ended with {code}: {folder / 'output.txt'}")
    span = (time.monotonic() - begin) * 0.7
    while tally.kills < kills or tally.runs == 0:
        work = folder / f"killed_{tally.runs}"
        shutil.rmtree(work, ignore_errors=True)
        _one_run(kind, kills, folder, work, rng, span, tally)
        tally.runs += 1
        tally.faults += compare(whole, work, exact=kind != "detectron2")
        if tally.faults:
            break
    return tally


def _one_run(
    kind: str,
    kills: int,
    folder: Path,
    work: Path,
    rng: random.Random,
    span: float,
    tally: Tally,
) -> None:
    while True:
        process = start(kind, folder, work, resume=True)
        if tally.kills >= kills:
            code = _ended(process)
            tally.faults += [f"ended with {code}"] if code else []
            return
        ending = live(process, work, rng, span)
        if not ending:
            code = _ended(process)
            tally.faults += [f"ended with {code}"] if code else []
            return
        tally.kills += 1
        tally.writing += ending == "writing"
        tally.faults += check_files(work)
        if kind == "detectron2":
            tally.faults += resumed_state(folder, work)
        print(f"{kind}: kill {tally.kills}, {ending}, {newest_checkpoint(work)}", flush=True)
        if tally.faults:
            return


def _ended(process: Process) -> int:
    process.join()
    return process.exitcode


def run_kinds() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="+", choices=KINDS)
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--folder", type=Path, required=True, help="for data and runs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    failed = False
    for kind in args.kinds:
        tally = torment(kind, args.kills, args.folder.resolve() / kind, args.seed)
        failed |= bool(tally.faults)
        print(
            f"{kind}: {tally.kills} kills, {tally.writing} of them while a checkpoint was written, "
            f"in {tally.runs} runs; {'; '.join(tally.faults) or 'nothing lost'}",
            flush=True,
        )
    sys.exit(failed)


if __name__ == "__main__":
    run_kinds()
