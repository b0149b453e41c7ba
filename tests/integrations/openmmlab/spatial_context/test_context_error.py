import logging

import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.logging import MMLogger

from dynbackbones.integrations.openmmlab.spatial_context import ContextError
from dynbackbones.pretraining import explained_variance

TARGETS = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, -1.0], [1.0, 1.0]])
PREDICTED = TARGETS + torch.tensor([0.5, -0.25])


@pytest.fixture
def logged(monkeypatch):
    lines = []
    logger = MMLogger.get_instance("metric")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "callHandlers", lambda record: lines.append(record.getMessage()))
    logger.setLevel(logging.INFO)
    return lines


def metrics(shuffled, offset=1.0):
    metric = ContextError()
    for part in (slice(0, 3), slice(3, 4)):
        samples = [
            {
                "target": target,
                "error": float((target - predicted).square().sum()),
                "error_shuffled": shuffled,
                "offset": torch.full((8,), offset),
            }
            for target, predicted in zip(TARGETS[part], PREDICTED[part], strict=True)
        ]
        metric.process(None, samples)
    return metric.evaluate(len(TARGETS))


def test_r2_over_batches(logged):
    found = metrics(shuffled=5.0)
    assert found["context/r2"] == pytest.approx(explained_variance(PREDICTED, TARGETS))
    spread = (TARGETS - TARGETS.mean(dim=0)).square().sum()
    assert found["context/r2_shuffled"] == pytest.approx(float(1 - 20 / spread))
    assert logged == []


def test_offsets_that_are_not_used_are_noticed(logged):
    error = float((PREDICTED - TARGETS)[0].square().sum())
    metrics(shuffled=error)
    assert "the offset is not used" in logged[0]


def test_distillation_has_none(logged):
    metrics(shuffled=float((PREDICTED - TARGETS)[0].square().sum()), offset=0.0)
    assert logged == []
