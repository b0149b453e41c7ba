from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from dynbackbones.cli.train import main as train_command
from dynbackbones.errors import UserError
from tests.messages import naming

CONFIGS = Path(__file__).parents[3] / "configs" / "pretrain"
GAMMAS = sorted(path.name for path in CONFIGS.glob("blockdrop*_gammas.py"))
BLOCKDROP = sorted({path.name for path in CONFIGS.glob("blockdrop*_cifar10*.py")} - set(GAMMAS))
PATCHDROP = sorted(path.name for path in CONFIGS.glob("patchdrop*_cifar10*.py"))
SAR = sorted(
    {path.name for path in CONFIGS.glob("*_cifar10*.py")} - {*BLOCKDROP, *GAMMAS, *PATCHDROP}
)
TABLES = ("ablations", "groups", "branches", "schedules", "targets")
SMALL = [f"blockdrop_resnet20_cifar10-small_{stage}.py" for stage in
         ("1-plain", "2-curriculum", "3-joint")]  # fmt: skip
IMAGES = 24


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with a tiny dataset in the layout of the small configs."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("train", "val"):
        pixels = rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
        labels = rng.integers(0, 10, IMAGES)
        np.savez(folder / f"{name}.npz", images=pixels, labels=labels)
    return folder


@pytest.fixture
def train(images):
    """Trains a small config for a few iterations and returns its work dir."""

    def call(name, work_dir, *options, iterations=2, resume=False):
        keys = ("train_dataloader.dataset.dataset", "val_dataloader.dataset")
        train_command([
            str(CONFIGS / name), "--work-dir", str(work_dir), *(["--resume"] if resume else []),
            "--cfg-options", *(f"{key}.data_root={images}" for key in keys),
            f"test_dataloader.dataset.data_root={images}", "train_dataloader.batch_size=8",
            f"train_cfg.max_iters={iterations}", f"train_cfg.val_interval={iterations}",
            "default_hooks.checkpoint.interval=1", "default_hooks.logger.interval=1",
            "vis_backends=[]", "visualizer.vis_backends=[]", *options,
        ])  # fmt: skip
        return work_dir

    return call


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.parametrize("name", BLOCKDROP)
def test_the_stages_of_blockdrop_build_on_each_other(name):
    cfg = Config.fromfile(CONFIGS / name)
    model = MODELS.build(cfg.model)
    depth = int(name.split("resnet")[1].split("_")[0])
    assert model.backbone.num_blocks == (depth - 2) // 2
    assert model.stage == name.rpartition("-")[2].removesuffix(".py")
    previous = str(cfg.load_from)
    if model.stage != "plain":
        stage = {"curriculum": "1-plain", "joint": "2-curriculum"}[model.stage]
        before = Config.fromfile(CONFIGS / f"{name.rpartition('_')[0]}_{stage}.py")
        folder = name.rpartition("_")[0]
        iterations = before.train_cfg.max_iters
        assert previous == f"work_dirs/{folder}_{stage}/iter_{iterations}.pth"


def models(cfg):
    """The network of each variant; of a config without variants its own."""
    for name, variant in cfg.get("variants", {"": {}}).items():
        varied = Config(cfg.to_dict())
        varied.merge_from_dict(dict(variant))
        yield name, MODELS.build(varied.model)


@pytest.mark.parametrize("name", SAR)
def test_sar_configs_and_their_baselines_train(name):
    cfg = Config.fromfile(CONFIGS / name)
    if "variants" in cfg and "small" not in name:
        cfg.variants = {key: cfg.variants[key] for key in list(cfg.variants)[:1]}
    for _, model in models(cfg):
        model.train()
        samples = [DataSample().set_gt_label(label) for label in (0, 1)]
        losses = model(torch.randn(2, 3, 32, 32), samples, mode="loss")
        losses["loss"].backward()
        assert model.backbone.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_same_rows_at_both_scales(table):
    small, paper = (
        Config.fromfile(CONFIGS / f"sar_{name}_{table}.py")
        for name in ("resnet20_cifar10-small", "resnet32_cifar100")
    )
    assert small.variants == paper.variants and small.variant_metrics == paper.variant_metrics
    assert (small.model.backbone.depth, paper.model.backbone.depth) == (20, 32)


def test_rows_are_the_papers_networks():
    # Millions of MACs at the rates of 0.3, 0.5 and 0.7; the paper's networks have others.
    expected = {
        "groups": [110, 152, 195, 78, 99, 120, 62, 72, 83],
        "branches": [90, 111, 132, 118, 139, 160, 78, 99, 120, 177, 259, 341],
        "schedules": [118, 139, 160] * 3,
        "targets": [118, 118, 139, 139, 160, 160],
        "baselines": [125, 253, 269, 72, 83, 115, 177],
    }
    for table, macs in expected.items():
        cfg = Config.fromfile(CONFIGS / f"sar_resnet32_cifar100_{table}.py")
        found = []
        for name, model in models(cfg):
            net = model.backbone
            rate = [net.target_rate] if hasattr(net, "target_rate") else []
            assert not rate or name.endswith(f"t {rate[0]}")
            found.append(round(net.macs(32, 32, *rate) / 1e6))
        assert found == macs, table


def test_the_number_of_classes_is_the_datas():
    for name in (*BLOCKDROP, *SAR):
        cfg = Config.fromfile(CONFIGS / name)
        classes = 100 if "cifar100" in name else 10
        assert cfg.model.head.num_classes == cfg.model.data_preprocessor.num_classes == classes
        data = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
        if "small" not in name:
            assert {d.type for d in data} == {f"CIFAR{classes}"}
            assert {d.data_root for d in data} == {f"data/cifar{classes}"}


@pytest.mark.parametrize(
    ("network", "rate", "giga", "channels"),
    [("wrn28-10", 0.5, 1.954, 640), ("resnext29-8x32d", 0.5, 1.277, 1024)],
)
def test_rows_of_table_4(network, rate, giga, channels):
    sar, plain = (
        Config.fromfile(CONFIGS / f"{kind}{network}_cifar100.py").to_dict() for kind in ("sar_", "")
    )
    net = MODELS.build(Config(sar).model).backbone
    assert net.target_rate == rate
    macs = net.macs(32, 32, rate) + 100 * channels
    assert macs / 1e9 == pytest.approx(giga, abs=0.0005)
    assert sar["train_cfg"]["max_iters"] == 391 * 500
    assert sar["model"].pop("backbone") != plain["model"].pop("backbone")
    assert sar == plain and sar["model"]["head"]["in_channels"] == channels


def test_figure_4_and_what_it_was_before():
    cfg, before = (
        Config.fromfile(CONFIGS / f"sar_resnet20_cifar10{run}.py") for run in ("", "_width2-300e")
    )
    for one, macs, epochs in ((cfg, 36.3, 500), (before, 63.1, 300)):
        net = MODELS.build(one.model).backbone
        assert net.macs(32, 32, 0.5) / 1e6 == pytest.approx(macs, abs=0.05)
        assert one.train_cfg.max_iters == one.param_scheduler[-1].end == 391 * epochs


@pytest.mark.parametrize("name", GAMMAS)
def test_gammas_start_from_one_curriculum(name):
    cfg = Config.fromfile(CONFIGS / name)
    joint = Config.fromfile(CONFIGS / name.replace("gammas", "3-joint"))
    assert cfg.load_from == joint.load_from and cfg.model.stage == "joint"
    assert [model.learning.gamma for _, model in models(cfg)] == [2, 5, 10]


@pytest.mark.parametrize("depth", [32, 110])
@pytest.mark.parametrize("classes", [10, 100])
def test_the_papers_settings(depth, classes):
    plain, curriculum, joint = (
        Config.fromfile(CONFIGS / f"blockdrop_resnet{depth}_cifar{classes}_{stage}.py")
        for stage in ("1-plain", "2-curriculum", "3-joint")
    )
    assert plain.train_dataloader.dataset.dataset.type == f"CIFAR{classes}"
    for cfg, batch in ((curriculum, 2048), (joint, 256)):
        assert cfg.optim_wrapper.optimizer == {"type": "Adam", "lr": 1e-4}
        assert cfg.train_dataloader.batch_size == batch
        assert (cfg.model.gamma, cfg.model.alpha) == (5, 0.8)


def test_three_stages_follow_each_other(train, tmp_path):
    plain = train(SMALL[0], tmp_path / "plain") / "iter_2.pth"
    curriculum = train(SMALL[1], tmp_path / "curriculum", f"load_from={plain}") / "iter_2.pth"
    before, after = weights(plain), weights(curriculum)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed and all(key.startswith("backbone.policy.") for key in changed)
    joint = train(SMALL[2], tmp_path / "joint", f"load_from={curriculum}")
    last = weights(joint / "iter_2.pth")
    assert not torch.equal(last["backbone.conv1.weight"], after["backbone.conv1.weight"])
    results = (joint / "results.json").read_text()
    assert '"accuracy/top1"' in results and '"policy/distinct_policies"' in results
    assert '"block_usage"' in results
    with pytest.raises(UserError, match=naming(curriculum, "architecture")):
        train(SMALL[2], tmp_path / "32", f"load_from={curriculum}", "model.backbone.depth=32")


def test_a_resumed_joint_training_is_the_same(train, tmp_path):
    plain = train(SMALL[0], tmp_path / "plain", iterations=1) / "iter_1.pth"
    start = f"load_from={plain}"
    whole = train(SMALL[2], tmp_path / "whole", start, iterations=3)
    parts = tmp_path / "parts"
    train(SMALL[2], parts, start, iterations=2)
    train(SMALL[2], parts, start, iterations=3, resume=True)
    expected, resumed = (weights(folder / "iter_3.pth") for folder in (whole, parts))
    for key, value in expected.items():
        assert torch.equal(value, resumed[key]), key


@pytest.mark.parametrize("name", PATCHDROP)
def test_the_stages_of_patchdrop_build_on_each_other(name):
    cfg = Config.fromfile(CONFIGS / name)
    model = MODELS.build(cfg.model)
    stage, method = model.stage, name.removesuffix(".py").rpartition("-")[0]
    assert name.endswith(f"-{stage}.py")
    stages = ("high", "low", "policy", "joint", "two_stream")
    index = stages.index(stage)
    method, _, number = method.rpartition("_")
    assert int(number) == index + 1
    if index:
        before = f"{method}_{index}-{stages[index - 1]}"
        iterations = Config.fromfile(CONFIGS / f"{before}.py").train_cfg.max_iters
        assert cfg.load_from == f"work_dirs/{before}/iter_{iterations}.pth"


def test_patchdrops_settings_are_the_papers():
    sigmas = {"policy": 0.5, "joint": 5, "two_stream": 5}
    for name in PATCHDROP:
        cfg = Config.fromfile(CONFIGS / name)
        if "small" not in name and cfg.model.stage in sigmas:
            assert (cfg.model.sigma, cfg.model.alpha) == (sigmas[cfg.model.stage], 0.8)
            assert cfg.optim_wrapper.optimizer == {"type": "Adam", "lr": 1e-4}
            assert cfg.train_dataloader.batch_size == (1024 if cfg.model.stage == "policy" else 256)


def test_patchdrops_stages_follow_each_other(train, tmp_path):
    before, states = None, {}
    for name in (name for name in PATCHDROP if "small" in name):
        start = [f"load_from={before}"] if before else []
        before = train(name, tmp_path / name, *start) / "iter_2.pth"
        states[name.rpartition("-")[2].removesuffix(".py")] = weights(before)

    def changed(first, second):
        keys = (k for k in states[first] if not torch.equal(states[first][k], states[second][k]))
        return {key.split(".")[1] for key in keys}

    assert changed("high", "low") == {"low"}
    assert changed("low", "policy") == {"policy"}
    assert changed("policy", "joint") == changed("joint", "two_stream") == {"policy", "high"}
    low, high = (states["low"][f"net.{part}.backbone.conv1.weight"] for part in ("low", "high"))
    assert torch.cosine_similarity(low.flatten(), high.flatten(), dim=0) > 0.5  # it started there
