"""Trains with one engine on the GPU in mixed precision, and again from half of the way.

    python -m tests.gpu.training torchvision --folder output/gpu/torchvision --json FILE

Once with PyTorch's defaults, which says how fast it is and whether a resumed run happens to be
exact, and once with deterministic algorithms, where it must be, bit by bit.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from dynbackbones.cli.main import main as command_line
from dynbackbones.demo import digits
from tests.faults.kills import ROOT, compare
from tests.gpu.step import Step, run_step

ENGINES = ("torchvision", "mmseg", "mmpretrain", "detectron2")
_COMMON = """
experiment_name = "{name}"
default_hooks = dict(
    checkpoint=dict(interval={half}, save_best=None, _delete_=True, type="CheckpointHook",
                    by_epoch=False),
    logger=dict(interval=5),
)
env_cfg = dict(cudnn_benchmark=False)
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters={count}, val_interval={count})
param_scheduler = [dict(type="LinearLR", start_factor=0.1, begin=0, end=5, by_epoch=False)]
"""
_CONFIGS = {
    "mmseg": """
_base_ = "{root}/configs/demo/sar_semantic_fpn.py"
train_dataloader = dict(batch_size={batch}, num_workers=2)
""",
    "mmpretrain": """
_base_ = "{root}/configs/demo/pretrain_digits.py"
train_dataloader = dict(batch_size={batch}, dataset=dict(dataset=dict(count=96)))
val_dataloader = dict(dataset=dict(count=32))
""",
}


class Trainings:
    """Runs of one engine on the demo's data.

    Args:
        step: of the check.
        engine: one of `ENGINES`.
    """

    def __init__(self, step: Step, engine: str) -> None:
        self.step = step
        self.engine = engine
        self.count = 6 if step.tiny else 30
        self.half = self.count // 2
        self.batch = 2 if step.tiny else 8

    def run(self, work: Path, resume: bool = False) -> None:
        """Trains in this process, as the command line does."""
        words = self._words(work)
        if resume:  # before overrides, and not before a name
            words.insert(0 if "--engine" in words else len(words), "--resume")
        before, sys.argv = sys.argv, ["check-gpu", *words]
        try:
            command_line("train" if self.engine in _CONFIGS else "train-net")
        finally:
            sys.argv = before

    def _words(self, work: Path) -> list[str]:
        if self.engine not in _CONFIGS:
            options = {
                "MODEL.DEVICE": self.step.device.type,
                "MODEL.WEIGHTS": "",
                "SOLVER.IMS_PER_BATCH": self.batch,
                "SOLVER.MAX_ITER": self.count,
                "SOLVER.CHECKPOINT_PERIOD": self.half,
                "SOLVER.WARMUP_ITERS": 5,
                "SOLVER.AMP.ENABLED": not self.step.tiny,
                "DATALOADER.NUM_WORKERS": 2,
                "SEED": 1,
                "OUTPUT_DIR": work,
            }
            config = ROOT / "configs" / "demo" / "sar_retinanet.yaml"
            words = ["--engine", self.engine, "--config-file", config]
            return [str(word) for word in (*words, *sum(options.items(), ()))]
        config = work.with_name(f"{work.name}.py")
        text = (_CONFIGS[self.engine] + _COMMON).format(
            root=ROOT, name=work.name, half=self.half, count=self.count, batch=self.batch
        )
        config.write_text(text, encoding="utf-8")
        amp = [] if self.step.tiny else ["--amp"]
        return [*amp, str(config), "--work-dir", str(work)]

    def halfway(self, whole: Path, resumed: Path) -> None:
        """Makes a folder of what a run would have left that stopped at half of the way."""
        names = [f"iter_{self.half}.pth", f"model_{self.half - 1:07}.pth"]
        (checkpoint,) = [whole / name for name in names if (whole / name).exists()]
        resumed.mkdir()
        shutil.copy(checkpoint, resumed)
        (resumed / "last_checkpoint").write_text(checkpoint.name, encoding="utf-8")

    def whole_and_resumed(self, name: str) -> list[str]:
        """A run, and another from half of it; how their files differ."""
        whole, resumed = (self.step.folder / f"{name}_{kind}" for kind in ("whole", "resumed"))
        for folder in (whole, resumed):
            shutil.rmtree(folder, ignore_errors=True)
        self.run(whole)
        self.halfway(whole, resumed)
        self.run(resumed, resume=True)
        return list(compare(whole, resumed, exact=self.engine != "detectron2"))


def logged(work: Path, key: str) -> list[float]:
    """The values that a run logged, in order."""
    return list(_logged(work, key))


def _logged(work: Path, key: str) -> Iterator[float]:
    names = {"loss": ("loss", "total_loss"), "time": ("time",)}[key]
    files = [*work.rglob("scalars.json"), *work.rglob("metrics.json")]
    for line in files[0].read_text(encoding="utf-8").splitlines() if files else ():
        values = json.loads(line)
        yield from (values[name] for name in names if name in values)


def make_deterministic(on: bool) -> None:
    """Switches PyTorch's deterministic algorithms; what has none warns."""
    torch.use_deterministic_algorithms(on, warn_only=True)
    torch.backends.cudnn.deterministic = on
    torch.backends.cudnn.benchmark = False


def main(step: Step, engine: str) -> None:
    """All runs of an engine."""
    os.environ["DETECTRON2_DATASETS"] = str(step.folder / "datasets")
    digits.write_digits(step.folder / "datasets", num_train=24, num_val=4)
    if engine == "torchvision":
        import dynbackbones.integrations.torchvision.engine as module

        module.LOG_INTERVAL = 5
    trainings = Trainings(step, engine)
    step.part("defaults", lambda: _with_defaults(step, trainings))
    if engine != "detectron2":  # whose data start again
        step.part("deterministic", lambda: _deterministic(step, trainings))


def _with_defaults(step: Step, trainings: Trainings) -> None:
    if not step.tiny:
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats()
    differences = trainings.whole_and_resumed("defaults")
    if not step.tiny:
        step.figure("peak MiB", round(torch.cuda.max_memory_allocated() / 2**20))
    losses = logged(step.folder / "defaults_whole", "loss")
    seconds = logged(step.folder / "defaults_whole", "time")
    step.figure("loss", [round(loss, 3) for loss in losses])
    step.expect(bool(losses) and all(map(math.isfinite, losses)), f"losses {losses}")
    falls = step.tiny or min(losses[1:], default=math.inf) < losses[0]
    step.expect(falls, f"the loss does not fall: {losses}")
    later = seconds[len(seconds) // 2 :]
    if later:
        step.figure("iterations/s", round(len(later) / sum(later), 1))
    if trainings.engine == "detectron2":
        step.expect(not differences, "; ".join(differences))
    else:
        step.figure("resume with defaults", differences[0] if differences else "exact")


def _deterministic(step: Step, trainings: Trainings) -> None:
    make_deterministic(True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        differences = trainings.whole_and_resumed("deterministic")
    without = {str(w.message).split(" ", 1)[0] for w in caught if "determinis" in str(w.message)}
    step.figure("resume, deterministic", "; ".join(differences) or "exact")
    if without:
        step.figure("without a deterministic algorithm", sorted(without))
    step.expect(not differences, f"a resumed run differs: {'; '.join(differences)}")


if __name__ == "__main__":
    # Before the device is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    run_step(main, *ENGINES)
