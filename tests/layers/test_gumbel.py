import pytest
import torch

from dynbackbones.layers import gumbel_select
from tests.messages import naming


def test_forward_is_exactly_binary_and_follows_the_probability():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0]).expand(20000, 2)
    samples = gumbel_select(logits, temperature=0.7)
    assert set(samples.unique().tolist()) == {0.0, 1.0}
    probability = torch.sigmoid(torch.tensor(1.0))
    assert samples.mean().item() == pytest.approx(probability.item(), abs=0.02)


def test_gradient_is_that_of_the_softmax():
    logits = torch.randn(50, 2, dtype=torch.float32, requires_grad=True)
    torch.manual_seed(1)
    gumbel_select(logits, temperature=0.5).sum().backward()
    torch.manual_seed(1)
    noise = -torch.empty_like(logits).exponential_().log()
    soft = ((logits + noise) / 0.5).softmax(-1)[:, 1]
    expected = (soft * (1 - soft) / 0.5).detach()
    torch.testing.assert_close(logits.grad[:, 1], expected)
    torch.testing.assert_close(logits.grad[:, 0], -expected)


def test_half_precision_logits_give_finite_float32_at_low_temperature():
    logits = torch.full((100, 2), 50.0, dtype=torch.float16, requires_grad=True)
    samples = gumbel_select(logits, temperature=0.01)
    samples.sum().backward()
    assert samples.dtype == torch.float32
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("shape", "temperature", "words"),
    [((4, 3), 1.0, ("logits", "[4, 3]")), ((4, 2), 0.0, ("temperature", 0.0))],
)
def test_wrong_arguments(shape, temperature, words):
    with pytest.raises(ValueError, match=naming(*words)):
        gumbel_select(torch.zeros(shape), temperature)
