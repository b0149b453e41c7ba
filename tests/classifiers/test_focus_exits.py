import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynbackbones.classifiers.glance_focus.exits import (
    budget_exits,
    checked_exits,
    exits_for,
    searched_exits,
    shares_for,
    steps_taken,
)
from tests.messages import naming


def test_shares_are_geometric_and_cost_the_budget():
    costs = [1.0, 2.5, 4.0, 5.0]
    for budget in (1.0, 1.2, 3.0, 4.9, 5.0):
        shares = shares_for(costs, budget)
        assert float(shares.sum()) == pytest.approx(1)
        assert float(shares @ torch.tensor(costs, dtype=torch.float64)) == pytest.approx(budget)
        ratios = shares[1:] / shares[:-1]
        assert ratios.tolist() == pytest.approx([float(ratios[0])] * 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(2, 5), st.floats(0, 1), st.integers(0, 2**20))
def test_a_budget_is_met_but_for_one_image_a_step(count, steps, part, seed):
    generator = torch.Generator().manual_seed(seed)
    confidences = torch.rand(count, steps, generator=generator)
    costs = torch.rand(steps, generator=generator, dtype=torch.float64).add(0.1).cumsum(0)
    budget = float(costs[0] + part * (costs[-1] - costs[0]))
    exits = budget_exits(confidences, costs.tolist(), budget)
    reached = costs[steps_taken(confidences, exits) - 1].mean()
    assert abs(float(reached) - budget) <= float(costs[-1]) / count


def test_the_surest_leave_first():
    confidences = torch.tensor([[0.9, 0.9], [0.2, 0.9], [0.5, 0.9], [0.7, 0.9]])
    exits = exits_for(confidences, torch.tensor([0.5, 0.5]))
    assert exits.tolist() == pytest.approx([0.6, 0.0])
    assert steps_taken(confidences, exits).tolist() == [1, 2, 2, 1]
    assert exits_for(confidences, torch.tensor([0.0, 1.0])).tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("costs", "budget", "words"),
    [
        ([1.0, 2.0], 0.9, ["budget", 0.9, 1, 2]),
        ([1.0, 2.0], 2.1, ["budget", 2.1]),
        ([1.0, 2.0], math.nan, ["budget", "nan"]),
        ([2.0, 1.0], 1.5, ["costs", "[2.0, 1.0]"]),
    ],
)
def test_budgets_out_of_range_are_refused(costs, budget, words):
    with pytest.raises(ValueError, match=naming(*words)):
        budget_exits(torch.rand(5, 2), costs, budget)
    with pytest.raises(ValueError, match=naming("images")):
        budget_exits(torch.rand(0, 2), [1.0, 2.0], 1.5)


def test_exits_are_given_for_all_steps_but_the_last():
    assert checked_exits([0.5, math.inf], 3).tolist() == [0.5, 2.0, 0.0]
    assert checked_exits([0.5, 0.6, 0.7], 3).tolist()[-1] == 0
    for wrong in ([0.5], [0.5] * 4, [math.nan, 0.5]):
        with pytest.raises(ValueError, match=naming("exits")):
            checked_exits(wrong, 3)


def test_searched_exits_are_right_more_often_within_the_budget():
    generator = torch.Generator().manual_seed(0)
    confidences, costs = torch.rand(300, 3, generator=generator), [1.0, 2.0, 3.0]
    # The second step is nearly always right, the others by halves: all should take two.
    chances = torch.tensor([0.5, 0.97, 0.5])
    right = torch.rand(300, 3, generator=generator) < chances
    found = {}
    for make in (budget_exits, lambda c, *rest: searched_exits(c, right, *rest)):
        steps = steps_taken(confidences, make(confidences, costs, 2.0))
        accuracy = float(right.gather(1, steps[:, None] - 1).float().mean())
        found[make is budget_exits] = float(steps.float().mean()), accuracy
    assert found[False][0] <= 2.0 and found[False][1] > found[True][1] + 0.15
    two = searched_exits(confidences[:, :2], right[:, :2], costs[:2], 1.5)
    assert float(steps_taken(confidences[:, :2], two).float().mean()) <= 1.5
