import cv2
import numpy as np
import pytest

pytest.importorskip("mmpretrain")

from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.datasets.packed_images import PackedImages
from tests.messages import naming

COLOURS = np.array([[200, 10, 10], [10, 200, 10], [10, 10, 200]], np.uint8)
IMAGES = np.broadcast_to(COLOURS[:, None, None], (3, 8, 6, 3))
LABELS = np.array([2, 0, 1], np.uint8)


def encoded():
    parts = [cv2.imencode(".png", image[:, :, ::-1])[1].ravel() for image in IMAGES]
    offsets = np.cumsum([0, *map(len, parts)])
    return {"data": np.concatenate(parts), "offsets": offsets, "labels": LABELS}


@pytest.mark.parametrize("arrays", [{"images": IMAGES, "labels": LABELS}, encoded()])
def test_both_layouts_give_rgb_images_and_labels(tmp_path, arrays):
    np.savez(tmp_path / "some.npz", class_names=["a", "b", "c"], **arrays)
    dataset = PackedImages("some.npz", data_root=str(tmp_path))
    assert len(dataset) == 3
    assert dataset.metainfo["classes"] == ("a", "b", "c")
    for index in range(3):
        np.testing.assert_array_equal(dataset[index]["img"], IMAGES[index])
        assert dataset[index]["gt_label"] == LABELS[index]


def test_first_and_last_images(tmp_path):
    np.savez(tmp_path / "some.npz", **encoded())
    first, last = (PackedImages("some.npz", data_root=str(tmp_path), indices=n) for n in (2, -1))
    assert [sample["gt_label"] for sample in first] == [2, 0]
    assert [sample["gt_label"] for sample in last] == [1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": None}, ("labels", "images", "data, offsets")),
        ({"data": None}, ("images", "data", "labels, offsets")),
        ({"labels": LABELS[:2]}, ("3 images", "2 labels")),
        ({"labels": LABELS.astype(np.float32)}, ("labels", "(N)", "integer", "float32")),
        ({"labels": LABELS[:, None]}, ("labels", "(N)", "(3, 1)")),
        ({"offsets": np.array(["0", "1", "2", "3"])}, ("offsets", "integer")),
        ({"data": np.zeros(9)}, ("data", "uint8", "float64")),
        ({"images": IMAGES / 255}, ("images", "(N, H, W, 3)", "uint8", "float64")),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, ("images", "(N, H, W, 3)", "(3, 3, 8, 6)")),
        ({"offsets": np.array([0, 50, 20, 60])}, ("offsets", 0, "bytes")),
        ({"offsets": np.array([0, 1, 2, 10**6])}, ("offsets", 0, "bytes")),
    ],
)
def test_wrong_files_are_refused(tmp_path, change, words):
    arrays = {key: value for key, value in {**encoded(), **change}.items() if value is not None}
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(UserError, match=naming(tmp_path / "some.npz", *words)):
        PackedImages("some.npz", data_root=str(tmp_path))


def test_broken_images_and_files_are_named(tmp_path):
    arrays = encoded()
    np.savez(tmp_path / "some.npz", **{**arrays, "data": np.zeros_like(arrays["data"])})
    dataset = PackedImages("some.npz", data_root=str(tmp_path))
    with pytest.raises(UserError, match=naming(tmp_path / "some.npz", "image 1")):
        dataset[1]
    with pytest.raises(UserError, match=naming(tmp_path / "other.npz", "exist")):
        PackedImages("other.npz", data_root=str(tmp_path))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UserError, match=naming(tmp_path / "text.npz", "pickles")):
        PackedImages("text.npz", data_root=str(tmp_path))
    path = tmp_path / "cut.npz"
    np.savez_compressed(path, **arrays)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 255]) + whole[101:])
    with pytest.raises(UserError, match=naming(path, "copy", "anew")):
        PackedImages("cut.npz", data_root=str(tmp_path))
    np.savez(tmp_path / "pickle.npz", labels=np.array([object()]))
    with pytest.raises(UserError, match=naming(tmp_path / "pickle.npz", "pickles")):
        PackedImages("pickle.npz", data_root=str(tmp_path))
