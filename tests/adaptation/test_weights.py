import pytest
import torch

from dynbackbones import checkpoints
from dynbackbones.adaptation import StyleGenerator, VGGEncoder, load_weights
from dynbackbones.errors import UserError
from tests.messages import naming


def encoder(seed=0):
    torch.manual_seed(seed)
    return VGGEncoder((4, 6, 8, 10), (1, 2, 1, 1))


def generator(seed=0):
    return StyleGenerator(encoder(seed))


def assert_same(module, other):
    state, wanted = module.state_dict(), other.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in state)


def test_parts_of_larger_checkpoints(tmp_path):
    path, trained = tmp_path / "segmentor.pth", generator()
    state = {f"generator.{key}": value for key, value in trained.state_dict().items()}
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(1), **state}}, path)
    other, part = generator(1), encoder(1)
    load_weights(other, path)
    load_weights(part, path)
    assert_same(other, trained)
    assert_same(part, trained.encoder)


def test_urls_are_downloaded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    path = tmp_path / "small.pth"
    checkpoints.save(path, encoder().state_dict(), {})
    for seed in (1, 2):
        found = encoder(seed)
        load_weights(found, path.as_uri())
        assert_same(found, encoder())
        path.unlink(missing_ok=True)


def test_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=naming(tmp_path / "none.pth", "exist")):
        load_weights(encoder(), tmp_path / "none.pth")
    url = (tmp_path / "none.pth").as_uri()
    with pytest.raises(UserError, match=naming(url, "download")):
        load_weights(encoder(), url)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (encoder().state_dict() | {"features.0.bias": torch.zeros(9)}, "features.0.bias"),
        ({"fc.weight": torch.zeros(1)}, "missing"),
        # Which of the two?
        (
            {f"{name}.{k}": v for name in "ab" for k, v in encoder().state_dict().items()},
            "missing",
        ),
    ],
)
def test_weights_of_another_network(tmp_path, state, word):
    path = tmp_path / "other.pth"
    checkpoints.save(path, state, {})
    with pytest.raises(UserError, match=naming(path, "architecture", word)):
        load_weights(encoder(), path)
