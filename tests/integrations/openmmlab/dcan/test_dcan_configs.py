from pathlib import Path

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

from dynbackbones.adaptation import find_module
from dynbackbones.experiments.comparison import Comparison
from dynbackbones.experiments.table import Table
from dynbackbones.integrations.openmmlab import DCANHook, checks
from tests.messages import naming

CONFIGS = Path(__file__).parents[4] / "configs" / "dcan"
DRIVING = [
    f"{network}_{data}-cityscapes"
    for data in ("gta5", "synthia")
    for network in ("r101_fcn8s", "vgg16_fcn8s", "r50_pspnet")
]
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py"))


def load(name):
    return checks.load_config(CONFIGS / f"{name}.py")


def hook_of(cfg):
    (hook,) = (hook for hook in cfg.custom_hooks if hook.type == "DCANHook")
    return hook


def types_in(value):
    if isinstance(value, dict):
        kind = value.get("type")
        return {kind} | {t for item in value.values() for t in types_in(item)}
    return {t for item in value for t in types_in(item)} if isinstance(value, list) else set()


def test_there_are_the_promised_configs():
    driving = {f"{name}_{kind}" for name in DRIVING for kind in ("source", "dcan", "oracle")}
    small = {f"{part}_{data}" for data in ("camvid", "digits") for part in ("generator_small-vgg",)}
    assert driving < set(NAMES)
    assert {f"{name}_{stage}" for name in small for stage in ("1-reconstruct", "2-style")} < set(
        NAMES
    )
    assert {"generator_vgg19_gta5-cityscapes", "generator_vgg19_synthia-cityscapes"} < set(NAMES)


@pytest.mark.parametrize("name", DRIVING)
def test_the_three_kinds_differ_in_what_they_must(name):
    source, dcan, oracle = (load(f"{name}_{kind}") for kind in ("source", "dcan", "oracle"))
    assert dcan.model == source.model == oracle.model
    assert dcan.optim_wrapper == source.optim_wrapper == oracle.optim_wrapper
    assert dcan.train_dataloader == source.train_dataloader
    assert dcan.val_dataloader == source.val_dataloader == oracle.val_dataloader
    data = oracle.train_dataloader.dataset.dataset
    assert data.type == "CityscapesDataset"
    assert "gtFine" in data.data_prefix.seg_map_path
    # The paper's settings.
    lr = 1e-5 if "vgg" in name else 1e-3
    assert source.optim_wrapper.optimizer.lr == hook_of(dcan).gen_optim.lr == lr
    assert source.optim_wrapper.optimizer.momentum == 0.99
    assert "param_scheduler" not in source
    assert source.train_cfg.max_iters == 100000
    assert source.train_dataloader.batch_size == 3
    assert hook_of(dcan).num_targets == (2 if "synthia" in name else 1)
    assert hook_of(dcan).gen_loss_weight == 0.1
    assert dcan.model.decode_head.num_classes == (16 if "synthia" in name else 19)
    if "synthia" in name:
        sizes = {key: len(value) for key, value in dcan.val_evaluator.subsets.items()}
        assert sizes == {"mIoU_16": 16, "mIoU_13": 13}


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("_dcan", "adaptation"))])
def test_a_segmentor_trains_on_a_small_image(name):
    from mmseg.structures import SegDataSample

    cfg = load(name)
    init_default_scope("mmseg")
    cfg.model.backbone.pop("init_cfg", None)
    if "vgg16" in name:
        cfg.model.decode_head.channels = 32
    # SyncBN needs a GPU; in a run of one process mmengine reverts it.
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 5, (1, 64, 96)))) for _ in "ab"
    ]
    total, _ = model.parse_losses(model(torch.randn(2, 3, 64, 96), samples, mode="loss"))
    total.backward()
    assert torch.isfinite(total)
    absent = [key for key, value in model.named_parameters() if value.grad is None]
    assert absent == []
    options = {key: value for key, value in hook_of(cfg).items() if key != "type"}
    DCANHook(**options)
    assert find_module(model.backbone, options.get("align_after", "res3"))
    assert not any("Annotations" in str(kind) for kind in types_in(options["target_dataset"]))


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("2-adaptation")])
def test_variants(name):
    comparison = Comparison.from_file(CONFIGS / f"{name}.py", {}, Table(Path("absent")))
    settings = comparison.training.settings
    cells = {variant: settings(row, 1) for variant, row in comparison.rows.items()}
    for variant, cfg in cells.items():
        hooks = [hook for hook in cfg.custom_hooks if hook.type == "DCANHook"]
        assert bool(hooks) == (variant not in ("source only", "oracle"))
        assert cfg.randomness.seed == 1
        assert cfg.default_hooks.checkpoint.max_keep_ckpts >= 2
        # One start, one schedule, one network, scored alike.
        for key in ("load_from", "train_cfg", "param_scheduler", "model", "val_dataloader"):
            assert cfg[key] == cells["source only"][key]
        data = cfg.train_dataloader.dataset.dataset
        other = cells["source only"].train_dataloader.dataset.dataset
        assert (data == other) == (variant != "oracle")
    assert hook_of(cells["pixel level"]).align_after is None
    assert hook_of(cells["feature level"]).generator is None


def cells_of(name):
    """The config of each row, and the row that it starts from."""
    comparison = Comparison.from_file(CONFIGS / f"{name}.py", {}, Table(Path("absent")))
    rows = comparison.rows
    return {key: (comparison.training.settings(row, 0), row) for key, row in rows.items()}


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("r18_pspnet_camvid_2-adaptation_ablations", ["res3", None, "res2", "res4", "res5"]),
        (
            "vgg16_fcn8s_synthia-cityscapes_dcan_ablations",
            ["features.8", None, "features.4", "features.12", "features.16"],
        ),
    ],
)
def test_ablations_align_elsewhere_or_train_no_generator(name, layers):
    cells = {key: cfg for key, (cfg, _) in cells_of(name).items()}
    two_stages = hook_of(cells.pop("two stages"))
    first, *_ = cells.values()
    assert (two_stages.end_to_end, two_stages.gen_loss_weight) == (False, 0)
    assert two_stages.align_after == layers[0]
    assert [hook_of(cfg).align_after for cfg in cells.values()] == layers
    init_default_scope("mmseg")
    first.model.backbone.pop("init_cfg", None)
    backbone = MODELS.build(first.model.backbone)
    for cfg in cells.values():
        hook = hook_of(cfg)
        assert {**hook, "align_after": layers[0]} == hook_of(first)
        if hook.align_after is not None:
            module = backbone.get_submodule(find_module(backbone, hook.align_after))
            last = list(module.modules())[-1]
            # Behind the activation, where the paper's statistics are taken.
            assert type(last).__name__ == "ReLU" or hook.align_after.startswith("res")


def test_numbers_of_targets_are_out_of_eight():
    cells = cells_of("r18_pspnet_camvid_2-adaptation_targets")
    hooks = [hook_of(cfg) for cfg, _ in cells.values()]
    assert [hook.num_targets for hook in hooks] == [1, 2, 4, 8]
    assert all(len(set(hook.target_dataset.indices)) == 8 for hook in hooks)


def test_resolutions_are_the_same_in_training_adaptation_and_scoring():
    cells = cells_of("r18_pspnet_camvid_2-adaptation_resolutions")
    usual = cells_of("r18_pspnet_camvid_2-adaptation")
    source = load("r18_pspnet_camvid_1-source")
    for name, (cfg, row) in cells.items():
        kind, size = name.split(", ")
        labelled = cfg.train_dataloader.dataset.dataset.pipeline
        crop, scale = labelled[4].crop_size, tuple(labelled[3].scale)
        assert size == f"{crop[0]} x {crop[1]}"
        assert tuple(cfg.model.data_preprocessor.size) == tuple(crop)
        for loader in (cfg.val_dataloader, cfg.test_dataloader):
            assert tuple(loader.dataset.pipeline[1].scale) == scale
        if kind == "by day":
            assert not row.run and cfg.param_scheduler == source.param_scheduler
            continue
        assert row.start == f"by day, {size}"
        like = usual["DCAN" if kind == "DCAN" else "source only"][0]
        for key in ("param_scheduler", "train_cfg", "optim_wrapper"):
            assert cfg[key] == like[key]
        if kind == "DCAN":
            images = hook_of(cfg).target_dataset.pipeline
            assert (tuple(images[1].scale), images[2].crop_size) == (scale, crop)
        if size == "128 x 176":
            assert cfg.custom_hooks == like.custom_hooks
            assert cfg.train_dataloader == like.train_dataloader


def test_a_generator_is_trained_in_two_stages(tool, tmp_path, monkeypatch):
    from dynbackbones.adaptation import build_generator
    from dynbackbones.demo import digits

    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    digits.write_digits(tmp_path, num_train=4, num_val=1)
    short = ["train_cfg.max_iters=2", "train_dataloader.batch_size=2", "custom_hooks.1.interval=1"]
    short += ["default_hooks.checkpoint.interval=2"]
    config = CONFIGS / "generator_small-vgg_digits_1-reconstruct.py"
    tool("train", config, "--work-dir", "first", "--cfg-options", *short)
    options = {"channels": (16, 32, 64, 192), "convolutions": (1, 1, 1, 1)}
    start = build_generator("small_vgg", weights="first/iter_2.pth", **options).state_dict()
    weights = "model.generator.weights=first/iter_2.pth"
    second = Path(str(config).replace("1-reconstruct", "2-style"))
    tool("train", second, "--work-dir", "second", "--cfg-options", *short, weights)
    end = build_generator("small_vgg", weights="second/iter_2.pth", **options).state_dict()
    changed = {key for key, value in start.items() if not torch.equal(value, end[key])}
    # The encoder stays as it is.
    assert {key.split(".")[0] for key in changed} == {"decoder"}
    assert len(list((tmp_path / "second").glob("*/vis_data/vis_image/style_*.png"))) == 2


def test_a_stage_that_there_is_not():
    from dynbackbones.errors import UserError
    from dynbackbones.integrations.openmmlab import StyleGeneratorTraining

    with pytest.raises(UserError, match=naming("'reconstruct'", "'style'", stage="both")):
        StyleGeneratorTraining({"encoder": "small_vgg", "encoder_weights": "random"}, "both")
