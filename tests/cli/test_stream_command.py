"""``dynbackbones stream``: from a trained model and a video to a video, a picture and figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.cli import stream, stream_schedules
from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision.config import load_config
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.video.pictures import COLOURS, KEY, MOVED, STRIP_HEIGHT
from dynbackbones.video.video_file import whole_video
from tests.messages import names, naming

DEMO = Path(__file__).parents[2] / "configs" / "demo"
FRAMES = 9
KEYS = [0, 4, 8]
LABELS = ("zero", "one", "two", "three", "four")


def images():
    """A square that moves over a gradient."""
    ground = np.add.outer(np.arange(72), np.arange(96)).astype(np.uint8)
    for number in range(FRAMES):
        image = np.stack([ground, ground, 255 - ground], axis=-1)
        image[20:40, 10 + 4 * number : 30 + 4 * number] = (220, 30, 30)
        yield image


@pytest.fixture
def clip(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, image in enumerate(images()):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def weights(tmp_path):
    """Of a detector that finds what its random weights see."""
    torch.manual_seed(0)
    model = build_detector(load_config(str(DEMO / "retinanet.yaml"), ["MODEL.DEVICE", "cpu"]))
    torch.nn.init.constant_(model.head.classification_head.cls_logits.bias, 0.0)
    checkpoints.save(tmp_path / "model.pth", model.state_dict(), {"classes": list(LABELS)})
    return tmp_path / "model.pth"


@pytest.fixture
def run(weights, tmp_path, monkeypatch):
    """Runs the command; returns the figures that it wrote."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))

    def call(video, *words, output="out.mp4"):
        model = ("--config-file", DEMO / "retinanet.yaml", "--weights", weights)
        words = (*model, "--engine", "torchvision", video, "-o", tmp_path / output, *words)
        small = ("INPUT.MIN_SIZE_TEST", "64", "MODEL.DEVICE", "cpu")
        stream.main([str(word) for word in (*words, *small)])
        path = (tmp_path / output).with_suffix(".json")
        return json.loads(path.read_text()) if path.is_file() else None

    return call


def shown(path):
    return [frame.image for frame in dynbackbones.video.frames(path)]


def is_like(pixel, level):
    """That a compressed pixel is of a level's colour."""
    distances = np.abs(COLOURS.astype(int) - pixel).sum(axis=1)
    return distances.argmin() == level


def leftovers(folder):
    return [path.name for path in folder.iterdir() if "partial" in path.name]


def test_a_folder_becomes_a_video_a_picture_and_figures(run, clip, tmp_path, capsys):
    figures = run(clip, "--every", "4", "--agreement-sample", "5")
    assert (figures["frames"], figures["keys"], figures["key_frames"]) == (FRAMES, 3, KEYS)
    assert figures["key_share"] == pytest.approx(1 / 3)
    assert figures["reasons"] == {"propagated": 6, "schedule": 2, "first": 1}
    times = figures["milliseconds"]
    assert 0 < times["computed"]["mean"] <= times["computed"]["p95"] <= times["all"]["max"]
    assert times["propagated"]["mean"] < times["computed"]["mean"]
    assert figures["macs_per_frame"] == pytest.approx(figures["macs_of_the_model"] / 3)
    assert figures["macs_of_the_model"] > 1e8
    found = figures["agreement"]
    assert found["frames"] == 5 and 0 <= found["mean"] <= 1 and "F1" in found["measure"]
    printed = capsys.readouterr().out
    assert names(printed, "Every(4)", "9 frames, 3", "33.3%", "schedule 2", "p95", "0.333")
    assert names(printed, tmp_path / "out.mp4", tmp_path / "out.png", tmp_path / "out.json")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width > 2 * picture.height


def test_features_move_where_asked(run, clip, capsys):
    figures = run(clip, "--every", "4", "--agreement-sample", "5", "--moves", "features")
    assert (figures["moves"], figures["keys"]) == ("features", 3)
    # The heads run on all nine frames, the backbone on three.
    share = figures["macs_per_frame"] / figures["macs_of_the_model"]
    assert 1 / 3 < share < 1
    assert names(capsys.readouterr().out, "warp of the features")


def test_the_video_has_all_frames_and_its_strip_the_keys(run, clip, tmp_path):
    run(clip, "--every", "4")
    frames = shown(tmp_path / "out.mp4")
    assert len(frames) == FRAMES
    height, width = frames[0].shape[:2]
    assert (height, width) == (5 * 72 + STRIP_HEIGHT, 5 * 96)  # small frames are enlarged
    for number in range(FRAMES):
        # Beside the mark, which stands in the middle of the last frame's columns.
        column = round((number + 0.2) * width / FRAMES)
        pixel = frames[-1][-10, column]
        assert is_like(pixel, KEY if number in KEYS else MOVED), number


def test_a_video_file_is_read_and_gives_as_many_frames(run, tmp_path):
    with whole_video(tmp_path / "in.avi", 10) as video:
        for image in images():
            video.add(image)
    figures = run(tmp_path / "in.avi", "--schedule", "random", "--rate", "0.4")
    assert figures["schedule"] == "Random(0.4)"
    frames = list(dynbackbones.video.frames(tmp_path / "out.mp4"))
    assert len(frames) == figures["frames"] == FRAMES
    assert frames[5].seconds == pytest.approx(0.5)  # the speed stays


def test_where_the_model_always_runs_it_agrees_with_itself(run, clip):
    found = run(clip, "--every", "1", "--max-frames", "4", "--propagation", "copy")
    assert (found["frames"], found["key_share"], found["agreement"]["mean"]) == (4, 1, 1)
    assert found["milliseconds"]["propagated"] is None


def test_a_rate_is_met_before_the_video_starts(run, clip, capsys):
    found = run(clip, "--schedule", "difference", "--rate", "0.3", "--agreement-sample", "0")
    assert 0.2 <= found["key_share"] <= 0.45
    assert found["agreement"] is None
    printed = capsys.readouterr()
    assert f"computes {found['key_share']:.1%} of the first 9 frames" in printed.out
    assert names(printed.err, "warning", 0.3)  # nine frames have coarse shares


def test_a_rate_counts_the_gaps_between_frames(run, clip, capsys, monkeypatch):
    times = [0, 0.1, 5, 5.1, 10, 10.1, 15, 15.1, 20]

    def timed(source):
        pairs = zip(dynbackbones.video.frames(source), times, strict=True)
        return (frame._replace(seconds=seconds) for frame, seconds in pairs)

    monkeypatch.setattr(stream_schedules, "frames", timed)
    found = run(clip, "--schedule", "difference", "--rate", "0.3", "--agreement-sample", "0")
    assert found["reasons"]["gap"] == 4
    printed = capsys.readouterr()
    assert f"computes {found['key_share']:.1%} of the first 9 frames" in printed.out
    assert names(printed.err, "warning", 0.3, "gaps")


def test_a_schedule_is_learned_once(run, clip, tmp_path, capsys):
    words = ("--schedule", "agreement", "--agreement-network", tmp_path / "learned.pth")
    run(clip, *words, "--threshold", "0.5")
    assert names(capsys.readouterr().out, "learning", 9, tmp_path / "learned.pth")
    found = run(clip, *words, "--threshold", "1", output="second.mp4")
    assert "learning" not in capsys.readouterr().out
    assert found["schedule"] == "Agreement(1)" and found["key_share"] == 1


def test_a_result_is_shown_no_longer_than_asked(run, clip):
    found = run(clip, "--schedule", "difference", "--threshold", "1", "--max-age", "2")
    assert found["reasons"] == {"propagated": 6, "age": 2, "first": 1}


def test_a_frame_that_cannot_be_read_is_named(run, clip, tmp_path, capsys):
    (clip / "5.png").write_bytes(b"no picture")
    found = run(clip, "--every", "4")
    assert found["unreadable"] == ["5.png"]
    assert (found["reasons"]["unreadable"], found["reasons"]["recovery"]) == (1, 1)
    assert "1 frames cannot be read: 5.png" in capsys.readouterr().out
    assert len(shown(tmp_path / "out.mp4")) == FRAMES


def test_frames_of_other_sizes_are_fitted(run, clip, tmp_path):
    Image.new("RGB", (60, 90)).save(clip / "6.png")
    found = run(clip, "--every", "20")
    assert found["reasons"]["size"] == 2
    assert len({image.shape for image in shown(tmp_path / "out.mp4")}) == 1


def stopping(error, monkeypatch):
    """Has streams fail at the fourth frame."""
    whole = dynbackbones.video.Stream.__call__

    def call(self, frame, **options):
        if self.decision is not None and self.decision.index == 2:
            raise error
        return whole(self, frame, **options)

    monkeypatch.setattr(dynbackbones.video.Stream, "__call__", call)


def test_what_was_done_until_it_is_stopped_is_written(run, clip, tmp_path, monkeypatch):
    stopping(KeyboardInterrupt(), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(clip)
    assert len(shown(tmp_path / "out.mp4")) == 3
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["frames"] == 3 and figures["agreement"] is None
    assert (tmp_path / "out.png").is_file() and leftovers(tmp_path) == []


def test_a_failure_leaves_what_was_there(run, clip, tmp_path, monkeypatch):
    (tmp_path / "out.mp4").write_bytes(b"before")
    stopping(UserError("no more"), monkeypatch)
    with pytest.raises(UserError, match="no more"):
        run(clip, "--overwrite")
    assert (tmp_path / "out.mp4").read_bytes() == b"before"
    assert leftovers(tmp_path) == [] and not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("name", ["out.mp4", "out.json", "out.png"])
def test_what_exists_is_kept(run, clip, tmp_path, name):
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(UserError, match=naming(tmp_path / name, "--overwrite")):
        run(clip)
    assert (tmp_path / name).read_bytes() == b"{}"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--schedule", "difference", "--every", "3"], ["--every 3", "difference"]),
        (["--every", "3", "--rate", "0.5"], ["--every 3", "--rate 0.5"]),
        (["--threshold", "0.5"], ["--threshold 0.5", "every"]),
        (["--agreement-network", "f.pth"], ["--agreement-network f.pth", "every"]),
        (["--weights", "no.pth"], ["no.pth"]),
        (["--json", "figures.txt"], ["figures.txt", ".json"]),
        (["-o", "out.gif"], ["out.gif", ".mp4"]),
    ],
)
def test_what_cannot_be_is_said_in_a_line(run, clip, words, named, tmp_path):
    with pytest.raises(UserError, match=naming(*named)) as error:
        run(clip, *words)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.mp4").exists()


def test_a_video_that_gives_nothing_is_named(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    for name in ("empty", "bad.mp4", "missing.mp4"):
        with pytest.raises(UserError, match=naming(tmp_path / name)):
            run(tmp_path / name)
    assert leftovers(tmp_path) == [] and not (tmp_path / "out.mp4").exists()


def test_weights_of_another_model_are_refused(run, clip, weights, tmp_path):
    with pytest.raises(UserError, match=naming(weights)):
        run(clip, "MODEL.RETINANET.NUM_CONVS", "1")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("words", [["--every", "0"], ["--rate", "0"], ["--threshold", "2"]])
def test_numbers_out_of_range_end_in_a_line(run, clip, words, capsys):
    with pytest.raises(SystemExit):
        run(clip, *words)
    assert words[0] in capsys.readouterr().err


def test_the_demos_clip_is_known_by_name(tmp_path, monkeypatch):
    from dynbackbones.demo import digit_videos

    monkeypatch.setattr(digit_videos, "CLIPS", {"bursts": 2, "pan": 1})
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    folder = Path(stream.video_source("digit_videos_bursts"))
    assert sorted(path.name for path in folder.iterdir()) == ["000000.jpg", "000001.jpg"]
    assert stream.video_source("2") == 2


@pytest.fixture
def segmentor(tmp_path):
    """The command line of a segmentor of random weights."""
    pytest.importorskip("mmseg")
    from dynbackbones.integrations.openmmlab import checks

    config = DEMO / "video_semantic_fpn.py"
    torch.manual_seed(0)
    model = checks.build_model(checks.load_config(config))
    checkpoints.save(tmp_path / "model.pth", model.state_dict(), {}, "state_dict")
    return ["--config-file", str(config), "--weights", str(tmp_path / "model.pth")]


def test_a_segmentor_colours_its_classes(segmentor, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stream.main([*segmentor, str(clip), "--every", "4", "--agreement-sample", "9"])
    figures = json.loads((tmp_path / "clip_stream.json").read_text())
    assert figures["key_frames"] == KEYS
    found = figures["agreement"]
    assert found["measure"] == "share of pixels" and found["frames"] == FRAMES
    assert 0.3 < found["propagated_mean"] < 1
    assert found["mean"] == pytest.approx((3 + 6 * found["propagated_mean"]) / 9)
    frames = shown(tmp_path / "clip_stream.mp4")
    assert len(frames) == FRAMES
    assert np.abs(frames[0][:360].astype(int) - frames[0][:360].mean(axis=2)[..., None]).max() > 20


def test_overrides_of_a_segmentor_are_refused(segmentor, clip):
    with pytest.raises(UserError, match=naming("MODEL.X 1", "--config-file")):
        stream.main([*segmentor, str(clip), "MODEL.X", "1"])


def test_a_classifiers_config_is_refused(clip, tmp_path):
    pytest.importorskip("mmpretrain")
    from dynbackbones.integrations.openmmlab import checks

    config = DEMO / "pretrain_digits.py"
    model = checks.build_model(checks.load_config(config))
    checkpoints.save(tmp_path / "model.pth", model.state_dict(), {}, "state_dict")
    words = ["--config-file", str(config), "--weights", str(tmp_path / "model.pth"), str(clip)]
    with pytest.raises(UserError, match=naming("pretrain_digits.py", "mmpretrain", "mmseg")):
        stream.main([*words, "-o", str(tmp_path / "out.mp4")])
