"""The contract of networks that choose what they compute."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.decisions import Decisions
from dynbackbones.backbones.guidance import TOLD, Guidance
from dynbackbones.backbones.scheduled import Scheduled
from dynbackbones.backbones.selections import Selects
from dynbackbones.layers.tracing import is_traced

PATIENCE = 10
"""Training passes without `set_progress` after which a warning says so."""


class DynamicBackbone(Selects, Scheduled, Backbone):
    """Base of backbones that choose what they compute.

    Attributes:
        progress: share of training done, set by `set_progress`.
        execution: ``"auto"``, ``"sparse"`` (really skipping) or ``"masked"`` (computing densely
            and multiplying); what holds in training mode is each network's to say.
        guidance: what training may tell it of where details matter: ``"none"``, ``"objects"``
            (boxes), ``"borders"`` (between classes) or ``"classes"`` (boxes or pixels of some), see
            `set_guidance`; or ``"gain"``, what it measures itself.
        guidance_classes: those, as targets number them.
        lr_factors: by the names of `own_parameters`, the factors of the learning rate that hold
            unless a config says otherwise.
        policy_training: None where auxiliary losses train the decisions; ``"frozen"``, or
            ``"reinforce"`` where rewards do, see `dynbackbones.training.policy`.
        training_options: dataclass of what else trains the decisions, such as rewards; its fields
            are options in configs.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_backbone("sar_resnet18", target_rate=0.5).eval()
        >>> images = torch.rand(1, 3, 224, 224)
        >>> with net.select("uniform", rate=0.5):
        ...     _ = net(images)
        >>> net.decisions.rate_name, round(float(net.decisions.rate), 2)
        ('activation_rate', 0.5)
        >>> chosen = net.decisions.choices()
        >>> with net.select(chosen):  # the same once more
        ...     _ = net(images)
        >>> net.set_progress(0.2)
        >>> round(net.scheduled_target_rate, 3)
        0.833
    """

    executions = ("auto", "sparse", "masked")
    lr_factors: ClassVar[dict[str, float]] = {}
    training_options: ClassVar[type | None] = None
    policy_training: str | None = None
    guidance: str = "none"
    guidance_classes: tuple[int, ...] = ()

    def __init__(self, in_channels: int, execution: str = "auto", selection: Any = None) -> None:
        super().__init__(in_channels)
        self.execution = execution
        self.progress = 0.0
        self._selection = selection
        self._warned = False
        # Training passes since the start in which nobody moved the schedules; None if one did.
        self._unmoved: int | None = 0

    @property
    def execution(self) -> str:
        return self._execution

    @execution.setter
    def execution(self, value: str) -> None:
        if value not in self.executions:
            raise ValueError(f"execution must be one of {self.executions}, got {value!r}")
        self._execution = value

    @property
    def selection(self) -> Any:
        """The override of the decisions that holds in this thread; None for the network's own."""
        chosen = self._traces.mine.selection
        return self._selection if chosen is None else chosen

    @selection.setter
    def selection(self, value: Any) -> None:
        """Overrides those of all threads, with what `make_selection` returned, or no longer."""
        self._selection = value

    def aim(self) -> str:
        """What it decides and what training does about it, in a few words; by default none."""
        return ""

    @abstractmethod
    def macs(self, height: int, width: int, share: float = 1.0) -> float:
        """Multiply-accumulates for an image of this size in pixels.

        Args:
            height, width: of the image.
            share: of what could be computed, in [0, 1]: the rate of the decisions.
        """

    def _count_macs(self, decisions: Decisions) -> Tensor:
        rates = decisions.rate.double().tolist()
        macs = [self.macs(*s, r) for s, r in zip(decisions.image_sizes, rates, strict=True)]
        return torch.tensor(macs, dtype=torch.float64)

    def thresholds(self) -> list[Tensor]:
        """Buffers that `dynbackbones.calibrate` moves; higher ones compute less."""
        return []

    def own_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of what decides, for learning rates of their own; see `lr_factors`."""
        return {}

    def set_progress(self, fraction: float) -> None:
        """Moves every schedule to a share of training done.

        Raises:
            UserError: ``fraction`` is outside [0, 1].
        """
        super().set_progress(fraction)
        self._unmoved = None

    def set_guidance(
        self, *, boxes: Sequence[Tensor] | None = None, maps: Tensor | None = None
    ) -> None:
        """Tells this thread's next training pass where details matter; it forgets that again.

        Passes that leave no auxiliary losses (`no_auxiliary`, evaluation) leave it for the next.
        Networks whose `guidance` is ``"none"`` or ``"gain"`` do not look at it.

        Args:
            boxes: for each image (n, 4), x1, y1, x2, y2 in pixels of the images that the backbone
                gets, n may be 0; or
            maps: (N, H, W) importance of each of their pixels, in [0, 1].

        Raises:
            ValueError: neither or both are given, or one has another shape.

        Example:
            >>> import dynbackbones, torch
            >>> net = dynbackbones.build_backbone("sar_resnet18", guidance="objects")
            >>> net.set_guidance(boxes=[torch.tensor([[8.0, 8.0, 40.0, 30.0]])])
            >>> _ = net(torch.rand(1, 3, 64, 64))
            >>> sorted(net.auxiliary_losses())
            ['loss_activation_rate', 'loss_guidance']
        """
        self._traces.mine.guidance = Guidance(boxes, maps)

    def _take_guidance(self, images: Tensor) -> Guidance | None:
        """What `set_guidance` gave for the pass over these images, where it is of any use.

        Raises:
            ValueError: it was for another number.
        """
        if not self.records_auxiliary:
            return None
        last = self._traces.mine
        guidance, last.guidance = last.guidance, None
        if guidance is None or self.guidance not in TOLD:
            return None
        if len(guidance) != len(images):
            raise ValueError(f"guidance is for {len(guidance)} images, the batch has {len(images)}")
        return guidance

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """The losses of this thread's last training forward, which are taken off the module."""
        last = self._traces.mine
        losses, last.losses = last.losses, {}
        return losses

    @contextmanager
    def no_auxiliary(self) -> Iterator[None]:
        """This thread's forward passes inside leave the auxiliary losses of an earlier one alone.

        `decisions` follow every forward pass all the same.
        """
        mine = self._traces.mine
        before, mine.records_auxiliary = mine.records_auxiliary, False
        try:
            yield
        finally:
            mine.records_auxiliary = before

    @property
    def records_auxiliary(self) -> bool:
        """Whether the next forward pass will keep auxiliary losses."""
        recorded = self._traces.mine.records_auxiliary
        return self.training and recorded and torch.is_grad_enabled()

    def _keep_auxiliary(self, losses: dict[str, Tensor]) -> None:
        last = self._traces.mine
        if last.losses and not self._warned:
            self._warned = True
            warnings.warn(
                f"the auxiliary losses of {type(self).__name__} ({', '.join(last.losses)}) "
                f"were not collected, so its decisions are not trained; call "
                f"dynbackbones.attach_auxiliary_losses(model) once on the outermost model, or use "
                f"no_auxiliary() or eval() for forward passes that are not trained",
                stacklevel=3,
            )
        last.losses = losses
        self._look_for_progress()

    def _look_for_progress(self) -> None:
        if self._unmoved is None or is_traced():
            return
        self._unmoved += 1
        if self._unmoved == PATIENCE:
            warnings.warn(
                f"nobody moved the schedules of {type(self).__name__} in {PATIENCE} training "
                "passes, so they stand at their start: call dynbackbones.set_progress(model, "
                "iteration / max_iterations) in each, or register your framework's "
                "DynamicBackboneHook",
                stacklevel=4,
            )
