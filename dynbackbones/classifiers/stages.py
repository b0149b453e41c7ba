"""Classifiers whose parts learn one after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from dynbackbones.backbones.resnet import check_choice
from dynbackbones.classifiers.base import DynamicClassifier
from dynbackbones.errors import UserError


class LearnsInStages(DynamicClassifier):
    """What they share: in each stage some parts learn, and the others are as in evaluation.

    Attributes:
        stages: their names, in order.
        parts: names of the modules.
        stage: the present one, from `enter_stage` on.
    """

    stages: tuple[str, ...]
    parts: tuple[str, ...]
    stage: str

    @property
    @abstractmethod
    def learning_parts(self) -> tuple[str, ...]:
        """Names of the parts that learn in the present stage."""

    @abstractmethod
    def needs_of(self, stage: str) -> Iterable[tuple[str, str]]:
        """Parts that must have learned before a stage, and the stage in which each does."""

    def enter_stage(self, stage: str) -> None:
        """Makes a stage the present one, whatever has learned before.

        Raises:
            ValueError: there is no such stage.
        """
        check_choice("stage", stage, self.stages)
        self.stage = stage
        for name in self.parts:
            getattr(self, name).requires_grad_(name in self.learning_parts)
        self.train(self.training)

    def set_stage(self, stage: str) -> None:
        """Makes a stage the present one whose needs are met.

        Raises:
            ValueError: there is no such stage.
            UserError: something that must have learned before has not.
        """
        check_choice("stage", stage, self.stages)
        self.check_order(stage)
        self.enter_stage(stage)

    def check_order(self, stage: str) -> None:
        """Makes sure that what a stage builds on has learned.

        Raises:
            UserError: it has not.
        """
        for name, before in self.needs_of(stage):
            if not getattr(self, name).trained:
                raise UserError(
                    f"stage {stage!r} builds on a trained {name!r}: train stage {before!r} first, "
                    "or load its weights"
                )

    def train(self, mode: bool = True) -> LearnsInStages:
        super().train(mode)
        for name in self.parts:
            if name not in self.learning_parts:
                getattr(self, name).eval()
        return self
