import itertools

import numpy as np
import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.checkpoints import state_dict_of
from dynbackbones.errors import UserError
from tests.messages import naming

STATE = {"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2), "1.steps": torch.tensor(7)}
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.ones(2, 3)}}, "param_groups": [{"lr": 0.1}]}
PREFIXES = ["module.", "_orig_mod.", "_fsdp_wrapped_module."]


def below(prefix, state=STATE):
    return {prefix + key: value for key, value in state.items()}


def found(content, **options):
    weights = state_dict_of(content, "a.pth", **options)
    assert all(torch.equal(weights[key], value) for key, value in STATE.items())
    assert weights.keys() == STATE.keys()
    return weights


@pytest.mark.parametrize("key", ["net", "network", "ema", "weights", "what_it_is_called"])
@pytest.mark.parametrize("accuracy", [91.2, torch.tensor(91.2), np.float64(91.2)])
def test_weights_under_any_key_beside_figures(key, accuracy):
    weights = found({"acc": accuracy, key: STATE, "epoch": 3, "optimizer": OPTIMIZER})
    assert weights.key == key
    assert list(weights.remarks()) == [f"weights under {key!r}"]


def test_weights_deep_inside():
    assert found({"ema": {"decay": 0.9, "shadow": {"model": STATE}}}).key == "ema.shadow.model"
    assert found({"model": {"state_dict": STATE}, "amp": {}}).key == "model.state_dict"


def test_the_usual_key_comes_first():
    other = {key: value + 1 for key, value in STATE.items()}
    for key in ("model", "state_dict"):
        assert found({"ema": other, "teacher": other, key: STATE}).key == key
    assert found({"state_dict": other, "ema_state_dict": STATE}, key="ema_state_dict")
    assert found({"model_ema": other, "net": STATE}).key == "net"


def test_several_of_one_rank_are_asked_for():
    content = {"student": STATE, "teacher": {key: value + 1 for key, value in STATE.items()}}
    with pytest.raises(UserError, match=naming("a.pth", "'student'", "'teacher'", "key=")):
        state_dict_of(content, "a.pth")
    found(content, key="student")
    found({"a": content}, key="a.student")
    with pytest.raises(UserError, match=naming("a.pth", "'net'", "student, teacher")):
        state_dict_of(content, "a.pth", key="net")


def test_plain_figures_among_bare_weights_are_left():
    found({**STATE, "epoch": 3, "arch": "resnet", "best": None})


@pytest.mark.parametrize("count", [1, 2, 3])
def test_wrappers_go_in_any_order(count):
    for prefixes in itertools.product(PREFIXES, repeat=count):
        weights = found({"model": below("".join(prefixes))})
        assert all(prefix in weights.wrappers for prefix in set(prefixes))


def test_wrappers_inside_names_go_too():
    inside = {key.replace("0.", "0._orig_mod.", 1): value for key, value in STATE.items()}
    assert found(below("module.", inside)).wrappers == "_orig_mod.module."
    both = {"a.weight": torch.ones(1, 1), "a._orig_mod.weight": torch.zeros(1, 1)}
    assert state_dict_of(both).keys() == both.keys()


def test_what_real_wrappers_save():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    wrapped = {
        "parallel": nn.DataParallel(net),
        "compiled": torch.compile(net),
        "both": nn.DataParallel(torch.compile(net)),
        "averaged": torch.optim.swa_utils.AveragedModel(net),
    }
    for model in wrapped.values():
        weights = state_dict_of({"model": model.state_dict()})
        assert weights.keys() == net.state_dict().keys()


def test_a_module_that_is_only_called_so_stays():
    state = {"module.weight": torch.ones(1, 1), "head.weight": torch.ones(1, 1)}
    assert state_dict_of(state).keys() == state.keys()


@pytest.mark.parametrize("holder", ["model.", "net.", "detector.", "module._orig_mod.model."])
def test_the_name_of_the_model_in_its_trainer_goes_where_the_model_has_none(tmp_path, holder):
    net = dynbackbones.build_backbone("cifar_resnet20")
    torch.save({"net": below(holder, net.state_dict()), "acc": 90.0}, tmp_path / "a.pth")
    other = dynbackbones.build_backbone("cifar_resnet20")
    report = dynbackbones.load_weights(torch.compile(other), tmp_path / "a.pth")
    assert torch.equal(other.conv1.weight, net.conv1.weight)
    assert "'net'" in str(report)
    inside = nn.ModuleDict({"model": dynbackbones.build_backbone("cifar_resnet20")})
    torch.save({"model": inside.state_dict()}, tmp_path / "b.pth")
    whole = nn.ModuleDict({"model": other})
    assert dynbackbones.load_weights(whole, tmp_path / "b.pth").whole


def test_a_key_that_the_user_names(tmp_path):
    nets = [dynbackbones.build_backbone("cifar_resnet20") for _ in range(2)]
    torch.save({k: n.state_dict() for k, n in zip("ab", nets, strict=True)}, tmp_path / "a.pth")
    net = dynbackbones.build_backbone("cifar_resnet20")
    dynbackbones.load_weights(net, tmp_path / "a.pth", key="b")
    assert torch.equal(net.conv1.weight, nets[1].conv1.weight)


def test_shared_and_circular_content_is_no_trap():
    wide = {"end": {}}
    for _ in range(40):
        wide = {str(index): wide for index in range(10)}
    wide["self"] = wide
    assert found({"deep": wide, "model": STATE})
    with pytest.raises(UserError, match=naming("a.pth")):
        state_dict_of({"deep": wide}, "a.pth")
