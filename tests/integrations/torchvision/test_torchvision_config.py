from pathlib import Path

import pytest

from dynbackbones.errors import UserError
from dynbackbones.integrations.config import num_classes
from dynbackbones.integrations.torchvision import schema
from dynbackbones.integrations.torchvision.config import load_config

DEMO = Path(__file__).parents[3] / "configs" / "demo"
RETINANET = str(DEMO / "sar_retinanet.yaml")
FASTER_RCNN = str(DEMO / "sar_faster_rcnn.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.RETINANT.NUM_CLASSES", "5", "did you mean MODEL.RETINANET.NUM_CLASSES?"),
        ("MODEL.SAR.GROUP", "2", "did you mean MODEL.SAR.GROUPS?"),
        ("MODEL.ROI_MASK_HEAD.NUM_CONV", "4", "MODEL.ROI_MASK_HEAD.NUM_CONV needs detectron2"),
        ("MODEL.RPN.LOSS_WEIGHT", "2.0", "MODEL.RPN.LOSS_WEIGHT needs detectron2"),
        ("MODEL.MASK_ON", "True", "MODEL.MASK_ON True needs detectron2.*knows False"),
        ("MODEL.META_ARCHITECTURE", "FCOS", "'FCOS' needs detectron2.*'RetinaNet'"),
        ("MODEL.BACKBONE.NAME", "build_vgg", "'build_vgg' needs detectron2.*build_retinanet_sar"),
        ("MODEL.BACKBONE.NAME", "build_sar_resnet_fpn_backbone", "does not suit RetinaNet"),
        ("INPUT.CROP.ENABLED", "True", "needs detectron2"),
        ("SOLVER.MAX_ITER", "many", "SOLVER.MAX_ITER"),
        ("SOLVER.MAX_ITER", "0", "SOLVER.MAX_ITER must be positive, got 0"),
        ("TEST.EVAL_PERIOD", "-1", "TEST.EVAL_PERIOD must not be negative, got -1"),
        ("INPUT.MIN_SIZE_TRAIN", "('large',)", "INPUT.MIN_SIZE_TRAIN must be integers"),
        ("INPUT.MIN_SIZE_TRAIN", "()", "INPUT.MIN_SIZE_TRAIN must be integers"),
        ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "smallest, largest"),
        ("MODEL.PIXEL_MEAN", "[0.0]", "MODEL.PIXEL_MEAN must be three numbers"),
        ("DATASETS.TRAIN", "(3,)", "DATASETS.TRAIN must be names"),
        ("DATASETS.TEST", "('a', 'b')", "2 datasets and so needs detectron2"),
        ("MODEL.FPN.IN_FEATURES", "['res1', 'res5']", "MODEL.RESNETS.OUT_FEATURES"),
    ],
)
def test_bad_overrides_are_one_line(key, value, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(RETINANET, [key, value])
    assert "\n" not in str(error.value)
    assert key.rsplit(".", 1)[0] in str(error.value)


def test_plain_backbones_say_their_width_as_detectron2_wants_it():
    with pytest.raises(UserError, match="RES2_OUT_CHANNELS 256 .* depth 18: set it to 64"):
        load_config(str(DEMO / "retinanet.yaml"), ["MODEL.RESNETS.RES2_OUT_CHANNELS", "256"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.ROI_HEADS.NAME", "Res5ROIHeads"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIPool"),
        ("MODEL.RPN.CONV_DIMS", "[64]"),
    ],
)
def test_faster_rcnn_options_count_for_faster_rcnn_alone(key, value):
    with pytest.raises(UserError, match=f"{key}.*needs detectron2"):
        load_config(FASTER_RCNN, [key, value])
    load_config(RETINANET, [key, value])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SOLVER: {BASE_LR: much}", "SOLVER.BASE_LR"),
        ("SOLVER: 3", "SOLVER"),
        ("MODEL: {SAR: {DEPHT: 18}}", "did you mean MODEL.SAR.DEPTH"),
        ("MODEL: {ROI_MASK_HEAD: {NUM_CONV: 4}}", "needs detectron2"),
        ("a: [1", "line 1"),
        ("SEED: !!python/object/apply:os.getpid []", "line 1"),
        ("_BASE_: absent.yaml", "absent.yaml does not exist"),
        ("- 1", "bad.yaml"),
    ],
)
def test_bad_files_are_one_line(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_config(str(path))
    assert "\n" not in str(error.value)


def test_missing_file():
    with pytest.raises(UserError, match="absent.yaml does not exist"):
        load_config("absent.yaml")


def complete(folder):
    return sorted(path for path in folder.glob("*.yaml") if not path.stem.startswith("Base"))


@pytest.mark.parametrize("path", complete(DEMO) + complete(DEMO.parent), ids=lambda p: p.stem)
def test_the_configs_of_this_repository_load(path):
    cfg = load_config(str(path))
    assert cfg.is_frozen()
    assert num_classes(cfg) == (5 if path.parent == DEMO else 80)


def test_a_dumped_config_reads_back(tmp_path):
    cfg = load_config(RETINANET, ["MODEL.SAR.GROUPS", "4"])
    path = tmp_path / "config.yaml"
    path.write_text(cfg.dump())
    assert load_config(str(path)).dump() == cfg.dump()


def test_configs_are_independent():
    schema.get_cfg().MODEL.PIXEL_MEAN.append(1.0)
    assert len(schema.get_cfg().MODEL.PIXEL_MEAN) == 3


def test_no_key_of_detectron2_alone_is_left_in_a_config():
    assert not schema.DETECTRON2_ONLY & {key for key, _ in schema.leaves(load_config(RETINANET))}


@pytest.mark.detectron2
def test_keys_and_defaults_are_detectron2s():
    config = pytest.importorskip("detectron2.config")
    theirs = dict(schema.leaves(config.get_cfg()))
    ours = dict(schema.leaves(schema.get_cfg()))
    own = ("MODEL.SAR.", "MODEL.BLOCKDROP.")
    shared = {key: value for key, value in ours.items() if not key.startswith(own)}
    assert shared == {key: theirs[key] for key in shared}
    assert set(theirs) - set(ours) == schema.DETECTRON2_ONLY
