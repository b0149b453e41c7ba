"""Networks as training leaves them, and whether both executions compute the same with them."""

import torch
from torch import nn


def trained_like(net, seed=0):
    """Statistics, affine parameters and selectors as training leaves them: nothing is neutral."""
    generator = torch.Generator().manual_seed(seed)
    for child in net.modules():
        if isinstance(child, nn.BatchNorm2d):
            with torch.no_grad():
                child.weight.uniform_(0.5, 1.0, generator=generator)
                child.bias.normal_(std=0.2, generator=generator)
                child.running_mean.normal_(std=0.2, generator=generator)
                child.running_var.uniform_(0.5, 2.0, generator=generator)
    for stage in net.stages().values():
        for selector in stage.selectors:
            with torch.no_grad():
                selector.fc.bias.normal_(std=0.1, generator=generator)
    return net


def assert_same(features, expected, tolerance=1e-4):
    for name, feature in features.items():
        scale = expected[name].abs().max().item() + 1e-6
        torch.testing.assert_close(
            feature, expected[name], rtol=tolerance, atol=tolerance * scale, msg=name
        )


@torch.no_grad()
def assert_sparse_equals_masked(net, images, sizes=None):
    """Compares features and costs, and returns the decisions that both executions made."""
    net.execution = "masked"
    masked, decisions = net(images, image_sizes=sizes), net.decisions
    net.execution = "sparse"
    assert_same(net(images, image_sizes=sizes), masked)
    assert torch.equal(net.decisions.macs, decisions.macs)
    return decisions
