import pytest
import torch
from mmengine.registry import MODELS

import dynbackbones
import dynbackbones.integrations.openmmlab  # noqa: F401  (registers)
from dynbackbones import checkpoints
from tests.messages import naming

SIZE = 16


@pytest.mark.parametrize(
    ("name", "options", "shapes"),
    [
        ("CifarResNet", {"depth": 20}, [(64, 4)]),
        ("BlockDropCifarResNet", {"depth": 20, "out_indices": (0, 2)}, [(16, 16), (64, 4)]),
        ("BlockDropResNet", {"depth": 18, "out_indices": (3,)}, [(512, 1)]),
        ("BlockDropResNet", {"depth": 18, "output_stride": 8}, [(64, 4), *[(c, 2) for c in
         (128, 256, 512)]]),
    ],
)  # fmt: skip
def test_features_come_as_a_tuple(name, options, shapes):
    net = MODELS.build({"type": name, **options}).eval()
    features = net(torch.randn(2, 3, SIZE, SIZE))
    assert [(f.shape[1], f.shape[2]) for f in features] == shapes


def test_options_reach_the_networks():
    net = MODELS.build({
        "type": "BlockDropCifarResNet", "depth": 20, "selection": "none", "execution": "masked",
        "policy_training": "reinforce", "frozen_stages": 1,
    })  # fmt: skip
    assert (net.selection.kind, net.execution, net.policy_training) == (
        "none", "masked", "reinforce",
    )  # fmt: skip
    assert not net.layer1[0].conv1.weight.requires_grad
    assert net.layer2[0].conv1.weight.requires_grad and net.policy.fc.weight.requires_grad
    net = MODELS.build({"type": "BlockDropResNet", "depth": 18, "policy_size": None})
    assert net.policy_size is None and not net.policy.fc.weight.requires_grad


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=naming("-1..3", frozen_stages=4)):
        MODELS.build({"type": "CifarResNet", "depth": 20, "frozen_stages": 4})
    with pytest.raises(ValueError, match=naming("res2, res3, res4", out_indices=(3,))):
        MODELS.build({"type": "BlockDropCifarResNet", "depth": 20, "out_indices": (3,)})


def test_a_plain_networks_weights_leave_the_policy_new(tmp_path):
    static = dynbackbones.build_backbone("cifar_resnet20").eval()
    path = tmp_path / "plain.pth"
    checkpoints.save(path, static.state_dict(), {})
    net = MODELS.build({
        "type": "BlockDropCifarResNet", "depth": 20,
        "init_cfg": {"type": "Pretrained", "checkpoint": str(path)},
    })  # fmt: skip
    net.init_weights()
    images = torch.randn(2, 3, SIZE, SIZE)
    with net.eval().select("all"):
        assert torch.allclose(net(images)[0], static(images)["res4"], atol=1e-5)
    other = MODELS.build({
        "type": "BlockDropCifarResNet", "depth": 32,
        "init_cfg": {"type": "Pretrained", "checkpoint": str(path)},
    })  # fmt: skip
    with pytest.raises(ValueError, match=naming(path, "architecture")):
        other.init_weights()
