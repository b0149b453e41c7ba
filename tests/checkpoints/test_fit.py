import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.checkpoints import decision_keys
from dynbackbones.checkpoints import names as key_maps
from dynbackbones.checkpoints.fit import fit
from dynbackbones.errors import UserError
from tests.messages import naming

FC = torch.zeros(1)


def detectron2s(state, prefix=""):
    return {prefix + key_maps.to_detectron2(key): value for key, value in state.items()}


def below(prefix, state):
    return {prefix + key: value for key, value in state.items()}


@pytest.fixture(scope="module")
def resnet():
    return dynbackbones.build_backbone("cifar_resnet20").state_dict()


@pytest.mark.parametrize(
    "layout", ["bare", "openmmlab", "detectron2", "detector", "own detector", "torchvision"]
)
def test_a_backbone_is_found_in_every_layout(layout, resnet):
    net = dynbackbones.build_backbone("blockdrop_cifar_resnet20")
    files = {
        "bare": ({**resnet, "fc.weight": FC}, "fc.weight"),
        "openmmlab": ({**below("backbone.", resnet), "head.fc.weight": FC}, "head.fc.weight"),
        "detectron2": ({**detectron2s(resnet), "stem.fc.weight": FC}, "stem.fc.weight"),
        "detector": (
            {**detectron2s(resnet, "backbone.bottom_up."), "head.bias": FC},
            "head.bias",
        ),
        "own detector": ({**below("backbone.bottom_up.net.", resnet), "head.b": FC}, "head.b"),
        "torchvision": ({**below("backbone.body.", resnet), "rpn.bias": FC}, "rpn.bias"),
    }
    file, other = files[layout]
    state, report = fit(net.state_dict(), "", file, "a.pth", optional=decision_keys(net))
    assert report.left_out == (other,)
    assert state.keys() == resnet.keys() == set(report.loaded)
    assert all(state[key] is value for key, value in resnet.items())
    renamed = {old: new for old, new in report.mapped.items() if file[old] is state[new]}
    assert renamed.keys() == file.keys() - {other, *(resnet if layout == "bare" else ())}
    assert {f"policy.{key}" for key in ("fc.bias", "fc.weight")} < set(report.new)


def test_a_file_of_something_else_has_no_backbone(resnet):
    with pytest.raises(UserError, match=naming("a.pth", "1 unexpected", "linear.weight")):
        fit(resnet, "", {"linear.weight": FC}, "a.pth")


def test_layers_with_a_heads_name_that_are_the_backbones_own_are_kept():
    state = {"conv1.weight": FC, "head.weight": FC}
    fitted, report = fit(state, "", {**state, "fc.weight": FC}, "a.pth")
    assert fitted.keys() == state.keys()
    assert report.left_out == ("fc.weight",)


def test_a_policy_may_be_missing_as_a_whole():
    model = nn.ModuleDict({"net": dynbackbones.build_backbone("blockdrop_resnet18")})
    policy = decision_keys(model)
    assert {"net.policy.fc.bias", "net.policy.bn1.running_mean"} < policy
    assert all(key.startswith("net.policy.") for key in policy)
    assert decision_keys(model["net"]) == {key.removeprefix("net.") for key in policy}
    assert decision_keys(dynbackbones.build_backbone("resnet18")) == set()

    wanted = model.state_dict()
    plain = {key: value for key, value in wanted.items() if key not in policy}
    _, report = fit(wanted, "net.", plain, "a.pth", optional=policy)
    assert set(report.new) == {key for key in policy if "num_batches" not in key}
    assert str(report).startswith("loaded the model from a.pth; the policy network starts anew")
    with pytest.raises(UserError, match=naming("a.pth", "net.policy.bn1.bias")):
        fit(wanted, "net.", plain, "a.pth")
    half = {**plain, "net.policy.fc.bias": wanted["net.policy.fc.bias"]}
    with pytest.raises(UserError, match=naming("a.pth", "net.policy.bn1.bias")):
        fit(wanted, "net.", half, "a.pth", optional=policy)


def test_names_below_a_prefix_are_the_networks_own(resnet):
    student = {key: value + 1 for key, value in resnet.items()}
    state = {**below("teacher.", resnet), **below("student.", student)}
    for prefix in ("student", "student."):
        fitted, report = fit(resnet, "", state, "a.pth", prefix=prefix)
        assert torch.equal(fitted["conv1.weight"], student["conv1.weight"])
        assert report.mapped["student.conv1.weight"] == "conv1.weight"
        assert all(key.startswith("teacher.") for key in report.left_out)
    with pytest.raises(UserError, match=naming("a.pth", "'net.'", "student., teacher.")):
        fit(resnet, "", state, "a.pth", prefix="net")
    # With a prefix nothing is looked for.
    for other in (below("backbone.", resnet), detectron2s(resnet)):
        with pytest.raises(UserError, match=naming("a.pth", "bn1.bias")):
            fit(resnet, "", other, "a.pth", prefix="")


@pytest.fixture
def detector(resnet):
    """State dicts of small detectors by where their backbone is, with or without a pyramid."""

    def make(place, classes=2, state=None):
        heads = {"head.cls.weight": torch.zeros(classes, 4)}
        if place not in ("backbone.", "backbone.net."):
            heads["backbone.fpn.weight"] = torch.zeros(3)
        return {**below(place, state or resnet), **heads}

    return make


def test_a_whole_model_fits_as_a_whole(detector):
    wanted = detector("backbone.bottom_up.net.")
    state, report = fit(wanted, "backbone.bottom_up.net.", dict(wanted), "a.pth")
    assert report.whole and state.keys() == wanted.keys()
    assert not report.mapped and not report.left_out and not report.new
    assert str(report) == "loaded the model from a.pth"
    for change, words in (
        ({"head.other": FC}, ("1 unexpected", "head.other")),
        ({"backbone.bottom_up.net.fc.weight": FC}, ("backbone.bottom_up.net.fc.weight",)),
        ({"head.cls.weight": FC}, ("head.cls.weight", (1,), (2, 4))),
    ):
        with pytest.raises(UserError, match=naming("a.pth", *words)):
            fit(wanted, "backbone.bottom_up.net.", {**wanted, **change}, "a.pth")


def test_a_detector_with_detectron2s_resnet_is_a_whole_model_too(detector, resnet):
    wanted = detector("backbone.bottom_up.net.")
    file = detector("backbone.bottom_up.", state=detectron2s(resnet))
    state, report = fit(wanted, "backbone.bottom_up.net.", file, "a.pth")
    assert report.whole and state.keys() == wanted.keys()
    assert report.mapped["backbone.bottom_up.stem.conv1.norm.bias"] == (
        "backbone.bottom_up.net.bn1.bias"
    )
    assert not report.left_out


def test_detectron2s_own_resnet_is_filled_under_its_names(detector, resnet):
    wanted = detector("backbone.bottom_up.", state=detectron2s(resnet))
    state, report = fit(wanted, "backbone.bottom_up.", {**resnet, "fc.weight": FC}, "a.pth")
    assert state.keys() == detectron2s(resnet, "backbone.bottom_up.").keys()
    assert report.mapped["bn1.bias"] == "backbone.bottom_up.stem.conv1.norm.bias"
    assert report.new == ("backbone.fpn.weight", "head.cls.weight")
    assert str(report) == (
        "loaded the backbone from a.pth; pyramid and heads start from scratch; left out fc.weight"
    )


@pytest.mark.parametrize(
    ("place", "other"),
    [
        # detectron2 with and without FPN, with its own ResNet and with this package's.
        ("backbone.bottom_up.net.", "backbone.net."),
        ("backbone.net.", "backbone.bottom_up.net."),
        ("backbone.bottom_up.", "backbone."),
        ("backbone.", "backbone.bottom_up."),
        # The torchvision engine's file given to another engine.
        ("backbone.bottom_up.net.", "backbone.body."),
    ],
)
def test_detectors_of_other_layouts_are_refused(detector, resnet, place, other):
    own = resnet if place.endswith("net.") else detectron2s(resnet)
    file = detector(other, state=own)
    if other == "backbone.body.":
        file = {key: value for key, value in file.items() if key.startswith(other)}
    with pytest.raises(UserError, match=naming("a.pth", "another architecture")):
        fit(detector(place, state=own), place, file, "a.pth")


def test_a_part_of_a_detector_is_no_backbone_alone(detector, resnet):
    wanted = detector("backbone.body.")
    with pytest.raises(UserError, match=naming("a.pth", "backbone.fpn.weight", "head.cls.weight")):
        fit(wanted, "backbone.body.", below("backbone.body.", resnet), "a.pth")
    state, _ = fit(wanted, "backbone.body.", below("backbone.bottom_up.net.", resnet), "a.pth")
    assert state.keys() == below("backbone.body.", resnet).keys()


@pytest.mark.parametrize("other", ["backbone.", "backbone.net.", "backbone.bottom_up.net."])
def test_a_name_in_common_does_not_make_models_of_other_libraries_alike(detector, other):
    wanted = detector("backbone.body.")
    state, report = fit(wanted, "backbone.body.", detector(other), "a.pth")
    assert not report.whole
    assert all(key.startswith("backbone.body.") for key in state)
    assert report.left_out[-1] == "head.cls.weight"


def test_other_classes_leave_their_layers_new_where_that_is_allowed(detector):
    place = "backbone.body."
    wanted, file = detector(place, classes=3), detector(place)
    with pytest.raises(UserError, match=naming("a.pth", "head.cls.weight")):
        fit(wanted, place, file, "a.pth")
    state, report = fit(wanted, place, file, "a.pth", allow_other_heads=True)
    assert report.left_out == report.new == ("head.cls.weight",)
    assert report.reshaped == {"head.cls.weight": ((2, 4), (3, 4))}
    assert state.keys() == wanted.keys() - {"head.cls.weight"}
    # What surrounds the backbone is no head, and other layers are no other classes.
    for change in ({"backbone.fpn.weight": FC}, {"head.new.bias": FC}):
        with pytest.raises(UserError, match=naming("a.pth", "another architecture")):
            fit(wanted, place, {**file, **change}, "a.pth", allow_other_heads=True)


def test_the_report_counts(resnet):
    file = {f"backbone.{key}": value for key, value in resnet.items()} | {"head.fc.bias": FC}
    _, report = fit({**resnet, "policy.bias": FC}, "", file, "a.pth", optional=["policy.bias"])
    count = len(resnet)
    assert list(report.lines()) == [
        f"loaded {count} keys from a.pth",
        f"mapped {count}: backbone.conv1.weight -> conv1.weight, "
        "backbone.bn1.weight -> bn1.weight, backbone.bn1.bias -> bn1.bias, ...",
        "left out 1: head.fc.bias",
        "new 1: policy.bias",
    ]
    assert str(report) == (
        "loaded a.pth; the policy network starts anew; left out head.fc.bias"
    )


def test_counters_are_not_worth_a_word(resnet):
    frozen = {key: value for key, value in resnet.items() if "num_batches" not in key}
    for wanted, file in ((resnet, frozen), (frozen, resnet)):
        state, report = fit(wanted, "", file, "a.pth")
        assert state.keys() == frozen.keys()
        assert not report.left_out and not report.new
