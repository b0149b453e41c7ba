"""The model of products and bytes: one block by hand, and its sums against the networks' own."""

import pytest
import torch

import dynbackbones
from dynbackbones.layers.residual import BasicBlock, Bottleneck
from tests.gpu import roofline, work
from tests.gpu.work import Card, Input, Work

STRIDED = (128, 8), (256, 16), (512, 32)
GIVEN = Input((64, 96), 2, 2, 0.5)


def test_a_bottleneck_by_hand():
    block = Bottleneck(256, 256, groups=2)  # 64 wide: in each group 128 to 32, 32 to 32, 32 to 128
    first = work.gather_kernel(block, 1000, 4, GIVEN)
    assert first.macs == 1000 * 2 * 128 * 32
    tables = 4 * 2 * 1000 / 16
    assert first.bytes == 2 * (1000 * 256 + 1000 * 64 + 2 * 128 * 32) + tables
    second = work.scatter_kernel(block, 1000, 4, GIVEN, slots=300)
    weights = 2 * (9 * 32 * 32 + 32 * 128)
    assert second.macs == 1000 * weights
    assert second.bytes == 2 * (1000 * 64 + 1000 * 256 * 2 + weights) + tables + 4 * 300
    dense = work.dense_block(block, 1000, GIVEN)
    weights = 256 * 64 + 9 * 64 * 64 + 64 * 256
    assert dense.macs == 1000 * weights
    assert dense.bytes == 2 * (1000 * (256 + 4 * 64 + 256 + 256) + weights)


def test_a_basic_block_by_hand():
    block = BasicBlock(64, 64, groups=1)
    first = work.gather_kernel(block, 100, 4, GIVEN)
    second = work.scatter_kernel(block, 100, 4, GIVEN, slots=0)
    assert first.macs == second.macs == 100 * 9 * 64 * 64
    tables = 4 * 100 / 16
    assert first.bytes == 2 * (100 * 128 + 9 * 64 * 64) + tables
    assert second.bytes - first.bytes == 2 * 100 * 64  # the shortcut


def test_what_bounds_a_kernel():
    card = Card(bandwidth=100.0, peak=1000.0)
    slow = Work(macs=100, bytes=100)
    assert slow.intensity == 2 and slow.bound(card) == "bytes" and slow.seconds(card) == 1
    assert Work(macs=1000, bytes=100).bound(card) == "MACs"
    assert Work(macs=1000, bytes=100).seconds(card) == 2


@pytest.mark.parametrize("layout", ["paper", "resnet"])
def test_products_are_those_that_networks_count(layout):
    net = dynbackbones.SARResNet(50, layout=layout).eval()
    stages = work.refinement_work(net, GIVEN)
    macs = sum(w.macs for _, w in work.dense_work(net, GIVEN))
    for stage in stages.values():
        for kernels in stage.blocks:
            macs += sum(w.macs for name, w in kernels.items() if name != "shortcut")
    linear = [m for m in net.modules() if isinstance(m, torch.nn.Linear)]
    macs += 2 * sum(layer.weight.numel() for layer in linear)
    assert macs == pytest.approx(2 * net.macs(64, 96, share=0.5))
    plain = dynbackbones.ResNet(50).eval()
    assert sum(w.macs for _, w in work.dense_work(plain, GIVEN)) == 2 * plain.macs(64, 96)


def test_compilers_give_what_follows_a_convolution_a_pass_of_its_own():
    plain = dynbackbones.ResNet(18).eval()
    fused, unfused = (
        sum(w.bytes for _, w in work.dense_work(plain, Input((32, 32), 1, fused=each)))
        for each in (True, False)
    )
    outputs = 64 * 16**2 + 64 * 8**2 * 4  # the stem and the first stage
    outputs += sum(5 * channels * (32 // stride) ** 2 for channels, stride in STRIDED)
    assert unfused - fused == 2 * 2 * outputs


def test_tables_are_markdown(capsys):
    roofline.main(["--size", "64", "96", "--depth", "50"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    kernels = [line for line in lines if line.startswith("| res")]
    # Blocks alike share their lines: a first one of five lines, others of three, and the fusion.
    assert len(kernels) == 3 * (5 + 3 + 1)
    assert {line.count("|") for line in kernels} == {12}
    assert any("whole SAR-ResNet-50" in line for line in lines)
