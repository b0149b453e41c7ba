import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dynbackbones.layers.checkpointing import run_checkpointed


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 2, 1),
        nn.BatchNorm2d(2, momentum=None),
    ).train()


def step(layers, function, inputs):
    x = inputs.clone().requires_grad_()
    loss = (function(x) ** 2).mean()
    loss.backward()
    return loss.detach(), x.grad, [p.grad for p in layers.parameters()]


def test_the_same_values_gradients_and_statistics(layers):
    saving = copy.deepcopy(layers)
    for _ in range(3):
        inputs = torch.randn(2, 3, 6, 6)
        for part in (layers, saving):
            part.zero_grad()
        plain = step(layers, layers, inputs)
        again = step(saving, lambda x: run_checkpointed(saving, saving, x), inputs)
        torch.testing.assert_close(plain, again, rtol=0, atol=0)
        buffers = zip(layers.buffers(), saving.buffers(), strict=True)
        assert all(torch.equal(first, second) for first, second in buffers)
    assert saving[1].num_batches_tracked == 3
    assert saving[1].momentum == 0.1
    assert saving[4].momentum is None


def test_activations_are_computed_twice_and_not_kept(layers):
    calls = []
    layers[0].register_forward_hook(lambda *_: calls.append(1))
    kept = []

    def remember(tensor):
        kept.append(tensor.shape)
        return tensor

    inputs = torch.randn(2, 3, 6, 6)
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        out = run_checkpointed(layers, layers, inputs)
    assert (2, 4, 4, 4) not in kept
    assert len(calls) == 1
    out.sum().backward()
    assert len(calls) == 2


def test_none_passes_through(layers):
    def masked(x, mask):
        return layers(x if mask is None else x * mask)

    inputs = torch.randn(2, 3, 6, 6, requires_grad=True)
    whole = run_checkpointed(layers, masked, inputs, None)
    torch.testing.assert_close(whole, run_checkpointed(layers, masked, inputs, torch.ones(6, 6)))


def test_norms_that_do_not_update_stay_as_they_are(layers):
    layers[1].eval()
    before = copy.deepcopy(layers[1].state_dict())
    step(layers, lambda x: run_checkpointed(layers, layers, x), torch.randn(2, 3, 6, 6))
    for key, value in layers[1].state_dict().items():
        assert torch.equal(value, before[key])
    assert layers[1].momentum == 0.1


def test_an_error_in_the_second_pass_leaves_the_norms_in_order(layers):
    fail = False

    def function(x):
        if fail:
            raise RuntimeError("second pass")
        return layers(x)

    out = run_checkpointed(layers, function, torch.randn(2, 3, 6, 6, requires_grad=True))
    fail = True
    with pytest.raises(RuntimeError, match="second pass"):
        out.sum().backward()
    assert [m.momentum for m in layers if isinstance(m, _BatchNorm)] == [0.1, None]
