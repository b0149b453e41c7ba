import pytest
import torch

from dynbackbones.pretraining import TargetScaling
from tests.messages import naming


def test_standardised_and_back():
    torch.manual_seed(0)
    targets = torch.randn(200, 3) * torch.tensor([1.0, 10.0, 0.1]) + torch.tensor([0.0, 5.0, -2.0])
    scaling = TargetScaling(3)
    scaling.fit(targets)
    scaled = scaling(targets)
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(dim=0, correction=0), torch.ones(3))
    torch.testing.assert_close(scaling.inverse(scaled), targets)


def test_a_channel_that_does_not_vary_stays_finite():
    targets = torch.tensor([[0.0, 7.0], [2.0, 7.0]])
    scaling = TargetScaling(2)
    scaling.fit(targets)
    assert scaling(targets).tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_a_channel_that_hardly_varies_does_not_make_up_the_loss():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(400, 5, generator=generator)
    targets[:, 4] = 0.0
    targets[:3, 4] = 1e-4
    scaling = TargetScaling(5)
    scaling.fit(targets)
    # A patch such as none of those that the scale is of.
    assert scaling(torch.tensor([[0.0, 0, 0, 0, 1]]))[0, 4] == pytest.approx(20, rel=0.1)
    torch.testing.assert_close(scaling.std[:4], targets.std(dim=0, correction=0)[:4])


def test_targets_that_are_all_the_same_are_left_at_their_scale():
    scaling = TargetScaling(2)
    scaling.fit(torch.tensor([[1.0, 7.0], [1.0, 7.0]]))
    assert scaling(torch.tensor([[2.0, 7.0]])).tolist() == [[1.0, 0.0]]


def test_none_leaves_targets():
    scaling = TargetScaling(2, "none")
    scaling.fit(torch.tensor([[0.0, 1.0], [4.0, 9.0]]))
    assert scaling(torch.tensor([[4.0, 9.0]])).tolist() == [[4.0, 9.0]]
    assert bool(scaling.fitted)


def test_statistics_are_kept_with_the_weights():
    scaling, other = TargetScaling(2), TargetScaling(2)
    assert not bool(scaling.fitted)
    scaling.fit(torch.tensor([[0.0, 1.0], [4.0, 9.0]]))
    other.load_state_dict(scaling.state_dict())
    assert bool(other.fitted)
    assert torch.equal(other(torch.ones(1, 2)), scaling(torch.ones(1, 2)))


@pytest.mark.parametrize("targets", [torch.zeros(1, 2), torch.zeros(3, 5), torch.zeros(3)])
def test_wrong_targets(targets):
    with pytest.raises(ValueError, match=naming("targets", tuple(targets.shape))):
        TargetScaling(2).fit(targets)


def test_targets_that_are_not_finite():
    with pytest.raises(ValueError, match=naming("finite")):
        TargetScaling(1).fit(torch.tensor([[1.0], [float("nan")]]))


def test_unknown_norm():
    with pytest.raises(ValueError, match=naming(target_norm="unit")):
        TargetScaling(2, "unit")
