import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynbackbones import video
from dynbackbones.errors import UserError
from dynbackbones.video.frames import Frame, frame_count, frame_rate, sampled
from tests.messages import naming
from tests.video.toy_clip import panned

cv2 = pytest.importorskip("cv2")


@pytest.fixture
def movie(tmp_path):
    """Writes a video of some frames, and returns its path."""

    def write(clip, name="clip.mp4", fps=10):
        path = str(tmp_path / name)
        size = clip[0].shape[1::-1]
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
        for image in clip:
            writer.write(np.ascontiguousarray(image[:, :, ::-1]))
        writer.release()
        return path

    return write


def test_a_video_gives_its_frames_with_their_times(movie):
    clip = panned([(2 * t, 0) for t in range(5)])
    path = movie(clip)
    found = list(video.frames(path))
    assert [frame.seconds for frame in found] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    for frame, image in zip(found, clip, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 12  # it is compressed
    assert frame_rate(path) == 10


def test_colours_are_rgb(movie):
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 220
    (frame,) = video.frames(movie([red]))
    assert frame.image.reshape(-1, 3).mean(0).argmax() == 0


def test_pictures_come_in_the_order_of_their_numbers(tmp_path):
    for number in (0, 1, 2, 10, 11, 100):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / f"f{number}.png")
    (tmp_path / "notes.txt").write_text("none of them")
    assert [f.image[0, 0, 0] for f in video.frames(tmp_path)] == [0, 1, 2, 10, 11, 100]
    listed = [tmp_path / "f2.png", tmp_path / "f0.png"]
    assert [f.name for f in video.frames(listed)] == ["f2.png", "f0.png"]


def test_a_picture_that_cannot_be_read_is_a_frame_without_an_image(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a1.png")
    (tmp_path / "a2.png").write_bytes(b"no picture")
    (tmp_path / "a3.png").write_bytes(b"")
    assert [f.image is None for f in video.frames(tmp_path)] == [False, True, True]


def test_a_picture_that_may_not_be_read_is_a_frame_without_an_image(tmp_path, monkeypatch):
    for number in range(2):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png")
    read = Path.read_bytes

    def refuse(path):
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert [frame.image is None for frame in video.frames(tmp_path)] == [False, True]


def test_a_name_at_which_opencv_ends_the_process_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.avi")
    path.write_bytes(b"RIFF")
    for read in (video.frames, frame_rate, frame_count):
        with pytest.raises(UserError, match=naming("UTF-8", "rename")):
            read(path)


def test_grey_and_transparent_pictures_have_three_channels(tmp_path):
    Image.fromarray(np.full((4, 5), 7, np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(np.full((4, 5, 4), 7, np.uint8)).save(tmp_path / "2.png")
    assert [f.image.shape for f in video.frames(tmp_path)] == [(4, 5, 3)] * 2


def test_a_file_that_is_cut_off_gives_what_decodes(movie, tmp_path):
    clip = panned([(2 * t, 0) for t in range(30)])
    data = Path(movie(clip, "whole.avi")).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    found = list(video.frames(tmp_path / "cut.avi"))
    assert 0 < len(found) < 30


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video_is_named(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=naming(path, "ffmpeg")):
        video.frames(path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=naming(tmp_path / "none.mp4")):
        video.frames(tmp_path / "none.mp4")
    with pytest.raises(UserError, match=naming(tmp_path, "no picture")):
        video.frames(tmp_path)
    with pytest.raises(UserError, match=naming(tmp_path / "1.png")):
        video.frames([tmp_path / "1.png"])


def test_a_stream_takes_the_frames(movie):
    def mean(image):
        return float(image.mean())

    clip = panned([(0, 0)] * 4)
    stream = video.Stream(mean, schedule=video.Every(2), propagation="copy")
    keys = []
    for frame in video.frames(movie(clip, fps=0.5 * 4)):
        stream(frame)
        keys.append(stream.decision.reason)
    assert keys == ["first", "propagated", "schedule", "propagated"]


def test_a_camera_that_is_not_there_is_named():
    with pytest.raises(UserError, match=naming("camera 99", "not there")):
        video.frames(99)


def test_frames_are_sampled_by_their_times():
    def taken(*times, rate=1.0):
        return [frame.seconds for frame in sampled((Frame(None, t) for t in times), rate)]

    assert taken(0, 0.1, 0.9, 1.0, 1.2, 3.7, 3.9, 4.1) == [0, 1.0, 3.7, 4.1]
    assert len(taken(*(n / 25 for n in range(250)), rate=2)) == 20
    assert taken(*(n / 10 for n in range(10)), rate=100) == [n / 10 for n in range(10)]
    assert len(taken(None, None, None)) == 3
    with pytest.warns(UserWarning, match="0.000"):
        assert taken(0, 2, 0, 0, 2.5, 3) == [0, 2, 3]
    with pytest.raises(UserError, match=naming("rate", 0)):
        taken(1, rate=0)
