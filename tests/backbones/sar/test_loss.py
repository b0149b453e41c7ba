import math

import pytest
import torch

import dynbackbones
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


def test_groups_meet_the_target_each_for_itself():
    torch.manual_seed(0)
    net = dynbackbones.build_backbone("sar_resnet18", loss_reduction="group")
    net.set_progress(1.0)
    # One group refines everything, the other nothing: a rate of one half for the batch.
    with torch.no_grad():
        for stage in net.stages().values():
            for selector in stage.selectors:
                selector.fc.weight.zero_()
                selector.fc.bias.copy_(torch.tensor([-50.0, 50.0, 50.0, -50.0]))
    images = torch.rand(2, 3, 64, 64)
    net(images)
    assert net.auxiliary_losses()["loss_activation_rate"].item() == pytest.approx(0.25)
    net.loss_reduction = "batch"
    net(images)
    assert net.auxiliary_losses()["loss_activation_rate"].item() == pytest.approx(0, abs=1e-6)


def test_the_expected_rate_is_that_of_the_probabilities():
    torch.manual_seed(0)
    net = dynbackbones.build_backbone("sar_resnet18", loss_rate="expected", selector_margin=1.0)
    net.set_progress(1.0)
    for stage in net.stages().values():
        for selector in stage.selectors:
            torch.nn.init.zeros_(selector.fc.weight)
    net(torch.rand(2, 3, 64, 64))
    probability = 1 / (1 + math.exp(-1))
    found = net.auxiliary_losses()["loss_activation_rate"].item()
    assert found == pytest.approx((probability - 0.5) ** 2)


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
