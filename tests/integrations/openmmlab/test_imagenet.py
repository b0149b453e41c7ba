"""Training on class folders: recipes, long runs, and what is refused before and during them."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmpretrain.registry import MODELS

from dynbackbones import checkpoints
from dynbackbones.cli.train import main as train_command
from dynbackbones.data import class_folders
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab import DynamicBackboneHook
from dynbackbones.integrations.openmmlab.datasets.class_checks import check_class_folders
from dynbackbones.integrations.openmmlab.datasets.image_folders import ImageFolders
from dynbackbones.integrations.openmmlab.head_checks import check_heads
from tests.messages import naming

CONFIGS = Path(__file__).parents[3] / "configs" / "pretrain"
SAR = CONFIGS / "sar_resnet50_imagenet.py"
BLOCKDROP = [
    f"blockdrop_resnet101_imagenet_{stage}.py" for stage in ("1-plain", "2-curriculum", "3-joint")
]


@pytest.fixture
def train(class_root, class_options, tool):
    """Trains a small form of a config, with more options."""

    def call(config, work_dir, *options, resume=False):
        resumed = ["--resume"] if resume else []
        tool(
            *("train", config, "--work-dir", work_dir, *resumed),
            *("--cfg-options", *class_options(class_root), *options),
        )
        return work_dir

    return call


@pytest.fixture(scope="module")
def finished_run(shared_class_root, class_options, tmp_path_factory):
    """Work dir of a run of one epoch."""
    work_dir = tmp_path_factory.mktemp("finished") / "work"
    options = [*class_options(shared_class_root), "train_cfg.max_epochs=1"]
    train_command([str(SAR), "--work-dir", str(work_dir), "--cfg-options", *options])
    return work_dir


@pytest.fixture
def first(finished_run, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished_run, tmp_path / "first")


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def hashes(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_papers_recipe():
    cfg = Config.fromfile(SAR)
    assert cfg.optim_wrapper.optimizer == {
        "type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4,
    }  # fmt: skip
    assert cfg.total_batch_size == cfg.auto_scale_lr.base_batch_size == 256
    assert cfg.train_cfg.max_epochs == 200 and cfg.param_scheduler[1].end == 200
    assert cfg.param_scheduler[0].end == 5
    assert cfg.model.head.loss.label_smooth_val == 0.1
    net = MODELS.build(cfg.model).backbone
    assert (net.loss_weight, net.target_schedule, net.temperature) == (0.5, "ramp", (1.0, 0.01))
    # G2 s2 alpha2 t0.5 in the paper: 2.40 G.
    assert net.macs(224, 224, 0.5) / 1e9 == pytest.approx(2.40, rel=0.012)


@pytest.mark.parametrize(
    ("run", "rate", "giga"),
    [("g2s4a1", 0.5, 2.55), ("g4", 0.5, 2.12), ("g8", 0.5, 1.99), ("g1", 0.3, 2.479)],
)
def test_variants_differ_by_the_backbone_alone(run, rate, giga):
    cfg = Config.fromfile(CONFIGS / f"sar_resnet50_imagenet_{run}.py")
    first, second = cfg.to_dict(), Config.fromfile(SAR).to_dict()
    net = MODELS.build(cfg.model).backbone
    assert net.target_rate == rate
    assert (net.macs(224, 224, rate) + 2048e3) / 1e9 == pytest.approx(giga, rel=0.012)
    assert first["model"].pop("backbone") != second["model"].pop("backbone")
    assert first == second


@pytest.mark.parametrize("depth", [34, 50, 101])
def test_baselines_differ_by_the_backbone_alone(depth):
    sar, plain = (
        Config.fromfile(CONFIGS / f"{name}resnet{depth}_imagenet.py").to_dict()
        for name in ("sar_", "")
    )
    backbones = [cfg["model"].pop("backbone") for cfg in (sar, plain)]
    assert [(b["type"], b["depth"]) for b in backbones] == [
        ("SARResNet", depth), ("StaticResNet", depth),
    ]  # fmt: skip
    assert sar == plain
    expected = 512 if depth == 34 else 2048
    assert sar["model"]["head"]["in_channels"] == expected


def test_fine_tuning_keeps_the_rate():
    backbone = Config.fromfile(CONFIGS / "sar_resnet50_finetune.py").model.backbone
    assert backbone.target_schedule == "constant" and backbone.loss_weight == 1
    assert tuple(backbone.temperature) == (0.1, 0.01)


def test_small_data_trains_from_scratch(train, tmp_path):
    name = CONFIGS / "sar_resnet18_scratch.py"
    cfg = Config.fromfile(name)
    backbone = cfg.model.backbone
    assert (backbone.selector_margin, backbone.target_schedule) == (2, "ramp")
    assert "init_cfg" not in backbone and cfg.load_from is None
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs
    folder = train(name, tmp_path / "scratch", "train_cfg.max_epochs=1")
    results = json.loads((folder / "results.json").read_text())
    assert 0 < results["activation_rate"] <= 1 and "accuracy/top1" in results


def test_blockdrops_stages_follow_each_other():
    configs = [Config.fromfile(CONFIGS / name) for name in BLOCKDROP]
    assert [cfg.model.stage for cfg in configs] == ["plain", "curriculum", "joint"]
    assert configs[0].model.backbone.init_cfg.checkpoint == "torchvision://resnet101"
    for name, before, cfg in zip(BLOCKDROP[:-1], configs[:-1], configs[1:], strict=True):
        assert cfg.load_from == f"work_dirs/{name[:-3]}/epoch_{before.train_cfg.max_epochs}.pth"
        assert cfg.optim_wrapper.optimizer.type == "Adam"
    _, curriculum, joint = configs
    assert (curriculum.total_batch_size, curriculum.optim_wrapper.optimizer.lr) == (2048, 1e-4)
    assert (joint.total_batch_size, joint.optim_wrapper.optimizer.lr) == (320, 1e-5)
    model = MODELS.build(curriculum.model)
    model.backbone.set_progress(20 / 45)
    assert int(model.learned_blocks.sum()) == 21  # one more with each epoch


def test_blockdrop_learns_a_policy_on_class_folders(train, tmp_path):
    options = ("model.backbone.init_cfg=None", "train_cfg.max_epochs=1")
    plain = train(CONFIGS / BLOCKDROP[0], tmp_path / "plain", *options) / "epoch_1.pth"
    options = ("train_cfg.max_epochs=1", f"load_from={plain}")
    learned = train(CONFIGS / BLOCKDROP[1], tmp_path / "curriculum", *options)
    results = json.loads((learned / "results.json").read_text())
    assert {"accuracy/top1", "policy/gmacs", "policy/distinct_policies"} <= set(results)
    before, after = weights(plain), weights(learned / "epoch_1.pth")
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed and all(key.startswith("backbone.policy.") for key in changed)


def test_a_run_reports_what_it_spends_and_keeps_its_best_and_last(train, tmp_path):
    work_dir = train(SAR, tmp_path / "work")
    results = json.loads((work_dir / "results.json").read_text())
    rates = {f"activation_rate{part}" for part in ("", "_res2", "_res3", "_res4")}
    assert {"accuracy/top1", "gmacs"} | rates <= set(results)
    # What is averaged over iterations would be averaged over validations.
    averaged = Config.fromfile(SAR).log_processor.mean_pattern
    assert not [key for key in results if re.search(averaged, key)]
    assert (work_dir / "last_checkpoint").read_text().endswith("epoch_2.pth")
    assert len(list(work_dir.glob("best_accuracy_top1_epoch_*.pth"))) == 1
    (log,) = work_dir.glob("*/*.log")
    lines = [line for line in log.read_text().splitlines() if "Epoch(train)" in line]
    assert len(lines) == 2 * 3 and all("eta: " in line and "loss: " in line for line in lines)
    assert not (work_dir / "corrupt_images.txt").exists()


def test_a_killed_run_goes_on_as_if_nothing_had_been(train, tmp_path, monkeypatch):
    options = ("train_dataloader.num_workers=1", "default_hooks.checkpoint.max_keep_ckpts=1")
    whole = train(SAR, tmp_path / "whole", *options)
    before = DynamicBackboneHook.before_train_iter

    def crash(self, runner, batch_idx, data_batch=None):
        if runner.iter == 4:
            raise KeyboardInterrupt
        before(self, runner, batch_idx, data_batch)

    monkeypatch.setattr(DynamicBackboneHook, "before_train_iter", crash)
    with pytest.raises(KeyboardInterrupt):
        train(SAR, tmp_path / "cut", *options)
    monkeypatch.setattr(DynamicBackboneHook, "before_train_iter", before)
    torch.manual_seed(99)
    cut = train(SAR, tmp_path / "cut", *options, resume=True)
    expected, resumed = (
        torch.load(folder / "epoch_2.pth", weights_only=True) for folder in (whole, cut)
    )
    for key, value in expected["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][key]), key
    hubs = [content["message_hub"]["runtime_info"] for content in (expected, resumed)]
    assert hubs[0]["best_score"] == hubs[1]["best_score"]
    assert hubs[0]["keep_ckpt_ids"] == hubs[1]["keep_ckpt_ids"] == [2]
    for folder in (whole, cut):
        assert len(list(folder.glob("epoch_*.pth"))) == 1
        assert len(list(folder.glob("best_*.pth"))) == 1


def test_a_continued_copy_leaves_the_other_folders_best_alone(train, first, tmp_path):
    # A score that anything beats.
    path = first / "epoch_1.pth"
    content = torch.load(path, weights_only=True)
    content["message_hub"]["runtime_info"]["best_score"] = -1.0
    torch.save(content, path)
    files = hashes(first)
    second = tmp_path / "second"
    second.mkdir()
    for name in ("epoch_1.pth", "last_checkpoint"):
        (second / name).write_bytes((first / name).read_bytes())
    train(SAR, second, resume=True)
    assert hashes(first) == files
    assert list(second.glob("best_*epoch_2.pth"))


def remove(path):
    for file in path.iterdir():
        file.unlink()


def break_folders(root, how):
    if how == "missing":
        remove(root / "val" / "a cat")
        (root / "val" / "a cat").rmdir()
    elif how == "empty":
        remove(root / "train" / "Übung")
        (root / "train" / "Übung" / "notes.txt").write_text("")
    elif how == "unknown":
        (root / "val" / "dog").mkdir()
    elif how == "single":
        for name in ("a cat", "Übung"):
            remove(root / "train" / name)
            (root / "train" / name).rmdir()
    else:
        (root / "train").rename(root / "training")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", ("val", "1 of 3", "missing", "a cat")),
        ("empty", ("train", "1 of 3", "without any image", "Übung")),
        ("unknown", ("val", "1 of 3", "unknown", "dog")),
        ("single", ("train", 1, "at least two")),
        ("renamed", ("train", "exist", "data_root")),
    ],
)
def test_incomplete_class_folders_are_refused(train, class_root, tmp_path, how, words):
    break_folders(class_root, how)
    message = naming(class_root / words[0], *words[1:])
    with pytest.raises(UserError, match=message):
        train(SAR, tmp_path / "work")
    assert not (tmp_path / "work").exists()
    with pytest.raises(UserError, match=message):
        split = "val" if how in ("missing", "unknown") else "train"
        ImageFolders(str(class_root), split)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("model.head.num_classes=10", ("model.head.num_classes", 10, "folders/train",
         "model.head.num_classes=3")),
        ("val_evaluator.0.topk=(1,5)", ("val_evaluator", "top-5", 3, "val_evaluator.0.topk=1")),
        ("train_dataloader.dataset.dataset.on_corrupt=ignore", ("on_corrupt", "skip, error",
         "'ignore'")),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_folders_are_refused(train, tmp_path, option, words):
    with pytest.raises(UserError, match=naming(*words)):
        train(SAR, tmp_path / "work", option)
    assert not list(tmp_path.glob("work/*.pth"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:300])


def test_corrupt_training_images_are_skipped_named_and_counted(train, class_root, tmp_path):
    broken = [class_root / "train" / "a cat" / "1.jpg", class_root / "train" / "Übung" / "3.jpg"]
    truncate(broken[0])
    broken[1].write_text("no image")
    work_dir = train(SAR, tmp_path / "work", "train_dataloader.num_workers=1")
    listed = (work_dir / "corrupt_images.txt").read_text().splitlines()
    assert listed == [str(path) for path in broken]
    (log,) = work_dir.glob("*/*.log")
    lines = [line for line in log.read_text().splitlines() if "cannot be read" in line]
    assert len(lines) == 1  # once, not after every epoch
    assert f"2 of 12 training images cannot be read and were skipped: {broken[0]}" in lines[0]


def test_corrupt_images_stop_training_where_they_are_to(train, class_root, tmp_path):
    path = class_root / "train" / "a cat" / "2.jpg"
    truncate(path)
    option = "train_dataloader.dataset.dataset.on_corrupt=error"
    with pytest.raises(UserError, match=naming(path, "truncated")):
        train(SAR, tmp_path / "work", option)


def test_corrupt_images_stop_an_evaluation(train, class_root, tmp_path):
    path = class_root / "val" / "n01440764" / "0.jpg"
    truncate(path)
    with pytest.raises(UserError, match=naming(path, "truncated")):
        train(SAR, tmp_path / "work")


def test_a_corrupt_image_is_replaced_by_the_next(class_root):
    dataset = ImageFolders(str(class_root), "train", [{"type": "LoadWholeImage"}])
    expected = dataset[2]
    truncate(Path(dataset.get_data_info(1)["img_path"]))
    assert dataset[1]["img_path"] == expected["img_path"]
    assert dataset.corrupt_files() == [str(class_root / "train" / "a cat" / "1.jpg")]
    for file in class_root.rglob("*.jpg"):
        truncate(file)
    with pytest.raises(UserError, match=naming("100 images", "truncated", class_root / "train")):
        dataset[0]


def test_hidden_folders_and_files_are_left_out(class_root):
    for split in ("train", "val"):
        shutil.copytree(class_root / split / "a cat", class_root / split / ".ipynb_checkpoints")
        inner = class_root / split / "a cat" / ".ipynb_checkpoints"
        shutil.copytree(class_root / split / "n01440764", inner)
        (class_root / split / "a cat" / "._0.jpg").touch()
    train = ImageFolders(str(class_root), "train")
    assert train.metainfo["classes"] == ("a cat", "n01440764", "Übung")
    assert len(train) == 12
    assert sorted({train.get_data_info(i)["gt_label"] for i in range(len(train))}) == [0, 1, 2]


def test_a_hidden_folder_is_named_where_mmpretrain_takes_it_for_a_class(class_root):
    dataset = {"type": "CustomDataset", "data_root": str(class_root), "data_prefix": "train"}
    cfg = Config({"train_dataloader": {"dataset": dataset}})
    check_class_folders(cfg, ("train_dataloader",))
    (class_root / "train" / ".ipynb_checkpoints").mkdir()
    with pytest.raises(UserError, match=naming(class_root, ".ipynb_checkpoints", "ImageFolders")):
        check_class_folders(cfg, ("train_dataloader",))


def test_labels_are_the_training_folders_in_order(class_root):
    train, val = (ImageFolders(str(class_root), split) for split in ("train", "val"))
    assert train.metainfo["classes"] == val.metainfo["classes"]
    assert train.metainfo["classes"] == class_folders.find_classes(class_root, "train")
    for dataset in (train, val):
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            folder = Path(info["img_path"]).parent.name
            assert dataset.metainfo["classes"][info["gt_label"]] == folder
    assert (len(train), len(val)) == (12, 6)


@pytest.mark.parametrize("option", ["model.backbone.depth=34", "model.backbone.alpha=1"])
def test_checkpoints_of_another_depth_or_width_are_refused(train, first, tmp_path, option):
    before = hashes(first)
    with pytest.raises(UserError, match=naming(first / "epoch_1.pth", "architecture")):
        train(SAR, tmp_path / "second", option, f"load_from={first / 'epoch_1.pth'}")
    # The same folder: refused without --resume, and with it too.
    with pytest.raises(UserError, match=naming(first, "--resume", "--work-dir")):
        train(SAR, first, option)
    key = option.partition("=")[0]
    with pytest.raises(UserError, match=naming(first / "epoch_1.pth", "config", key)):
        train(SAR, first, option, resume=True)
    assert hashes(first) == before
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("model.backbone.target_rate=0.7", ("0.5 there", "0.7 here")),
        ("optim_wrapper.optimizer.lr=0.2", ("0.1 there", "0.2 here")),
        ("total_batch_size=8", ("4 there", "8 here")),
        ("model.backbone.base_scale=4", ("4 here", "--work-dir")),
    ],
)
def test_a_run_is_not_continued_with_another_config(train, first, option, words):
    before = hashes(first)
    with pytest.raises(UserError, match=naming(option.partition("=")[0], *words)):
        train(SAR, first, option, resume=True)
    assert hashes(first) == before


def test_how_a_batch_is_divided_may_change_when_a_run_is_continued(train, first):
    train(SAR, first, "optim_wrapper.accumulative_counts=2", resume=True)
    assert (first / "epoch_2.pth").exists()


def test_the_checkpoint_starts_another_classifier_without_its_head(finished_run):
    path = finished_run / "epoch_1.pth"
    cfg = Config.fromfile(CONFIGS / "sar_resnet50_finetune.py")
    cfg.model.backbone.update(depth=18)
    cfg.model.backbone.init_cfg.checkpoint = str(path)
    cfg.model.head.update(num_classes=7, in_channels=512)
    model = MODELS.build(cfg.model)
    model.init_weights()
    state = checkpoints.state_dict_of(checkpoints.load(path))
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, state[f"backbone.{key}"]), key


def test_a_classifier_on_other_channels_is_told_the_right_number():
    model = MODELS.build(
        {
            "type": "ImageClassifier",
            "backbone": {"type": "SARResNet", "depth": 18, "out_indices": (3,)},
            "neck": {"type": "GlobalAveragePooling"},
            "head": {"type": "LinearClsHead", "num_classes": 3, "in_channels": 2048},
        }
    )
    with pytest.raises(UserError, match=naming("head.in_channels", 2048, "res5", 512)):
        check_heads(model)
