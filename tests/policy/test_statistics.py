import pytest
import torch

from dynbackbones.policy import PolicyStatistics
from tests.messages import naming


def test_figures_of_a_few_policies():
    statistics = PolicyStatistics()
    statistics.update(torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0]]))
    statistics.update(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]]))
    figures = statistics.to_dict()
    assert figures["samples"] == 4 and figures["num_actions"] == 4
    assert figures["mean_usage"] == pytest.approx((2 + 2 + 4 + 1) / 16)
    assert figures["std_usage"] == pytest.approx((19 / 256) ** 0.5)
    assert figures["mean_actions"] == pytest.approx(9 / 4)
    assert (figures["min_actions"], figures["max_actions"]) == (1, 4)
    assert figures["distinct_policies"] == 3 and figures["largest_policy_share"] == 0.5
    assert figures["policy_entropy_bits"] == pytest.approx(1.5)
    assert figures["usage_per_action"] == [0.75, 0.75, 0.25, 0.5]


def test_one_policy_for_all_has_no_entropy():
    statistics = PolicyStatistics()
    statistics.update(torch.ones(5, 3))
    assert statistics.entropy == 0 and str(statistics.entropy) == "0.0"


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (torch.ones(3), ("policy", (3,))),
        (torch.ones(0, 3), ("policy", (0, 3))),
        (torch.full((1, 3), 0.5), ("policy", 0, 1)),
        (torch.ones(1, 4), ("policy", "actions", 4, 3)),
    ],
)
def test_what_is_no_policy(policy, words):
    statistics = PolicyStatistics()
    statistics.update(torch.ones(1, 3))
    with pytest.raises(ValueError, match=naming(*words)):
        statistics.update(policy)


def test_nothing_to_describe():
    with pytest.raises(ValueError, match=naming("no policies", "update")):
        PolicyStatistics().to_dict()
