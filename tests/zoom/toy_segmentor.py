"""A segmentor of one convolution, which sees no more than a pixel around each."""

import torch
from torch import nn

from dynbackbones.zoom.adapters import Call, Segmented
from dynbackbones.zoom.merge_maps import LogitRules

CLASSES = 3


class Adapter:
    """Of a network that takes (C, H, W) images; notes the sizes that it is shown."""

    num_classes = CLASSES

    def __init__(self, model, align_corners=False):
        self.model = model
        self.rules = LogitRules(align_corners)
        self.seen = []

    def batch(self, data):
        return (data["images"],), {}

    def read(self, images):
        return Call(images)

    def prepared(self, image):
        return image.float()

    def example(self):
        return torch.zeros(3, 1, 1)

    def segment(self, images):
        self.seen += [tuple(image.shape[1:]) for image in images]
        return [Segmented(self.model(image[None])[0], self.model.features, 1.0) for image in images]

    def write(self, call, results):
        return results


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, CLASSES, 3, padding=1)
        self.features = None

    def forward(self, images):
        self.features = images[0]
        return self.layer(images)


def toy_image(height, width, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
