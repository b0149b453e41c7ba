"""Two processes whose images keep different blocks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

import dynbackbones
from dynbackbones.backbones.blockdrop.stage import blocks_to_synchronise

POLICIES = (
    [[1, 1, 0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0]],
    [[0, 0, 1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 1, 0, 1]],
)


def images_of(rank):
    return torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(rank))


def build(**options):
    torch.manual_seed(0)
    net = dynbackbones.build_backbone(
        "blockdrop_resnet18", norm="FrozenBN", policy_training="reinforce", **options
    )
    net.train().policy.eval()
    return net


class Loss(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images, policy):
        with self.net.select(policy):
            return sum(feature.square().mean() for feature in self.net(images).values())


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    model = nn.parallel.DistributedDataParallel(Loss(build()))
    # The second step is where the reducer complains of parameters without a gradient.
    for _ in range(2):
        model.zero_grad()
        model(images_of(rank), torch.tensor(POLICIES[rank])).backward()
    gradients = {name: p.grad for name, p in model.module.net.named_parameters()}

    synchronised = dynbackbones.build_backbone("blockdrop_resnet18", norm="SyncBN").train()
    stages = list(synchronised.stages().values())
    keep = torch.tensor(POLICIES[rank]).bool()
    needed = [blocks_to_synchronise(stages, keep, torch.device("cpu"))]
    needed.append(blocks_to_synchronise(build().stages().values(), keep, torch.device("cpu")))
    torch.save((gradients, needed), os.path.join(folder, f"{rank}.pth"))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("distributed"))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    # This file is the processes' program: test modules cannot be imported by name everywhere.
    processes = [
        subprocess.Popen([sys.executable, __file__, str(rank), folder], env=environment)
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    return [torch.load(os.path.join(folder, f"{rank}.pth")) for rank in range(2)]


def test_gradients_are_the_mean_of_both_processes(results):
    net = Loss(build())
    for rank in range(2):
        (net(images_of(rank), torch.tensor(POLICIES[rank])) / 2).backward()
    for name, parameter in net.net.named_parameters():
        for gradients, _ in results:
            scale = parameter.grad.abs().max().item()
            torch.testing.assert_close(
                gradients[name], parameter.grad, rtol=1e-3, atol=1e-4 * scale, msg=name
            )


def test_blocks_with_synchronised_norms_run_in_all_processes_or_in_none(results):
    for _, (synchronised, frozen) in results:
        assert synchronised.int().tolist() == [1, 1, 1, 0, 1, 1, 0, 1]
        assert not frozen.any()


def test_a_needed_block_runs_on_no_image():
    net = dynbackbones.build_backbone("blockdrop_resnet18", norm="FrozenBN").train()
    stage, x = net.layer2, torch.randn(2, 64, 8, 8)
    none, all_blocks = torch.zeros(2, 2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    seen = []
    stage[1].conv1.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    out = stage(x, none, needed=all_blocks)
    torch.testing.assert_close(out, stage(x, none))
    out.sum().backward()
    assert seen == [0]
    assert all(p.grad is not None and not p.grad.any() for p in stage[1].parameters())


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
