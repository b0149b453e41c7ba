"""Glance and Focus: a classifier that looks at crops one after the other until it is sure.

Wang et al., Glance and Focus: a Dynamic Approach to Reducing Spatial Redundancy in Image
Classification, NeurIPS 2020; where the paper and the authors' code differ, the code.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import check_images
from dynbackbones.backbones.decisions import Batch
from dynbackbones.backbones.resnet import check_choice
from dynbackbones.classifiers.base import refuse_other_layouts
from dynbackbones.classifiers.encoder import Seen
from dynbackbones.classifiers.glance_focus.calibration import meet_budget, step_milliseconds
from dynbackbones.classifiers.glance_focus.crops import GLANCES, glance
from dynbackbones.classifiers.glance_focus.encoders import make_encoder, map_shape
from dynbackbones.classifiers.glance_focus.exits import checked_exits, no_exits
from dynbackbones.classifiers.glance_focus.heads import KINDS, CascadeHead, RecurrentHead
from dynbackbones.classifiers.glance_focus.proposal import PatchProposal
from dynbackbones.classifiers.glance_focus.selection import FocusSelection
from dynbackbones.classifiers.glance_focus.stages import FINE_TUNE, POLICY, FocusStages
from dynbackbones.classifiers.glance_focus.walk import AnytimeStep, Walk, anytime_steps, walk_traced
from dynbackbones.layers.precise import PreciseBuffers
from dynbackbones.layers.tracing import is_traced

TRAININGS = ("reinforce", "interpolate")
# Networks for phones and their like, whose vectors have few channels.
_CASCADED = ("mobilenet_v3", "efficientnet")


class Look(NamedTuple):
    """What follows from a glance or from a crop.

    Attributes:
        logits: (M, classes) float32, by all that was seen so far.
        own: (M, classes) logits of the encoder itself, by this look alone.
        seen: the look.
        state: of the head.
    """

    logits: Tensor
    own: Tensor
    seen: Seen
    state: Tensor


class GlanceFocusClassifier(PreciseBuffers, FocusStages):
    """Classifier that sees the whole image as small as a patch, then patches, until it is sure.

    ``glance`` sees the image reduced to ``patch`` pixels, ``local`` crops of that size; ``head``
    says what the image is by all that was seen, ``proposal`` where to look next. An image whose
    most probable class is at least as probable as ``exits[t]`` after step t leaves the batch.

    Args:
        encoder: name of ``glance`` and ``local``: one of `list_backbones`, or torchvision's
            MobileNetV3, EfficientNet, DenseNet or RegNet.
        num_classes: number of classes.
        patch: edge of what the encoders see, in pixels.
        steps: T, the glance among them.
        exits: thresholds of all steps but the last; None lets every image take all steps. Set by
            `dynbackbones.calibrate`, and saved with the weights.
        head: ``"recurrent"`` or ``"cascade"``; None for the latter with MobileNetV3 and
            EfficientNet, as the authors have it.
        head_width: of the recurrent head's state.
        proposal: ``"convolution"`` or ``"flatten"``, see `PatchProposal`.
        proposal_training: ``"reinforce"``, by what each crop adds to the probability of the right
            class, in a stage of its own; or ``"interpolate"``, through crops between the pixels,
            everything at once (AdaFocus V2).
        train_glance: False keeps ``glance`` as it was pretrained.
        glance_mode: ``"bilinear"`` (antialiased) or ``"bicubic"`` (as the authors train).
        stage: see `set_stage`.
        in_channels: channels of the images; torchvision's networks take 3.

    Shape:
        (N, in_channels, H, W), both at least ``patch``, to (N, num_classes) float32
        log-probabilities. ``losses`` of `FocusLearning` train it.

    Raises:
        ValueError: an option has a value that is not known.
        UserError: weights of another patch or number of steps are loaded.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_classifier(
        ...     "glance_focus_cifar_resnet8", num_classes=10, patch=24, steps=4
        ... ).eval()
        >>> net(torch.rand(2, 3, 64, 64)).shape, net.decisions.steps
        (torch.Size([2, 10]), tensor([4, 4]))
        >>> [round(macs / 1e6, 2) for macs in net.step_macs]
        [10.24, 21.24, 32.24, 43.23]
    """

    precise = ("exits",)

    def __init__(
        self,
        encoder: str,
        num_classes: int,
        *,
        patch: int = 96,
        steps: int = 5,
        exits: Sequence[float] | None = None,
        head: str | None = None,
        head_width: int = 1024,
        proposal: str = "convolution",
        proposal_training: str = "reinforce",
        train_glance: bool = True,
        glance_mode: str = "bilinear",
        stage: str = FINE_TUNE,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        values = {"num_classes": num_classes, "patch": patch, "steps": steps}
        for name, value in {**values, "head_width": head_width}.items():
            least = 2 if name in ("num_classes", "steps") else 1
            if not (isinstance(value, int) and value >= least):
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
        check_choice("proposal_training", proposal_training, TRAININGS)
        check_choice("glance_mode", glance_mode, GLANCES)
        head = head or ("cascade" if encoder.startswith(_CASCADED) else "recurrent")
        check_choice("head", head, KINDS)
        self.num_classes, self.patch, self.steps = num_classes, patch, steps
        self.proposal_training, self.train_glance = proposal_training, train_glance
        self.glance_mode, self.in_channels = glance_mode, in_channels
        self.glance = make_encoder(encoder, num_classes, in_channels)
        self.local = make_encoder(encoder, num_classes, in_channels)
        channels = self.local.fc.in_features
        self.head = (
            CascadeHead(channels, num_classes, steps)
            if head == "cascade"
            else RecurrentHead(channels, num_classes, head_width)
        )
        self.proposal = PatchProposal(map_shape(self.local, patch), proposal)
        self.register_buffer("exits", no_exits(steps))
        if exits is not None:
            self.set_exits(exits)
        # Weights say nothing of either: a network would go on with crops of another size.
        self.register_buffer("layout", torch.tensor([patch, steps]))
        self.register_load_state_dict_pre_hook(
            partial(refuse_other_layouts, names=("patch", "steps"))
        )
        self.register_load_state_dict_post_hook(_after_loading)
        self.enter_stage(stage)

    def set_exits(self, exits: Sequence[float]) -> None:
        """Sets the confidences from which images leave.

        Args:
            exits: of each step but the last; infinity for no exit.

        Raises:
            ValueError: there are others than that, or one is not a number.
        """
        self.exits.copy_(checked_exits(exits, self.steps))

    def make_selection(self, kind: Any, rate: float, seed: int) -> FocusSelection:
        return FocusSelection(kind, rate, seed)

    def thresholds(self) -> list[Tensor]:
        """None that move together; `calibrate` sets `exits` one by one."""
        return []

    def calibrate(
        self,
        images: Tensor | Iterable[Tensor],
        *,
        target_rate: float | None = None,
        target_macs: float | None = None,
        target_ms: float | None = None,
        labels: Tensor | None = None,
    ) -> float:
        """Sets `exits` for a mean share of the steps, or mean MACs or milliseconds of an image.

        Shares of the images that leave are geometric, which needs no labels; with labels those
        thresholds are searched for that are right most often.

        Args:
            images: (N, in_channels, H, W), or batches of these, others than were trained with: of
                those the network is too sure.
            target_rate: share of the steps, at least 1 / T.
            target_macs: multiply-accumulates, between those of the glance and of all steps.
            target_ms: milliseconds on this machine, of an image alone; how long each number of
                steps takes is measured first, so give the network as it will run.
            labels: (N,) classes of all images; None where they are not known.

        Returns:
            The mean of what was asked for that these images reach.

        Raises:
            ValueError: not one target was given, it cannot be met, or there are no images.
            UserError: weights or images hold NaN or infinity.
        """
        targets = {"target_rate": target_rate, "target_macs": target_macs, "target_ms": target_ms}
        return meet_budget(self, images, targets, labels)

    @torch.no_grad()
    def step_milliseconds(self, images: Tensor) -> Tensor:
        """(T,) milliseconds of an image that leaves after each step, on this machine.

        Args:
            images: (N, in_channels, H, W), of which the first few are taken, each alone.
        """
        return step_milliseconds(self, images)

    def forward(self, images: Tensor) -> Tensor:
        batch = self.check_images(images)
        if is_traced():
            return walk_traced(self, images)
        return Walk(self, images, batch).run()

    def check_images(self, images: Tensor) -> Batch:
        """Checks the argument of a forward pass and returns what it says.

        Raises:
            ValueError: it has another shape or type, or is smaller than a patch.
        """
        check_images(images, self.in_channels)
        height, width = images.shape[-2:]
        if min(height, width) < self.patch:
            raise ValueError(
                f"images of {height} x {width} pixels are smaller than patch={self.patch}: enlarge "
                "them, or build the network with a smaller patch"
            )
        return Batch(len(images), (height, width))

    def look_whole(self, images: Tensor) -> Look:
        """The first step: (N, C, H, W) images."""
        seen = self.glance.look(glance(images, self.patch, self.glance_mode))
        return self._understand(self.glance, seen, None)

    def look_closer(self, crops: Tensor, state: Tensor) -> Look:
        """Another step: (M, C, patch, patch) crops, and the head's state of the step before."""
        return self._understand(self.local, self.local.look(crops), state)

    def _understand(self, encoder: nn.Module, seen: Seen, state: Tensor | None) -> Look:
        own = encoder.fc(seen.vector).float()
        logits, state = self.head(seen.vector, state, own)
        return Look(logits, own, seen, state)

    @torch.no_grad()
    def anytime(self, images: Tensor) -> Iterator[AnytimeStep]:
        """Better and better predictions of all images, until the caller stops or T steps are done.

        Args:
            images: (N, in_channels, H, W).

        Example:
            >>> import dynbackbones, torch
            >>> net = dynbackbones.build_classifier(
            ...     "glance_focus_cifar_resnet8", num_classes=10, patch=16, steps=3
            ... ).eval()
            >>> for step in net.anytime(torch.rand(1, 3, 32, 32)):
            ...     if step.macs > 7e6:
            ...         break
            >>> step.corners, round(step.macs / 1e6, 1)
            (tensor([[8, 8]]), 13.4)
        """
        yield from anytime_steps(self, images)

    def extra_macs(self, step: int) -> float:
        """Multiply-accumulates of a step, from 1, besides the encoder's."""
        return self.head.macs(step) + (self.proposal.macs if step > 1 else 0.0)

    @property
    def step_macs(self) -> list[float]:
        """Multiply-accumulates of an image that leaves after each step, whatever its size."""
        costs: list[float] = []
        for step in range(1, self.steps + 1):
            encoder = self.glance if step == 1 else self.local
            own = encoder.look_macs(self.patch, self.patch) + self.extra_macs(step)
            costs.append(own + (costs[-1] if costs else 0.0))
        return costs

    def macs(self, height: int, width: int, share: float = 1.0) -> float:
        """Multiply-accumulates for an image, which its size does not change.

        Args:
            height, width: of the image.
            share: of the steps, in [0, 1]; the glance is always taken.
        """
        return self.step_macs[max(1, round(share * self.steps)) - 1]

    def extra_repr(self) -> str:
        return f"patch={self.patch}, steps={self.steps}, stage={self.stage!r}"


def _after_loading(net: GlanceFocusClassifier, incompatible: Any) -> None:
    """State-dict post-hook."""
    if net.stage == FINE_TUNE and not net.proposal.trained:
        logging.getLogger("dynbackbones").warning(
            f"the proposal of {type(net).__name__} is untrained, so that it looks at the centre in "
            f"every step: load weights with a trained one, train it (stage {POLICY!r}), or say "
            "where to look with select()"
        )
