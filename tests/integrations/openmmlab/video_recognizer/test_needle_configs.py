import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dynbackbones
from dynbackbones import video
from dynbackbones.demo.needle_videos import FRAMES, VISIBLE, is_visible
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab import SeededDataset
from dynbackbones.integrations.openmmlab.video_recognizer import NeedleFeatures
from dynbackbones.video.needle_encoders import build_encoders
from dynbackbones.video.needle_features import ensure_needle_features
from tests.messages import naming

CONFIGS = Path(dynbackbones.__file__).parents[1] / "configs/video"
PLAN = {
    "encoder": 12, "train": 12, "val": 10, "shown": 2, "empty": 1, "iterations": 2, "batch": 8,
}  # fmt: skip
SMALL = """
_base_ = "{config}"
small = dict(data_root="{root}", plan={plan})
train_dataloader = dict(batch_size=4, dataset=dict(dataset=dict(**small)))
val_dataloader = dict(dataset=dict(**small))
test_dataloader = dict(dataset=dict(**small))
param_scheduler = None
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(vis_backends=vis_backends)
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend="gloo"))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    state = torch.get_rng_state()
    NeedleFeatures("train", data_root=folder, plan=PLAN)
    assert torch.equal(torch.get_rng_state(), state)
    return folder


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_a_config_trains_and_tests(config, root, tool, tmp_path):
    small = tmp_path / "small.py"
    small.write_text(SMALL.format(config=config, root=root, plan=PLAN))
    tool("train", small, "--work-dir", tmp_path / "run")
    last = tmp_path / "run/iter_2.pth"
    tool("test", small, last, "--work-dir", tmp_path / "tested", "--per-image")
    results = json.loads((tmp_path / "tested/test_results.json").read_text())
    assert results == json.loads((tmp_path / "run/results.json").read_text())
    assert 0 <= results["top1"] <= 100 and results["gmacs"] > 0
    spread = json.loads((tmp_path / "tested/per_image.json").read_text())
    assert (spread["rate"], spread["videos"]) == ("share_of_frames", PLAN["val"])
    assert spread["mean"] == pytest.approx(results["fine_share"], rel=1e-6)
    assert spread["gmacs"] == pytest.approx(results["gmacs"])
    assert (tmp_path / "tested/rates.png").is_file()
    if "adaframe" in config.stem:
        assert 1 <= results["frames"] <= 3


def test_features_are_those_of_the_encoders_that_are_kept(root):
    folder = ensure_needle_features(root, video.needle_encoders.FeaturePlan(**PLAN))
    for name, encoder in build_encoders(seed=1).items():
        dynbackbones.load_weights(encoder, folder / f"{name}.pth")
    dataset = NeedleFeatures("val", data_root=root, plan=PLAN)
    assert len(dataset) == 10 and len(dataset.metainfo["classes"]) == 10
    sample = dataset[3]
    assert sample["coarse"].shape == (FRAMES, 32) and sample["fine"].shape == (FRAMES, 64)
    assert 0 <= int(dataset.arrays(3)["first"]) <= FRAMES - VISIBLE
    with pytest.raises(UserError, match=naming("needle_features", "train 12", "train 13")):
        NeedleFeatures("val", data_root=root, plan={**PLAN, "train": 13})
    with pytest.raises(UserError, match=naming("split", "'test'", "train")):
        NeedleFeatures("test", data_root=root, plan=PLAN)


def test_spliced_videos_keep_their_digit_and_repeat_by_seed(root):
    plain = NeedleFeatures("train", data_root=root, plan=PLAN)
    dataset = SeededDataset(NeedleFeatures("train", True, data_root=root, plan=PLAN))
    one, again, other = dataset[5, 1], dataset[5, 1], dataset[5, 2]
    assert torch.equal(one["fine"], again["fine"])
    assert not torch.equal(one["fine"], other["fine"])
    assert one["label"] == plain[5]["label"]
    shown = plain[5]["fine"][torch.from_numpy(is_visible(plain.arrays(5)["first"]))]
    at = [t for t in range(FRAMES - VISIBLE + 1) if torch.equal(one["fine"][t : t + 6], shown)]
    assert len(at) == 1
    rest = np.delete(one["fine"].numpy(), range(at[0], at[0] + VISIBLE), axis=0)
    assert any(
        np.array_equal(rest, each["fine"].numpy()[~is_visible(plain.arrays(number)["first"])])
        for number, each in enumerate(plain)
    )
