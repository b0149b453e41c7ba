import pytest
import torch

from dynbackbones.backbones.sar.loss import activation_rate_loss
from tests.messages import naming


def test_batch_loss_is_equation_10():
    rates = torch.tensor([[0.2, 0.6], [1.0, 0.0]])  # two blocks, two images
    expected = ((0.4 - 0.5) ** 2 + (0.5 - 0.5) ** 2) / 2
    assert activation_rate_loss(rates, 0.5).item() == pytest.approx(expected)


def test_sample_loss_is_equation_11():
    rates = torch.tensor([[0.2, 0.6], [1.0, 0.0]])
    expected = (0.3**2 + 0.1**2 + 0.5**2 + 0.5**2) / 4
    assert activation_rate_loss(rates, 0.5, "sample").item() == pytest.approx(expected)


def test_gradient_pulls_towards_the_target():
    rates = torch.tensor([[0.9], [0.1]], requires_grad=True)
    activation_rate_loss(rates, 0.5).backward()
    assert rates.grad[0] > 0 > rates.grad[1]


def _two_processes(rank: int, file: str, results) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=2
    )
    rates = torch.tensor([[0.2 + 0.6 * rank], [0.5 * rank]], requires_grad=True)
    loss = activation_rate_loss(rates, 0.3)
    loss.backward()
    gradient = rates.grad.clone()
    results[rank] = (loss.item(), gradient.flatten().tolist())
    torch.distributed.destroy_process_group()


def test_two_processes_see_the_global_batch(tmp_path):
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(_two_processes, (str(tmp_path / "store"), results), nprocs=2)
        results = dict(results)
    rates = torch.tensor([[0.2, 0.8], [0.0, 0.5]], requires_grad=True)
    loss = activation_rate_loss(rates, 0.3)
    loss.backward()
    for rank in range(2):
        value, gradient = results[rank]
        assert value == pytest.approx(loss.item())
        # DDP averages gradients over processes: half of each process's own is the global one.
        assert [g / 2 for g in gradient] == pytest.approx(rates.grad[:, rank].tolist())


@pytest.mark.parametrize(
    ("rates", "target", "reduction", "named"),
    [
        (torch.rand(4), 0.5, "batch", {"rates": (4,)}),
        (torch.rand(0, 4), 0.5, "batch", {"rates": (0, 4)}),
        (torch.rand(2, 4), 1.5, "batch", {"target_rate": 1.5}),
        (torch.rand(2, 4), 0.5, "mean", {"reduction": "mean"}),
    ],
)
def test_wrong_arguments(rates, target, reduction, named):
    with pytest.raises(ValueError, match=naming(**named)):
        activation_rate_loss(rates, target, reduction)
