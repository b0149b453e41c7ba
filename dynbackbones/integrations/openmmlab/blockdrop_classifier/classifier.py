"""BlockDrop's training on mmpretrain, stage by stage; needs mmpretrain, so configs import it.

custom_imports = dict(imports=["dynbackbones.integrations.openmmlab.blockdrop_classifier"])

brings with it the dataset `PackedImages` and the metric `BlockUsage`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from dynbackbones import checkpoints
from dynbackbones.backbones.blockdrop.network import BlockDropBackbone
from dynbackbones.backbones.blockdrop.selection import BlockSelection
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.blockdrop_classifier.metrics import (
    BlockUsage as BlockUsage,
)
from dynbackbones.integrations.openmmlab.datasets.packed_images import PackedImages as PackedImages
from dynbackbones.integrations.openmmlab.policy_classifiers import labels_of
from dynbackbones.integrations.openmmlab.weights import refuse_other_networks
from dynbackbones.policy import PolicyLearning, learned_actions, scheduled_count

PLAIN, CURRICULUM, JOINT = STAGES = ("plain", "curriculum", "joint")


@MODELS.register_module()
class BlockDropClassifier(ImageClassifier):
    """mmpretrain's `ImageClassifier` that trains a BlockDrop backbone in three stages.

    plain       The ResNet and the head, by cross-entropy. All blocks run, or those of a fixed
                ``selection``; the policy network takes no part, in evaluation neither.
    curriculum  The policy network, by policy gradient. The ResNet and the head are frozen and in
                evaluation mode. The last block is learned first while the others stay on, then one
                more after the other. Evaluation decides for all blocks from the start.
    joint       Both, by policy gradient and by cross-entropy of the network with sampled actions.
                Both networks are in training mode, for the self-critical baseline too: rewards are
                compared under the same batch norm, and the running statistics see the greedy
                policies, which evaluation uses, as much as the sampled ones (as in the authors'
                code).

    A checkpoint of the stage before is named by ``load_from``; one of another network is refused,
    whichever way it comes. Only where the stage trains or leaves out the policy from the start
    ("plain", "curriculum") may a checkpoint be without one. `DynamicBackboneHook` drives the
    curriculum.

    Args:
        backbone: config of `BlockDropResNet` or `BlockDropCifarResNet`; ``policy_training`` follows
            from the stage.
        neck, head, pretrained, train_cfg, data_preprocessor, init_cfg: see `ImageClassifier`.
        stage: ``"plain"``, ``"curriculum"`` or ``"joint"``.
        gamma, alpha, entropy_weight: see `PolicyLearning`.
        curriculum_share: of the training of stage "curriculum" after which all blocks are learned,
            in (0, 1].
        selection: of stage "plain", instead of all blocks; see `BlockSelection`. ``"random"`` is
            drawn anew for each batch in training.
        selection_rate: share of the blocks that ``selection`` keeps.
        channels_last: memory format; a third faster on CPUs, for networks as thin as CIFAR's.

    Raises:
        UserError: an option has a wrong value, or options do not go together.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        neck: Mapping[str, Any] | None = None,
        head: Mapping[str, Any] | None = None,
        pretrained: str | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        data_preprocessor: Mapping[str, Any] | nn.Module | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        stage: str = PLAIN,
        gamma: float = 5.0,
        alpha: float = 0.8,
        entropy_weight: float = 0.0,
        curriculum_share: float = 1.0,
        selection: str | Sequence = "all",
        selection_rate: float = 1.0,
        channels_last: bool = False,
    ) -> None:
        if stage not in STAGES:
            raise UserError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
        if stage != PLAIN and train_cfg:
            raise UserError(
                f"stage {stage!r} rewards right predictions of single images: remove train_cfg "
                "(batch augmentations such as Mixup)"
            )
        if not 0 < curriculum_share <= 1:
            raise UserError(f"curriculum_share must lie in (0, 1], got {curriculum_share}")
        kind = backbone["type"]
        found = MODELS.get(kind) if isinstance(kind, str) else kind
        if found is None or not issubclass(found, BlockDropBackbone) or head is None:
            raise UserError(
                "BlockDropClassifier needs a head and a BlockDrop backbone (BlockDropResNet, "
                f"BlockDropCifarResNet), got backbone {kind} and head {head}"
            )
        try:
            learning = PolicyLearning(gamma, alpha, entropy_weight)
        except ValueError as error:
            raise UserError(str(error)) from error
        policy_training = "frozen" if stage == PLAIN else "reinforce"
        super().__init__(
            {**backbone, "policy_training": policy_training},
            neck,
            head,
            pretrained,
            train_cfg,
            data_preprocessor,
            init_cfg,
        )
        self.stage = stage
        self.learning = learning
        self.curriculum_share = curriculum_share
        self.selection = self._checked_selection(selection, selection_rate)
        if stage == CURRICULUM:
            self.requires_grad_(False)
            self.backbone.policy.requires_grad_(True)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        self.register_load_state_dict_pre_hook(_refuse_other_networks)

    def _checked_selection(self, kind: str | Sequence, rate: float) -> BlockSelection:
        try:
            selection = BlockSelection(kind, rate)
            selection.check(self.backbone.num_blocks)
        except ValueError as error:
            raise UserError(str(error)) from error
        if self.stage != PLAIN and selection.kind != "all":
            raise UserError(f"stage {self.stage!r} learns a policy: remove selection={kind!r}")
        return selection

    def train(self, mode: bool = True) -> BlockDropClassifier:
        super().train(mode)
        if mode and self.stage == CURRICULUM:
            for module in self.modules():
                module.training = module is self
            self.backbone.policy.train()
        return self

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """See `ImageClassifier.forward`."""
        return super().forward(
            inputs.contiguous(memory_format=self.memory_format), data_samples, mode
        )

    def extract_feat(self, inputs: Tensor, stage: str = "neck") -> Any:
        """See `ImageClassifier.extract_feat`; the blocks are those of the training stage."""
        if self.stage != PLAIN:
            return super().extract_feat(inputs, stage)
        features = self._run(inputs, self._fixed_actions(len(inputs)))
        if stage == "backbone":
            return features
        features = self._through_neck(features)
        return features if stage == "neck" else self.head.pre_logits(features)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of the training stage, and figures of the policy to log."""
        if self.stage == PLAIN:
            return super().loss(inputs, data_samples)
        labels = labels_of(data_samples)
        probabilities = self.backbone.policy_probabilities(inputs)
        proposal = self.learning.propose(probabilities, self.learned_blocks)
        if self.stage == CURRICULUM:
            losses = {}
            # The network is deterministic here: equal actions have equal results.
            greedy, sampled = self._right_both(inputs, proposal.greedy, proposal.sampled, labels)
        else:
            features = self._through_neck(self._run(inputs, proposal.sampled))
            losses = self.head.loss(features, data_samples)
            with torch.no_grad():
                sampled = self.head(features).argmax(dim=1) == labels
                greedy = self._right(inputs, proposal.greedy, labels)
        return {**losses, **self.learning.losses(proposal, sampled, greedy)}

    def predict(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, **kwargs: Any
    ) -> list[DataSample]:
        """See `ImageClassifier.predict`; samples also get ``block_policy`` (K,) and ``macs``."""
        samples = super().predict(inputs, data_samples, **kwargs)
        decisions = self.backbone.decisions
        for sample, policy, macs in zip(samples, decisions.policy, decisions.macs, strict=True):
            sample.set_field(policy, "block_policy")
            sample.set_field(float(macs), "macs")
        return samples

    def scores(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """The head's scores with given actions: (N, C, H, W) and (N, K) to (N, classes)."""
        return self.head(self._through_neck(self._run(inputs, actions)))

    @property
    def learned_blocks(self) -> Tensor:
        """(K,) bool, the blocks whose decisions are learned at present."""
        total = self.backbone.num_blocks
        if self.stage == JOINT:
            return learned_actions(total, total)
        count = scheduled_count(total, self.backbone.progress, self.curriculum_share)
        return learned_actions(total, count)

    def _fixed_actions(self, images: int) -> Tensor:
        selection = self.selection
        if selection.kind == "random" and self.training:
            seed = int(torch.randint(2**31, (1,)))
            selection = BlockSelection("random", selection.rate, seed)
        return selection.policy(images, self.backbone.block_counts)

    def _run(self, inputs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone.run_blocks(inputs, actions)
        return tuple(features[name] for name in self.backbone.out_names)

    def _through_neck(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.neck(features) if self.with_neck else features

    @torch.no_grad()
    def _right_both(
        self, inputs: Tensor, first: Tensor, second: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Whether either policy is right, in one pass as far as they agree."""
        features, rows = self.backbone.run_alternatives(inputs, first, second)
        features = tuple(features[name] for name in self.backbone.out_names)
        guesses = self.head(self._through_neck(features)).argmax(dim=1)
        right = guesses[: len(inputs)] == labels
        other = right.clone()
        other[rows] = guesses[len(inputs) :] == labels[rows]
        return right, other

    def _right(self, inputs: Tensor, actions: Tensor, labels: Tensor) -> Tensor:
        return self.scores(inputs, actions).argmax(dim=1) == labels


def _refuse_other_networks(
    model: BlockDropClassifier, state: Mapping[str, Tensor], prefix: str, *rest: Any
) -> None:
    optional = () if model.stage == JOINT else checkpoints.decision_keys(model)
    refuse_other_networks(model, state, prefix, type(model.backbone).__name__, optional)
