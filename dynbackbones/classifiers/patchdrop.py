"""PatchDrop: full resolution only where a look at the reduced image asks for it.

Uzkent and Ermon, Learning When and Where to Zoom with Deep Reinforcement Learning, CVPR 2020.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.backbones.decisions import Batch, Decisions
from dynbackbones.backbones.resnet import check_choice
from dynbackbones.classifiers.base import refuse_other_layouts
from dynbackbones.classifiers.decisions import PatchDecisions
from dynbackbones.classifiers.encoder import Encoder
from dynbackbones.classifiers.selection import PatchSelection
from dynbackbones.classifiers.stages import LearnsInStages
from dynbackbones.classifiers.views import FILLS, LOW_MODES, View, masked, reduced, reduced_size
from dynbackbones.layers.regions import RegionGrid
from dynbackbones.layers.tracing import is_traced
from dynbackbones.policy import PolicyResNet8, PolicyResNet10, greedy_actions

HIGH, LOW, POLICY, JOINT, TWO_STREAM = STAGES = ("high", "low", "policy", "joint", "two_stream")
FUSIONS = ("mixture", "sum")
POLICY_HEADS = ("global", "places")

# What learns in each stage, and what must have learned before.
_LEARNS = {
    HIGH: ("high",),
    LOW: ("low",),
    POLICY: ("policy",),
    JOINT: ("policy", "high"),
    TWO_STREAM: ("policy", "high"),
}
_NEEDS = {POLICY: ("high",), JOINT: ("high", "policy"), TWO_STREAM: ("high", "policy", "low")}


class PatchDrop(LearnsInStages):
    """Classifier that looks at chosen patches in full resolution, and at the reduced image.

    The policy network sees the reduced image and chooses patches; ``high`` sees the image with the
    others blanked, ``low`` the reduced image. With S of P patches the probabilities are
    ``S/P high + (1 - S/P) low`` (eq. 7); ``high`` does not run without patches, ``low`` not with
    all. This saves pixels, not computation; see `BagNet`.

    Args:
        encoder: name of the backbone of ``high`` and ``low``, see `list_backbones`.
        num_classes: number of classes.
        grid: K for K x K patches.
        scale: d, by which the image is reduced; where it does not divide, sizes are rounded.
        fusion: ``"mixture"`` (eq. 7), or ``"sum"`` of logits, as the authors' public code has it.
        fill: what dropped patches show to ``high``: ``"mean"``, zeros, which is the dataset's mean
            in normalised images, or ``"low"``, the reduced image enlarged again.
        low_mode: ``"bilinear"`` (antialiased) or ``"nearest"`` (every d-th pixel).
        policy_head: ``"global"``, the paper's, or ``"places"``, where each patch's logit is that of
            the maps at its place; see `PolicyNetwork`. It learns where things are far sooner.
        stage: see `set_stage`.
        in_channels: channels of the images.

    Shape:
        (N, in_channels, H, W) to (N, num_classes) float32 log-probabilities. ``losses`` of
        `PatchLearning` train it.

    Attributes:
        policy, high, low: the three networks.

    Raises:
        ValueError: an option has a value that is not known.
        UserError: weights of another grid or scale are loaded.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_classifier("patchdrop_cifar_resnet8", num_classes=10).eval()
        >>> net(torch.rand(2, 3, 32, 32)).exp().sum(dim=1).detach()
        tensor([1., 1.])
        >>> net.decisions.policy.shape, net.decisions.rate_name
        (torch.Size([2, 16]), 'patch_rate')
    """

    stages, parts = STAGES, ("policy", "high", "low")

    def __init__(
        self,
        encoder: str,
        num_classes: int,
        *,
        grid: int = 4,
        scale: int = 4,
        fusion: str = "mixture",
        fill: str = "mean",
        low_mode: str = "bilinear",
        policy_head: str = "global",
        stage: str = TWO_STREAM,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        least = {"num_classes": 2, "grid": 1, "scale": 2}
        for name, value in zip(least, (num_classes, grid, scale), strict=True):
            if not (isinstance(value, int) and value >= least[name]):
                raise ValueError(
                    f"{name} must be a whole number of at least {least[name]}, got {value}"
                )
        check_choice("fusion", fusion, FUSIONS)
        check_choice("fill", fill, FILLS)
        check_choice("low_mode", low_mode, LOW_MODES)
        check_choice("policy_head", policy_head, POLICY_HEADS)
        self.num_classes, self.grid, self.scale = num_classes, grid, scale
        self.fusion, self.fill, self.low_mode = fusion, fill, low_mode
        self.high = Encoder(encoder, num_classes, in_channels)
        self.low = Encoder(encoder, num_classes, in_channels)
        small = isinstance(getattr(self.high.backbone, "maxpool", None), nn.Identity)
        make_policy = PolicyResNet8 if small else PolicyResNet10
        places = grid if policy_head == "places" else None
        self.policy = make_policy(grid * grid, in_channels, places)
        # Weights say nothing of the scale: a network would go on with images of another one.
        self.register_buffer("layout", torch.tensor([grid, scale]))
        self.register_load_state_dict_pre_hook(
            partial(refuse_other_layouts, names=("grid", "scale"))
        )
        self.register_load_state_dict_post_hook(_after_loading)
        self.enter_stage(stage)

    @property
    def learning_parts(self) -> tuple[str, ...]:
        return _LEARNS[self.stage]

    def needs_of(self, stage: str) -> list[tuple[str, str]]:
        return [(name, name) for name in _NEEDS.get(stage, ())]

    def set_stage(self, stage: str) -> None:
        """Says what learns, and what predictions are made of.

        high        ``high`` learns, from whole images or those that `select` gives; predicts alone.
        low         ``low`` learns, from reduced images; starts as ``high``. Predicts alone.
        policy      The policy learns (Pt); ``high`` predicts from the patches chosen.
        joint       Both learn (Ft-1); ``high`` predicts.
        two_stream  Both learn (Ft-2); ``high`` and ``low`` predict together.

        Raises:
            ValueError: there is no such stage.
            UserError: something that must have learned before has not.
        """
        super().set_stage(stage)
        self.start_low()

    def start_low(self) -> None:
        """Gives ``low`` the weights of ``high`` if it is about to learn its first."""
        if self.stage == LOW and not self.low.trained:
            self.low.load_state_dict(self.high.state_dict())

    def make_selection(self, kind: Any, rate: float, seed: int) -> PatchSelection:
        return PatchSelection(kind, rate, seed)

    def thresholds(self) -> list[Tensor]:
        return [self.policy.threshold] if self.decides else []

    @property
    def decides(self) -> bool:
        """Whether the policy network takes part in the present stage."""
        return self.stage not in (HIGH, LOW)

    def forward(self, images: Tensor) -> Tensor:
        batch = self.check_images(images)
        view = self.view(images)
        probabilities = self.policy_probabilities(view) if self.decides else None
        actions = self._choose(view, probabilities)
        scores = self.predict(view, actions)
        self._describe(batch, view, actions, probabilities)
        return scores

    def check_images(self, images: Tensor) -> Batch:
        """Checks the argument of a forward pass and returns what it says.

        Raises:
            ValueError: it has another shape or type.
        """
        return self.high.backbone._check_inputs(images, None)

    def _describe(
        self, batch: Batch, view: View, actions: Tensor, probabilities: Tensor | None
    ) -> None:
        seen = 0 if view.low is None else view.low[0, 0].numel() / (batch.size[0] * batch.size[1])
        size = None if probabilities is None else tuple(view.low.shape[-2:])
        probabilities = None if probabilities is None else probabilities.detach()
        count = partial(self._count, view.ran, size)
        self._traces.mine.decisions = PatchDecisions(
            batch, count, actions, probabilities, view.grid, seen
        )

    def view(self, images: Tensor) -> View:
        """What of images the networks see in the present stage."""
        grid = RegionGrid(tuple(images.shape[-2:]), grid_size=self.grid, device=images.device)
        needed = self.stage != HIGH or self.fill == "low"
        low = reduced(images, self.scale, self.low_mode) if needed else None
        return View(images, low, grid)

    def policy_probabilities(self, view: View) -> Tensor:
        """(N, P) of each patch to be chosen, float32, differentiable."""
        with torch.autocast(view.low.device.type, enabled=False):
            return self.policy(view.low.to(self.policy.fc.weight.dtype))

    def _choose(self, view: View, probabilities: Tensor | None) -> Tensor:
        selection = self.selection
        if selection is None and probabilities is None:
            selection = PatchSelection("all" if self.stage == HIGH else "none")
        if selection is None:
            actions = greedy_actions(probabilities, self.policy.threshold.sigmoid())
            return self.possible(view, actions, probabilities)
        return selection.policy(len(view.images), view.grid)

    def possible(self, view: View, actions: Tensor, probabilities: Tensor) -> Tensor:
        """The policy's actions (N, P) without what cannot be chosen: cells without pixels."""
        return actions & view.grid.valid[0].flatten()

    def predict(self, view: View, actions: Tensor) -> Tensor:
        """Log-probabilities with given actions: (N, P) bool to (N, classes) float32."""
        if self.stage != TWO_STREAM:
            name = LOW if self.stage == LOW else HIGH
            return F.log_softmax(self._stream(name, view, actions), dim=1)
        if self.fusion == "sum":
            high = self._stream(HIGH, view, actions, self._sees(actions))
            low = self._stream(LOW, view, actions)
            return F.log_softmax(high + low, dim=1)
        share = (actions.sum(dim=1, keepdim=True) / view.grid.valid.sum()).float()
        high = self._stream(HIGH, view, actions, share.squeeze(1) > 0)
        low = self._stream(LOW, view, actions, share.squeeze(1) < 1)
        return torch.logaddexp(
            share.log() + F.log_softmax(high, dim=1), (-share).log1p() + F.log_softmax(low, dim=1)
        )

    def _sees(self, actions: Tensor) -> Tensor | None:
        """(N,) images of which ``high`` sees anything; None where it always does."""
        return None

    def _stream(
        self, name: str, view: View, actions: Tensor, wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, classes) of one network, for (N,) images that are wanted; others' are 0."""
        rows = None
        if wanted is not None and not is_traced() and not bool(wanted.all()):
            rows = wanted.nonzero().flatten()
        encoder, run = getattr(self, name), {HIGH: self._high, LOW: self._low}[name]
        if rows is None:
            logits, owners = run(view, actions)
        elif len(rows):
            some, owners = run(view.of(rows), actions[rows])
            logits = some.new_zeros(len(wanted), self.num_classes).index_copy(0, rows, some)
            owners = rows if owners is None else rows[owners]
        else:
            # Parameters without any gradient would stop DDP.
            tied = sum((0 * p.sum() for p in encoder.parameters() if p.requires_grad), 0.0)
            return view.images.new_zeros(len(wanted), self.num_classes, dtype=torch.float32) + tied
        view.ran[name] = encoder, owners, encoder.backbone.decisions
        return logits

    def _high(self, view: View, actions: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of the high-resolution network, and the image of each row that it ran on."""
        return self.high(masked(view, actions, self.fill)), None

    def _low(self, view: View, actions: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.low(view.low), None

    def _count(
        self,
        ran: Mapping[str, tuple[Encoder, Tensor | None, Decisions]],
        policy_size: tuple[int, int] | None,
        decisions: PatchDecisions,
    ) -> dict[str, Tensor]:
        images, parts = decisions.batch.num_images, {}
        if policy_size is not None:
            macs = float(self.policy.macs(*policy_size))
            parts["policy"] = torch.full((images,), macs, dtype=torch.float64)
        for name, (encoder, owners, seen) in ran.items():
            parts[name] = encoder.spent(owners, images, seen)
        return parts

    def macs(self, height: int, width: int, share: float = 1.0) -> float:
        """Multiply-accumulates for an image in the last stage, where it is known what runs.

        Args:
            height, width: of the image.
            share: of the patches that are chosen, in [0, 1].
        """
        low = reduced_size(height, width, self.scale)
        total = float(self.policy.macs(*low))
        if share > 0 or self.fusion == "sum":
            total += self.high.macs(height, width)
        if share < 1 or self.fusion == "sum":
            total += self.low.macs(*low)
        return total


def _after_loading(net: PatchDrop, incompatible: Any) -> None:
    """State-dict post-hook."""
    net.start_low()
    if net.stage in (JOINT, TWO_STREAM) and not net.policy.trained:
        logging.getLogger("dynbackbones").warning(
            f"the policy network of {type(net).__name__} is untrained, so that it takes all "
            f"{net.grid**2} patches of every image: load weights with a trained policy, train one "
            f"(stage {POLICY!r}), or choose patches with select()"
        )
