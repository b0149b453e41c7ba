"""Networks and images for the tests of classifiers."""

import torch

import dynbackbones


def built(name="patchdrop_cifar_resnet8", **options):
    """A network with opinions and statistics of its own, whose policy differs between images."""
    torch.manual_seed(0)
    net = dynbackbones.build_classifier(name, num_classes=10, **options)
    for encoder in (net.high, net.low):
        torch.nn.init.normal_(encoder.fc.weight)
    torch.nn.init.normal_(net.policy.fc.weight, std=3)
    torch.nn.init.zeros_(net.policy.fc.bias)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def images(count=4, size=(32, 32)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))
