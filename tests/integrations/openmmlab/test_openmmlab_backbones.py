import importlib.util

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab import SARResNet, StaticResNet
from tests.messages import naming

BOTH = pytest.mark.parametrize("kind", [SARResNet, StaticResNet])


@pytest.fixture
def images():
    return torch.randn(2, 3, 65, 80)


@BOTH
@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (3,), [2, 0]])
def test_features_come_as_a_tuple(kind, images, out_indices):
    net = kind(18, out_indices=out_indices).eval()
    sizes = {0: (64, 17, 20), 1: (128, 9, 10), 2: (256, 5, 5), 3: (512, 3, 3)}
    features = net(images)
    assert isinstance(features, tuple)
    assert [tuple(f.shape[1:]) for f in features] == [sizes[index] for index in out_indices]
    core = dynbackbones.build_backbone("sar_resnet18" if kind is SARResNet else "resnet18").eval()
    core.load_state_dict(net.state_dict())
    expected = core(images)
    for index, feature in zip(out_indices, features, strict=True):
        torch.testing.assert_close(feature, expected[f"res{index + 2}"])


@BOTH
@pytest.mark.parametrize("out_indices", [(), (4,), (-1,)])
def test_stages_that_do_not_exist(kind, out_indices):
    with pytest.raises(ValueError, match=naming("res2, res3", out_indices=out_indices)):
        kind(18, out_indices=out_indices)


@BOTH
@pytest.mark.parametrize(
    ("strides", "dilations", "output_stride"),
    [
        ((1, 2, 2, 1), (1, 1, 1, 2), 16),
        ((1, 2, 1, 1), (1, 1, 2, 4), 8),
        ((1, 2, 2, 2), None, 32),
        (None, (1, 1, 1, 1), 32),
    ],
)
def test_strides_and_dilations_mean_an_output_stride(
    kind, images, strides, dilations, output_stride
):
    net = kind(18, strides=strides, dilations=dilations).eval()
    same = kind(18, output_stride=output_stride).eval()
    same.load_state_dict(net.state_dict())
    assert net.feature_info == same.feature_info
    assert net.feature_info["res5"].stride == output_stride
    torch.testing.assert_close(net(images), same(images))


@BOTH
def test_wrong_layouts(kind):
    with pytest.raises(ValueError, match=naming("output_stride", "strides", "dilations", "both")):
        kind(18, output_stride=16, strides=(1, 2, 2, 1))
    layout = {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 1)}
    with pytest.raises(ValueError, match=naming(**layout)):
        kind(18, strides=(1, 2, 2, 1))
    with pytest.raises(ValueError, match=naming("-1..4", frozen_stages=5)):
        kind(18, frozen_stages=5)


@BOTH
@pytest.mark.parametrize("frozen_stages", [-1, 0, 2, 4])
def test_frozen_stages(kind, frozen_stages):
    net = kind(18, frozen_stages=frozen_stages).train()
    for index, part in enumerate(net.parts()):
        frozen = index <= frozen_stages
        for module in part:
            assert all(p.requires_grad is not frozen for p in module.parameters())
            norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
            assert all(norm.training is not frozen for norm in norms)


@BOTH
def test_norm_eval_keeps_the_statistics_and_trains_the_rest(kind, images):
    net = kind(18, norm_eval=True).train()
    assert net.training
    before = {key: value.clone() for key, value in net.named_buffers()}
    sum(feature.sum() for feature in net(images)).backward()
    assert all(torch.equal(before[key], value) for key, value in net.named_buffers())
    assert net.bn1.weight.grad.abs().sum() > 0
    net.eval().train()
    assert not any(m.training for m in net.modules() if isinstance(m, _BatchNorm))
    free = kind(18).train()
    free(images)
    assert free.bn1.num_batches_tracked == 1


@BOTH
def test_norm_cfg(kind):
    synchronised = kind(18, norm_cfg={"type": "SyncBN", "requires_grad": True})
    norms = [m for m in synchronised.modules() if isinstance(m, _BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    still = kind(18, norm_cfg={"type": "BN", "requires_grad": False, "eps": 0.01})
    norms = [m for m in still.modules() if isinstance(m, _BatchNorm)]
    assert not any(p.requires_grad for norm in norms for p in norm.parameters())
    assert {norm.eps for norm in norms} == {0.01}
    assert still.conv1.weight.requires_grad
    with pytest.raises(ValueError, match=naming(norm_cfg="BNN")):
        kind(18, norm_cfg={"type": "BNN"})
    with pytest.raises(ValueError, match=naming(norm_cfg=None)):
        kind(18, norm_cfg={"requires_grad": False})


def test_norms_without_running_statistics(images):
    # Sparse execution folds running statistics; "auto" runs such networks densely.
    net = SARResNet(18, norm_cfg={"type": "GN", "num_groups": 4}, selector_margin=0).eval()
    assert len(net(images)) == 4


def train_once(net, images):
    torch.manual_seed(1)
    features = net(images)
    loss = sum(feature.square().mean() for feature in features)
    if isinstance(net, SARResNet):
        loss = loss + sum(net.auxiliary_losses().values())
    loss.backward()
    gradients = {key: value.grad.clone() for key, value in net.named_parameters()}
    return loss.detach(), gradients, {key: value.clone() for key, value in net.named_buffers()}


def counted(modules):
    calls = []
    for module in modules:
        module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@BOTH
@pytest.mark.parametrize("norm_eval", [False, True])
def test_activation_checkpointing_changes_nothing(kind, images, norm_eval):
    plain = kind(18, norm_eval=norm_eval).train()
    saving = kind(18, norm_eval=norm_eval, with_cp=True).train()
    saving.load_state_dict(plain.state_dict())
    selectors = [m for m in saving.modules() if type(m).__name__ == "RegionSelector"]
    selections = counted(selectors)
    convolutions = counted([saving.layer4[0].conv1])
    first, second = train_once(plain, images), train_once(saving, images)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert len(selections) == len(selectors) == (3 if kind is SARResNet else 0)
    assert len(convolutions) == 2
    if not norm_eval:
        assert second[2]["layer4.0.bn1.num_batches_tracked"] == 1


@pytest.mark.parametrize("library", ["mmseg", "mmpretrain", "mmdet"])
def test_backbones_are_found_in_each_librarys_registry(library, monkeypatch):
    registry = pytest.importorskip(f"{library}.registry")
    if library == "mmdet" and importlib.util.find_spec("mmcv._ext") is None:
        # Its own models do not import without mmcv's compiled operators; what is looked for here
        # is not one of them.
        monkeypatch.setattr(registry.MODELS, "_imported", True)
    init_default_scope(library)
    for kind in (SARResNet, StaticResNet):
        net = registry.MODELS.build({"type": kind.__name__, "depth": 18})
        assert type(net) is kind
        assert type(MODELS.build({"type": kind.__name__, "depth": 18})) is kind


@pytest.fixture
def classifier():
    """An mmpretrain classifier on a SAR-ResNet-18."""
    pytest.importorskip("mmpretrain")
    init_default_scope("mmpretrain")
    return MODELS.build(
        {
            "type": "ImageClassifier",
            "backbone": {"type": "SARResNet", "depth": 18, "out_indices": (3,)},
            "neck": {"type": "GlobalAveragePooling"},
            "head": {
                "type": "LinearClsHead",
                "num_classes": 4,
                "in_channels": 512,
                "loss": {"type": "CrossEntropyLoss"},
            },
        }
    )


def test_a_classifier_trains_with_the_hooks_losses(classifier, attached, images):
    from mmpretrain.structures import DataSample

    attached(classifier).train()
    samples = [DataSample().set_gt_label(label) for label in (0, 3)]
    losses = classifier(images, samples, mode="loss")
    assert set(losses) == {"loss", "loss_activation_rate"}


def pretrained(path, **options):
    return {"type": "Pretrained", "checkpoint": str(path), **options}


def assert_same_weights(net, state):
    for key, value in net.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.fixture
def messages(monkeypatch):
    """What is said in the log while weights are loaded."""
    from dynbackbones.integrations.openmmlab import weights

    lines = []
    monkeypatch.setattr(weights, "print_log", lambda text, **_: lines.append(text))
    return lines


def test_weights_of_our_own(tmp_path, messages):
    state = dynbackbones.build_backbone("sar_resnet18").state_dict()
    checkpoints.save(tmp_path / "own.pth", state, {})
    net = SARResNet(18, init_cfg=pretrained(tmp_path / "own.pth"))
    net.init_weights()
    assert_same_weights(net, state)
    assert messages == [f"SARResNet: loaded {tmp_path / 'own.pth'}"]


def test_weights_of_torchvision_without_their_head(tmp_path, messages):
    from torchvision.models import resnet18

    state = resnet18().state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    net = StaticResNet(18, init_cfg=[pretrained(tmp_path / "resnet18.pth")])
    net.init_weights()
    assert_same_weights(net, state)
    (line,) = messages
    assert line.endswith("resnet18.pth; left out fc.bias, fc.weight")


@pytest.mark.parametrize("prefix", ["backbone.", "backbone"])
def test_weights_of_a_classifier_of_mmpretrain(tmp_path, classifier, prefix):
    torch.save({"state_dict": classifier.state_dict(), "meta": {}}, tmp_path / "model.pth")
    path = tmp_path / "model.pth"
    net = SARResNet(18, init_cfg=pretrained(path, prefix=prefix))
    net.init_weights()
    assert_same_weights(net, classifier.backbone.state_dict())
    with pytest.raises(UserError, match=naming(path, "prefix='backbone.'", "init_cfg")):
        SARResNet(18, init_cfg=pretrained(path)).init_weights()
    with pytest.raises(UserError, match=naming(path, "prefix 'encoder.'", "backbone., head.")):
        SARResNet(18, init_cfg=pretrained(path, prefix="encoder")).init_weights()


def test_weights_of_a_whole_segmentor(tiny_config, tmp_path):
    init_default_scope("mmseg")
    segmentor = MODELS.build(tiny_config().model)
    torch.save({"state_dict": segmentor.state_dict()}, tmp_path / "segmentor.pth")
    net = SARResNet(18, init_cfg=pretrained(tmp_path / "segmentor.pth", prefix="backbone."))
    net.init_weights()
    assert_same_weights(net, segmentor.backbone.state_dict())


@pytest.mark.parametrize(("name", "kind"), [("resnet34", StaticResNet), ("resnet18", SARResNet)])
def test_weights_of_another_network(tmp_path, name, kind):
    net = kind(18, init_cfg=pretrained(tmp_path / "other.pth"))
    checkpoints.save(tmp_path / "other.pth", dynbackbones.build_backbone(name).state_dict(), {})
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError, match=naming(tmp_path / "other.pth", "architecture")):
        net.init_weights()
    assert_same_weights(net, before)


def test_initial_weights_of_other_kinds():
    net = SARResNet(18, init_cfg={"type": "Constant", "val": 0.5, "layer": "Conv2d"})
    net.init_weights()
    assert (net.conv1.weight == 0.5).all()
    with pytest.raises(ValueError, match=naming("Pretrained", init_cfg=None)):
        SARResNet(18, init_cfg={"checkpoint": "a.pth"})
    with pytest.raises(ValueError, match=naming("Pretrained", "checkpoint", "prefix", "nothing")):
        SARResNet(18, init_cfg={"type": "Pretrained"})
    with pytest.raises(
        ValueError, match=naming("Pretrained", "prefix", "checkpoint, map_location")
    ):
        SARResNet(18, init_cfg=pretrained("a.pth", map_location="cpu"))


# SAR's Table IX prints 34.1 G for the ResNet-50 of both segmentors and 25.8 G for this SAR-ResNet.
def test_macs_at_the_papers_resolution():
    static = StaticResNet(50, output_stride=16).macs(513, 513)
    assert static == pytest.approx(34.1e9, rel=0.01)
    net = SARResNet(50, output_stride=16, groups=2, base_scale=4, alpha=1)
    half, whole = (net.macs(513, 513, share=rate) for rate in (0.5, 1))
    assert half == pytest.approx(25.8e9, rel=0.01)
    assert whole == pytest.approx(28.6e9, rel=0.01)
