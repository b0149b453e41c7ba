import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from torch import nn

import dynbackbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.segmentation_policy import image_losses, learn_policy
from tests.messages import naming


@pytest.fixture
def segmentor(tiny_config):
    torch.manual_seed(0)
    init_default_scope("mmseg")
    return MODELS.build(tiny_config("demo/blockdrop_semantic_fpn.py").model)


@pytest.fixture
def batch():
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(0, 5, (1, 64, 64), generator=generator) for _ in "abc"]
    samples = [SegDataSample(gt_sem_seg=PixelData(data=data)) for data in labels]
    return torch.randn(3, 3, 64, 64, generator=generator), samples


def test_images_have_losses_of_their_own(segmentor, batch):
    inputs, samples = batch
    segmentor.decode_head.loss_decode.class_weight = None
    segmentor.eval()
    losses = image_losses(segmentor, batch, {"mode": "loss"})
    together = segmentor(*batch, mode="loss")["decode.loss_ce"]
    torch.testing.assert_close(losses.mean(), together)
    for index, sample in enumerate(samples):
        alone = segmentor(inputs[index : index + 1], [sample], mode="loss")["decode.loss_ce"]
        torch.testing.assert_close(losses[index], alone)
    by_name = image_losses(segmentor, (), {"inputs": inputs, "data_samples": samples})
    torch.testing.assert_close(by_name, losses)


def test_a_policy_learns_to_keep_what_the_images_need(segmentor, batch, monkeypatch):
    """An image's loss doubles without the third block, so its probability must rise."""
    module = "dynbackbones.integrations.openmmlab.segmentation_policy.image_losses"

    def needs_block(model, args, kwargs):
        image_losses(model, args, kwargs)
        return torch.where(model.backbone.decisions.policy[:, 2], 1.0, 2.0)

    monkeypatch.setattr(module, needs_block)
    learn_policy(segmentor, {"gamma": 5.0, "curriculum": 0.0})
    segmentor.train()
    policy = segmentor.backbone.policy
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        segmentor(*batch, mode="loss")["loss_policy"].backward()
        optimizer.step()
    probabilities = segmentor.backbone.policy_probabilities(batch[0])
    others = probabilities[:, torch.arange(probabilities.shape[1]) != 2]
    assert (probabilities[:, 2] > others.mean(dim=1) + 0.2).all()


def test_nothing_is_attached_where_no_policy_is_trained(segmentor, batch):
    segmentor.backbone.policy_training = "frozen"
    learn_policy(segmentor)
    assert "loss_policy" not in segmentor.train()(*batch, mode="loss")


def test_options_without_a_policy_are_refused(segmentor):
    segmentor.backbone.policy_training = "frozen"
    with pytest.raises(UserError, match=naming("DynamicBackboneHook", policy_training="reinforce")):
        learn_policy(segmentor, {"gamma": 1.0})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gamma": -1}, ("gamma", -1)),
        ({"gama": 1}, ("'gama'",)),
    ],
)
def test_wrong_options_are_named(segmentor, options, words):
    with pytest.raises(UserError, match=naming("DynamicBackboneHook", *words)):
        learn_policy(segmentor, options)


def test_models_without_a_loss_of_each_image_are_refused():
    model = nn.Module()
    model.backbone = dynbackbones.build_backbone("blockdrop_resnet18", policy_training="reinforce")
    with pytest.raises(
        UserError, match=naming("Module", "decode_head", "policy_training='frozen'")
    ):
        learn_policy(model)
