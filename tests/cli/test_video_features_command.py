"""``dynbackbones video-features``: from class folders to files that a dataset reads."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

import dynbackbones
from dynbackbones import checkpoints, video
from dynbackbones.cli import video_features as command
from dynbackbones.data.video_features import read_features, read_list
from dynbackbones.errors import UserError
from tests.messages import naming

SIZES = ["--coarse-size", "32", "--fine-size", "64"]


def picture(number):
    return np.random.default_rng(number).integers(0, 256, (40, 56, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Pictures as videos, two in each class; one frame of one is damaged, one differs in size."""
    root = tmp_path / "videos/train"
    for label, name in enumerate(("run", "walk")):
        for clip in ("a b", "c"):
            path = root / name / clip
            path.mkdir(parents=True)
            for frame in range(3):
                Image.fromarray(picture(10 * label + frame)).save(path / f"{frame}.png")
    (root / "run/c/1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.fromarray(picture(7)[:30, :30]).save(root / "walk/c/2.png")
    return root


@pytest.fixture
def weights(tmp_path):
    """Of a network of ours, and of a classifier of torchvision with other classes."""
    torch.manual_seed(0)
    paths = tmp_path / "fine.pth", tmp_path / "coarse.pth"
    checkpoints.save(paths[0], dynbackbones.build_backbone("resnet18").state_dict(), {})
    torch.save(models.mobilenet_v2(num_classes=7).state_dict(), paths[1])
    return paths


@pytest.fixture
def run(folder, weights, tmp_path):
    def call(*words, folders=(folder,)):
        given = [
            *folders, "-o", tmp_path / "features", "--fine", "resnet18", "--fine-weights",
            weights[0], "--coarse-weights", weights[1], *SIZES, *words,
        ]  # fmt: skip
        command.main([str(word) for word in given])
        return tmp_path / "features"

    return call


def test_each_video_has_its_features_and_its_line(run, folder, weights, capsys):
    output = run()
    videos = read_list(output / "train.txt", output, 2)
    assert videos == [
        ("train/run/a b", 0), ("train/run/c", 0), ("train/walk/a b", 1), ("train/walk/c", 1),
    ]  # fmt: skip
    net = dynbackbones.build_backbone("resnet18")
    dynbackbones.load_weights(net, weights[0])
    small = models.mobilenet_v2(num_classes=7)
    small.load_state_dict(torch.load(weights[1], weights_only=True))
    encoders = {"fine": video.FrameEncoder(net, 64), "coarse": video.FrameEncoder(small, 32)}
    for name, _ in videos:
        found = read_features(output / f"{name}.npz", 1280, 512)
        path = folder / name.removeprefix("train/")
        images = [frame.image for frame in video.frames(path) if frame.image is not None]
        assert len(images) == (2 if name.endswith("run/c") else 3) == len(found["fine"])
        for index, image in enumerate(images):
            frame = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
            for kind, encoder in encoders.items():
                expected = encoder(frame)[0].numpy()
                np.testing.assert_allclose(found[kind][index], expected, rtol=1e-4, atol=1e-4)
    meta = json.loads((output / "features.json").read_text())
    assert meta["classes"] == ["run", "walk"]
    assert meta["encoders"]["coarse"]["macs"] == encoders["coarse"].macs()
    assert "torchvision:mobilenet_v2 at 32 x 32, 1280 channels" in capsys.readouterr().out


def test_finished_files_are_not_made_again(run, folder, capsys, monkeypatch):
    output = run()
    first = output / "train/run/a b.npz"
    (output / "train/run/c.npz").unlink()
    kept = first.stat().st_mtime_ns
    run()
    assert "4 videos, 1 of them" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == kept
    run("--overwrite")
    assert "4 videos, 4 of them" in capsys.readouterr().out

    # What is killed in the middle leaves files that are whole, and no old ones.
    def killed(*args):
        if folder.joinpath("killed").exists():
            raise KeyboardInterrupt
        folder.joinpath("killed").touch()
        return encode(*args)

    encode = command.encoded
    monkeypatch.setattr(command, "encoded", killed)
    with pytest.raises(KeyboardInterrupt):
        run("--overwrite")
    assert [path.name for path in output.rglob("*.npz")] == ["a b.npz"]
    assert not list(output.rglob("*.partial"))


def test_other_networks_do_not_write_into_the_same_folder(run):
    output = run()
    for words, named in (
        (["--fine-size", "32"], ["fine size", 64, 32]),
        (["--coarse-weights", "none"], ["coarse weights", "none"]),
        (["--fps", "2", "--overwrite"], ["fps", 1.0, 2.0]),
    ):
        with pytest.raises(UserError, match=naming(str(output), *named)):
            run(*words)
    for written in ("{}", "[]", "null", '{"classes": 1, "fps": 1, "encoders": []}', "\0"):
        (output / "features.json").write_text(written)
        with pytest.raises(UserError, match=naming("features.json", "restore")):
            run()


def test_video_files_are_sampled_by_time(run, folder):
    path = str(folder / "run/film.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (56, 40))
    for number in range(25):
        writer.write(picture(number))
    writer.release()
    output = run("--fps", "2")
    assert len(read_features(output / "train/run/film.npz")["fine"]) == 5


def test_videos_that_cannot_be_read_are_left_out_and_named(run, folder, capsys):
    (folder / "walk/gone.mp4").write_bytes(b"no video")
    output = run()
    assert "gone.mp4" in capsys.readouterr().err
    assert len(read_list(output / "train.txt", output, 2)) == 4
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=naming("none of the 5 videos")):
        run("--overwrite")


def test_several_folders_share_classes_and_networks(run, folder):
    other = folder.parent / "val"
    shutil.copytree(folder, other)
    output = run(folders=(folder, other))
    assert len(read_list(output / "val.txt", output, 2)) == 4
    shutil.move(other / "walk", other / "sit")
    with pytest.raises(UserError, match=naming(str(other), "sit", "walk")):
        run(folders=(folder, other))
    with pytest.raises(UserError, match=naming("train")):
        run(folders=(folder, folder))


def test_what_is_wrong_with_folders_and_networks_is_named(run, folder, tmp_path):
    with pytest.raises(UserError, match=naming("--fine", "resnet9000", "resnet18")):
        run("--fine", "resnet9000")
    with pytest.raises(UserError, match=naming("--fps", -1.0)):
        run("--fps", "-1")
    with pytest.raises(UserError, match=naming("nowhere")):
        run(folders=(tmp_path / "nowhere",))
    (folder / "walk/c.mp4").touch()
    with pytest.raises(UserError, match=naming("c.mp4", "walk/c")):
        run()
    (folder / "walk/c.mp4").unlink()
    shutil.rmtree(folder / "walk/c")
    shutil.rmtree(folder / "walk/a b")
    with pytest.raises(UserError, match=naming("class folder", "walk", "no video")):
        run()


def test_a_list_of_the_users_own_is_not_written_over(run, folder, tmp_path):
    output = tmp_path / "features"
    output.mkdir(exist_ok=True)
    own = output / f"{folder.name}.txt"
    own.write_text("mine")
    with pytest.raises(UserError, match=naming(own, "--output")):
        run()
    assert own.read_text() == "mine"
