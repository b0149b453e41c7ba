import copy

import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.errors import UserError
from dynbackbones.policy import bound_probabilities, policy_entropy, policy_gradient_loss
from dynbackbones.policy.learning import RewardOptions
from dynbackbones.training.policy import attach_policy_training, one_image_loss
from tests.messages import naming


class Detector(nn.Module):
    """A model as frameworks have them: a dict of losses in training, something else otherwise."""

    def __init__(self, **options):
        super().__init__()
        options = {"policy_size": None, "policy_training": "reinforce", **options}
        self.backbone = dynbackbones.build_backbone("blockdrop_resnet18", **options)
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        feature = self.backbone(torch.stack(list(images)))["res5"]
        return {"loss_task": feature.mean()} if self.training else feature


def needs_block(number):
    """Losses that double where the images' policy leaves out a block."""

    def image_losses(model, args, kwargs):
        model(*args, **kwargs)
        kept = model.backbone.decisions.policy[:, number]
        return torch.where(kept, 1.0, 2.0)

    return image_losses


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return Detector(freeze_at=5).train()


def test_the_loss_is_the_self_critical_policy_gradient(detector, images):
    options = RewardOptions(
        gamma=2.0, alpha=0.9, entropy_weight=0.1, loss_weight=3.0, curriculum=0.0
    )
    net = detector.backbone.eval()
    bounded = bound_probabilities(net.policy_probabilities(images), 0.9)
    torch.manual_seed(3)
    sampled = torch.bernoulli(bounded.detach()).bool()
    # A block that one image keeps and the other one drops: one succeeds, one does not.
    block = int((sampled[0] != sampled[1]).nonzero()[0])
    attach_policy_training(detector.train(), needs_block(block), options)
    torch.manual_seed(3)
    losses = detector(images)
    usage = sampled.float().mean(dim=1)
    # The greedy policy of an untrained network keeps all blocks, so its reward is 0.
    reward = torch.where(sampled[:, block], 1 - usage**2, -2.0)
    expected = policy_gradient_loss(bounded, sampled, reward) - 0.1 * policy_entropy(bounded).mean()
    assert losses["loss_policy"].item() == pytest.approx(3 * expected.item(), rel=1e-5)
    assert list(losses) == ["loss_task", "loss_policy"]


def test_the_last_blocks_are_learned_first(detector, images):
    seen = []

    def image_losses(model, args, kwargs):
        model(*args, **kwargs)
        seen.append(model.backbone.decisions.policy)
        return torch.zeros(2)

    attach_policy_training(detector, image_losses, RewardOptions(curriculum=0.8))
    for progress, count in ((0.0, 1), (0.4, 5), (0.9, 8)):
        seen.clear()
        detector.backbone.set_progress(progress)
        for _ in range(6):
            loss = detector(images)["loss_policy"]
        assert (~torch.cat(seen)).any(dim=0).tolist() == [False] * (8 - count) + [True] * count
        loss.backward()
        gradient = detector.backbone.policy.fc.bias.grad
        detector.zero_grad()
        assert not gradient[: 8 - count].any() and gradient[8 - count :].any()


def test_policies_that_are_the_same_run_once(detector, images):
    attach_policy_training(detector, needs_block(0), RewardOptions(curriculum=0.0))
    detector(images)
    assert detector.calls == 3  # the model's own, the full network (also greedy), the sampled one


def test_what_is_needed_is_kept_and_the_rest_dropped(detector, images):
    attach_policy_training(detector, needs_block(2), RewardOptions(curriculum=0.0))
    # The last layer alone, for speed.
    layer = detector.backbone.policy.requires_grad_(False).fc.requires_grad_(True)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        detector(images)["loss_policy"].backward()
        optimizer.step()
    detector.eval()(images)
    policy = detector.backbone.decisions.policy
    assert policy[:, 2].all()
    assert policy.sum() <= 10  # of 16


def test_comparisons_leave_no_trace(images):
    torch.manual_seed(0)
    detector = Detector().train()
    detector.dropout = nn.Dropout()
    seen = []

    def image_losses(model, args, kwargs):
        layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.Dropout)]
        seen.append(any(layer.training for layer in layers))
        assert not torch.is_grad_enabled()
        return needs_block(0)(model, args, kwargs)

    attach_policy_training(detector, image_losses)
    reference = copy.deepcopy(detector)
    reference._forward_hooks.clear()
    reference(images)
    losses = detector(images)
    assert seen and not any(seen)
    assert detector.training and detector.backbone.layer1[0].bn1.training
    assert not detector.backbone.policy.training
    state, expected = detector.backbone.state_dict(), reference.backbone.state_dict()
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    assert state["policy.bn1.running_mean"].any()
    # What training logs is the policy that evaluation would follow.
    assert torch.equal(detector.backbone.decisions.policy, reference.backbone.decisions.policy)
    losses["loss_task"].backward(retain_graph=True)
    assert not any(p.grad.any() for p in detector.backbone.own_parameters()["policy"])
    losses["loss_policy"].backward()
    assert all(p.grad is not None for p in detector.parameters())


def test_only_training_with_gradients_learns(detector, images):
    handle = attach_policy_training(detector, needs_block(0))
    with torch.no_grad():
        assert list(detector(images)) == ["loss_task"]
    with detector.backbone.no_auxiliary():
        assert list(detector(images)) == ["loss_task"]
    assert isinstance(detector.eval()(images), torch.Tensor)
    assert "loss_policy" in detector.train()(images)
    handle.remove()
    handle.remove()
    assert list(detector(images)) == ["loss_task"]


def test_a_deep_copy_learns_its_own_policy(detector, images):
    attach_policy_training(detector, needs_block(0))
    clone = copy.deepcopy(detector)
    clone(images)["loss_policy"].backward()
    assert all(p.grad is None for p in detector.parameters())
    assert any(p.grad is not None for p in clone.backbone.own_parameters()["policy"])


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": -1.0},
        {"gamma": float("inf")},
        {"tolerance": -0.1},
        {"curriculum": 1.5},
        {"alpha": 0.5},
        {"entropy_weight": float("nan")},
    ],
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=naming(**options)):
        RewardOptions(**options)


def test_models_without_a_policy_to_train_are_refused(images):
    with pytest.raises(ValueError, match=naming("policy_training", "'reinforce'", "'frozen'")):
        attach_policy_training(Detector(policy_training="frozen"), needs_block(0))
    with pytest.raises(ValueError, match=naming("policy", "Linear", 0)):
        attach_policy_training(nn.Linear(2, 2), needs_block(0))


def test_losses_of_another_number_of_images_are_refused(detector, images):
    attach_policy_training(detector, lambda model, args, kwargs: torch.zeros(1))
    with pytest.raises(ValueError, match=naming("image_losses", 2, (1,))):
        detector(images)


def test_a_detectors_batch_must_be_one_image(detector, images):
    detector.backbone.eval()
    assert one_image_loss(detector, (list(images[:1]),), {}).shape == (1,)
    with pytest.raises(UserError, match=naming("one image", 2, "SOLVER.IMS_PER_BATCH")):
        one_image_loss(detector, (list(images),), {})


def test_every_parameter_takes_part_in_distributed_training(images):
    torch.manual_seed(0)
    detector = Detector().train()
    attach_policy_training(detector, needs_block(0))
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(detector)
        for _ in range(2):  # the second forward pass complains of what the first one missed
            sum(model(images).values()).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(p.grad is not None for p in detector.parameters())


def test_sizes_that_are_passed_to_the_backbone_keep_padding_out_of_the_policys_statistics(images):
    class Padded(Detector):
        how = "set"

        def forward(self, images):
            batch, sizes = torch.stack(list(images)), [(128, 80), (128, 128)]
            if self.how == "set":
                self.backbone.set_image_sizes(sizes)
                feature = self.backbone(batch)["res5"]
            elif self.how == "given":
                feature = self.backbone(batch, sizes)["res5"]
            else:
                feature = self.backbone(images=batch, image_sizes=sizes)["res5"]
            return {"loss_task": feature.mean()} if self.training else feature

    means = []
    images = torch.nn.functional.interpolate(images, size=128)
    images[0, :, :, 80:] = 9.0
    for how in ("set", "given", "named"):
        torch.manual_seed(0)
        model = Padded().train()
        model.how = how
        attach_policy_training(model, needs_block(0))
        model(images)
        means.append(model.backbone.policy.bn1.running_mean.clone())
    assert torch.equal(means[0], means[1]) and torch.equal(means[0], means[2])
