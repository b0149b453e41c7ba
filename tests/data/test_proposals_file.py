import json
import logging

import numpy as np
import pytest
from PIL import Image

from dynbackbones.data.proposals import Proposals
from dynbackbones.data.proposals_file import read_proposals, write_proposals
from dynbackbones.errors import UserError
from tests.messages import naming


@pytest.fixture
def folder(tmp_path):
    for name in ("000012.png", "more/b.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / name)
    return tmp_path / "images"


def written(tmp_path, content):
    path = tmp_path / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_was_written_is_read(tmp_path, folder):
    boxes = np.array([[1, 2, 31, 22], [0, 0, 40, 30]], np.float32)
    proposals = {"more/b.jpg": Proposals(boxes, np.array([0.75, 0.5], np.float32))}
    write_proposals(tmp_path / "boxes.json", proposals)
    found = read_proposals(tmp_path / "boxes.json", folder)
    assert list(found) == ["more/b.jpg"]
    assert np.array_equal(found["more/b.jpg"].boxes, boxes)
    assert found["more/b.jpg"].scores.tolist() == [0.75, 0.5]


@pytest.mark.parametrize("called", [{"image_id": 12}, {"image_id": "000012"}])
def test_a_detectors_results_and_instances_are_read_best_first(tmp_path, folder, called):
    boxes = [{**called, "category_id": 3, "bbox": [0, 0, 9, 9], "score": s} for s in (0.2, 0.9)]
    assert read_proposals(written(tmp_path, boxes), folder)["000012.png"].scores.tolist() == [
        pytest.approx(0.9),
        pytest.approx(0.2),
    ]
    instances = {
        "images": [{"id": 7, "file_name": "more/b.jpg"}],
        "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4], "category_id": 1}],
    }
    found = read_proposals(written(tmp_path, instances), folder)
    assert found["more/b.jpg"].boxes.tolist() == [[1, 2, 4, 6]]


def test_boxes_are_cut_and_what_is_empty_then_is_left_out(tmp_path, folder, caplog):
    boxes = [[-1, -1, 20, 20], [5, 5, 10, 10], [35, 5, 6, 6], [3, 3, 0, 4], [1, 1, 9, 9]]
    entries = [{"file_name": "000012.png", "bbox": box} for box in boxes]
    entries.append({"file_name": "absent.png", "bbox": [0, 0, 1, 1]})
    with caplog.at_level(logging.WARNING):
        found = read_proposals(written(tmp_path, entries), folder)["000012.png"]
    assert found.boxes.tolist() == [[0, 0, 19, 19], [5, 5, 15, 15], [35, 5, 40, 11], [1, 1, 10, 10]]
    assert "1 of 6" in caplog.text and "absent.png" in caplog.text and "1 of 5" in caplog.text


def entry(**changes):
    return [{"file_name": "000012.png", "bbox": [1, 2, 3, 4], "score": 1, **changes}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not JSON", ["boxes.json", "JSON"]),
        ({}, ["dict", "bbox"]),
        ([1], ["list", "bbox"]),
        ([], ["empty"]),
        (entry(bbox=[1, 2, 3]), ["entry 0", [1, 2, 3]]),
        (entry(bbox=[1, 2, -3, 4]), ["entry 0", "width"]),
        (entry(bbox=[1, 2, float("nan"), 4]), ["entry 0", "nan"]),
        (entry(score="high"), ["score", "'high'"]),
        (entry(file_name="../secret.png"), ["'../secret.png'", "images"]),
        (entry(file_name="other.png"), ["'other.png'", "000012.png"]),
        (entry(bbox=[30, 20, 38, 28]), ["1 of 1", "corners", [30.0, 20.0, 38.0, 28.0]]),
    ],
)
def test_what_is_wrong_is_named(tmp_path, folder, content, words):
    with pytest.raises(UserError, match=naming(*words)):
        read_proposals(written(tmp_path, content), folder)


def test_missing_files_and_folders_are_named(tmp_path, folder):
    with pytest.raises(UserError, match=naming("none.json", "make-proposals")):
        read_proposals(tmp_path / "none.json", folder)
    with pytest.raises(UserError, match=naming("nowhere")):
        read_proposals(written(tmp_path, entry()), tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=naming("empty", "no image")):
        read_proposals(written(tmp_path, entry()), tmp_path / "empty")
