"""Spatial context networks on two processes of a CPU learn what one process learns."""

import os
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.processes import process_group, run_processes

PAIRS = 8


def network(teacher_file):
    from mmpretrain.registry import MODELS

    import dynbackbones.integrations.openmmlab.spatial_context  # noqa: F401 (registers)

    torch.manual_seed(0)
    resnet = {"type": "StaticResNet", "depth": 18, "out_indices": (3,)}
    return MODELS.build({
        "type": "SpatialContextNetwork",
        # Several processes have no batch in common on a CPU.
        "backbone": {**resnet, "norm_eval": True},
        "target_generator": {
            "type": "ContextTeacher", "backbone": resnet, "pretrained": teacher_file,
        },
        "data_preprocessor": {"mean": [120.0, 110, 100], "std": [60.0, 50, 40], "to_rgb": True},
    }).train()  # fmt: skip


def work(rank, world_size, folder, images, teacher_file):
    from mmengine.dataset import default_collate
    from mmengine.model import MMDistributedDataParallel

    from dynbackbones.integrations.mmengine.seeded_data import SeededDataset
    from dynbackbones.integrations.openmmlab.spatial_context import PatchPairs, SpatialContextHook

    with process_group(rank, world_size, folder):
        model = wrapped = network(teacher_file)
        data = SeededDataset(PatchPairs(images, size=32, patch_size=32))
        if world_size > 1:
            # Every parameter of it must get a gradient.
            wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
        runner = SimpleNamespace(model=wrapped, train_dataloader=SimpleNamespace(dataset=data))
        SpatialContextHook(patches=8).before_train(runner)
        samples = [data[index % len(data), index] for index in range(PAIRS)][rank::world_size]
        batch = model.data_preprocessor(default_collate(samples), True)
        # The second step is where the reducer complains of parameters without a gradient.
        for _ in range(2):
            model.zero_grad()
            wrapped(**batch, mode="loss")["loss_context"].backward()
        found = {
            "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
            "scaling": dict(model.scaling.state_dict()),
            "teacher": [p.grad is None for p in model.target_generator.network.parameters()],
            "wrapped": list(wrapped.state_dict()),
        }
        torch.save(found, os.path.join(folder, f"{rank}.pth"))


def trained(world_size, images, teacher_file, folder):
    """What each process found."""
    # This file is the processes' program: test modules cannot be imported by name everywhere.
    return run_processes(__file__, world_size, folder, images, teacher_file)


def test_two_processes_have_the_gradients_of_one(tmp_path, images, teacher_file):
    pytest.importorskip("mmpretrain")
    (one,) = trained(1, images, teacher_file, tmp_path / "one")
    for found in trained(2, images, teacher_file, tmp_path / "two"):
        # Targets are on one scale everywhere, to the bit.
        for name, value in one["scaling"].items():
            assert torch.equal(found["scaling"][name], value), name
        assert found["scaling"]["fitted"] and found["scaling"]["std"].any()
        assert found["gradients"].keys() == one["gradients"].keys()
        for name, value in found["gradients"].items():
            expected = one["gradients"][name]
            scale = expected.abs().max().item()
            assert scale > 0, name
            torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-3 * scale, msg=name)
        assert all(found["teacher"])
        assert not any("target_generator" in name for name in found["wrapped"])


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
