"""Options that `build_backbone` does not know."""

import pytest

import dynbackbones


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("group", "did you mean 'groups'?"),
        ("target_rat", "did you mean 'target_rate'?"),
        ("out_indices", "all features come out in a dict: index it, as in net(images)['res4']"),
        ("features_only", "all features come out in a dict: index it"),
        ("pretrained", "build it, then call dynbackbones.load_weights(net, file)"),
        ("zzz", "it has in_channels, output_stride, norm, "),
    ],
)
def test_an_unknown_option_is_refused_with_the_remedy(option, remedy):
    with pytest.raises(TypeError) as error:
        dynbackbones.build_backbone("sar_resnet18", **{option: 1})
    assert str(error.value).startswith(f"sar_resnet18 has no option {option!r}; {remedy}")


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
