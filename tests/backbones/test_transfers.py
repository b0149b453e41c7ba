"""Networks on a GPU copy nothing from or to the host in a forward pass, so that it can be captured.

No GPU is needed: tensors that only claim to be on one tell where others come from.
"""

import traceback

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import dynbackbones
from dynbackbones.backbones.sar.network import _made_on
from dynbackbones.kernels import blocks
from dynbackbones.layers.regions import RegionGrid

GPU = torch.device("cuda", 0)


class Transfers(TorchDispatchMode):
    """Notes operators with tensors on two devices, and the line that called them."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.waited = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        tensors = [t for t in tree_leaves((arguments, options, out)) if isinstance(t, torch.Tensor)]
        # A number is an argument of a kernel, wherever it lies.
        if len({t.device for t in tensors if t.dim()}) > 1:
            caller = [f for f in traceback.extract_stack() if "dynbackbones" in f.filename][-1]
            self.found.append(f"{function} in {caller.filename}:{caller.lineno}")
            if out.device.type == "cpu" or not (options or {}).get("non_blocking"):
                self.waited.append(self.found[-1])
        return out


def transfers(run):
    with Transfers() as mode:
        run()
    return mode.found


@pytest.fixture
def fake(monkeypatch):
    """Makes tensors and networks that only claim to be on a GPU, one that the kernels know."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(blocks, "_missing", lambda *_: None)
    with FakeTensorMode(), torch.no_grad():
        _skip_if_torch_asks_a_driver()
        yield


def _skip_if_torch_asks_a_driver():
    """Builds for CUDA select the device of tensors that only claim to be there; torch 2.6's do."""
    if torch.version.cuda is None or torch.cuda.is_available():
        return
    try:
        torch.empty(1, device=GPU).copy_(torch.empty(1, device=GPU))
    except RuntimeError as error:
        pytest.skip(f"this build of torch needs a CUDA driver: {str(error).splitlines()[0]}")


@pytest.mark.parametrize("execution", ["auto", "sparse", "masked"])
@pytest.mark.parametrize("options", [{}, {"cell_size": (3, 4, 5)}, {"layout": "resnet"}])
def test_a_sar_network_stays_on_the_gpu(fake, execution, options):
    with GPU:
        net = dynbackbones.SARResNet(18, execution=execution, **options).eval()
        images = torch.empty(2, 3, 128, 96)
    assert transfers(lambda: net(images)) == []
    assert transfers(lambda: net(images, image_sizes=[(128, 96), (100, 80)])) == []
    assert net.decisions.masks["res2"].device == images.device


@pytest.mark.parametrize("options", [{}, {"grid_size": 7}, {"layout": "resnet"}])
def test_a_sar_network_does_not_wait_while_selections_are_copied(fake, options):
    with GPU:
        net = dynbackbones.SARResNet(18, execution="masked", **options).eval()
        images = torch.empty(2, 3, 128, 96)
    with Transfers() as mode, net.select("random", rate=0.5):
        net(images, image_sizes=[(128, 96), (70, 96)])
    assert mode.found and mode.waited == []


@pytest.mark.parametrize("execution", ["auto", "sparse", "masked"])
def test_a_blockdrop_network_stays_on_the_gpu(fake, execution):
    with GPU:
        net = dynbackbones.BlockDropResNet(18, execution=execution).eval()
        images = torch.empty(2, 3, 128, 96)
    assert transfers(lambda: net(images)) == []


def test_a_transfer_is_noticed(fake):
    sizes = torch.ones(1, 2)
    with Transfers() as mode:
        RegionGrid((8, 8), cell_size=4, valid_sizes=sizes, device=GPU)
    (line,) = mode.found
    assert "regions.py" in line and mode.waited == [line]


def test_sizes_made_on_the_device_are_those_given():
    sizes = [(3, 5), (5, 4), (3, 3)]
    assert torch.equal(_made_on(torch.device("cpu"), sizes), torch.tensor(sizes))
