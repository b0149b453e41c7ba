import pytest
import torch

import dynbackbones
from dynbackbones.backbones.sar import gain
from dynbackbones.backbones.sar.gain import gain_signs, measured_masks
from dynbackbones.layers.regions import RegionGrid


@pytest.fixture
def measured(monkeypatch):
    """Every training pass measures gains."""
    monkeypatch.setattr("dynbackbones.backbones.sar.network.is_measured", lambda: True)


def guided(**options):
    torch.manual_seed(0)
    options = {"target_rate": 0.25, "target_schedule": "constant", "selector_margin": 0, **options}
    net = dynbackbones.SARResNet(18, layout="resnet", guidance="gain", **options)
    net.set_progress(0.0)
    return net


def test_the_largest_gains_of_each_group_are_wanted():
    gains = torch.tensor([[4.0, 1.0], [3.0, 2.0]]).repeat(1, 2, 1, 1, 1)
    gains[:, 1] *= -1
    valid = torch.ones(1, 1, 1, 2, 2, dtype=torch.bool)
    found = gain_signs(gains, valid, 0.5)
    assert found[0, 0, 0].tolist() == [[1, -1], [1, 0]]
    assert found[0, 1, 0].tolist() == [[-1, 1], [0, 1]]
    valid[..., 0, 0] = False
    assert gain_signs(gains, valid, 1 / 3)[0, 0, 0].tolist() == [[0, -1], [1, 0]]


def test_equal_gains_ask_for_nothing():
    valid = torch.ones(2, 1, 1, 3, 3, dtype=torch.bool)
    assert not gain_signs(torch.zeros(2, 1, 1, 3, 3), valid, 0.3).any()


def test_minus_the_gradient_of_a_mask_is_what_refining_takes_off_the_loss():
    """To first order: of masks that multiply once, exactly where the loss is linear."""
    grid, effects = RegionGrid((4, 4), cell_size=2), torch.tensor([[[[[-5.0, 2.0], [-1.0, 0.5]]]]])
    logits = torch.zeros(1, 1, 1, 2, 2, requires_grad=True)
    masks, loss = measured_masks(logits, grid, 0.5)
    assert masks.min() == 1 and loss == 0
    ((masks * effects).sum() + 2 * loss).backward()
    # -5 and -1 pay, and a step against the gradient selects them; the second best is in between.
    assert logits.grad[0, 0, 0].tolist() == [[-2, 2], [-2, 0]]


def test_selectors_are_drawn_to_where_the_loss_is(measured):
    net, images = guided(), torch.rand(2, 3, 64, 128)
    kept = {}
    net.layer1.register_forward_hook(lambda m, i, o: kept.update(choice=o.choice))
    features = net(images)
    losses = net.auxiliary_losses()
    assert float(losses["loss_guidance"].detach()) == 0
    task = -features["res2"][..., :16].square().mean()  # more is better, on the left alone
    (gradient,) = torch.autograd.grad(
        task + losses["loss_guidance"], kept["choice"].logits, retain_graph=True
    )
    left, right = gradient.squeeze()[..., :4], gradient.squeeze()[..., 4:]
    assert (right >= 0).all() and (left < 0).sum() == (gradient < 0).sum() > 0


def test_it_scales_with_the_loss_as_mixed_precision_scales_it(measured):
    net, images = guided(), torch.rand(1, 3, 64, 96)

    def gradient(factor):
        torch.manual_seed(1)
        net.zero_grad()
        loss = net(images)["res4"].square().mean() + net.auxiliary_losses()["loss_guidance"]
        (factor * loss).backward()
        return net.layer1.selectors[0].fc.bias.grad / factor

    torch.testing.assert_close(gradient(1.0), gradient(1024.0))


def test_measured_passes_refine_everything_and_others_do_not(measured, monkeypatch):
    net, images = guided(), torch.rand(1, 3, 64, 96)
    net(images)
    assert float(net.decisions.rate) == 1
    monkeypatch.setattr("dynbackbones.backbones.sar.network.is_measured", lambda: False)
    net(images)
    assert net.auxiliary_losses()["loss_guidance"] == 0
    assert float(net.decisions.rate) < 1


def test_it_measures_in_training_alone(measured):
    net, images = guided(), torch.rand(1, 3, 64, 96)
    with net.no_auxiliary():
        net(images)
        assert float(net.decisions.rate) < 1
    with net.select("none"):
        net(images)
        assert float(net.decisions.rate) == 0
    net.auxiliary_losses()
    net.eval()(images)
    assert not net.auxiliary_losses()


def test_one_pass_in_four_measures():
    torch.manual_seed(0)
    assert sum(gain.is_measured() for _ in range(1000)) == pytest.approx(250, abs=40)


def test_what_training_is_told_does_not_matter(measured):
    net = guided()
    net.set_guidance(boxes=[torch.tensor([[0.0, 0.0, 30.0, 30.0]])])
    net(torch.rand(1, 3, 64, 96))
    assert float(net.auxiliary_losses()["loss_guidance"].detach()) == 0


def test_selectors_learn_where_refining_pays():
    """Only the left half of each image is to be told apart; the selectors find it."""
    net = guided(track_target=True, loss_rate="expected")
    optimizer = torch.optim.SGD(
        [p for s in net.stages().values() for p in s.selectors.parameters()], lr=0.05
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(25):
        images = torch.rand(2, 3, 64, 128, generator=generator)
        images[..., :64] *= 4  # selectors see what is on the left
        features = net(images)
        task = -features["res2"][..., :16].square().mean()  # more is better, on the left alone
        loss = task + sum(net.auxiliary_losses().values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        net.eval()(images)
    refined = net.decisions.regions()["res2"].masks.float()
    assert refined[..., :4].mean() > 2 * refined[..., 4:].mean()


def test_passes_that_do_not_measure_name_the_same_losses(monkeypatch):
    # Processes of a distributed training draw for themselves, and average losses by name.
    net, images = guided(), torch.rand(2, 3, 64, 64)
    losses = []
    for measures in (True, False):
        monkeypatch.setattr("dynbackbones.backbones.sar.network.is_measured", lambda m=measures: m)
        net(images)
        losses.append(net.auxiliary_losses())
    assert losses[0].keys() == losses[1].keys() and "loss_guidance" in losses[1]
    assert losses[1]["loss_guidance"] == 0 and losses[1]["loss_guidance"].requires_grad
