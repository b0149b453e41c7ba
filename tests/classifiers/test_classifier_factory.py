import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch.utils.flop_counter import FlopCounterMode

import dynbackbones
from dynbackbones.classifiers.encoder import Encoder
from dynbackbones.policy import PolicyResNet8, PolicyResNet10
from tests.messages import naming


def test_names_are_a_method_and_a_backbone():
    names = dynbackbones.list_classifiers()
    assert names == sorted(names)
    assert {"patchdrop_cifar_resnet32", "patchdrop_resnet50", "bagnet_cifar_resnet8"} <= set(names)
    net = dynbackbones.build_classifier("patchdrop_cifar_resnet14", num_classes=3, grid=2)
    assert net.policy.fc.out_features == 4 and isinstance(net.policy, PolicyResNet8)
    assert isinstance(dynbackbones.build_classifier("patchdrop_resnet18", 3).policy, PolicyResNet10)


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("patchdrop_cifar_resnet33", {}, ValueError, ["patchdrop_cifar_resnet32"]),
        ("resnet50", {}, ValueError, ["resnet50", "patchdrop_"]),
        ("patchdrop_resnet18", {"grids": 4}, TypeError, ["grids", "grid"]),
    ],
)
def test_unknown_names_and_options_are_refused(name, options, error, words):
    with pytest.raises(error, match=naming(*words)):
        dynbackbones.build_classifier(name, num_classes=10, **options)


# Spec of PatchDrop's networks: 10^6 multiply-accumulates, and 10^6 parameters.
@pytest.mark.parametrize(
    ("make", "size", "macs", "parameters"),
    [
        (lambda: PolicyResNet8(16), 8, 0.77, 0.076),
        (lambda: PolicyResNet8(16), 32, 12.24, 0.076),
        (lambda: Encoder("cifar_resnet20", 10), 32, 40.55, 0.270),
        (lambda: Encoder("cifar_resnet32", 10), 8, 4.30, 0.464),
        (lambda: Encoder("cifar_resnet32", 10), 32, 68.86, 0.464),
        (lambda: PolicyResNet10(16), 56, 62.4, 4.914),
        (lambda: PolicyResNet10(16), 112, 235.9, 4.914),
        (lambda: Encoder("resnet34", 1000), 224, 3664, 21.80),
        (lambda: Encoder("resnet50", 1000), 56, 299.0, 25.56),
        (lambda: Encoder("resnet50", 1000), 224, 4089, 25.56),
    ],
)
def test_exact_figures(make, size, macs, parameters):
    net = make().eval()
    digits = 0.006 if macs < 100 else 0.6
    assert net.macs(size, size) / 1e6 == pytest.approx(macs, rel=1e-3, abs=digits)
    counted = FlopCountAnalysis(net, torch.zeros(1, 3, size, size)).unsupported_ops_warnings(False)
    convolved = counted.by_operator()["conv"] + counted.by_operator()["linear"]
    assert net.macs(size, size) == pytest.approx(convolved, rel=1e-3)
    count = sum(p.numel() for p in net.parameters())
    assert count / 1e6 == pytest.approx(parameters, abs=6e-4 if parameters < 10 else 6e-3)


def test_masking_saves_pixels_not_computation():
    net = dynbackbones.build_classifier("patchdrop_resnet50", num_classes=1000)
    plain = net.high.macs(224, 224)
    assert net.macs(224, 224, 0.5) / 1e9 == pytest.approx(4.45, abs=6e-3)
    assert net.macs(224, 224, 0.5) / plain == pytest.approx(1.09, abs=5e-3)
    bag = dynbackbones.build_classifier("bagnet_cifar_resnet32", num_classes=10)
    assert bag.high.macs(8, 8) * 16 / 1e6 == pytest.approx(68.9, abs=0.06)
    assert (8.5 * bag.high.macs(8, 8) + bag.policy.macs(8, 8)) / 1e6 == pytest.approx(37.4, abs=0.1)


# The authors' networks: 10^6 multiply-accumulates after each step, then those of the proposal and
# its 10^6 parameters, and 10^6 parameters of encoders, head and proposal.
@pytest.mark.parametrize(
    ("name", "options", "costs", "proposal", "parameters"),
    [
        ("resnet50", {"patch": 96}, [761, 1569, 2376, 3183, 3990], (46.14, 46.15), 103.6),
        ("resnet50", {"patch": 128}, [1345, 2766, 4186, 5607, 7027], (75.50, 75.51), 133.0),
        ("densenet121", {"patch": 96}, [528, 1083, 1638, 2193, 2748], (27.27, 27.28), None),
        ("densenet169", {"patch": 96}, [626, None, None, None, 3287], (39.06, 39.07), None),
        ("densenet201", {"patch": 96}, [798, None, None, None, 4165], (43.78, 43.79), None),
        ("mobilenet_v3_large", {"patch": 96, "steps": 3}, [43.1, 88.1, 134.5], (0.74, 0), None),
        ("mobilenet_v3_large", {"patch": 128, "steps": 3}, [73.4, 149.2, 226.2], (1.02, 0), None),
    ],
)
def test_exact_figures_of_glance_and_focus(name, options, costs, proposal, parameters):
    form = "convolution" if "mobilenet" in name else "flatten"
    with torch.device("meta"):
        net = dynbackbones.build_classifier(
            f"glance_focus_{name}", num_classes=1000, proposal=form, **options
        )
    for found, expected in zip(net.step_macs, costs, strict=True):
        if expected is not None:
            # Printed figures are rounded.
            digits = 0.06 if expected < 500 else 0.6
            assert found / 1e6 == pytest.approx(expected, rel=1e-3, abs=digits)
    assert net.proposal.macs / 1e6 == pytest.approx(proposal[0], abs=6e-3)
    if proposal[1]:
        count = sum(p.numel() for p in net.proposal.parameters())
        assert count / 1e6 == pytest.approx(proposal[1], abs=6e-3)
    if parameters is not None:
        # The encoders' own layers are for training.
        own = sum(p.numel() for e in (net.glance, net.local) for p in e.fc.parameters())
        total = sum(p.numel() for p in net.parameters()) - own
        assert total / 1e6 == pytest.approx(parameters, abs=0.06)


def test_the_default_proposal_costs_little():
    with torch.device("meta"):
        net = dynbackbones.build_classifier("glance_focus_resnet50", num_classes=1000)
    assert net.proposal.macs / 1e6 == pytest.approx(1.06, abs=6e-3)
    assert sum(p.numel() for p in net.proposal.parameters()) / 1e6 == pytest.approx(0.53, abs=6e-3)


@pytest.mark.parametrize("head", ["recurrent", "cascade"])
def test_macs_of_glance_and_focus_are_those_that_are_counted(head):
    net = dynbackbones.build_classifier(
        "glance_focus_cifar_resnet8", 10, patch=24, steps=2, head=head
    ).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 64, 64))
    # The critic takes part too, though nothing depends on it.
    counted = counter.get_total_flops() / 2 - net.proposal.critic.weight.numel()
    assert float(net.decisions.macs) == pytest.approx(counted, rel=1e-3)
