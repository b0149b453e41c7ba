"""The console of a run on mmengine's Runner."""

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

import dynbackbones
from dynbackbones.integrations.mmengine import console
from dynbackbones.integrations.mmengine.console import ConsoleHook, QuietRunner, quiet_imports
from dynbackbones.integrations.mmengine.decision_log import DecisionLogHook


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = dynbackbones.build_backbone("sar_cifar_resnet20")
        dynbackbones.attach(self)

    def forward(self, images, mode="loss"):
        features = self.backbone(images)
        return {"loss_any": features["res4"].mean()} if mode == "loss" else [{}] * len(images)


class Accuracy(BaseMetric):
    default_prefix = "accuracy"

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return {"top1": 12.5}


class Images(list):
    metainfo = {}


class Warns(Hook):
    def before_train(self, runner):
        runner.logger.warning("an image is missing")
        runner.logger.warning("The prefix is not set in metric class Accuracy.")


@pytest.fixture
def run(tmp_path):
    """Trains two epochs of four iterations, the first of which prints at the second."""

    def start(kind=QuietRunner, by_epoch=True, **options):
        images = Images({"images": torch.rand(3, 32, 32)} for _ in range(8))
        length = {"max_epochs": 2} if by_epoch else {"max_iters": 8}
        default_hooks = {"logger": {"type": "LoggerHook", "interval": 2}, "checkpoint": None}
        runner = kind(
            Model(),
            str(tmp_path),
            train_dataloader=DataLoader(images, batch_size=2),
            train_cfg={"by_epoch": by_epoch, "val_interval": 1 if by_epoch else 4, **length},
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
            val_dataloader=DataLoader(Images(images[:2]), batch_size=1),
            val_cfg={},
            val_evaluator=Evaluator([Accuracy()]),
            default_hooks=default_hooks,
            custom_hooks=[Warns(), DecisionLogHook(), ConsoleHook("an engine", **options)],
            log_processor={"by_epoch": by_epoch},
            experiment_name=f"{tmp_path.name}{by_epoch}",
        )
        runner.train()
        return runner

    return start


def test_a_run_by_epochs(run, capsys, tmp_path):
    runner = run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "warning: an image is missing"
    assert lines[1].startswith("Model with SAR-CIFAR-ResNet-20 on Images (8 images), an engine, C")
    assert lines[2].startswith("decides: regions in 3 stages")
    steps = [line for line in lines if line.startswith("epoch ")]
    assert [line.partition("  eta")[0] for line in steps] == [
        f"epoch {epoch}/2  iter {iteration}/4" for epoch in (1, 2) for iteration in (2, 4)
    ]
    for line in steps:
        assert " s/iter  loss " in line and "(any " in line and "gmacs " in line
        assert "activation_rate 0." in line or "activation_rate 1" in line
        assert "res2" not in line and "data_time" not in line
    middle = [line for line in lines if line.startswith("evaluation after")]
    assert middle == ["evaluation after 4 iterations  accuracy/top1 12.5"]
    end = lines.index("evaluation")
    assert lines[end + 1].split() == ["accuracy/top1", "12.50"]
    assert lines[end + 2] == f"files: {tmp_path}"
    with open(runner.logger.log_file) as log:
        logged = log.read()
    for word in ("System environment", "Hooks will be executed", "activation_rate_res2", "prefix"):
        assert word in logged


def test_a_run_by_iterations_and_an_evaluation_that_takes_long(run, capsys, monkeypatch):
    monkeypatch.setattr(console, "_PATIENCE", -1)
    run(by_epoch=False, datasets={"train": "digits"}, arrange=lambda m: {"a": dict(m)})
    printed = capsys.readouterr().out
    assert "Model with SAR-CIFAR-ResNet-20 on digits (8 images), an engine" in printed
    for step in (2, 4, 6, 8):
        assert f"\niter {step}/8  eta" in printed
    assert "\nevaluation 1/2  eta 0:00:00\nevaluation 2/2  eta 0:00:00\n" in printed
    assert "evaluation after 4 iterations  accuracy/top1 12.5\n" in printed


def test_without_progress_the_runner_prints_its_own(run, capsys):
    run(kind=Runner, progress=False)
    printed = capsys.readouterr().out
    assert "System environment" in printed and "Epoch(train)" in printed
    assert "\nepoch 1/2" not in printed
    assert "Model with SAR-CIFAR-ResNet-20" in printed and "\nfiles: " in printed


def test_a_head_is_named_with_its_model():
    model = nn.Module()
    model.decode_head = nn.Identity()
    assert console._name(model) == "Module (Identity)"
    model.detector = nn.Linear(1, 1)
    assert console._name(model) == "Linear"


def test_imports_print_no_noise(capsys):
    with pytest.raises(KeyError), quiet_imports():
        print("Could not import OneDL")
        print("something else")
        raise KeyError
    assert capsys.readouterr().out == "something else\n"
