import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, FUNCTIONS, METRICS
from mmengine.runner import load_state_dict

import dynbackbones
from dynbackbones import video
from dynbackbones.data.video_features import write_features
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.divergence import DivergenceHook
from dynbackbones.integrations.openmmlab.video_recognizer import VideoRecognizer
from dynbackbones.video.stopping import lookahead_steps
from tests.messages import naming

COARSE, FINE, CLASSES = 6, 8, 3
NETS = {
    "AdaFrame": {
        "type": "AdaFrame",
        "frame_channels": FINE,
        "memory_channels": COARSE,
        "num_classes": CLASSES,
        "hidden": 12,
        "steps": 3,
        "memory_frames": 4,
    },
    "LiteEval": {
        "type": "LiteEval",
        "coarse_channels": COARSE,
        "fine_channels": FINE,
        "num_classes": CLASSES,
        "coarse_hidden": 4,
        "fine_hidden": 10,
    },
}
CONFIG = """
_base_ = ["configs/video/_base_/runtime.py", "configs/video/_base_/loaders.py",
          "configs/video/_base_/schedule.py"]
model = dict(type="VideoRecognizer", net={net})
data = dict(type="VideoFeatures", data_root="{root}", num_classes=3)
train_dataloader = dict(
    batch_size=4, num_workers={workers}, dataset=dict(dataset=dict(**data, ann_file="train.txt")))
val_dataloader = dict(batch_size=3, dataset=dict(**data, ann_file="val.txt"))
test_dataloader = val_dataloader
param_scheduler = None
train_cfg = dict(max_iters=6, val_interval=3)
default_hooks = dict(checkpoint=dict(interval=3, max_keep_ckpts=5))
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(vis_backends=vis_backends)
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend="gloo"))
"""


@pytest.fixture
def root(tmp_path):
    """Videos of 2 to 9 frames whose features tell the class."""
    rng, folder = np.random.default_rng(0), tmp_path / "features"
    for split, count in (("train", 12), ("val", 8)):
        lines = []
        for number in range(count):
            frames, label = int(rng.integers(2, 10)), number % CLASSES
            arrays = {
                name: label + rng.standard_normal((frames, channels)).astype(np.float32)
                for name, channels in (("coarse", COARSE), ("fine", FINE))
            }
            write_features(folder / split / f"{number}.npz", **arrays)
            lines.append(f"{split}/{number} {label}")
        (folder / f"{split}.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def config(tmp_path, root):
    def write(kind, workers=0, **changes):
        path = tmp_path / f"{kind}{workers}.py"
        net = {**NETS[kind], **changes}
        path.write_text(CONFIG.format(net=net, root=root, workers=workers))
        return path

    return write


def batch_of(root, *indices, split="val"):
    dataset = DATASETS.build(
        {"type": "VideoFeatures", "data_root": root, "ann_file": f"{split}.txt", "num_classes": 3}
    )
    return FUNCTIONS.get("pad_videos")([dataset[index] for index in indices])


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_is_the_uninterrupted_one(kind, workers, config, tool, tmp_path, monkeypatch):
    seen, after = {}, DivergenceHook.after_train_iter

    def record(self, runner, batch_idx, data_batch=None, outputs=None):
        seen[runner.iter] = {name: value.item() for name, value in outputs.items()}
        after(self, runner, batch_idx, data_batch, outputs)

    monkeypatch.setattr(DivergenceHook, "after_train_iter", record)
    file = config(kind, workers)
    tool("train", file, "--work-dir", tmp_path / "whole")
    whole = dict(seen)
    seen.clear()
    torch.manual_seed(99)
    start = tmp_path / "whole/iter_3.pth"
    tool("train", file, "--work-dir", tmp_path / "resumed", "--resume", start)
    assert seen == {iteration: whole[iteration] for iteration in range(3, 6)}
    first, second = (
        torch.load(tmp_path / name / "iter_6.pth", weights_only=True)
        for name in ("whole", "resumed")
    )
    for key, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][key]), key
    results = [tmp_path / name / "results.json" for name in ("whole", "resumed")]
    assert results[0].read_text() == results[1].read_text()


@pytest.mark.parametrize("kind", NETS)
def test_a_trained_file_is_tested_and_loads_into_the_network(kind, config, tool, tmp_path, root):
    file, weights = config(kind), tmp_path / "run/iter_6.pth"
    tool("train", file, "--work-dir", tmp_path / "run")
    tool("test", file, weights, "--work-dir", tmp_path / "tested")
    tested = json.loads((tmp_path / "tested/test_results.json").read_text())
    assert tested == json.loads((tmp_path / "run/results.json").read_text())
    assert {"top1", "frames", "fine_share", "distinct_policies"} <= tested.keys()

    options = {key: value for key, value in NETS[kind].items() if key != "type"}
    net = getattr(video, kind)(**options).eval()
    report = dynbackbones.load_weights(net, weights)
    assert report.whole and not report.new
    model = VideoRecognizer(NETS[kind]).eval()
    model.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    batch = batch_of(root, *range(8))
    samples = model(**batch, mode="predict")
    for sample, coarse, fine, length in zip(
        samples, batch["coarse"], batch["fine"], batch["lengths"], strict=True
    ):
        coarse, fine = coarse[None, :length], fine[None, :length]
        if kind == "AdaFrame":
            count = int(length)
            index = video.uniform_indices(length[None], min(4, count))[0]
            answer = net.classify(lambda frame, of=fine: of[0, frame], coarse[0, index], count)
            scores, looked = answer.scores, sorted(set(answer.frames))
        else:
            run = net(coarse, fine)
            scores, looked = run.scores[0, -1], run.gates[0].nonzero().flatten().tolist()
        assert torch.allclose(sample.pred_score, scores, atol=1e-5)
        assert sample.looked.nonzero().flatten().tolist() == looked
    right = [s.pred_label == s.gt_label for s in samples]
    assert tested["top1"] == pytest.approx(100 * np.mean(right))
    assert tested["frames"] == pytest.approx(np.mean([int(s.looked.sum()) for s in samples]))


def test_a_batch_is_padded_and_padding_changes_nothing(root):
    batch = batch_of(root, 0, 1, 2)
    longest = int(batch["lengths"].max())
    assert batch["coarse"].shape == (3, longest, COARSE)
    assert batch["names"] == ["val/0", "val/1", "val/2"]
    assert batch["labels"].tolist() == [0, 1, 2]
    assert len(set(batch["lengths"].tolist())) > 1
    for kind, options in NETS.items():
        torch.manual_seed(0)
        model = VideoRecognizer(options).eval()
        together = model(**batch, mode="predict")
        for index, sample in enumerate(together):
            (alone,) = model(**batch_of(root, index), mode="predict")
            assert torch.allclose(sample.pred_score, alone.pred_score, atol=1e-6), kind
            assert torch.equal(sample.looked, alone.looked)


def test_the_schedule_reaches_the_gate():
    model = VideoRecognizer({**NETS["LiteEval"], "temperature": (4.0, 1.0)})
    dynbackbones.set_progress(model, 0.5)
    assert model.net.scheduled_temperature == pytest.approx(2)


def test_early_stops_answer_from_fewer_frames(root):
    torch.manual_seed(0)
    stop = {"margin": 0.0, "patience": 0}
    model = VideoRecognizer({**NETS["AdaFrame"], "steps": 6}, stop=stop).eval()
    batch = batch_of(root, *range(8))
    run = model(**batch)
    steps = lookahead_steps(run.utilities, run.taken, **stop)
    assert (steps < run.taken).any()
    for index, sample in enumerate(model(**batch, mode="predict")):
        taken = int(steps[index])
        assert torch.equal(sample.pred_score, run.scores[index, taken - 1])
        frames = sorted(set(run.indices[index, :taken].tolist()))
        assert sample.looked.nonzero().flatten().tolist() == frames


@pytest.mark.parametrize("kind", NETS)
def test_costs_are_those_of_what_was_computed(kind, root):
    model = VideoRecognizer(NETS[kind], frame_macs={"coarse": 10.0, "fine": 1000.0}).eval()
    batch = batch_of(root, *range(8))
    run, samples = model(**batch), model(**batch, mode="predict")
    for index, sample in enumerate(samples):
        length, count = len(sample.looked), int(sample.looked.sum())
        if kind == "AdaFrame":
            expected = min(4, length) * 10 + count * 1000
            expected += int(run.taken[index]) * model.net.step_macs()
        else:
            expected = sum(
                10 + 1000 * bool(fine) + model.net.step_macs(bool(fine)) for fine in sample.looked
            )
        assert sample.macs == pytest.approx(expected)
    metric = METRICS.build({"type": "VideoMetric"})
    metric.process(None, [sample.to_dict() for sample in samples])
    figures = metric.compute_metrics(metric.results)
    assert figures["gmacs"] == pytest.approx(np.mean([s.macs for s in samples]) / 1e9)
    shares = [float(sample.looked.float().mean()) for sample in samples]
    assert figures["fine_share"] == pytest.approx(np.mean(shares))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"net": {"type": "FrameGlimpse"}}, ["net.type", "'FrameGlimpse'", "AdaFrame"]),
        ({"net": {**NETS["AdaFrame"], "stepz": 3}}, ["AdaFrame", "stepz"]),
        ({"net": {**NETS["LiteEval"], "num_classes": 1}}, ["num_classes", 1]),
        ({"net": NETS["LiteEval"], "stop": {"margin": 1}}, ["stop", "LiteEval"]),
        ({"net": NETS["AdaFrame"], "stop": {"mu": 1}}, ["stop", "mu", "margin"]),
        ({"net": NETS["AdaFrame"], "stop": {"margin": -1}}, ["margin", -1]),
        ({"net": NETS["AdaFrame"], "frame_macs": {"fine": 1}}, ["frame_macs", "coarse"]),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(UserError, match=naming(*words)):
        VideoRecognizer(**options)


def test_another_network_s_weights_are_refused():
    other = VideoRecognizer(NETS["LiteEval"])
    with pytest.raises(UserError, match=naming("AdaFrame", "net.attention.query.weight")):
        load_state_dict(VideoRecognizer(NETS["AdaFrame"]), other.state_dict())
    agent = {key: value for key, value in NETS["AdaFrame"].items() if key != "type"}
    with pytest.raises(UserError, match=naming("AdaFrame", "no dynbackbones backbone")):
        dynbackbones.checkpoints.load_state(video.AdaFrame(**agent), other.state_dict(), "a.pth")


def test_features_that_do_not_fit_end_in_one_line(config, tool, root, tmp_path):
    file = config("LiteEval", coarse_channels=COARSE + 1)
    with pytest.raises(UserError, match=naming("coarse", 7, 6)):
        tool("train", file, "--work-dir", tmp_path / "run")
    write_features(root / "train/5.npz", coarse=np.ones((3, 5)), fine=np.ones((3, FINE)))
    with pytest.raises(UserError, match=naming("5.npz", "coarse", "5 channels", 6)):
        batch_of(root, 0, 5, split="train")
    (root / "train.txt").write_text("")
    with pytest.raises(UserError, match=naming("train.txt", "empty")):
        tool("train", config("AdaFrame"), "--work-dir", tmp_path / "other")


ALONE = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mmpretrain", "mmseg", "mmcv", "mmdet"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
from dynbackbones.cli import train

train.main(sys.argv[1:])
"""


def test_mmengine_alone_suffices(config, tmp_path):
    short = ["train_cfg.max_iters=1", "train_cfg.val_interval=1"]
    words = [config("AdaFrame"), "--work-dir", tmp_path / "run", "--cfg-options", *short]
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert "top1" in process.stdout
