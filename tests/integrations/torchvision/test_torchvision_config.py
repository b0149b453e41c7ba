from pathlib import Path

import pytest

from dynbackbones.backbones.factory import registered_backbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import num_classes
from dynbackbones.integrations.torchvision import schema
from dynbackbones.integrations.torchvision.config import load_config
from tests.messages import naming

DEMO = Path(__file__).parents[3] / "configs" / "demo"
RETINANET = str(DEMO / "sar_retinanet_scratch.yaml")
FASTER_RCNN = str(DEMO / "sar_faster_rcnn.yaml")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("MODEL.RETINANT.NUM_CLASSES", "5", ("MODEL.RETINANET.NUM_CLASSES",)),
        ("MODEL.SAR.GROUP", "2", ("MODEL.SAR.GROUPS",)),
        ("MODEL.ROI_MASK_HEAD.NUM_CONV", "4", ("detectron2",)),
        ("MODEL.RPN.LOSS_WEIGHT", "2.0", ("detectron2",)),
        ("MODEL.MASK_ON", "True", (True, "detectron2", False)),
        ("MODEL.META_ARCHITECTURE", "FCOS", ("'FCOS'", "detectron2", "'RetinaNet'")),
        (
            "MODEL.BACKBONE.NAME",
            "build_vgg",
            ("'build_vgg'", "detectron2", "build_resnet_fpn_backbone"),
        ),
        ("MODEL.BACKBONE.NAME", "build_sar_resnet_fpn_backbone", ("RetinaNet",)),
        ("INPUT.CROP.ENABLED", "True", (True, "detectron2")),
        ("SOLVER.MAX_ITER", "many", ("many",)),
        ("SOLVER.MAX_ITER", "0", (0,)),
        ("TEST.EVAL_PERIOD", "-1", (-1,)),
        ("INPUT.MIN_SIZE_TRAIN", "('large',)", (("large",),)),
        ("INPUT.MIN_SIZE_TRAIN", "()", ((), "integers")),
        ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", ("range", "(smallest, largest)", (160,))),
        ("MODEL.PIXEL_MEAN", "[0.0]", ([0.0], "three")),
        ("DATASETS.TRAIN", "(3,)", ((3,), "names")),
        ("DATASETS.TEST", "('a', 'b')", (2, "detectron2")),
        ("MODEL.FPN.IN_FEATURES", "['res1', 'res5']", ("res1", "MODEL.RESNETS.OUT_FEATURES")),
    ],
)
def test_bad_overrides_are_one_line(key, value, words):
    with pytest.raises(UserError, match=naming(key, *words)) as error:
        load_config(RETINANET, [key, value])
    assert "\n" not in str(error.value)


def test_plain_backbones_say_their_width_as_detectron2_wants_it():
    with pytest.raises(
        UserError, match=naming("MODEL.RESNETS.RES2_OUT_CHANNELS", 256, "depth 18", 64)
    ):
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
    with pytest.raises(UserError, match=naming(key, "detectron2")):
        load_config(FASTER_RCNN, [key, value])
    load_config(RETINANET, [key, value])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SOLVER: {BASE_LR: much}", ("SOLVER.BASE_LR", "much")),
        ("SOLVER: 3", ("SOLVER", 3)),
        ("MODEL: {SAR: {DEPHT: 18}}", ("MODEL.SAR.DEPHT", "MODEL.SAR.DEPTH")),
        ("MODEL: {ROI_MASK_HEAD: {NUM_CONV: 4}}", ("MODEL.ROI_MASK_HEAD.NUM_CONV", "detectron2")),
        ("a: [1", ("bad.yaml", "line 1")),
        ("SEED: !!python/object/apply:os.getpid []", ("bad.yaml", "line 1", "os.getpid")),
        ("_BASE_: absent.yaml", ("bad.yaml", "_BASE_", "absent.yaml")),
        ("- 1", ("bad.yaml", "mapping")),
    ],
)
def test_bad_files_are_one_line(tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=naming(*words)) as error:
        load_config(str(path))
    assert "\n" not in str(error.value)


def test_missing_file():
    with pytest.raises(UserError, match=naming("absent.yaml", "--config-file")):
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
    nodes = [entry.node for entry in registered_backbones().values() if entry.node]
    own = *(f"MODEL.{node}." for node in (*nodes, "ZOOM")), "DATASETS.IMAGES_ANYWHERE"
    shared = {key: value for key, value in ours.items() if not key.startswith(own)}
    assert shared == {key: theirs[key] for key in shared}
    assert set(theirs) - set(ours) == schema.DETECTRON2_ONLY
