"""The benchmark for GPUs in small, on a CPU: what is compared, and that nothing wrong is timed."""

import json
from pathlib import Path

import pytest
import torch

from tests.gpu import checks, contestants, opponents, timing
from tests.gpu.contestants import Contestant
from tests.gpu.fused import WAYS, FusedConv2d, fused
from tests.gpu.networks import Inputs, Place, Regions, build, half_policies

CPU = Place(torch.device("cpu"), torch.float32)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the benchmark in small and returns what it writes."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)

    def call(*arguments):
        file = tmp_path / "new" / "figures.json"
        options = ["--device", "cpu", "--tiny", "--seconds", "0", "--limit", "1000"]
        opponents.main(["--json", str(file), *options, *arguments])
        return json.loads(file.read_text())

    return call


@pytest.mark.slow
def test_plain_and_dynamic_networks_are_timed_side_by_side(run, capsys):
    report = run("--only", "A", "--max-autotune", "--profile")
    (group,) = report["groups"]
    rows = group["rows"]
    assert not [row["error"] for row in rows if row["error"]]
    plain = {row["treatment"] for row in rows if row["plain"]}
    assert plain == {"compiled", "fused graph", "graph", "eager", "eager, not folded"}
    rates = [row["rate"] for row in rows if row["treatment"] == "fused compiled"]
    assert rates == [0.25, 0.5, 0.75]
    best = min(row["median_ms"] for row in rows if row["plain"])
    for row in rows:
        assert row["ratio"] == pytest.approx(row["median_ms"] / best)
        assert len(row["ratios"]) == len(plain) and row["relative_error"] < 1e-4
    assert report["ceilings"]["copy_tb_per_s"] > 0
    assert "(strongest)" in capsys.readouterr().out
    assert "## sar_resnet18, compiled, rate 0.5" in Path(group["profile"]).read_text()


@pytest.mark.slow
def test_blocks_are_dropped(run, tmp_path):
    tables = tmp_path / "cache" / "chosen.best_config"
    tables.parent.mkdir()
    tables.touch()
    report = run("--only", "C8", "--warm")
    assert not tables.exists() and report["warm_s"] > 0
    logs = sorted((tmp_path / "cache" / "warming").glob("*.log"))
    assert [log.name for log in logs] == ["C8_dynamic_compiled.log", "C8_plain_compiled.log"]
    assert "C8 blockdrop_resnet18, one policy, compiled" in logs[0].read_text()
    rows = report["groups"][0]["rows"]
    names = dict.fromkeys(row["network"] for row in rows)
    assert list(names)[1:] == [
        "blockdrop_resnet18, a policy for each image",
        "blockdrop_resnet18, one policy",
    ]
    assert not [row["error"] for row in rows if row["error"]]
    assert {row["rate"] for row in rows} == {None, 0.5}


def test_without_time_everything_is_named(run):
    report = run("--only", "A", "D", "--limit", "1")
    assert report["groups"] == []
    left = [one["what"].partition(":")[0] for one in report["left_out"] if "left" in one["why"]]
    assert left == ["A", "D", "A+"]


@pytest.mark.slow
def test_what_takes_long_comes_last(run, monkeypatch):
    # Whatever the rest takes on a busy machine.
    monkeypatch.setitem(contestants.SECONDS, "max-autotune", 1e6)
    report = run("--only", "D", "--max-autotune", "D", "--limit", "10000")
    (group,) = report["groups"]
    assert len(group["rows"]) == 3 + 4 * 3
    (left,) = [one["what"] for one in report["left_out"] if one["why"] == "no time left"]
    assert left.startswith("D+: ResNet-18")


def contestant(run, **options):
    return Contestant("net", "graph", False, run=run, **options)


@pytest.mark.parametrize("wrong", [torch.tensor([1.0, 2.5]), torch.tensor([1.0, torch.nan])])
def test_wrong_features_get_no_time(wrong):
    right = torch.tensor([1.0, 2.0])

    def reference():
        return {"res2": right.clone()}

    good = contestant(reference, reference=reference)
    bad = contestant(lambda: {"res2": wrong.clone()}, reference=reference)
    stale = torch.empty(2)
    unwritten = contestant(lambda: {"res2": stale}, reference=reference)
    failing = contestant(lambda: {}["res2"], reference=reference)
    checks.check([good, bad, unwritten, failing])
    assert good.difference == 0 and not good.error
    assert "differ" in bad.error and "nan" in unwritten.error and "KeyError" in failing.error
    rows = timing.time_group([good, bad, unwritten, failing], CPU, 0)
    assert ["median_ms" in row for row in rows] == [True, False, False, False]


def test_regions_change_in_place_with_exact_shares():
    net = build("sar_resnet18", CPU, groups=2)
    images = Inputs.random(2, (224, 224), CPU).images
    regions = Regions(net, images, (0.25, 0.75))
    before = regions.masks["res2"].data_ptr()
    for rate in (0.25, 0.75, 0.25):
        regions.next(rate)
        net(images)
        assert regions.share() == pytest.approx(rate, abs=0.02)
        for name, mask in net.decisions.masks.items():
            cells = mask.flatten(3).sum(dim=3)
            assert (cells == round(rate * mask[0, 0, 0].numel())).all()
            assert torch.equal(mask, regions.masks[name])
    assert regions.masks["res2"].data_ptr() == before


def test_half_of_the_blocks_run():
    net = build("blockdrop_resnet18", CPU)
    each, alike = (half_policies(net, 3, alike=alike) for alike in (False, True))
    assert each.sum(dim=1).tolist() == alike.sum(dim=1).tolist() == [4, 4, 4]
    assert len(alike.unique(dim=0)) == 1 < len(each.unique(dim=0))


@pytest.mark.parametrize("name", ["resnet50", "sar_resnet50"])
@torch.no_grad()
def test_fused_convolutions_are_the_network(name):
    net = build(name, CPU)
    images = Inputs.random(1, (64, 64), CPU).images
    other, ways = fused(net, images)
    assert checks.relative_error(other(images), net(images)) < 1e-5
    convs = [module for module in other.modules() if isinstance(module, FusedConv2d)]
    refined = net.sparse_convolutions()
    assert bool(refined) == (name == "sar_resnet50")
    assert len(convs) + len(refined) >= 49 and not any(conv in refined for conv in convs)
    assert ways == f"{len(convs)} plain"


@torch.no_grad()
def test_a_1x1_convolution_is_a_product():
    conv = torch.nn.Conv2d(16, 24, 1).to(memory_format=torch.channels_last)
    x = torch.randn(2, 16, 6, 8).contiguous(memory_format=torch.channels_last)
    arguments = x, conv.weight, conv.bias, None, [1, 1], [0, 0], [1, 1], 1
    for way in ("product", "plain"):
        found = WAYS[way](*arguments)
        torch.testing.assert_close(found, conv(x).relu())
        assert found.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="1x1"):
        WAYS["product"](*arguments[:3], conv(x), *arguments[4:])
