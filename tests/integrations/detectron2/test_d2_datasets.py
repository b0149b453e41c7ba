"""detectron2 reads annotation files and images itself; it gets them as this package reads them."""

import json
from pathlib import Path

import pytest

pytest.importorskip("detectron2")
pytestmark = pytest.mark.detectron2

import numpy as np  # noqa: E402
from detectron2.data import DatasetCatalog, MetadataCatalog  # noqa: E402
from detectron2.data.datasets import register_coco_instances  # noqa: E402
from PIL import Image  # noqa: E402

from dynbackbones import checkpoints  # noqa: E402
from dynbackbones.errors import UserError  # noqa: E402
from dynbackbones.integrations.detectron2.datasets import (  # noqa: E402
    CheckedMapper,
    check_datasets,
    register_datasets,
    use_copies,
)
from tests.messages import naming  # noqa: E402


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def odd(content):
    for number, box in enumerate(content["annotations"]):
        box |= {"id": number, "iscrowd": None, "area": None, "segmentation": [[]]}


def test_a_plain_file_is_read_where_it_is(config, tiny):
    cfg = config()
    assert check_datasets(cfg, cfg.DATASETS.TRAIN) == {"tiny": 4}
    assert MetadataCatalog.get("tiny").json_file == str(tiny / "instances.json")


def test_an_odd_file_is_copied_as_it_is_meant(config, tiny):
    cfg = config()
    plain = DatasetCatalog.get("tiny")
    edit(tiny / "instances.json", odd)
    check_datasets(cfg, cfg.DATASETS.TRAIN)
    assert DatasetCatalog.get("tiny") == plain
    copy = MetadataCatalog.get("tiny").json_file
    ids = [box["id"] for box in json.loads(Path(copy).read_text())["annotations"]]
    assert ids == [1, 2, 3, 4]
    # A new process registers anew, and then takes the copies.
    register_datasets(cfg)
    assert MetadataCatalog.get("tiny").json_file != copy
    use_copies(cfg)
    assert MetadataCatalog.get("tiny").json_file == copy
    assert DatasetCatalog.get("tiny") == plain


def test_a_copy_of_a_file_that_was_mended_goes(config, tiny):
    before = (tiny / "instances.json").read_text()
    edit(tiny / "instances.json", odd)
    cfg = config()
    check_datasets(cfg, cfg.DATASETS.TRAIN)
    copy = MetadataCatalog.get("tiny").json_file
    (tiny / "instances.json").write_text(before)
    cfg = config()
    check_datasets(cfg, cfg.DATASETS.TRAIN)
    use_copies(cfg)
    assert MetadataCatalog.get("tiny").json_file != copy


def test_a_file_that_a_project_registered_is_not_replaced(config, tiny):
    register_coco_instances("theirs", {}, str(tiny / "instances.json"), str(tiny / "images"))
    try:
        cfg = config("DATASETS.TRAIN", "('theirs',)")
        assert check_datasets(cfg, cfg.DATASETS.TRAIN) == {"theirs": 4}
        edit(tiny / "instances.json", odd)
        with pytest.raises(UserError, match=naming("theirs", "DATASETS.COCO_FORMAT")):
            check_datasets(cfg, cfg.DATASETS.TRAIN)
    finally:
        DatasetCatalog.remove("theirs")
        MetadataCatalog.remove("theirs")


def test_categories_in_another_order_are_matched_by_name(config, tiny, tmp_path):
    swapped = json.loads((tiny / "instances.json").read_text())
    for category in swapped["categories"]:
        category["id"] = 3 - category["id"]
    for box in swapped["annotations"]:
        box["category_id"] = 3 - box["category_id"]
    (tiny / "other.json").write_text(json.dumps(swapped))
    cfg = config("DATASETS.TEST", "('other',)")
    plain = DatasetCatalog.get("tiny")
    assert DatasetCatalog.get("other") != plain
    check_datasets(cfg, cfg.DATASETS.TRAIN + cfg.DATASETS.TEST)
    labels = [box["category_id"] for record in plain for box in record["annotations"]]
    found = [b["category_id"] for r in DatasetCatalog.get("other") for b in r["annotations"]]
    assert found == labels
    assert MetadataCatalog.get("other").thing_classes == MetadataCatalog.get("tiny").thing_classes


@pytest.mark.parametrize("train", [True, False])
def test_the_mapper_refuses_what_detectron2_would_cut_off(config, tiny, train):
    mapper, record = CheckedMapper(config(), is_train=train), DatasetCatalog.get("tiny")[0]
    assert mapper(record)["image"].shape[0] == 3
    path = record["file_name"]
    Image.fromarray(np.full((64, 96), 60_000, np.uint16)).save(path)
    with pytest.raises(UserError, match=naming(path, "16 bits", "8 bits")):
        mapper(record)


def test_the_mapper_names_exif_where_it_turns_an_image(config, tiny):
    mapper, record = CheckedMapper(config(), is_train=True), DatasetCatalog.get("tiny")[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    path = record["file_name"]
    Image.new("RGB", (96, 64)).save(path, exif=exif)
    with pytest.raises(UserError, match=naming(path, "EXIF", "exiftool")):
        mapper(record)
    Image.new("RGB", (96, 60)).save(path)
    with pytest.raises(UserError, match=naming(path, "replace")) as caught:
        mapper(record)
    assert "EXIF" not in str(caught.value)


def test_a_runs_weights_name_their_classes(trained):
    assert checkpoints.load(trained / "model_final.pth")["meta"]["classes"] == ["red", "green"]


def test_weights_of_other_classes_are_refused(a_run, trained, tiny):
    weights = trained / "model_final.pth"
    edit(tiny / "instances.json", lambda content: content["categories"][0].update(name="blue"))
    with pytest.raises(UserError, match=naming("'blue'", weights, "red, green")):
        a_run("MODEL.WEIGHTS", weights, eval_only=True).main()


def test_training_sets_without_boxes_are_named(config, tiny):
    edit(tiny / "instances.json", lambda content: content.update(annotations=[]))
    cfg = config()
    with pytest.raises(UserError, match=naming("tiny", "DATALOADER.FILTER_EMPTY_ANNOTATIONS")):
        check_datasets(cfg, cfg.DATASETS.TRAIN)
    cfg = config("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False)
    assert check_datasets(cfg, cfg.DATASETS.TRAIN) == {"tiny": 4}


def test_mixed_precision_needs_cuda(a_run, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=naming("SOLVER.AMP.ENABLED", "CUDA")):
        a_run("SOLVER.AMP.ENABLED", True).main()
