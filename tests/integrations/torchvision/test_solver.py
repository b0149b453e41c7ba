import math

import pytest
import torch
from torch import nn

pytest.importorskip("mmengine")  # an interpreter with detectron2 need not have it

from dynbackbones.backbones.base import find_backbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision import solver
from dynbackbones.integrations.torchvision.detectors import build_detector
from tests.messages import naming


def rates(cfg):
    """The learning rate of each iteration."""
    optimizer = solver.build_optimizer(cfg, nn.Conv2d(1, 1, 1))
    schedule = solver.build_schedule(cfg, optimizer)
    values = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def schedule_config(tiny_config, **options):
    solver_options = {
        "BASE_LR": "0.5",
        "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "MAX_ITER": "20",
        "WARMUP_ITERS": "4",
        "WARMUP_FACTOR": "0.2",
        "STEPS": "(10, 15)",
        **options,
    }
    return tiny_config(**{f"SOLVER__{key}": value for key, value in solver_options.items()})


def test_steps_after_a_linear_warmup(tiny_config):
    expected = [0.1, 0.2, 0.3, 0.4] + [0.5] * 6 + [0.05] * 5 + [0.005] * 5
    assert rates(schedule_config(tiny_config)) == pytest.approx(expected)


def test_constant_warmup(tiny_config):
    values = rates(schedule_config(tiny_config, WARMUP_METHOD="constant"))
    assert values[:5] == pytest.approx([0.1] * 4 + [0.5])


def test_cosine(tiny_config):
    cfg = schedule_config(tiny_config, LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR_END="0.1")
    values = rates(cfg)
    assert values[10] == pytest.approx(0.3)
    assert values[16] == pytest.approx(0.1 + 0.4 * 0.5 * (1 + math.cos(0.8 * math.pi)))


@pytest.mark.detectron2
@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "WarmupCosineLR"])
@pytest.mark.parametrize("warmup", ["0", "7", "30"])
def test_schedules_are_detectron2s(tiny_config, name, warmup):
    build = pytest.importorskip("detectron2.solver").build_lr_scheduler
    from detectron2.config import get_cfg

    cfg = schedule_config(tiny_config, LR_SCHEDULER_NAME=name, WARMUP_ITERS=warmup)
    theirs = get_cfg()
    for key in ("BASE_LR", "MAX_ITER", "WARMUP_FACTOR", "STEPS"):
        theirs.SOLVER[key] = cfg.SOLVER[key]
    theirs.SOLVER.LR_SCHEDULER_NAME = name
    theirs.SOLVER.WARMUP_ITERS = int(warmup)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = build(theirs, optimizer)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(cfg) == pytest.approx(expected)


def test_resuming_takes_the_position_and_keeps_the_configs_schedule(tiny_config):
    cfg = schedule_config(tiny_config)
    optimizer = solver.build_optimizer(cfg, nn.Conv2d(1, 1, 1))
    schedule = solver.build_schedule(cfg, optimizer)
    for _ in range(11):
        optimizer.step()
        schedule.step()
    longer = schedule_config(tiny_config, STEPS="(13, 15)")
    optimizer = solver.build_optimizer(longer, nn.Conv2d(1, 1, 1))
    resumed = solver.build_schedule(longer, optimizer)
    resumed.load_state_dict(schedule.state_dict())
    values = []
    for _ in range(3):
        optimizer.step()
        resumed.step()
        values.append(optimizer.param_groups[0]["lr"])
    assert values == pytest.approx([0.5, 0.05, 0.05])


def test_parameter_groups(tiny_config):
    cfg = tiny_config(
        SOLVER__BASE_LR="0.1",
        SOLVER__WEIGHT_DECAY="0.01",
        SOLVER__WEIGHT_DECAY_NORM="0.002",
        SOLVER__WEIGHT_DECAY_BIAS="0.0",
        SOLVER__BIAS_LR_FACTOR="2.0",
        MODEL__SAR__SELECTOR_LR_FACTOR="3.0",
    )
    model = build_detector(cfg)
    (body,) = find_backbones(model)
    body.conv1.weight.requires_grad_(False)
    groups = solver.parameter_groups(cfg, model)
    of = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert len(of) == sum(len(g["params"]) for g in groups) == len(trainable)
    selector = next(iter(body.stages().values())).selectors[0]
    assert of[id(body.layer4[0].conv1.weight)] == pytest.approx((0.1, 0.01))
    assert of[id(body.bn1.weight)] == pytest.approx((0.1, 0.002))
    assert of[id(body.bn1.bias)] == pytest.approx((0.2, 0.0))
    assert of[id(selector.conv.weight)] == pytest.approx((0.3, 0.01))
    assert of[id(selector.fc.bias)] == pytest.approx((0.6, 0.0))


@pytest.mark.parametrize(
    ("kind", "expected"), [("value", [0.5, -0.5, 0.1]), ("norm", [0.3, -0.4, 0.1])]
)
def test_gradients_are_clipped_parameter_by_parameter(tiny_config, kind, expected):
    cfg = tiny_config(
        SOLVER__CLIP_GRADIENTS__ENABLED="True",
        SOLVER__CLIP_GRADIENTS__CLIP_TYPE=kind,
        SOLVER__CLIP_GRADIENTS__CLIP_VALUE="0.5",
        SOLVER__BASE_LR="1.0",
        SOLVER__MOMENTUM="0.0",
        SOLVER__WEIGHT_DECAY="0.0",
    )
    layer = nn.Linear(2, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = solver.build_optimizer(cfg, layer)
    loss = (layer.weight * torch.tensor([[3.0, -4.0]])).sum() + 0.1 * layer.bias.sum()
    optimizer.update_params(loss)
    assert layer.weight[0].tolist() + layer.bias.tolist() == pytest.approx(
        [-value for value in expected], abs=1e-5
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_mixed_precision_needs_cuda(tiny_config):
    with pytest.raises(UserError, match=naming("SOLVER.AMP.ENABLED", "CUDA")):
        solver.build_optimizer(tiny_config(SOLVER__AMP__ENABLED="True"), nn.Conv2d(1, 1, 1))
