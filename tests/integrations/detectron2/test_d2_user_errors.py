"""Bad input ends in one clear line, before anything is written."""

import pickle

import pytest
import torch

pytest.importorskip("detectron2")

from dynbackbones.cli import running
from dynbackbones.errors import UserError  # noqa: E402
from dynbackbones.integrations.detectron2 import engine  # noqa: E402
from dynbackbones.integrations.detectron2.datasets import CheckedMapper  # noqa: E402
from tests.messages import names, naming

pytestmark = pytest.mark.detectron2


def refused(run, *words):
    with pytest.raises(UserError, match=naming(*words)) as caught:
        run.main()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "opts, words",
    [
        (["MODEL.SAR.TARGET_RAET", "0.3"], ("MODEL.SAR.TARGET_RAET", "MODEL.SAR.TARGET_RATE")),
        (["MODEL.SAR.TARGET_RATE"], ("KEY VALUE", "MODEL.SAR.TARGET_RATE")),
        (["MODEL.SAR.TARGET_RATE", "1"], ("MODEL.SAR.TARGET_RATE", 1, 1.0)),
        (
            ["MODEL.BACKBONE.NAME", "build_sar_resnet"],
            ("MODEL.BACKBONE.NAME", "build_sar_resnet", "build_sar_resnet_backbone"),
        ),
        (
            ["MODEL.META_ARCHITECTURE", "RetinaNets"],
            ("MODEL.META_ARCHITECTURE", "RetinaNets", "RetinaNet"),
        ),
        (["MODEL.SAR.GROUPS", "3"], ("MODEL.SAR", "groups=3")),
        (["MODEL.BACKBONE.FREEZE_AT", "2"], ("MODEL.BACKBONE.FREEZE_AT 0", 2)),
        (["MODEL.RETINANET.NUM_CLASSES", "3"], ("2 categories", "NUM_CLASSES", 3)),
        (["DATASETS.TRAIN", "('no_such_data',)"], ("'no_such_data'", "DATASETS.COCO_FORMAT")),
        (
            ["DATASETS.TRAIN", "('coco_2017_train',)"],
            ("coco_2017_train", "configs/demo/retinanet.yaml"),
        ),
        (["MODEL.WEIGHTS", "missing.pth"], ("missing.pth", "exist")),
    ],
)
def test_wrong_values_are_named(opts, words, a_run, tmp_path):
    refused(a_run(*opts), *words)
    assert not list(tmp_path.glob("output/*.pth"))


def test_code_in_yaml_is_refused(a_run, tmp_path):
    code = f"!!python/object/apply:os.mkdir ['{tmp_path}/ran']"
    refused(a_run(config=f"MODEL:\n  WEIGHTS: {code}\n"), "config.yaml line 2", "YAML", "os.mkdir")
    base = tmp_path / "base.yaml"
    base.write_text(f"OUTPUT_DIR: {code}\n")
    refused(a_run(config="_BASE_: base.yaml\n"), "YAML", "os.mkdir")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content, words",
    [
        ("MODEL: [", ("YAML", "line 1")),
        ("- a list\n", ("mapping",)),
        ("", ("mapping",)),
        ("_BASE_: nowhere.yaml\n", ("_BASE_", "nowhere.yaml")),
        ("SOLVER: {MAX_ITERS: 3}\n", ("SOLVER.MAX_ITERS", "SOLVER.MAX_ITER")),
        ("SOLVER: {MAX_ITER: 3.5}\n", ("SOLVER.MAX_ITER", 3.5)),
    ],
)
def test_wrong_config_files_are_named(content, words, a_run):
    refused(a_run(config=content), "config.yaml", *words)


def test_missing_config_file(a_run):
    run = a_run()
    run.config_file = "no/such.yaml"
    refused(run, "no/such.yaml", "--config-file")


def test_malformed_annotations(a_run, tiny):
    run = a_run()
    (tiny / "instances.json").write_text('{"images": [')
    refused(run, "tiny", tiny / "instances.json", "line 1")


def test_missing_and_truncated_images(a_run, config, tiny, tmp_path):
    run = a_run()
    image = tiny / "images" / "1.png"
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    mapper = CheckedMapper(config(), is_train=False)
    with pytest.raises(UserError, match=naming(image, "truncated")):
        mapper({"file_name": str(image), "height": 96, "width": 64})
    image.unlink()
    refused(run, "1 of 4", "1.png", tiny / "instances.json")
    assert not (tmp_path / "output").exists()


def test_an_image_of_another_size_is_named(config, tiny):
    mapper = CheckedMapper(config(), is_train=False)
    image = str(tiny / "images" / "0.png")
    with pytest.raises(UserError, match=naming(image, "annotation")):
        mapper({"file_name": image, "height": 10, "width": 10})


def test_truncated_image_in_a_loader_process_ends_in_one_line(a_run, tiny, tmp_path, capsys):
    for image in (tiny / "images").iterdir():
        image.write_bytes(image.read_bytes()[:200])
    run = a_run("DATALOADER.NUM_WORKERS", 1)
    with pytest.raises(SystemExit) as caught:
        running.run(run.main)
    assert caught.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and names(last, "image", tiny / "images", "truncated")


def test_an_output_folder_of_another_run(a_run, tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "model_final.pth").write_bytes(b"precious")
    refused(a_run(), folder, "--resume")
    assert (folder / "model_final.pth").read_bytes() == b"precious"


def test_evaluating_needs_weights(a_run):
    refused(a_run(eval_only=True), "--eval-only", "MODEL.WEIGHTS", "--resume")


def test_predicting_needs_weights(config):
    with pytest.raises(UserError, match=naming("MODEL.WEIGHTS", "model_final.pth")):
        engine.load_predictor(config())


def test_more_processes_than_devices(a_run):
    count = torch.cuda.device_count() + 2
    refused(a_run(num_gpus=count), "--num-gpus", count)


@pytest.mark.parametrize("name", ["evil.pth", "evil.pkl"])
def test_checkpoints_that_run_code_are_refused(name, a_run, tmp_path):
    class Evil:
        def __reduce__(self):
            import os

            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / name
    if name.endswith(".pth"):
        torch.save({"model": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": Evil(), "__author__": "x"}))
    refused(a_run("MODEL.WEIGHTS", path), path, ".mkdir")
    assert not (tmp_path / "ran").exists()


def test_checkpoints_of_another_architecture_are_refused(trained, a_run, tmp_path):
    path = trained / "model_final.pth"
    run = a_run("MODEL.WEIGHTS", path, "MODEL.SAR.DEPTH", 50)
    refused(run, path, "missing", "another shape")
    run = a_run("MODEL.WEIGHTS", path, "MODEL.RETINANET.NUM_CLASSES", 2, eval_only=True)
    run.opts += ["MODEL.FPN.OUT_CHANNELS", "32"]
    refused(run, path, "architecture", "another shape")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "alien.pth")
    alien = tmp_path / "alien.pth"
    refused(a_run("MODEL.WEIGHTS", alien), alien, "architecture")


def test_model_zoo_weights_of_another_backbone_are_refused(a_run, tmp_path):
    path = tmp_path / "R-50.pkl"
    weights = {"conv1_w": torch.zeros(64, 3, 7, 7).numpy(), "fc1000_b": torch.zeros(9).numpy()}
    path.write_bytes(pickle.dumps(weights))
    refused(a_run("MODEL.WEIGHTS", path), path, "architecture", "backbone")


def test_data_sets_of_a_project_are_left_alone(config, tiny):
    from detectron2.data import DatasetCatalog

    DatasetCatalog.register("own_data", list)
    try:
        cfg = config("DATASETS.TRAIN", "('own_data',)")
        engine.check_datasets(cfg, cfg.DATASETS.TRAIN)
        assert DatasetCatalog.get("own_data") == []
    finally:
        DatasetCatalog.remove("own_data")


def test_a_changed_root_is_noticed(config, tiny, tmp_path, monkeypatch):
    from detectron2.data import MetadataCatalog

    config()
    first = MetadataCatalog.get("tiny").json_file
    (tmp_path / "other").mkdir()
    (tiny.parent / "tiny").rename(tmp_path / "other" / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "other"))
    cfg = config()
    assert MetadataCatalog.get("tiny").json_file != first
    engine.check_datasets(cfg, cfg.DATASETS.TRAIN)
