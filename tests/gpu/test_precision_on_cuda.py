"""Half precision, copies and what inference makes of a network, on a GPU."""

import copy

import pytest
import torch

import dynbackbones
from tests.gpu.made_networks import LAYOUTS, SIZES, assert_close, batch, build

pytestmark = pytest.mark.cuda


@pytest.fixture(params=LAYOUTS)
def net(request, device):
    name, options = LAYOUTS[request.param]
    return build(name, **options).to(device)


@pytest.mark.parametrize("execution", ["masked", "sparse"])
# Layer by layer the random weights of fifty make roundings larger; a wrong value is off by 1.
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 0.06), (torch.bfloat16, 0.3)])
@torch.no_grad()
def test_autocast_agrees_with_float32(net, device, dtype, limit, execution):
    images = batch().to(device)
    net.execution = execution
    with net.select("random", rate=0.5, seed=2):
        wanted = net(images, SIZES)
        with torch.autocast(device.type, dtype):
            found = net(images, SIZES)
    assert any(value.dtype == dtype for value in found.values())
    assert_close(found, wanted, limit)


@pytest.mark.parametrize("execution", ["masked", "sparse"])
@torch.no_grad()
def test_a_network_in_half_precision_agrees_with_float32(net, device, execution):
    images = batch().to(device)
    half = copy.deepcopy(net).half().to(memory_format=torch.channels_last)
    half.execution = execution
    with net.select("random", rate=0.5, seed=2):
        wanted = net(images, SIZES)
    with half.select("random", rate=0.5, seed=2):
        found = half(images.half().to(memory_format=torch.channels_last), SIZES)
    assert all(value.dtype == torch.float16 for value in found.values())
    assert_close(found, wanted, 0.06)


@torch.no_grad()
def test_a_network_for_inference_gives_the_same(net, device):
    images = batch().to(device)
    fast = dynbackbones.optimize_for_inference(net)
    for rate in (0.3, 1.0):
        with net.select("random", rate=rate, seed=2), fast.select("random", rate=rate, seed=2):
            assert_close(fast(images, SIZES), net(images, SIZES), 1e-3)


@torch.no_grad()
def test_copies_and_weights_move_between_devices(net, device):
    images = batch()
    wanted = net(images.to(device), SIZES)
    twin = copy.deepcopy(net)
    assert next(twin.parameters()).device.type == device.type
    with twin.select(net.decisions.choices()):
        assert_close(twin(images.to(device), SIZES), wanted, 1e-5)
    on_cpu = twin.cpu()
    on_cpu.load_state_dict(net.state_dict())
    with on_cpu.select(net.decisions.choices()):
        assert_close(on_cpu(images, SIZES), wanted, 1e-3)
    assert all(tensor.device.type == "cpu" for tensor in on_cpu.state_dict().values())


@pytest.mark.filterwarnings("ignore:calibrate reached")
@torch.no_grad()
def test_thresholds_are_calibrated_on_the_device(net, device):
    dynbackbones.calibrate(net, batch().to(device), target_rate=0.5)
    net(batch().to(device))
    # Decisions of a network that has not learned any change many at once.
    assert 0.25 < net.decisions.rate.mean() < 0.75
    assert all(threshold.device.type == device.type for threshold in net.thresholds())
