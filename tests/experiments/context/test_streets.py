import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("mmengine")

from dynbackbones.cli import spatial_context as command
from dynbackbones.errors import UserError
from dynbackbones.experiments.context import streets
from dynbackbones.experiments.context.frozen import Schedule
from dynbackbones.pretraining import Teacher
from tests.messages import naming


@pytest.fixture
def camvid(tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / "camvid"
    for split, names in (("source_day_train", "abc"), ("source_day_val", "de")):
        for name in names:
            mask = np.zeros((180, 240), np.uint8)
            mask[90:] = 3
            image = (60 * mask[..., None] + rng.integers(0, 60, (180, 240, 3))).astype(np.uint8)
            for folder, pixels, end in (("img_dir", image, "jpg"), ("ann_dir", mask, "png")):
                (root / folder).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / folder / f"{name}.{end}"), pixels)
        (root / "splits").mkdir(exist_ok=True)
        (root / "splits" / f"{split}.txt").write_text("\n".join(names))
    return root


@pytest.fixture
def tiny(monkeypatch):
    torch.manual_seed(0)
    teacher = Teacher(torch.nn.Conv2d(3, 6, 3))
    monkeypatch.setattr(streets, "imagenet_teacher", lambda path: teacher)
    monkeypatch.setattr(streets, "SCHEDULE", Schedule(epochs=1))
    monkeypatch.setattr(streets, "PATCH", 16)
    monkeypatch.setattr(streets, "SIZES", (24, 48))


def test_it_runs_from_frames_to_a_table(camvid, tiny, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["--output", str(output), "--parts", "streets", "--camvid", str(camvid)]
    command.main([*arguments, "--teacher", "weights.pth"])
    table = (output / "spatial_context.md").read_text()
    assert table in capsys.readouterr().out
    for title in streets.ROWS.values():
        assert title in table
    assert len(list((output / "seed0").glob("streets-*.json"))) == len(streets.ROWS)


def test_labels_are_the_targets(camvid, tiny):
    made = streets.street_pairs(streets.imagenet_teacher(""), camvid, "val", 0)
    middle = (made.boxes[:, 1] + made.boxes[:, 3]) / 2
    assert torch.equal(made.labels == 3, middle > 0.5)
    assert len(made.labels) == len(made.pairs.offsets) > 20


def test_majority():
    mask = np.full((10, 10), 255, np.uint8)
    mask[:, :4] = 2
    assert streets.majority(mask, np.array([0.0, 0, 10, 10])) == -1
    assert streets.majority(mask, np.array([0.0, 0, 6, 10])) == 2


def test_what_is_missing_is_named(camvid, tiny, tmp_path):
    with pytest.raises(UserError, match=naming("--camvid")):
        command.main(["--output", str(tmp_path), "--parts", "streets"])
    (camvid / "splits" / "source_day_val.txt").unlink()
    arguments = ["--output", str(tmp_path), "--parts", "streets", "--camvid", str(camvid)]
    with pytest.raises(UserError, match=naming("source_day_val.txt", "--camvid")):
        command.main([*arguments, "--teacher", "weights.pth"])
