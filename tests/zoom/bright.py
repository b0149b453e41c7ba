"""A detector that finds bright rectangles, without any learning, as zoom's adapter."""

import torch
from torch import nn

from dynbackbones.zoom import ZoomDetector
from dynbackbones.zoom.adapters import Call, Features
from dynbackbones.zoom.boxes import Boxes


class Bright:
    """Finds the one box around all pixels above a half; surer, the larger it is in pixels."""

    num_classes = 2
    first_label = 0
    nms = 0.5
    most = 100

    def __init__(self):
        self.seen = []  # sizes of all images that it was shown

    def read(self, images):
        return Call(images)

    def prepared(self, image):
        return image.float()

    def example(self):
        return torch.zeros(1, 1, 1)

    def detect(self, images):
        self.seen += [tuple(image.shape[1:]) for image in images]
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        maps = torch.zeros(len(images), 1, height, width)
        for index, image in enumerate(images):
            maps[index, :, : image.shape[1], : image.shape[2]] = image
        return [self._found(image[0]) for image in images], Features(maps, 1.0)

    def write(self, call, results):
        return results

    @staticmethod
    def _found(image):
        ys, xs = torch.nonzero(image > 0.5, as_tuple=True)
        if not len(ys):
            return Boxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        box = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()
        area = (box[2] - box[0]) * (box[3] - box[1])
        return Boxes(box[None], (1 - 1 / (1 + area))[None], torch.zeros(1, dtype=torch.int64))


def image_with(*boxes, size=(96, 128)):
    """(1, H, W), bright in boxes ``x1, y1, x2, y2``."""
    image = torch.zeros(1, *size)
    for x1, y1, x2, y2 in boxes:
        image[:, y1:y2, x1:x2] = 1
    return image


def bright_zoom(**options):
    """A zoom of it, with small patches."""
    options = {"patch": 32, "scale": 4, "halo": 8, **options}
    return ZoomDetector(nn.Identity(), adapter=Bright(), **options).eval()
