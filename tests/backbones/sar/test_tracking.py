import pytest
import torch

import dynbackbones


def adaptive(**options):
    torch.manual_seed(0)
    fixed = {"layout": "resnet", "target_schedule": "constant", "selector_margin": 2}
    net = dynbackbones.SARResNet(18, **fixed, **options)
    for stage in net.stages().values():
        for selector in stage.selectors:
            torch.nn.init.normal_(selector.fc.weight)  # decisions that depend on the image
    return net


def batches(count):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, 3, 96, 96, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("target", [0.3, 0.7])
def test_the_rate_without_noise_meets_the_target(target):
    net = adaptive(target_rate=target, track_target=True)
    net.set_progress(0.0)
    rates = []
    for images in batches(100):
        net(images)
        net.auxiliary_losses()
        stages = list(net.decisions.regions().values())[:2]  # res4 has one cell for each image
        rates.append(torch.stack([stage.block_rates(argmax=True).mean() for stage in stages]))
    assert torch.stack(rates[:2]).mean() > 0.95, "selectors start with everything"
    for rate in torch.stack(rates[-40:]).mean(dim=0).tolist():
        assert rate == pytest.approx(target, abs=0.1)


def test_thresholds_stay_where_nobody_asks():
    net = adaptive(target_rate=0.3)
    net(batches(1)[0])
    assert [float(threshold) for threshold in net.thresholds()] == [0, 0, 0]
    tracked = adaptive(target_rate=0.3, track_target=True)
    with tracked.no_auxiliary():
        tracked(batches(1)[0])
    assert [float(threshold) for threshold in tracked.thresholds()] == [0, 0, 0]


def test_calibration_moves_thresholds_together():
    net = adaptive()
    for shift, threshold in enumerate(net.thresholds()):
        threshold.fill_(0.1 * shift)
    dynbackbones.calibrate(net, batches(1), target_rate=0.4, tolerance=0.05)
    first, second, third = (float(threshold) for threshold in net.thresholds())
    assert second - first == pytest.approx(0.1, abs=1e-5)
    assert third - second == pytest.approx(0.1, abs=1e-5)
