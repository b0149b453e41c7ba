"""What a person reads of a run, as text."""

import math

import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.training import report


class Model(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


@pytest.mark.parametrize(
    ("name", "options", "title", "aim"),
    [
        (
            "sar_resnet18",
            {"target_rate": 0.4},
            "SAR-ResNet-18",
            "regions in 3 stages, target 0.4, ramp over the first half of training",
        ),
        (
            "sar_cifar_resnet20",
            {"target_schedule": "constant"},
            "SAR-CIFAR-ResNet-20",
            "regions in 3 stages, target 0.5, from the start",
        ),
        (
            "sar_cifar_resnet20",
            {"target_schedule": "jump"},
            "SAR-CIFAR-ResNet-20",
            "regions in 3 stages, target 0.5, jump after a quarter of training",
        ),
        (
            "blockdrop_resnet18",
            {},
            "BlockDrop-ResNet-18",
            "which of 8 blocks run for each image, policy frozen",
        ),
        (
            "blockdrop_cifar_resnet20",
            {"policy_training": "reinforce"},
            "BlockDrop-CIFAR-ResNet-20",
            "which of 9 blocks run for each image, policy learned from rewards",
        ),
        ("sar_resnet18", {"selection": "all"}, "SAR-ResNet-18", "nothing, its selection is given"),
    ],
)
def test_a_heading_says_what_decides(name, options, title, aim):
    model = Model(dynbackbones.build_backbone(name, **options))
    first, second = report.heading(model, "data (3 images)", "an engine", name="Net").splitlines()
    threads = torch.get_num_threads()
    assert first.startswith(f"Net with {title} on data (3 images), an engine, CPU, {threads} thr")
    assert second == f"decides: {aim}"


def test_a_heading_without_decisions_and_of_an_evaluation():
    plain = Model(dynbackbones.build_backbone("resnet18"))
    assert report.heading(plain, "data", "e", done=7).splitlines()[1:] == [
        "continues after 7 iterations"
    ]
    sar = Model(dynbackbones.build_backbone("sar_resnet18"))
    text = report.heading(sar, "data", "e", trains=False)
    assert text.startswith("evaluates Model with SAR-ResNet-18 on data, e, ")
    assert text.count("\n") == 0
    assert report.heading(nn.Linear(1, 1), "data", "e").startswith("Linear on data, e, CPU")


def test_a_line_of_progress():
    values = {
        "time": 0.18213,
        "loss": 1.90481,
        "gmacs": 0.1413,
        "activation_rate": 0.8403,
        "loss_cls": 1.1344,
        "decode.loss_ce": 0.5,
        "lr": 1e-5,
    }
    assert report.progress("iter 20/60", 7.9, values) == (
        "iter 20/60  eta 0:00:07  0.182 s/iter  loss 1.905 (cls 1.134, decode.ce 0.5)  "
        "gmacs 0.1413  activation_rate 0.8403  lr 1e-05"
    )


def test_a_line_of_progress_keeps_the_decisions_when_there_is_no_room():
    values = {"time": 0.1, "loss": 1.0, "gmacs": 51.25, "activation_rate": 0.5}
    values |= {f"loss_with_a_long_name_{part}": 1 / 3 for part in range(9)} | {"lr": 0.02}
    line = report.progress("iter 100000/100000", 1e6, values)
    assert 120 < len(line) <= report.WIDTH
    assert "loss 1 (with_a_long_name_0 0.3333, with_a_long_name_1 0.3333" in line
    assert ")  gmacs 51.25  activation_rate 0.5" in line


def test_a_table_leaves_single_blocks_out():
    backbone = {"gmacs": 0.77345, "block_usage": 0.5, "block_usage_res2_block1": 1.0}
    results = {"bbox": {"AP": 64.661, "APl": None, "APs": math.nan}, "backbone": backbone}
    lines = [line.split() for line in report.table(results).splitlines()]
    wanted = [["AP", "64.66"], ["APl", "n/a"], ["APs", "n/a"]]
    assert lines == [*wanted, ["gmacs", "0.773"], ["block_usage", "0.500"]]
    assert report.table({"mIoU": 17.72}).split() == ["mIoU", "17.72"]


def test_a_table_of_two_datasets_names_them():
    results = {name: {"bbox": {"AP": 1.0}, "backbone": {}} for name in ("first", "second")}
    assert report.table(results).split() == ["first", "AP", "1.000", "second", "AP", "1.000"]


def test_the_files_that_are_there(tmp_path):
    (tmp_path / "logs").mkdir()
    for name in ("iter_5.pth", "results.json", "best_iter_3.pth", "logs/events.out.tfevents.1"):
        (tmp_path / name).touch()
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_5.pth"))
    first, second = report.files(tmp_path, tmp_path / "logs" / "a.log").splitlines()
    assert first == f"files: {tmp_path}"
    assert second.strip() == (
        "iter_5.pth, best_iter_3.pth, results.json, log logs/a.log, TensorBoard logs"
    )


def test_names_of_figures_by_level():
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    model = Model(net)
    assert report.figure_names(model, "image") == []
    net(torch.rand(1, 3, 64, 64))
    assert report.figure_names(model, "image") == ["gmacs", "activation_rate"]
    assert "activation_rate_res2" in report.figure_names(model, "stage")
