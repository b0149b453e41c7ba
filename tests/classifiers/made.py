"""Networks and images for the tests of classifiers."""

import torch

import dynbackbones

FOCUS = "glance_focus_cifar_resnet8"


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


def focused(name=FOCUS, patch=24, steps=4, **options):
    """A network with opinions of its own, whose places and confidences differ between images."""
    torch.manual_seed(0)
    net = dynbackbones.build_classifier(name, 10, patch=patch, steps=steps, **options)
    for encoder in (net.glance, net.local):
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            encoder.train().look(torch.randn(16, 3, patch, patch))
    for layer in (net.glance.fc, net.local.fc, *_last(net)):
        torch.nn.init.normal_(layer.weight, std=0.5)
    torch.nn.init.normal_(net.proposal.actor.weight, std=9)
    return net.eval()


def _last(net):
    return net.head.layers if hasattr(net.head, "layers") else [net.head.fc]


@torch.no_grad()
def leave_apart(net, images):
    """Sets exits between the confidences of images, so that rounding decides for none of them."""
    with net.select("all"):
        net(images)
    middle = net.decisions.confidences.sort(dim=0).values
    half = len(images) // 2
    net.set_exits(middle[half - 1 : half + 1, :-1].mean(dim=0).tolist())
