import copy
import io
import logging
import math

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import FlopCountAnalysis

import dynbackbones
from dynbackbones.classifiers import PatchLearning
from dynbackbones.classifiers.views import masked
from dynbackbones.errors import UserError
from tests.classifiers.made import built, images
from tests.messages import naming

NAMES = ("patchdrop_cifar_resnet8", "bagnet_cifar_resnet8", "patchdrop_resnet18")


@pytest.fixture(params=NAMES)
def net(request):
    return built(request.param)


@torch.no_grad()
def test_all_patches_are_the_high_resolution_network():
    net = built()
    with net.select("all"):
        scores = net(images())
    assert torch.allclose(scores, net.high(images()).log_softmax(dim=1), atol=1e-6)
    assert set(net.decisions.macs_by_part) == {"policy", "high"}


@torch.no_grad()
def test_no_patches_are_the_low_resolution_network_and_nothing_else_runs(monkeypatch):
    net = built()
    low = F.interpolate(images(), (8, 8), mode="bilinear", antialias=True)
    monkeypatch.setattr(net.high, "forward", lambda _: pytest.fail("high ran"))
    with net.select("none"):
        scores = net(images())
    assert torch.allclose(scores, net.low(low).log_softmax(dim=1), atol=1e-6)
    assert net.decisions.pixel_rate.tolist() == [1 / 16] * 4


@torch.no_grad()
def test_probabilities_are_mixed_by_the_share_of_patches(net):
    policy = torch.zeros(3, 16, dtype=torch.bool)
    policy[0, :4], policy[1, 5:15] = True, True
    policy[2] = True
    x = images(3, (64, 64))
    with net.select(policy):
        scores = net(x)
    view = net.view(x)
    net.stage = "joint"
    high = net.predict(view, policy).exp()
    net.stage = "low"
    low = net.predict(view, policy).exp()
    share = policy.float().mean(dim=1, keepdim=True)
    assert torch.allclose(scores.exp(), share * high + (1 - share) * low, atol=1e-5)


@torch.no_grad()
def test_a_sum_of_logits_is_the_public_codes():
    net, other = built(fusion="sum"), built()
    x, policy = images(), torch.rand(4, 16) < 0.5
    with net.select(policy):
        scores = net(x)
    view = other.view(x)
    logits = other.high(masked(view, policy, "mean")) + other.low(view.low)
    assert torch.allclose(scores, logits.log_softmax(dim=1), atol=1e-5)


@torch.no_grad()
def test_a_batch_is_its_images_one_by_one(net):
    x = images(5, (64, 64))
    scores, policy = net(x), net.decisions.policy
    assert len(policy.unique(dim=0)) > 1
    for index in range(5):
        assert torch.allclose(net(x[index : index + 1])[0], scores[index], atol=1e-4)
        assert torch.equal(net.decisions.policy[0], policy[index])
    with net.select(policy):
        assert torch.allclose(net(x), scores, atol=1e-5)


@torch.no_grad()
def test_dropped_patches_are_blank_or_show_the_reduced_image():
    policy = torch.zeros(1, 16, dtype=torch.bool)
    policy[0, 4] = True  # row 1, column 0
    for fill in ("mean", "low"):
        net = built(fill=fill)
        view = net.view(images(1))
        shown = masked(view, policy, fill)
        assert torch.equal(shown[..., 8:16, :8], view.images[..., 8:16, :8])
        rest = shown[..., 16:, :]
        assert bool(rest.any()) == (fill == "low")
        assert not torch.equal(rest, view.images[..., 16:, :])


def test_nearest_takes_every_fourth_pixel():
    assert torch.equal(built(low_mode="nearest").view(images()).low, images()[..., ::4, ::4])


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("rate", [0, 0.5, 1])
def test_macs_are_those_of_what_ran(name, rate):
    net, seen = built(name), {}
    for part in ("policy", "high", "low"):
        module = getattr(net, part)
        module.register_forward_pre_hook(lambda _, args, part=part: seen.update({part: args[0]}))
    with torch.no_grad(), net.select("first", rate=rate):
        net(images(2))
    parts, total = net.decisions.macs_by_part, net.decisions.macs
    assert set(parts) == set(seen)
    for part, given in list(seen.items()):
        counted = FlopCountAnalysis(getattr(net, part), given).unsupported_ops_warnings(False)
        macs = sum(counted.by_operator()[kind] for kind in ("conv", "linear"))
        assert float(parts[part].sum()) == pytest.approx(macs, rel=1e-3), part
    assert total.tolist() == [net.macs(32, 32, rate)] * 2


def test_state_copies_and_exports_keep_the_function(net):
    x = images(3, (64, 64))
    with torch.no_grad():
        expected = net(x)
    other = dynbackbones.build_classifier(
        "bagnet_cifar_resnet8" if "Bag" in type(net).__name__ else
        ("patchdrop_resnet18" if hasattr(net.high.backbone, "layer4") else NAMES[0]), num_classes=10
    ).eval()  # fmt: skip
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        # Not strict, as newer torch is by itself: decisions are left on the network.
        exported = torch.export.export(net, (x,), strict=False).module()
        for same in (other, copy.deepcopy(net), exported):
            assert torch.allclose(same(x), expected, atol=1e-4)


def test_a_fully_compiled_network_gives_the_same(net):
    x = images(3, (64, 64))
    with torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        assert torch.allclose(compiled(x), net(x), atol=1e-4)


def test_calibration_meets_a_rate():
    net, x = built(), images(64)
    reached = dynbackbones.calibrate(net, x, target_rate=0.3, tolerance=0.02)
    assert reached == pytest.approx(0.3, abs=0.02)
    with torch.no_grad():
        net(x)
    assert float(net.decisions.rate.mean()) == pytest.approx(reached)
    state = net.state_dict()
    assert float(state["policy.threshold"]) == float(net.policy.threshold) != 0
    net.set_stage("high")
    with pytest.raises(ValueError, match=naming("thresholds", "PatchDrop")):
        dynbackbones.calibrate(net, x, target_rate=0.3)


@torch.no_grad()
def test_any_size_works_and_empty_cells_are_never_chosen():
    net = built()
    for size, cells in (((30, 41), 16), ((3, 50), 12), ((1, 2), 2)):
        with net.select("all"):
            assert net(images(2, size)).isfinite().all()
        assert net.decisions.policy.sum(dim=1).tolist() == [cells] * 2
        assert net.decisions.patch_rate.tolist() == [1.0, 1.0]
        with net.select("random", rate=0.5):
            net(images(2, size))
        assert net.decisions.policy.sum(dim=1).tolist() == [cells // 2] * 2


@torch.no_grad()
def test_half_precision_decides_the_same():
    net, x = built(), images().contiguous(memory_format=torch.channels_last)
    expected = net(x)
    policy = net.decisions.policy
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = net(x)
    assert scores.dtype == torch.float32 and torch.equal(net.decisions.policy, policy)
    assert torch.allclose(scores.exp(), expected.exp(), atol=0.2)


@torch.no_grad()
def test_images_that_are_not_finite_are_noticed():
    net, x = built(), images()
    x[1, :, 5, 5] = math.nan
    net(x)
    assert net.decisions.finite.tolist() == [True, False, True, True]
    with pytest.raises(UserError, match=naming("1 of 4 images", "finite")):
        net.decisions.check_finite()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (torch.rand(3, 32, 32), "images"),
        (torch.rand(0, 3, 32, 32), "empty"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "uint8"),
        (torch.rand(2, 1, 32, 32), "(N, 3, H, W)"),
    ],
)
def test_wrong_images_are_refused(wrong, words):
    with pytest.raises(ValueError, match=naming(words)):
        built()(wrong)


@pytest.mark.parametrize(
    "options",
    [
        {"grid": 0},
        {"scale": 1},
        {"scale": 2.5},
        {"policy_head": "local"},
        {"num_classes": 1},
        {"fusion": "product"},
        {"fill": "noise"},
        {"low_mode": "bicubic"},
        {"stage": "warm_up"},
    ],
)
def test_wrong_options_are_refused(options):
    arguments = {"num_classes": 10, **options}
    with pytest.raises(ValueError, match=naming(*options, *options.values())):
        dynbackbones.build_classifier("patchdrop_cifar_resnet8", **arguments)


def test_weights_of_another_layout_are_refused():
    state = built(scale=2).state_dict()
    with pytest.raises(UserError, match=naming("grid=4, scale=2", "grid=4, scale=4")):
        built().load_state_dict(state)
    with pytest.raises(UserError, match=naming("grid=3, scale=4")):
        built().load_state_dict(built(grid=3).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        built().load_state_dict(dynbackbones.build_classifier(NAMES[0], 11).state_dict())


def test_an_untrained_policy_is_told(caplog):
    untrained = dynbackbones.build_classifier(NAMES[0], num_classes=10)
    net = built()
    with caplog.at_level(logging.WARNING, "dynbackbones"):
        net.load_state_dict(untrained.state_dict())
    assert "untrained" in caplog.text and "16 patches" in caplog.text


def test_stages_follow_each_other():
    net = dynbackbones.build_classifier(NAMES[0], num_classes=10)
    for stage, missing in (("policy", "high"), ("joint", "high"), ("two_stream", "high")):
        with pytest.raises(UserError, match=naming(repr(stage), repr(missing))):
            net.set_stage(stage)
    net.set_stage("high")
    torch.nn.init.normal_(net.high.fc.weight)
    net.set_stage("low")
    assert torch.equal(net.low.fc.weight, net.high.fc.weight)
    net.set_stage("policy")
    with pytest.raises(UserError, match=naming("'joint'", "'policy'")):
        net.set_stage("joint")


@pytest.mark.parametrize("stage", ["high", "low", "policy", "joint", "two_stream"])
def test_a_stage_moves_only_what_it_trains(stage):
    net = built()
    net.set_stage(stage)
    net.train()
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.5)
    losses = PatchLearning().losses(net, images(8), torch.arange(8))
    sum(value for name, value in losses.items() if "loss" in name).backward()
    optimizer.step()
    moved = {
        key.split(".")[0] for key, v in net.state_dict().items() if not torch.equal(v, before[key])
    }
    learns = {"joint": {"policy", "high"}, "two_stream": {"policy", "high"}}.get(stage, {stage})
    assert moved == learns


def test_a_batch_without_high_resolution_leaves_gradients():
    net = built()
    net.train()
    view = net.view(images())
    scores = net.predict(view, torch.zeros(4, 16, dtype=torch.bool))
    scores.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.high.parameters())
