import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope

from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.datasets.driving import (
    CLASSES_16,
    CLASSES_19,
    GTA5Dataset,
    SynthiaDataset,
)
from tests.messages import naming


@pytest.fixture
def gta5(tmp_path):
    """One image whose label map has every id once."""
    from PIL import Image

    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((2, 35, 3), np.uint8)).save(tmp_path / "images/00001.png")
    labels = Image.fromarray(np.tile(np.arange(35, dtype=np.uint8), (2, 1)))
    # As the download has it: with a palette.
    labels.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    labels.save(tmp_path / "labels/00001.png")
    return tmp_path


@pytest.fixture
def synthia(tmp_path):
    for folder in ("RGB", "GT/LABELS"):
        (tmp_path / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "RGB/0000000.png"), np.zeros((2, 23, 3), np.uint8))
    pixels = np.zeros((2, 23, 3), np.uint16)
    pixels[..., 2] = np.arange(23)  # red: OpenCV's order is BGR
    pixels[..., 1] = 1000 + np.arange(23)
    cv2.imwrite(str(tmp_path / "GT/LABELS/0000000.png"), pixels)
    return tmp_path


def labels_of(kind, root, loader, **prefix):
    init_default_scope("mmseg")
    dataset = DATASETS.build(
        {
            "type": kind,
            "data_root": str(root),
            "data_prefix": prefix,
            "pipeline": [{"type": "LoadImageFromFile"}, {"type": loader}],
        }
    )
    assert len(dataset) == 1
    return dataset[0]["gt_seg_map"][0].tolist(), dataset.metainfo["classes"]


def test_label_maps_of_gta5(gta5):
    labels, classes = labels_of(
        "GTA5Dataset", gta5, "LoadAnnotations", img_path="images", seg_map_path="labels"
    )
    assert classes == CLASSES_19
    names = {7: "road", 8: "sidewalk", 17: "pole", 22: "terrain", 26: "car", 33: "bicycle"}
    assert {number: classes[labels[number]] for number in names} == names
    # Unlabelled, own vehicle, parking, caravan, trailer, license plate are no classes.
    assert all(labels[number] == 255 for number in (0, 1, 9, 29, 30, 34))
    assert sorted(label for label in labels if label != 255) == list(range(19))


def test_misfits_of_gta5_are_left_out(gta5):
    for name in ("15188", "20801", "20860", "20861"):
        shutil.copy(gta5 / "images/00001.png", gta5 / f"images/{name}.png")
    images = GTA5Dataset(str(gta5), {"img_path": "images"})
    names = [Path(images.get_data_info(index)["img_path"]).stem for index in range(len(images))]
    assert names == ["00001", "20861"]


def test_a_label_map_of_another_size(gta5):
    cv2.imwrite(str(gta5 / "images/00001.png"), np.zeros((3, 35, 3), np.uint8))
    init_default_scope("mmseg")
    check = {"type": "CheckLabels", "num_classes": 19}
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, check]
    folders = {"img_path": "images", "seg_map_path": "labels"}
    with pytest.raises(UserError, match=naming(gta5 / "labels/00001.png", "2 x 35", "3 x 35")):
        GTA5Dataset(str(gta5), folders, pipeline)[0]


def test_label_maps_of_synthia(synthia):
    labels, classes = labels_of(
        "SynthiaDataset", synthia, "LoadSynthiaAnnotations", img_path="RGB",
        seg_map_path="GT/LABELS",
    )  # fmt: skip
    assert classes == CLASSES_16
    names = {1: "sky", 3: "road", 9: "traffic sign", 15: "traffic light", 19: "bus", 21: "wall"}
    assert {number: classes[labels[number]] for number in names} == names
    # Void, parking, road work, terrain, truck, train, lane marking.
    assert all(labels[number] == 255 for number in (0, 13, 14, 16, 18, 20, 22))
    assert sorted(label for label in labels if label != 255) == list(range(16))


def test_cityscapes_has_the_classes_of_synthia():
    from mmseg.datasets import CityscapesDataset

    mapped = CityscapesDataset.get_label_map(CLASSES_16)
    assert [CLASSES_19[old] for old in mapped if mapped[old] == 255] == [
        "terrain", "truck", "train"
    ]  # fmt: skip
    assert all(CLASSES_16[new] == CLASSES_19[old] for old, new in mapped.items() if new != 255)


@pytest.mark.parametrize(
    ("kind", "prefix", "words"),
    [
        (GTA5Dataset, {"img_path": "image"}, ("/image", "data_prefix.img_path")),
        (
            SynthiaDataset,
            {"img_path": "RGB", "seg_map_path": "LABELS"},
            ("/LABELS", "data_prefix.seg_map_path"),
        ),
    ],
)
def test_missing_folders(gta5, kind, prefix, words):
    (gta5 / "RGB").mkdir()
    with pytest.raises(UserError, match=naming(kind.__name__, *words)):
        kind(str(gta5), prefix)


def test_a_missing_root():
    with pytest.raises(UserError, match=naming("SynthiaDataset", "data_root absent")):
        SynthiaDataset("absent", {"img_path": "RGB"})


def test_a_label_map_that_is_not_synthias(synthia):
    cv2.imwrite(str(synthia / "GT/LABELS/0000000.png"), np.zeros((1, 23), np.uint8))
    path = synthia / "GT/LABELS/0000000.png"
    with pytest.raises(UserError, match=naming(path, "16 bits", "GT/LABELS")):
        labels_of("SynthiaDataset", synthia, "LoadSynthiaAnnotations", img_path="RGB",
                  seg_map_path="GT/LABELS")  # fmt: skip


def test_a_class_that_synthia_has_not():
    with pytest.raises(UserError, match=naming("SynthiaDataset", "'terrain'", "'road'")):
        SynthiaDataset.get_label_map(["road", "terrain"])
