import copy

import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.registry import METRICS
from mmengine.runner import load_state_dict
from mmpretrain.structures import DataSample

import dynbackbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.blockdrop_classifier import BlockDropClassifier
from tests.messages import naming

SIZE = 8  # pixels of a square image
BLOCKS = 9  # of a ResNet-20


def classifier(depth=20, **options):
    torch.manual_seed(0)
    options = {"head": {"type": "LinearClsHead", "num_classes": 3, "in_channels": 64}, **options}
    return BlockDropClassifier(
        {"type": "mmengine.BlockDropCifarResNet", "depth": depth},
        {"type": "GlobalAveragePooling"},
        **options,
    )


def batch(images=6):
    torch.manual_seed(1)
    samples = [DataSample().set_gt_label(index % 3) for index in range(images)]
    return torch.randn(images, 3, SIZE, SIZE), samples


def step(model):
    """A training step without update: the losses, and which parts of the model get gradients."""
    model.train()
    inputs, samples = batch()
    losses = model(inputs, samples, mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    trained = {
        "policy" if "policy." in name else name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    return losses, trained


def buffers(model):
    return {name: value.clone() for name, value in model.named_buffers()}


def test_the_plain_stage_is_a_plain_classifier():
    model = classifier()
    losses, trained = step(model)
    assert set(losses) == {"loss"}
    assert trained == {"backbone", "head"}
    model.eval()
    inputs, samples = batch()
    static = dynbackbones.build_backbone("cifar_resnet20").eval()
    static.load_state_dict(model.backbone.state_dict(), strict=False)
    expected = model.head(model.neck((static(inputs)["res4"],)))
    assert torch.allclose(model(inputs), expected, atol=1e-5)
    sample = model.predict(inputs, samples)[0]
    assert sample.block_policy.all()
    assert sample.macs == static.macs(SIZE, SIZE)  # the policy network did not run


def test_the_plain_stage_with_a_fixed_policy():
    model = classifier(selection="distributed", selection_rate=1 / 3)
    expected = torch.tensor([True, False, False] * 3)
    for sample in model.eval().predict(*batch()):
        assert torch.equal(sample.block_policy, expected)
    listed = classifier(selection=[1, 0, 0] * 3).eval()
    assert torch.equal(listed(batch()[0]), model(batch()[0]))
    model = classifier(selection="random", selection_rate=0.5).train()
    policies = []
    inputs, samples = batch()
    for _ in range(2):
        model(inputs, samples, mode="loss")
        policies.append(model.backbone.decisions.policy)
    assert not torch.equal(*policies)


def test_the_curriculum_trains_the_policy_alone():
    model = classifier(stage="curriculum")
    model.backbone.set_progress(1.0)
    before = buffers(model)
    losses, trained = step(model)
    assert trained == {"policy"}
    changed = {k for k, value in buffers(model).items() if not torch.equal(value, before[k])}
    assert changed and all(name.startswith("backbone.policy.") for name in changed)
    assert {"loss_policy", "reward", "greedy_reward", "distinct_policies"} < set(losses)
    assert not model.eval().backbone.policy.training


def test_the_last_blocks_are_learned_first():
    model = classifier(stage="curriculum", curriculum_share=0.5)
    with torch.no_grad():
        model.backbone.policy.reset_bias(-20.0)  # drops all it may
    for progress, count in ((0.0, 1), (0.25, 5), (0.5, BLOCKS), (1.0, BLOCKS)):
        model.backbone.set_progress(progress)
        losses, _ = step(model)
        assert int(losses["learned_blocks"]) == count
        kept = model.backbone.decisions.policy
        assert kept[:, : BLOCKS - count].all() and not kept[:, BLOCKS - count :].any()
    assert not model.eval().predict(*batch())[0].block_policy.any()


@pytest.mark.parametrize("stage", ["curriculum", "joint"])
def test_a_step_runs_the_policy_network_once(stage):
    model = classifier(stage=stage)
    calls = []
    model.backbone.policy.register_forward_hook(lambda *_: calls.append(1))
    step(model)
    assert len(calls) == 1


def test_equal_policies_are_not_run_twice_in_the_curriculum():
    model = classifier(stage="curriculum", alpha=1.0)
    with torch.no_grad():
        model.backbone.policy.reset_bias(50.0)
    sizes = []
    model.head.register_forward_hook(lambda head, inputs, output: sizes.append(len(output)))
    losses, _ = step(model)
    assert sizes == [6]
    assert torch.equal(losses["reward"], losses["greedy_reward"])


def test_blocks_before_the_learned_ones_run_once_in_the_curriculum():
    model = classifier(stage="curriculum")
    model.backbone.set_progress(0.0)  # the last block alone is learned
    sizes = {}
    for name, stage in model.backbone.stages().items():
        for number, block in enumerate(stage):
            block.conv1.register_forward_hook(
                lambda conv, inputs, output, key=(name, number): sizes.setdefault(key, []).append(
                    len(output)
                )
            )
    with torch.no_grad():
        model.backbone.policy.reset_bias(0.0)  # actions differ for half of the images
    step(model)
    assert all(sizes[key] == [6] for key in list(sizes)[:-1]) and len(sizes) == BLOCKS


def test_joint_training_trains_everything():
    model = classifier(stage="joint")
    before = buffers(model)
    losses, trained = step(model)
    assert trained == {"backbone", "head", "policy"}
    assert {"loss", "loss_policy"} < set(losses)
    assert model.learned_blocks.all()
    assert any(
        not torch.equal(value, before[name])
        for name, value in buffers(model).items()
        if name.startswith("backbone.layer1")
    )


@pytest.mark.parametrize(("label", "usage"), [(0, 0.0), (1, 1.0)])
def test_policies_learn_what_is_rewarded(label, usage):
    # The head says 0 whatever it sees, unless the last block is kept, then 1.
    model = classifier(stage="curriculum", gamma=2.0)

    class Head(torch.nn.Module):
        def forward(self, features):
            return torch.stack([1 - self.kept, self.kept], dim=1)

        def look(self, stage, inputs):
            if inputs[1].shape[1]:
                self.kept = inputs[1][:, -1].float()

    model.head = Head()
    model.backbone.layer3.register_forward_pre_hook(model.head.look)
    model.backbone.set_progress(1.0 if label == 0 else 0.0)
    optimizer = torch.optim.Adam(model.backbone.own_parameters()["policy"], lr=0.05)
    model.train()
    inputs = torch.randn(64, 3, 4, 4)
    samples = [DataSample().set_gt_label(label)] * 64
    for _ in range(40):
        optimizer.zero_grad()
        model(inputs, samples, mode="loss")["loss_policy"].backward()
        optimizer.step()
    with torch.no_grad():
        assert (model.backbone.policy_probabilities(inputs)[:, -1] > 0.5).float().mean() == usage


def test_channels_last_changes_nothing():
    model = classifier(stage="joint").eval()
    other = classifier(stage="joint", channels_last=True).eval()
    other.load_state_dict(model.state_dict())
    inputs, _ = batch()
    assert torch.allclose(model(inputs), other(inputs), atol=1e-5)
    weight = other.backbone.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_features_of_each_kind():
    for stage in ("plain", "joint"):
        model = classifier(stage=stage).eval()
        inputs, _ = batch()
        assert model.extract_feat(inputs, "backbone")[0].shape == (6, 64, 2, 2)
        assert model.extract_feat(inputs, "neck")[0].shape == (6, 64)
        assert model.extract_feat(inputs, "pre_logits").shape == (6, 64)


def load(model, state):
    """As mmengine's runner does: it only warns of keys that do not fit."""
    load_state_dict(model, copy.deepcopy(state), strict=False)


def test_checkpoints_of_another_depth_are_refused():
    state = classifier(depth=32).state_dict()
    for stage in ("plain", "curriculum", "joint"):
        with pytest.raises(UserError, match=naming("BlockDropCifarResNet", "architecture")):
            load(classifier(stage=stage), state)


def test_a_checkpoint_may_lack_the_policy_until_joint_training():
    model = classifier()
    state = {k: v for k, v in model.state_dict().items() if ".policy." not in k}
    for stage in ("plain", "curriculum"):
        other = classifier(stage=stage)
        torch.nn.init.zeros_(other.head.fc.weight)
        load(other, state)
        assert torch.equal(other.head.fc.weight, model.head.fc.weight)
    with pytest.raises(UserError, match=naming("missing (backbone.policy")):
        load(classifier(stage="joint"), state)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stage": "first"}, ("stage", "plain, curriculum, joint", "'first'")),
        ({"gamma": -1}, ("gamma", -1)),
        ({"alpha": 0.4}, ("alpha", 0.4)),
        ({"entropy_weight": -1}, ("entropy_weight", -1)),
        ({"curriculum_share": 0}, ("curriculum_share", 0)),
        (
            {"stage": "joint", "train_cfg": {"augments": [{"type": "Mixup", "alpha": 0.2}]}},
            ("stage 'joint'", "train_cfg"),
        ),
        ({"stage": "joint", "selection": "first"}, ("stage 'joint'", "selection='first'")),
        ({"stage": "joint", "selection": [1] * 9}, ("stage 'joint'", f"selection={[1] * 9}")),
        ({"selection": "last"}, ("selection", "'last'", "all, none, first")),
        ({"selection": [1, 0]}, ("selection", 2, "9 blocks")),
        ({"selection": "first", "selection_rate": 2.0}, ("rate", 2.0)),
        ({"head": None}, ("BlockDropClassifier", "head None")),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(UserError, match=naming(*words)):
        classifier(**options)


def test_other_backbones_are_refused():
    with pytest.raises(UserError, match=naming("BlockDropResNet", "backbone mmengine.SARResNet")):
        BlockDropClassifier(
            {"type": "mmengine.SARResNet", "depth": 18},
            head={"type": "LinearClsHead", "num_classes": 3, "in_channels": 512},
        )


def test_the_metric_describes_policies():
    metric = METRICS.build({"type": "BlockUsage"})
    policies = [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0]]
    samples = [
        {"block_policy": torch.tensor(policy).bool(), "macs": 1e9 * sum(policy)}
        for policy in policies
    ]
    metric.process(None, samples[:3])
    metric.process(None, samples[3:])
    result = metric.evaluate(4)
    assert result["policy/blocks"] == 2 and result["policy/block_usage"] == 0.5
    assert result["policy/blocks_std"] == pytest.approx(2**0.5)
    assert (result["policy/min_blocks"], result["policy/max_blocks"]) == (0, 4)
    assert result["policy/distinct_policies"] == 3
    assert result["policy/largest_policy_share"] == 0.5
    assert result["policy/policy_entropy_bits"] == pytest.approx(1.5)
    assert result["policy/gmacs"] == pytest.approx(2)
