import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData

CONFIGS = Path(__file__).parents[3] / "configs"
NAMES = sorted(
    str(path.relative_to(CONFIGS))
    for folder in ("mmseg", "demo")
    for path in (CONFIGS / folder).glob("*.py")
    # A classifier, comparisons, whose rows are tested with them, and a segmentor within a wrapper.
    if path.name not in ("pretrain_digits.py", "wide_zoom_semantic_fpn.py")
    and not path.stem.endswith(("_pareto", "-variants"))
)
SCRIPT = """
import sys
from mmengine.config import Config
from mmengine.runner import Runner

if __name__ == "__main__":
    Runner.from_cfg(Config.fromfile(sys.argv[1])).train()
"""


def test_there_are_the_promised_configs():
    assert sum("voc12aug-513x513" in name for name in NAMES) == 15
    assert sum("camvid" in name for name in NAMES) == 3
    assert {"demo/sar_semantic_fpn.py", "demo/blockdrop_semantic_fpn.py"} <= set(NAMES)


def kind_of(name):
    """What the config's name begins with: the backbone, unless it is a plain one."""
    for kind in ("sar", "blockdrop"):
        if Path(name).name.startswith(kind):
            return kind
    return "plain"


@pytest.fixture
def segmentor(tiny_config):
    def build(name):
        cfg = tiny_config(name)
        init_default_scope("mmseg")
        return MODELS.build(cfg.model).train()

    return build


@pytest.mark.parametrize("name", NAMES)
def test_a_config_builds_and_does_a_forward_and_backward_pass(segmentor, attached, name):
    from mmseg.structures import SegDataSample

    model = attached(segmentor(name))
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 5, (1, 65, 65)))) for _ in "ab"
    ]
    # SyncBN needs a GPU; in a run of one process mmengine reverts it.
    model = revert_sync_batchnorm(model)
    losses = model(torch.randn(2, 3, 65, 65), samples, mode="loss")
    assert ("loss_activation_rate" in losses) == (kind_of(name) == "sar")
    assert ("loss_policy" in losses) == (kind_of(name) == "blockdrop")
    total, logged = model.parse_losses(losses)
    assert torch.isfinite(total)
    parts = [value for key, value in logged.items() if "loss" in key and key != "loss"]
    torch.testing.assert_close(total, sum(parts))
    total.backward()
    absent = [key for key, value in model.named_parameters() if value.grad is None]
    assert absent == []
    assert model.backbone.decisions.macs.shape == (2,)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_says_what_its_name_says(name):
    cfg = Config.fromfile(CONFIGS / name)
    assert "dynbackbones.integrations.openmmlab" in cfg.custom_imports.imports
    assert [hook.type for hook in cfg.custom_hooks] == ["DynamicBackboneHook", "RegionPictureHook"]
    kind = kind_of(name)
    types = {"sar": "SARResNet", "blockdrop": "BlockDropResNet", "plain": "StaticResNet"}
    network = "MobileNetV2" if "mnv2" in name else "ResNet"
    assert cfg.model.backbone.type == types[kind].replace("ResNet", network)
    assert cfg.model.backbone.get("output_stride") == (16 if name.startswith("mmseg") else None)
    # One decoder, one schedule, one set of data: only the backbone differs.
    twin = name.replace("sar-", "").replace("sar_", "").replace("_finetune", "")
    if kind == "sar":
        plain = Config.fromfile(CONFIGS / twin).to_dict()
        ours = cfg.to_dict()
        if "finetune" in name:
            assert Path(twin).stem in ours["load_from"]
            ours["load_from"] = None
        assert ours["model"].pop("backbone") != plain["model"].pop("backbone")
        assert ours == plain
    if "voc12aug" in name:
        iterations = 40000 if "40k" in name else 20000
        assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == iterations
        assert cfg.model.data_preprocessor.size == cfg.crop_size == (513, 513)
        assert cfg.model.decode_head.type == ("PSPHead" if "pspnet" in name else "ASPPHead")
        options = cfg.model.backbone
        if "finetune" in name:
            assert (options.layout, options.target_rate) == ("resnet", 0.3)
        elif kind == "sar" and "mnv2" not in name:
            assert (options.groups, options.base_scale, options.alpha) == (2, 4, 1)
            assert options.target_rate == 0.5


def test_a_config_runs_in_somebody_elses_script(config_file, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.run(
        [sys.executable, "script.py", config_file().name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CONFIGS.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    for logged in ("loss_activation_rate:", "activation_rate_res3:", "mIoU:", "gmacs:"):
        assert logged in process.stdout
    check_run(tmp_path / "work")


@pytest.mark.parametrize(
    "name", ["mmseg/sar-r50_deeplabv3_4xb4-20k_voc12aug-513x513.py", "demo/semantic_fpn.py"]
)
def test_a_config_trains_and_evaluates_under_a_plain_runner(tiny_config, tmp_path, name):
    cfg = tiny_config(name, train_cfg__max_iters=1, train_cfg__val_interval=1)
    Runner.from_cfg(cfg).train()
    check_run(tmp_path / "work")


def check_run(work):
    """Looks at the weights, that must be safe to load, and for pictures."""
    (checkpoint,) = work.glob("iter_*.pth")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in state.values())
    assert len(list(work.glob("*/vis_data/vis_image/val_*.png"))) == 2
