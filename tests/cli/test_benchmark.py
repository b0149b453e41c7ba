"""Command line of the benchmark."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dynbackbones
from dynbackbones.cli import benchmark
from dynbackbones.cli.benchmark import command, networks, opponents, options
from dynbackbones.errors import UserError
from tests.messages import names, naming

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/benchmark.py"


MODULE = """
import dynbackbones


class Narrow(dynbackbones.ResNet):
    def __init__(self, *, in_channels: int = 3, norm: str = "BN", freeze_at: int = 0):
        super().__init__(18, in_channels=in_channels, norm=norm, freeze_at=freeze_at)


dynbackbones.register_backbone("narrow", Narrow)
"""


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        cwd=cwd,
    )


def test_help_works():
    result = run("--help")
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_benchmark_compares_side_by_side(tmp_path):
    file = tmp_path / "new" / "figures.json"
    arguments = "--backbones resnet18 sar_resnet18 --size 64 64 --repeats 2 --warmup 0 --rates 0.5"
    result = run(*arguments.split(), "--execution", "sparse", "masked", "--json", file)
    assert result.returncode == 0, result.stderr
    assert "BatchNorm not folded" in result.stdout
    report = json.loads(file.read_text())
    rows = [(row["backbone"], row["execution"], row["rate"]) for row in report["results"]]
    assert rows == [
        ("resnet18", None, None),
        ("sar_resnet18", "sparse", 0.5),
        ("sar_resnet18", "masked", 0.5),
    ]
    static, sparse, masked = report["results"]
    assert static["ratio"] == static["mac_ratio"] == 1
    assert sparse["macs"] == masked["macs"] < static["macs"]
    assert static["repeats"] == 2


def test_benchmark_fits_a_line_to_block_usage(tmp_path):
    file = tmp_path / "figures.json"
    arguments = "--backbones cifar_resnet20 blockdrop_cifar_resnet20 --size 32 32 --usage 3"
    options = "--repeats 2 --warmup 0 --execution sparse"
    result = run(*arguments.split(), *options.split(), "--json", file)
    assert result.returncode == 0, result.stderr
    assert "ms per block (r^2" in result.stdout and "of cifar_resnet20" in result.stdout
    report = json.loads(file.read_text())
    assert [row["blocks"] for row in report["results"]] == [None, 0, 5, 9]
    assert [row["rate"] for row in report["results"]] == [None, 0, 0.5, 1]
    (fit,) = report["usage_fits"]
    assert fit["reference"] == "cifar_resnet20" and 0 <= fit["r_squared"] <= 1


def test_benchmark_times_detectors_and_prepared_networks(tmp_path):
    file = tmp_path / "figures.json"
    names = ["retinanet", "sar_retinanet_scratch"]
    configs = [ROOT / f"configs/demo/{name}.yaml" for name in names]
    options = "--size 64 96 --repeats 1 --warmup 0 --rates 0.5 --execution auto --treatment packed"
    result = run("--detectors", *configs, *options.split(), "--json", file)
    assert result.returncode == 0, result.stderr
    assert "weights in oneDNN's layout" in result.stdout
    rows = json.loads(file.read_text())["results"]
    assert [row["backbone"] for row in rows] == names
    assert rows[1]["macs"] < rows[0]["macs"]


def test_benchmark_breaks_times_down():
    arguments = "--backbones resnet18 sar_resnet18 --size 64 64 --repeats 1 --warmup 0 --rates 0.5"
    options = "--execution sparse --breakdown --memory --treatment folded --dtype bfloat16"
    result = run(*arguments.split(), *options.split())
    assert result.returncode == 0, result.stderr
    assert "milliseconds, sparse at rate 0.5:" in result.stdout
    assert "sar_resnet18: " in result.stdout and " MiB, ratio " in result.stdout
    assert "sar_resnet18: stem" in result.stdout and "fusion" in result.stdout


def test_benchmark_draws_and_compares_with_other_libraries(tmp_path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "new" / "latency.png"
    arguments = "--backbones torchvision:resnet18 sar_resnet18 --size 64 64 --repeats 1 --warmup 0"
    options = "--rates 0.25 0.75 --execution sparse --selection center"
    result = run(*arguments.split(), *options.split(), "--plot", plot)
    assert result.returncode == 0, result.stderr
    assert "\ntorchvision:resnet18 " in result.stdout
    assert "center regions or blocks" in result.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_benchmark_knows_what_a_users_module_registers(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    arguments = "--import mine --backbones resnet18 narrow --size 64 64 --repeats 1 --warmup 0"
    # The memory is measured in a process of its own.
    result = run(*arguments.split(), "--memory", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "\nnarrow " in result.stdout and "\nnarrow: " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dtype", "float16", "--treatment", "packed"], ("--dtype float16", "bfloat16")),
        (["--dtype", "bfloat16", "--calibrate", "x.yaml"], ("--dtype bfloat16", "--calibrate")),
        (["--device", "cuda", "--treatment", "packed"], ("--treatment packed", "--device cpu")),
        (["--memory", "--detectors", "x.yaml"], ("--memory", "--backbones")),
        (["--weights", "x.pth"], ("--weights", "--calibrate")),
        (["--breakdown", "--detectors", "x.yaml"], ("--breakdown", "--backbones")),
        (["--rates", "1.5"], ("--rates", [1.5])),
        (["--usage", "2"], ("--usage", 2)),
        (["--plot", "p.xyz"], ("--plot", "p.xyz", ".png, .pdf, .svg")),
        (["--opponents", "compiled", "--dtype", "float16"], ("--opponents compiled", "float16")),
        (["--opponents", "compiled", "--detectors", "x.yaml"], ("--opponents", "--backbones")),
        (["--repeats", "0"], ("--repeats", "at least 1")),
        (["--backbones", "resnet18", "--detectors", "x.yaml"], ("--backbones", "--detectors")),
        (["--detectors", "x.yaml", "--calibrate", "x.yaml"], ("--detectors", "--calibrate")),
        (["--calibrate", "x.yaml", "--repeats", "5"], ("--repeats", "--calibrate")),
        (["--size", "0", "224"], ("--size", "0 224")),
    ],
)
def test_benchmark_names_a_wrong_option(capsys, arguments, words):
    with pytest.raises(SystemExit) as stop:
        options.parse_args(arguments)
    assert stop.value.code == 2
    (line,) = re.findall("error: .*", capsys.readouterr().err)
    assert names(line, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--backbones resnet51", ("--backbones", "resnet51", "resnet50")),
        ("--backbones torchvision:nosuch", ("--backbones", "torchvision", "nosuch")),
        (
            "--backbones torchvision:resnet18 --treatment packed",
            ("torchvision:resnet18", "--treatment packed"),
        ),
        ("--backbones sar_resnet18 --selection first", ("--selection", "first")),
        ("--backbones sar_resnet18,alpha=0", ("--backbones sar_resnet18,alpha=0", "alpha", 0)),
        ("--backbones sar_resnet18,alhpa=2", ("--backbones", "'alhpa'", "'alpha'")),
        ("--backbones sar_resnet18,alpha", ("--backbones", "'alpha'", "NAME=VALUE")),
        ("--backbones sar_resnet18 --opponents compiled", ("--opponents", "sar_resnet18")),
    ],
)
def test_benchmark_refuses_networks_that_do_not_fit(arguments, words):
    with pytest.raises(UserError, match=naming(*words)):
        benchmark.main(arguments.split())


def test_opponents_run_beside_our_networks_in_processes_of_their_own(tmp_path):
    arguments = "--backbones resnet18 blockdrop_resnet18 --opponents compiled --size 64 64"
    arguments += " --repeats 2 --warmup 1 --execution auto --rates 0.5 --json"
    result = run(*arguments.split(), str(tmp_path / "out.json"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    rows = {row["backbone"]: row for row in report["results"]}
    assert rows.keys() == {"resnet18", "blockdrop_resnet18", "resnet18, compiled"}
    static = [rows["resnet18"], rows["resnet18, compiled"]]
    assert static[0]["macs"] == static[1]["macs"]
    # The first is the fastest static one, which ratios are to.
    assert report["results"][0]["ratio"] == 1
    assert report["results"][0]["median_ms"] == min(row["median_ms"] for row in static)
    assert all(row["median_cpu_ms"] > 0 for row in rows.values())
    assert report["results"][0]["cpu_ratio"] == 1
    assert all(row["cpu_ratio"] > 0 for row in rows.values())
    assert "CPU ms" in result.stdout


def test_an_opponent_whose_package_is_missing_is_named(capsys, monkeypatch):
    monkeypatch.setattr(opponents.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        options.parse_args(["--opponents", "openvino"])
    assert names(capsys.readouterr().err, "--opponents openvino", "pip install openvino")


def test_an_opponent_computes_what_the_network_does():
    net = dynbackbones.optimize_for_inference(
        dynbackbones.build_backbone("resnet18").eval(), pack=False
    )
    images = torch.randn(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted = list(net(images).values())
        for name, opponent in opponents.OPPONENTS.items():
            if opponents.missing(name) or not opponent.same_type:
                continue
            found = opponent.prepare(net, images)()
            if not isinstance(found, list):
                found = list(found.values()) if isinstance(found, dict) else found.to_tuple()
            for one, other in zip(found, wanted, strict=True):
                torch.testing.assert_close(torch.as_tensor(one), other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["onnxruntime-int8", "openvino-int8"])
def test_int8_is_near_what_the_network_computes_and_is_int8(name):
    if missing := opponents.missing(name):
        pytest.skip(f"{missing} is not installed")
    torch.manual_seed(0)
    net = dynbackbones.optimize_for_inference(
        dynbackbones.build_backbone("resnet18").eval(), pack=False
    )
    images = torch.randn(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted = list(net(images).values())
        found = opponents.OPPONENTS[name].prepare(net, images)()
    found = found if isinstance(found, list) else found.to_tuple()
    errors = [
        float((torch.as_tensor(one) - other).norm() / other.norm())
        for one, other in zip(found, wanted, strict=True)
    ]
    assert 1e-4 < max(errors) < 0.2


def test_ratios_are_to_no_int8_network(tmp_path):
    pytest.importorskip("onnxruntime")
    arguments = "--backbones resnet18 --opponents onnxruntime-int8 --size 64 64 --repeats 2"
    arguments += " --warmup 1 --json"
    result = run(*arguments.split(), str(tmp_path / "out.json"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    first, second = report["results"]
    assert (first["backbone"], second["backbone"]) == ("resnet18", "resnet18, onnxruntime-int8")
    assert first["ratio"] == 1


def test_options_stand_behind_a_name():
    net = networks.build_named("sar_resnet18,layout=resnet,alpha=4,norm=GN")
    assert net.layout == "resnet"
    assert net.layer1.base[0].out_channels == 16
    assert isinstance(net.layer1.get_submodule("0").bn1, torch.nn.GroupNorm)


def test_whole_segmentors_are_timed(capsys):
    pytest.importorskip("mmseg")
    folder = ROOT / "configs/mmseg"
    configs = sorted(map(str, folder.glob("*r18_pspnet_1xb4-3k_camvid-240x320.py")))
    options = "--size 64 96 --repeats 1 --warmup 0 --execution auto --rates 0.3 --treatment packed"
    benchmark.main(["--detectors", *configs, *options.split()])
    found = capsys.readouterr().out
    assert len(configs) == 2 and all(Path(config).stem in found for config in configs)
    net = networks.build_whole(configs[0]).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(net(list(images)), net.model(images, mode="tensor"))


def test_outputs_of_another_kind_are_refused_first(tmp_path):
    weights = tmp_path / "model.pth"
    weights.write_text("mine")
    with pytest.raises(UserError, match=naming(weights, ".json")):
        command.main(["--backbones", "cifar_resnet8", "--json", str(weights)])
    assert weights.read_text() == "mine"


def test_a_detector_to_calibrate_is_the_trained_one(tmp_path):
    config = tmp_path / "my.yaml"
    base = Path(__file__).parents[2] / "configs/demo/sar_retinanet.yaml"
    config.write_text(
        f"_BASE_: {base}\nMODEL: {{WEIGHTS: started_from.pth}}\nOUTPUT_DIR: {tmp_path}/out\n"
    )
    with pytest.raises(UserError, match=naming(tmp_path / "out/model_final.pth", "--weights")):
        command.main(["--calibrate", str(config)])
