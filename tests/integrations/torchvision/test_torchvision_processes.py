"""Detectors on several processes of a CPU: gradients, and no process that waits for ever."""

import os
import sys

import pytest
import torch

from tests.processes import ROOT, process_group, run_processes


def noiseless(logits, temperature):
    """As `gumbel_select`, without the noise, which differs from process to process."""
    soft = (logits.float() / temperature).softmax(dim=-1)[..., 1]
    return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())


def detector(kind):
    from dynbackbones.integrations.torchvision.config import load_config
    from dynbackbones.integrations.torchvision.detectors import build_detector
    from dynbackbones.integrations.torchvision.model import DetectorModel

    options = {
        "MODEL.BACKBONE.FREEZE_AT": "0",
        "MODEL.FPN.OUT_CHANNELS": "32",
        "MODEL.WEIGHTS": "",
        "MODEL.DEVICE": "cpu",
        "INPUT.MIN_SIZE_TRAIN": "(64,)",
    }
    if kind == "sar":
        # Near the threshold, so that regions differ from image to image.
        options["MODEL.SAR.SELECTOR_MARGIN"] = "0.0"
    else:
        options["MODEL.BLOCKDROP.POLICY_TRAINING"] = "frozen"
    words = [word for pair in options.items() for word in pair]
    cfg = load_config(os.fspath(ROOT / f"configs/demo/{kind}_retinanet.yaml"), words)
    torch.manual_seed(0)
    model = DetectorModel(build_detector(cfg)).train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()  # frozen: several processes have no batch in common on a CPU
    return model


def sample(index):
    """An image and its objects; the one of index 1 has none."""
    generator = torch.Generator().manual_seed(index)
    image = torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 6, 40, 44], [20, 10, 60, 50]])[: 0 if index == 1 else 2]
    return image, {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}


def work(rank, world_size, folder, kind, images):
    from mmengine.model import MMDistributedDataParallel

    from dynbackbones.backbones.base import find_backbones
    from dynbackbones.layers import regions

    regions.gumbel_select = noiseless
    with process_group(rank, world_size, folder):
        model = wrapped = detector(kind)
        (backbone,) = find_backbones(model)
        if world_size > 1:
            wrapped = MMDistributedDataParallel(
                model,
                broadcast_buffers=False,
                find_unused_parameters=not model.detector.backbone.complete,
            )
        mine = range(images)[rank::world_size]
        batch = [sample(index) for index in mine]
        if kind == "blockdrop":
            # Each image, and so each process, runs blocks of its own; none runs the second.
            blocks = torch.tensor([[(i + k) % 3 > 0 and k != 1 for k in range(8)] for i in mine])
            backbone.select(blocks).__enter__()
        # The second step is where the reducer complains of parameters without a gradient.
        for _ in range(2):
            model.zero_grad()
            losses = wrapped([image for image, _ in batch], [target for _, target in batch], "loss")
            sum(losses.values()).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        torch.save(gradients, os.path.join(folder, f"{rank}.pth"))


def gradients(kind, world_size, images, folder):
    """Those of each process."""
    # This file is the processes' program: test modules cannot be imported by name everywhere.
    return run_processes(__file__, world_size, folder, kind, images)


@pytest.mark.parametrize("kind", ["sar", "blockdrop"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_gradients_are_those_of_one_process(tmp_path, kind, world_size):
    (expected,) = gradients(kind, 1, 4, tmp_path / "one")
    for found in gradients(kind, world_size, 4, tmp_path / "several"):
        assert found.keys() >= expected.keys()
        for name, value in found.items():
            one = expected.get(name, torch.zeros_like(value))
            scale = max(one.abs().max().item(), 1e-6)
            torch.testing.assert_close(value, one, rtol=1e-3, atol=1e-3 * scale, msg=name)


@pytest.mark.parametrize(("world_size", "images"), [(2, 3), (4, 6)])
def test_a_last_batch_that_is_uneven_holds_nobody_up(tmp_path, world_size, images):
    first, *others = gradients("sar", world_size, images, tmp_path / "several")
    assert any(value.any() for value in first.values())
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in first.items())


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5]))
