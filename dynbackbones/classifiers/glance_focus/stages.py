"""Which parts of Glance and Focus learn when, and what must have learned before."""

from __future__ import annotations

from dynbackbones.classifiers.stages import LearnsInStages
from dynbackbones.errors import UserError

WARM_UP, POLICY, FINE_TUNE = STAGES = ("warm_up", "policy", "fine_tune")
PARTS = ("glance", "local", "head", "proposal")


class FocusStages(LearnsInStages):
    """Base of `GlanceFocusClassifier`, which has these parts and says what its options mean."""

    stages, parts = STAGES, PARTS
    proposal_training: str
    train_glance: bool

    @property
    def learning_parts(self) -> tuple[str, ...]:
        if self.stage == POLICY and self.proposal_training == "reinforce":
            return ("proposal",)
        learns = PARTS if self.stage == POLICY else PARTS[:3]
        return learns if self.train_glance else learns[1:]

    @property
    def stage_trains_encoders(self) -> bool:
        """Whether more than the proposal learns in the present stage."""
        return "local" in self.learning_parts

    def enter_stage(self, stage: str) -> None:
        super().enter_stage(stage)
        if self.proposal_training == "interpolate":
            self.proposal.critic.requires_grad_(False)

    def set_stage(self, stage: str) -> None:
        """Says what learns.

        warm_up    Encoders and head, from crops anywhere.
        policy     The proposal, by reward; with ``proposal_training="interpolate"`` everything, for
                   which no other stage is needed before.
        fine_tune  Encoders and head, from crops that the proposal suggests.

        Raises:
            ValueError: there is no such stage.
            UserError: something that must have learned before has not.
        """
        super().set_stage(stage)

    def needs_of(self, stage: str) -> tuple[tuple[str, str], ...]:
        if stage == POLICY and self.proposal_training == "reinforce":
            return (("head", WARM_UP),)
        return (("head", WARM_UP), ("proposal", POLICY)) if stage == FINE_TUNE else ()

    def check_order(self, stage: str) -> None:
        if stage == WARM_UP and not (self.train_glance or self.glance.trained):
            raise UserError(
                "train_glance=False keeps 'glance' as it was pretrained, but it was not: load its "
                "weights first, or build the network with train_glance=True"
            )
        super().check_order(stage)
