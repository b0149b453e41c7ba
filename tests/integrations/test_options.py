"""What configs call the options of a backbone, from its constructor."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from dynbackbones.backbones import DynamicBackbone, ResNet
from dynbackbones.backbones.factory import RegisteredBackbone, registered_backbones
from dynbackbones.integrations import options
from tests.messages import naming

# Every key that configs have used, with its default: none may go or mean something else.
KEYS = {
    "sar_resnet": {
        "DEPTH": 50, "GROUPS": 0, "BASE_SCALE": 2, "ALPHA": 2, "BETA": 1, "CELL_SIZE": [4, 4, 7],
        "GRID_SIZE": 0, "TARGET_RATE": 0.5, "TARGET_SCHEDULE": "ramp", "TEMPERATURE": [1.0, 0.01],
        "LOSS_WEIGHT": 1.0, "LOSS_REDUCTION": "batch", "SELECTOR_MARGIN": 9.0,
        "SELECTOR_LR_FACTOR": 1.0, "NORM": "BN", "OUTPUT_STRIDE": 32, "EXECUTION": "auto",
        "ACTIVATION_CHECKPOINTING": False, "SELECTION": "", "SELECTION_RATE": 0.5,
        "LAYOUT": "paper", "ADDED_NORM": "BN", "STRIDE_IN_1X1": False, "CARDINALITY": 1,
        "BASE": "strided", "WIDTH_PER_GROUP": 64, "LOSS_RATE": "sampled",
        "DEEP_STEM": False, "TRACK_TARGET": False, "GUIDANCE": "none", "GUIDANCE_WEIGHT": 0.25,
        "GUIDANCE_CLASSES": [], "REGIONS_PER": "block",
    },
    "blockdrop_resnet": {
        "POLICY_SIZE": 224, "POLICY_TRAINING": "frozen", "SELECTION": "", "SELECTION_RATE": 0.5,
        "EXECUTION": "auto", "GAMMA": 5.0, "LOSS_TOLERANCE": 0.1, "ALPHA": 0.8,
        "ENTROPY_WEIGHT": 0.0, "CURRICULUM": 0.5, "LOSS_WEIGHT": 1.0, "POLICY_LR_FACTOR": 0.01,
        "ACTIVATION_CHECKPOINTING": False, "DEEP_STEM": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_keys_and_defaults_stay(name):
    defaults = options.yaml_defaults(registered_backbones()[name])
    assert defaults == KEYS[name]
    types = {key: type(value) for key, value in defaults.items()}
    assert types == {key: type(value) for key, value in KEYS[name].items()}


@dataclass
class Training:
    tolerance: float = 0.2
    patience: int | None = None


class Network(DynamicBackbone):
    lr_factors = {"gate": 0.5}
    training_options = Training

    def __init__(
        self,
        *,
        in_channels: int = 3,
        size: int | None = None,
        length: int | None = 7,
        share: "float | None" = None,
        name: str | None = None,
        widths: tuple[int, ...] = (1, 2),
        gate: Callable | None = None,
        make: Callable = abs,
        flag: bool = True,
        freeze_at: int = 0,
        selection: str | None = None,
    ) -> None:
        super().__init__(in_channels)


def entry_of(constructor, depths=()):
    return RegisteredBackbone("network", constructor, "NETWORK", depths)


def test_what_yaml_can_hold_becomes_a_key():
    assert options.yaml_defaults(entry_of(Network)) == {
        "SIZE": 0, "LENGTH": 7, "SHARE": 0.0, "NAME": "", "WIDTHS": [1, 2], "FLAG": True,
        "LOSS_TOLERANCE": 0.2, "PATIENCE": 0, "GATE_LR_FACTOR": 0.5,
        "SELECTION": "", "SELECTION_RATE": 0.5,
    }  # fmt: skip


def model_of(entry, **changed):
    node = SimpleNamespace(**{**options.yaml_defaults(entry), **changed})
    return SimpleNamespace(NETWORK=node)


def test_values_come_back_as_the_constructor_wants_them():
    entry = entry_of(Network)
    found = options.constructor_arguments(entry, model_of(entry), in_channels=4)
    assert found == {
        "in_channels": 4, "size": None, "length": 7, "share": None, "name": None,
        "widths": (1, 2), "flag": True,
    }  # fmt: skip
    changed = {"SIZE": 3, "LENGTH": 0, "WIDTHS": [5], "LOSS_TOLERANCE": 0.3, "GATE_LR_FACTOR": 2.0}
    model = model_of(entry, **changed)
    found = options.constructor_arguments(entry, model, in_channels=3)
    assert (found["size"], found["length"], found["widths"]) == (3, None, (5,))
    training = options.training_arguments(entry, model.NETWORK)
    assert training == {"tolerance": 0.3, "patience": None}
    assert options.lr_factors_of(entry, model.NETWORK) == {"gate": 2.0}


@pytest.mark.parametrize(("depths", "default"), [((18, 50), 50), ((20, 32), 20)])
def test_a_family_has_a_depth(depths, default):
    def build(depth: int, *, groups: int = 2):
        raise NotImplementedError

    assert options.yaml_defaults(entry_of(build, depths)) == {"DEPTH": default, "GROUPS": 2}


def test_a_function_says_what_it_returns():
    def build(size: int = 2) -> Network:
        raise NotImplementedError

    assert options.network_of(entry_of(build)) is Network
    assert {"SIZE", "GATE_LR_FACTOR"} <= options.yaml_defaults(entry_of(build)).keys()


def test_annotations_that_only_type_checkers_know_do_no_harm():
    def build(size: "Unknown | None" = None, width: "int" = 2):  # noqa: F821
        raise NotImplementedError

    assert options.yaml_defaults(entry_of(build)) == {"WIDTH": 2}


def test_two_options_of_one_name_are_refused():
    class Twice(Network):
        def __init__(self, *, gate_lr_factor: float = 1.0) -> None:
            super().__init__()

    with pytest.raises(ValueError, match=naming("Twice", "MODEL.NETWORK.GATE_LR_FACTOR")):
        options.yaml_defaults(entry_of(Twice))


def test_a_resnet_is_read_from_its_node():
    resnets = SimpleNamespace(DEPTH=101, NORM="SyncBN", STRIDE_IN_1X1=True, RES5_DILATION=2)
    resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP = 32, 4
    plain = RegisteredBackbone("resnet", ResNet, None, (18, 101))
    found = options.constructor_arguments(plain, SimpleNamespace(RESNETS=resnets), in_channels=3)
    assert found == {
        "in_channels": 3, "depth": 101, "norm": "SyncBN", "stride_in_1x1": True,
        "output_stride": 16, "cardinality": 32, "width_per_group": 4,
    }  # fmt: skip



@pytest.mark.parametrize(
    ("backbone", "name", "key"),
    [
        ("sar_resnet", "depth", "MODEL.SAR.DEPTH"),
        ("sar_resnet", "freeze_at", "MODEL.BACKBONE.FREEZE_AT"),
        ("sar_resnet", "in_channels", ""),
        ("blockdrop_resnet", "depth", "MODEL.RESNETS.DEPTH"),
        ("blockdrop_resnet", "dilate_first", "MODEL.RESNETS.RES5_DILATION"),
        ("blockdrop_resnet", "tolerance", "MODEL.BLOCKDROP.LOSS_TOLERANCE"),
        ("resnet", "norm", "MODEL.RESNETS.NORM"),
        ("resnet", "cardinality", "MODEL.RESNETS.NUM_GROUPS"),
        ("sar_resnet", "cardinality", "MODEL.SAR.CARDINALITY"),
        ("resnet", "output_stride", ""),  # it has no dilation as detectron2's
        ("cifar_resnet", "norm", ""),
    ],
)
def test_where_yaml_has_an_option(backbone, name, key):
    assert options.yaml_key(registered_backbones()[backbone], name) == key
