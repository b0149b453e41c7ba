from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.dcan.optimizer_group import ConstantGroup
from tests.messages import naming

SCHEDULERS = [
    {"type": "PolyLR", "power": 0.9, "begin": 0, "end": 10},
    {"type": "LinearLR", "start_factor": 0.1, "begin": 0, "end": 3},
    {"type": "CosineAnnealingLR", "T_max": 2},
    {"type": "MultiStepLR", "milestones": [1, 2]},
    {"type": "OneCycleLR", "eta_max": 0.2, "total_steps": 10},
    {"type": "PolyMomentum", "power": 0.9, "begin": 0, "end": 10},
]


class Hub(dict):
    update_scalar = dict.__setitem__


def parameters(count):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(3)) for _ in range(count)]


def make_runner(several_groups=False, scheduler=None):
    """What of a runner is needed, and its parameters; the last is the generator's."""
    *main, own = parameters(3)
    groups = [{"params": [p], "lr": 0.1 * n} for n, p in enumerate(main, 1)]
    optimizer = torch.optim.SGD(groups if several_groups else main, lr=0.1, momentum=0.9)
    wrapper = OptimWrapper(optimizer)
    schedulers = [
        PARAM_SCHEDULERS.build({**scheduler, "by_epoch": False, "optimizer": wrapper})
        for scheduler in ([scheduler] if scheduler else [])
    ]
    hub = Hub()
    runner = SimpleNamespace(optim_wrapper=wrapper, param_schedulers=schedulers, message_hub=hub)
    return runner, main, own


def options_of_steps(runner, values, restore=lambda optimizer: None):
    """lr and momentum of all groups at each step, as they are used."""
    used = []
    optimizer = runner.optim_wrapper.optimizer
    optimizer.register_step_pre_hook(
        lambda opt, args, kwargs: used.append(
            [(group["lr"], group["momentum"]) for group in opt.param_groups]
        )
    )
    for _ in range(5):
        restore(optimizer)
        runner.optim_wrapper.update_params(sum((value**2).sum() for value in values))
        for scheduler in runner.param_schedulers:
            scheduler.step()
    return used


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda scheduler: scheduler["type"])
@pytest.mark.parametrize("several_groups", [False, True])
def test_schedulers_move_all_but_the_generators_group(scheduler, several_groups):
    runner, main, own = make_runner(several_groups, scheduler)
    group = ConstantGroup(runner, [own], {"lr": 3e-4, "momentum": 0.99}, None, "generator")
    used = options_of_steps(runner, [*main, own], group.restore)
    assert [step[-1] for step in used] == [(3e-4, 0.99)] * 5
    # The others are moved as without it.
    runner, main, own = make_runner(several_groups, scheduler)
    assert [step[:-1] for step in used] == options_of_steps(runner, main)
    assert used[0][0] != used[4][0]


def test_a_loaded_state_does_not_change_the_options():
    runner, _, own = make_runner()
    group = ConstantGroup(runner, [own], {"lr": 3e-4}, None, "generator")
    state = runner.optim_wrapper.state_dict()
    state["param_groups"][-1]["lr"] = 9.0
    optimizer = runner.optim_wrapper.optimizer
    runner.optim_wrapper.load_state_dict(state)
    assert optimizer.param_groups[-1]["lr"] == 9.0
    group.restore(optimizer)
    assert optimizer.param_groups[-1]["lr"] == 3e-4


def test_the_generators_gradients_are_clipped_alone():
    runner, main, own = make_runner()
    before = [p.detach().clone() for p in (*main, own)]
    ConstantGroup(runner, [own], {"lr": 1.0}, {"max_norm": 0.01}, "generator")
    runner.optim_wrapper.update_params(sum((p**2).sum() for p in (*main, own)))
    steps = [old - new.detach() for old, new in zip(before, (*main, own), strict=True)]
    torch.testing.assert_close(steps[0], 0.1 * 2 * before[0])
    torch.testing.assert_close(steps[2], 0.01 * before[2] / before[2].norm(), rtol=1e-3, atol=0)
    logged = runner.message_hub["train/grad_norm_generator"]
    assert logged == pytest.approx(2 * before[2].norm().item(), rel=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_clipping_is_the_same_in_mixed_precision(fused):
    parameter = nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([parameters(1)[0]], lr=1.0, fused=fused)
    runner = SimpleNamespace(
        optim_wrapper=OptimWrapper(optimizer), param_schedulers=[], message_hub=Hub()
    )
    ConstantGroup(runner, [parameter], {"lr": 1.0}, {"max_norm": 0.5}, "generator")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((parameter**2).sum()).backward()
    scaler.step(optimizer)
    # The gradient is 2 in each of four directions.
    assert runner.message_hub["train/grad_norm_generator"] == pytest.approx(4.0, rel=1e-5)
    torch.testing.assert_close(parameter.detach(), torch.full((4,), 0.75))


def test_an_option_that_the_optimiser_has_not():
    runner, _, own = make_runner()
    with pytest.raises(UserError, match=naming("gen_optim", "SGD", "'betas'", "dampening")):
        ConstantGroup(runner, [own], {"lr": 1.0, "betas": (0.9, 0.99)}, None, "generator")


def test_several_optimisers():
    runner, _, own = make_runner()
    runner.optim_wrapper = OptimWrapperDict(a=runner.optim_wrapper)
    with pytest.raises(UserError, match=naming("one optimiser", "optim_wrapper", "a")):
        ConstantGroup(runner, [own], {"lr": 1.0}, None, "generator")
