"""Every kind of backbone computes the same however it is run."""

import copy
import pickle

import pytest
import torch

import dynbackbones
from dynbackbones.backbones import DynamicBackbone

NAMES = [f"{kind}resnet18" for kind in ("", "sar_", "blockdrop_")]
NAMES += [f"{kind}cifar_resnet20" for kind in ("", "sar_", "blockdrop_")]
NAMES += ["sar_resnext50_32x4d", "mobilenet_v2", "sar_mobilenet_v2"]
SIZES = [(47, 64), (33, 40)]


def test_every_registered_kind_is_among_them():
    kinds = dynbackbones.backbones.factory.registered_backbones()
    ours = {dynbackbones.backbones.factory.find_registered(name).name for name in NAMES}
    assert {k for k, one in kinds.items() if one.constructor.__module__.startswith("dynb")} == ours


def images():
    return torch.randn(2, 3, 47, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    """A network with statistics of its own, its features and what it chose."""
    torch.manual_seed(0)
    net = dynbackbones.build_backbone(request.param).train()
    with torch.no_grad():
        for _ in range(4):
            net(torch.randn(4, 3, 48, 48))
    if isinstance(net, DynamicBackbone):
        net.auxiliary_losses()
        net.selection = net.make_selection("random", 0.5, 0)
    expected = run(net.eval())
    if isinstance(net, DynamicBackbone):
        net.selection = net.make_selection(net.decisions.choices(), 0.5, 0)
    return net, expected, net.decisions


def run(net, x=None, sizes=SIZES):
    with torch.no_grad():
        return net(images() if x is None else x, image_sizes=sizes)


def double(net):
    return run(net.double(), images().double())


def bfloat16(net):
    return run(net.bfloat16(), images().bfloat16())


def autocast(net):
    with torch.autocast("cpu", torch.bfloat16):
        return run(net)


def channels_last(net):
    layout = torch.channels_last
    return run(net.to(memory_format=layout), images().to(memory_format=layout))


def inference_mode(net):
    with torch.inference_mode():
        return net(images(), image_sizes=SIZES)


def compiled(net):
    torch._dynamo.reset()
    return run(torch.compile(net, backend="eager", fullgraph=True))


def pickled(net):
    return run(pickle.loads(pickle.dumps(net)))


def state(net):
    twin = copy.deepcopy(net)
    for value in twin.state_dict().values():
        value.zero_()
    twin.load_state_dict(net.state_dict(), strict=True)
    return run(twin)


def masked(net):
    if isinstance(net, DynamicBackbone):
        net.execution = "masked"
    return run(net)


WAYS = {
    # Of the largest feature: rounding in another order, or two digits through twenty layers.
    double: 1e-5,
    bfloat16: 0.1,
    autocast: 0.1,
    channels_last: 1e-5,
    masked: 1e-5,
    inference_mode: 0,
    compiled: 1e-5,  # "auto" runs masked there
    copy.deepcopy: 0,
    pickled: 0,
    state: 0,
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_same_comes_out(case, way):
    net, expected, _ = case
    twin = copy.deepcopy(net)
    found = run(way(twin)) if way is copy.deepcopy else way(twin)
    compare(found, expected, WAYS[way])


def test_an_image_alone_is_as_in_the_batch(case):
    net, expected, decisions = case
    for index, size in enumerate(SIZES):
        one = copy.deepcopy(net)
        if isinstance(net, DynamicBackbone):
            chosen = decisions.choices()
            if isinstance(chosen, dict):
                chosen = {name: mask[index : index + 1] for name, mask in chosen.items()}
            else:
                chosen = chosen[index : index + 1]
            one.selection = one.make_selection(chosen, 0.5, 0)
        found = run(one, images()[index : index + 1], [size])
        compare(found, {name: value[index : index + 1] for name, value in expected.items()}, 1e-5)
        assert one.decisions.macs.tolist() == pytest.approx([float(decisions.macs[index])])


def compare(found, expected, tolerance):
    assert list(found) == list(expected)
    for name, value in expected.items():
        largest = float(value.abs().max())
        assert largest > 0
        error = float((found[name].double() - value.double()).abs().max())
        assert error <= tolerance * largest, (name, error / largest)
