import json

import pytest
import torch

from dynbackbones import checkpoints
from dynbackbones.demo import digits
from dynbackbones.errors import UserError
from dynbackbones.experiments import zoom_segmentation
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.integrations.shipped_configs import shipped_folder
from dynbackbones.zoom import ZoomSegmentor
from dynbackbones.zoom.segmentation_gains import measure_maps
from tests.messages import naming
from tests.zoom.toy_segmentor import Adapter, Network, toy_image

CONFIG = """
_base_ = "{folder}/demo/semantic_fpn.py"
custom_imports = dict(
    imports=[*_base_.custom_imports.imports, "dynbackbones.integrations.openmmlab.zoom_segmentor"]
)
model = dict(
    _delete_=True, type="ZoomSegmentor", segmentor=_base_.model, patch=64, scale=4, halo=16
)
digits = dict(type="DigitsDataset", split="train", pipeline=_base_.test_pipeline)
train_dataloader = dict(dataset=dict(dataset=dict(indices=[0])))
gains_dataset = dict(digits, indices={indices})
"""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    digits.write_digits(tmp_path, num_train=6, num_val=2)

    def write(indices=-5):
        path = tmp_path / "zoom.py"
        path.write_text(CONFIG.format(folder=shipped_folder(), indices=indices))
        return str(path)

    return write


def test_the_table_of_a_config(config, tmp_path, capsys):
    path = config()
    torch.manual_seed(0)
    model = checks.build_model(checks.load_config(path))
    checkpoints.save(tmp_path / "weights.pth", model.state_dict(), {})
    out = tmp_path / "rows.json"
    options = ["--seeds", "2", "--timed", "1", "--out", str(out)]
    zoom_segmentation.main([path, str(tmp_path / "weights.pth"), *options])
    rows = json.loads(out.read_text())
    assert [row["name"] for row in rows[:3]] == ["coarse only", "one full pass", "every patch"]
    assert len(rows) == 3 + 8 * len(zoom_segmentation.RATES)
    timed = [row["name"] for row in rows if row["ms"] is not None]
    assert timed == ["coarse only", "one full pass", "every patch", *3 * ["entropy"]]
    assert all(0 <= row["mIoU"] <= 100 for row in rows)
    printed = capsys.readouterr().out
    assert printed.count("| learned |") == 3
    assert "5 images to learn on, 2 evaluated" in printed


def test_images_of_the_training_teach_no_policy(config, tmp_path):
    torch.manual_seed(0)
    model = checks.build_model(checks.load_config(config()))
    checkpoints.save(tmp_path / "weights.pth", model.state_dict(), {})
    with pytest.raises(UserError, match=naming("gains_dataset", "training", "000000.jpg")):
        zoom_segmentation.main([config([0, 1, 2, 3]), str(tmp_path / "weights.pth")])


def test_a_config_without_zoom_or_images_is_refused(tmp_path):
    plain = str(shipped_folder() / "demo/semantic_fpn.py")
    with pytest.raises(UserError, match=naming("EncoderDecoder", "ZoomSegmentor")):
        zoom_segmentation.main([plain, "none.pth"])


@pytest.fixture
def zoom():
    torch.manual_seed(0)
    model = Network().eval()
    return ZoomSegmentor(model, patch=16, scale=4, halo=4, adapter=Adapter(model))


def test_rows_are_what_they_are_called(zoom):
    def sample(seed):
        picture = toy_image(48, 64, seed)
        # What the segmentor says in full, so that every patch is right and the rest is not.
        return picture, zoom.whole(picture)

    measured = [measure_maps(zoom, *sample(seed)) for seed in range(3)]
    gains = [measure_maps(zoom, *sample(seed)) for seed in range(3, 9)]
    rows = zoom_segmentation.table(zoom, measured, gains, range(2))
    found = {(row["name"], row["rate"]): row for row in rows}
    assert found["every patch", 1.0]["mIoU"] == 100
    assert found["every patch", 1.0]["gmacs"] == pytest.approx(zoom.macs(48, 64, 1.0) / 1e9)
    pixels = 12 * 24 * 24 / (48 * 64) + 1 / 16
    assert found["every patch", 1.0]["pixel_rate"] == pytest.approx(pixels)
    for rate in zoom_segmentation.RATES:
        assert found["oracle", rate]["patch_rate"] == pytest.approx(rate, abs=0.5 / 12)
        assert found["oracle", rate]["mIoU"] > found["random", rate]["mIoU"]
        assert found["oracle", rate]["gmacs"] < found["learned", rate]["gmacs"]
        assert found["random", rate]["mIoU_std"] > 0
