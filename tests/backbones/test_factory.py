"""Options that `build_backbone` does not know."""

import pytest

import dynbackbones
from tests.messages import naming


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("group", "'groups'"),
        ("target_rat", "'target_rate'"),
        ("out_indices", "net(images)['res4']"),
        ("features_only", "net(images)['res4']"),
        ("pretrained", "dynbackbones.load_weights(net, file)"),
        ("zzz", "in_channels, output_stride, norm"),
    ],
)
def test_an_unknown_option_is_refused_with_the_remedy(option, remedy):
    with pytest.raises(TypeError, match=naming("sar_resnet18", repr(option), remedy)):
        dynbackbones.build_backbone("sar_resnet18", **{option: 1})


def test_a_function_that_takes_any_option_gets_all(monkeypatch):
    def make(**options):
        return dynbackbones.ResNet(18, **{k: v for k, v in options.items() if k != "pretrained"})

    # What is registered stays, for all tests in this process.
    from dynbackbones.backbones import factory

    monkeypatch.setattr(factory, "_REGISTERED", dict(factory._REGISTERED))
    monkeypatch.setattr(factory, "_VARIANTS", dict(factory._VARIANTS))
    monkeypatch.setattr(factory, "_LISTENERS", [])
    dynbackbones.register_backbone("any_options", make)
    net = dynbackbones.build_backbone("any_options", pretrained=True, in_channels=1)
    assert net.in_channels == 1
