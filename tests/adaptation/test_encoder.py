import pytest
import torch

from dynbackbones import checkpoints
from dynbackbones.adaptation import VGGEncoder, build_encoder
from dynbackbones.adaptation.encoder import LEVELS, VGG19_URL
from dynbackbones.errors import UserError
from tests.messages import naming


def test_vgg19_computes_what_torchvisions_does(tmp_path):
    vgg = pytest.importorskip("torchvision.models.vgg")
    vgg = vgg.make_layers(vgg.cfgs["E"])  # vgg19().features
    path = tmp_path / "vgg19.pth"
    # Bare, and with layers behind relu4_1, as torchvision's file.
    torch.save({f"features.{key}": value for key, value in vgg.state_dict().items()}, path)
    images = torch.rand(1, 3, 33, 40) * 255
    found = build_encoder("vgg19", weights=path)(images)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    x = (images / 255 - mean) / std
    taken = {}
    with torch.no_grad():
        for index, layer in enumerate(vgg[:21]):
            x = layer(x)
            taken[index] = x.clone()
    assert list(found) == list(LEVELS)
    for level, index in zip(LEVELS, (1, 6, 11, 20), strict=True):
        torch.testing.assert_close(found[level], taken[index], rtol=1e-4, atol=1e-5)


def test_small_encoder_has_the_same_interface():
    levels = build_encoder("small_vgg", weights="random", channels=(2, 3, 4, 5))(
        torch.zeros(2, 3, 37, 16)
    )
    assert {name: tuple(x.shape) for name, x in levels.items()} == {
        "relu1_1": (2, 2, 37, 16),
        "relu2_1": (2, 3, 18, 8),
        "relu3_1": (2, 4, 9, 4),
        "relu4_1": (2, 5, 4, 2),
    }


def test_frozen_but_differentiable():
    encoder = VGGEncoder((4, 6, 8, 10), (1, 2, 1, 1)).train()
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    encoder(images)["relu4_1"].sum().backward()
    assert images.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in encoder.parameters())


def test_missing_vgg19_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"
    with pytest.raises(UserError, match=naming(VGG19_URL, place, "encoder_weights")):
        build_encoder("vgg19")
    with pytest.raises(UserError, match=naming(tmp_path / "none.pth")):
        build_encoder("vgg19", weights=tmp_path / "none.pth")


def test_vgg19_weights_in_torchs_cache_need_no_path(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    encoder = build_encoder("vgg19", weights="random")
    place = tmp_path / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"
    checkpoints.save(place, encoder.state_dict(), {})
    found = build_encoder().state_dict()
    assert all(torch.equal(value, found[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "vgg16"}, ("encoder", "'vgg16'", "vgg19", "small_vgg")),
        ({"name": "small_vgg"}, ("small_vgg", "weights", "'random'")),
    ],
)
def test_wrong_names(options, words):
    with pytest.raises(UserError, match=naming(*words)):
        build_encoder(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"channels": (1, 2, 3)},
        {"convolutions": (1, 0, 1, 1)},
        {"convolutions": (1, 1, 1, 2)},
    ],
)
def test_wrong_options(options):
    with pytest.raises(ValueError, match=naming(**options)):
        VGGEncoder(**options)
