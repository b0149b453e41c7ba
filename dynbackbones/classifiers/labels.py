"""What labels a classifier that learns from rewards takes."""

from torch import Tensor

from dynbackbones.errors import UserError


def check_labels(labels: Tensor, images: int, num_classes: int) -> None:
    """Makes sure that each image has one class.

    Raises:
        UserError: soft labels (Mixup, CutMix), several classes an image, or one that there is not.
    """
    if labels.shape != (images,) or labels.is_floating_point():
        raise UserError(
            f"labels must be one class for each of the {images} images, got shape "
            f"{tuple(labels.shape)} of {labels.dtype}: predictions are right or wrong, so that "
            "Mixup, CutMix, soft and multiple labels do not go together with rewards"
        )
    outside = (labels < 0) | (labels >= num_classes)
    if bool(outside.any()):
        wrong = int(labels[outside][0])
        raise UserError(f"label {wrong} is outside of the network's {num_classes} classes")
