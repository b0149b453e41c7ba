"""Videos are there whole or not at all."""

import numpy as np
import pytest

from dynbackbones.errors import UserError
from dynbackbones.video.frames import frame_count, frame_rate, frames
from dynbackbones.video.video_file import CODECS, whole_video
from tests.messages import naming

IMAGE = np.full((63, 81, 3), (200, 40, 40), np.uint8)


@pytest.mark.parametrize("suffix", CODECS)
def test_what_is_written_is_read_back(tmp_path, suffix):
    path = tmp_path / "new" / f"video{suffix}"
    with whole_video(path, 12) as video:
        for _ in range(7):
            video.add(IMAGE)
        assert not path.exists()
    read = list(frames(path))
    assert len(read) == frame_count(path) == 7 and frame_rate(path) == pytest.approx(12)
    assert read[0].image.shape == (64, 82, 3)  # even
    assert np.abs(read[3].image[10, 10].astype(int) - (200, 40, 40)).max() < 25  # RGB
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_nothing_remains_of_one_that_failed(tmp_path):
    with pytest.raises(RuntimeError), whole_video(tmp_path / "video.mp4", 25) as video:
        video.add(IMAGE)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_no_frame_is_no_video(tmp_path):
    path = tmp_path / "video.mp4"
    with pytest.raises(UserError, match=naming(path)), whole_video(path, 25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "video.mp4"
    with pytest.raises(UserError, match=naming(path)), whole_video(path, 25) as video:
        video.add(IMAGE)


def test_one_that_is_cut_short_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"before")
    with pytest.raises(UserError, match=naming(path, 5, 9)), whole_video(path, 25) as video:
        for _ in range(5):
            video.add(IMAGE)
        video.frames = 9
    assert path.read_bytes() == b"before"
