"""Training steps in mixed precision and channels-last on a GPU, and its random numbers."""

import pytest
import torch

from tests.gpu.made_networks import LAYOUTS, SIZES, batch, build

pytestmark = pytest.mark.cuda


def loss_of(net, features):
    ends = [value.float().square().mean() for value in features.values()]
    return sum(ends) + sum(net.auxiliary_losses().values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_learns_in_mixed_precision_and_channels_last(layout, dtype, device):
    name, options = LAYOUTS[layout]
    net = build(name, **options).to(device, memory_format=torch.channels_last).train()
    images = batch().to(device).contiguous(memory_format=torch.channels_last)
    if layout == "blockdrop":
        net.selection = net.make_selection("random", 0.6, 0)
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10)
    losses = []
    for step in range(4):
        net.set_progress(step / 4)
        with torch.autocast(device.type, dtype):
            features = net(images, SIZES)
        loss = loss_of(net, features)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    changed = [n for n, p in net.named_parameters() if not torch.equal(p, before[n])]
    wanted = [n for n, p in net.named_parameters() if p.requires_grad]
    assert len(changed) > 0.8 * len(wanted)


@pytest.mark.parametrize("layout", ["paper", "resnet"])
def test_gradients_are_those_of_the_cpu(layout, device):
    name, options = LAYOUTS[layout]
    gradients = []
    for place in ("cpu", device):
        # What samples masks draws other numbers on each device, so these are given. In float32 a
        # ReLU whose input rounds to the other side of 0 moves gradients by a tenth, on a CPU too.
        net = build(name, **options).to(place, torch.float64)
        with net.select("random", rate=0.5, seed=1):
            features = net(batch().to(place, torch.float64), SIZES)
        sum(value.square().mean() for value in features.values()).backward()
        named = net.named_parameters()
        gradients.append({n: p.grad.cpu() for n, p in named if p.grad is not None})
    on_cpu, on_device = gradients
    assert on_cpu.keys() == on_device.keys()
    for name, gradient in on_cpu.items():
        limit = 1e-8 * float(gradient.abs().max()) + 1e-12
        assert float((on_device[name] - gradient).abs().max()) <= limit, name


def test_random_states_hold_the_device_s(device):
    pytest.importorskip("mmengine")
    from dynbackbones.integrations.mmengine.random_states import random_state, set_random_state

    torch.rand(7, device=device)
    state = random_state()
    drawn = torch.rand(5, device=device), torch.randn(5)
    torch.rand(3, device=device)
    set_random_state(state)
    assert torch.equal(torch.rand(5, device=device), drawn[0])
    assert torch.equal(torch.randn(5), drawn[1])
