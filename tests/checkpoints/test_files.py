import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from tests.messages import naming


class Malicious:
    """Creates a file when unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_what_is_saved_is_loaded(tmp_path, network):
    path = tmp_path / "new" / "model.pth"
    meta = {"epoch": 3, "name": "x", "rates": [0.5, None], "t": (1, True)}
    checkpoints.save(path, network.state_dict(), meta)
    loaded = checkpoints.load(path)
    assert set(loaded) == {"model", "meta"}
    assert loaded["meta"] == meta
    for key, value in network.state_dict().items():
        assert torch.equal(loaded["model"][key], value)
    assert not any(value.requires_grad for value in loaded["model"].values())


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, network, monkeypatch):
    path = tmp_path / "model.pth"
    checkpoints.save(path, network.state_dict(), {"run": 1})

    def interrupted(data, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(path, network.state_dict(), {"run": 2})
    assert checkpoints.load(path)["meta"] == {"run": 1}
    assert os.listdir(tmp_path) == ["model.pth"]


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"a": [1, {2}]}, ("meta['a'][1]", "set")),
        ({"rate": np.float64(1)}, ("meta['rate']", "float64")),
        ({np.int64(1): 1}, ("key of meta", "int64")),
    ],
)
def test_meta_that_could_not_be_read_back_is_refused(tmp_path, meta, words):
    with pytest.raises(TypeError, match=naming(*words)):
        checkpoints.save(tmp_path / "model.pth", {}, meta)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_a_malicious_torch_file_is_refused_and_not_run(tmp_path, zipped, suffix):
    path, target = tmp_path / f"model{suffix}", tmp_path / "run"
    torch.save({"model": Malicious(target)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=naming(path, ".mkdir", "state_dict")):
        checkpoints.load(path)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists(), "the file was harmless, so the test showed nothing"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol):
    path, target = tmp_path / "model.pkl", tmp_path / "run"
    path.write_bytes(pickle.dumps({"model": Malicious(target)}, protocol))
    with pytest.raises(UserError, match=naming(path, ".mkdir")):
        checkpoints.load(path)
    assert not target.exists()
    pickle.loads(path.read_bytes())
    assert target.exists(), "the file was harmless, so the test showed nothing"


class ArrayOfPointers:
    """Calls `numpy.ndarray` so that eight bytes of the file become a Python object."""

    def __reduce__(self):
        return np.ndarray, ((1,), "O", b"\1" * 8)


class OtherCodec:
    def __reduce__(self):
        import _codecs

        return _codecs.encode, ("x", "rot13")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (ArrayOfPointers(), ("damaged",)),
        (np.array([{}], dtype=object), ("numpy.dtype('O8')",)),
        (OtherCodec(), ("_codecs.encode", "rot13")),
        (np.zeros(2, dtype="i4,i4"), ("numpy.dtype",)),
    ],
)
def test_a_pickle_cannot_misuse_what_arrays_need(tmp_path, value, words):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": value}, protocol=2))
    with pytest.raises(UserError, match=naming(path, *words)):
        checkpoints.load(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_arrays_is_read(tmp_path, protocol):
    path = tmp_path / "model.pkl"
    weights = OrderedDict(
        c=np.arange(6, dtype=np.float32).reshape(2, 3),
        fortran=np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        big_endian=np.arange(3, dtype=">i4"),
        flags=np.array([True, False]),
        empty=np.zeros((0, 3), dtype=np.float16),
        scalar=np.float32(2.5),
        nothing=np.zeros((), dtype=np.int64),
    )
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "someone"}, protocol))
    loaded = checkpoints.load(path)
    assert loaded["__author__"] == "someone"
    for key, value in weights.items():
        np.testing.assert_array_equal(loaded["model"][key], value)
        assert loaded["model"][key].dtype == value.dtype
    state = checkpoints.state_dict_of(loaded)
    assert state["big_endian"].tolist() == [0, 1, 2]
    assert state["scalar"].item() == 2.5
    state["c"][0] = 7  # writable: not a view of the file's bytes


def test_a_pickle_of_python_2_is_read(tmp_path):
    # It wrote array data as text, and NumPy's core went by its old name.
    raw = np.array([1.5, -2.0], dtype="<f4").tobytes()
    data = (
        b"\x80\x02}U\x01w"  # a dictionary, its key
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"  # state: version, shape, type,
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"  # the type's own state,
        b"\x89U" + bytes([len(raw)]) + raw + b"tb"  # row-major, data
        b"s."
    )
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    assert checkpoints.load(path)["w"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("empty", "download")),
        (b"\n <!DOCTYPE html><html>", ("HTML", "download")),
        (b"<HTML><body>", ("HTML",)),
        (b"version https://git-lfs.github.com/spec/v1\noid", ("git lfs pull",)),
        (b"garbage", ("damaged",)),
        (b"PK\x03\x04 cut short", ("damaged",)),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_a_file_that_is_no_checkpoint_says_what_it_is(tmp_path, content, words, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=naming(path, *words)) as caught:
        checkpoints.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_truncated_checkpoint_is_damaged(tmp_path, network, share):
    path = tmp_path / "model.pth"
    checkpoints.save(path, network.state_dict(), {})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=naming(path, "damaged")):
        checkpoints.load(path)


def test_a_missing_file_a_folder_and_a_bare_tensor_are_refused(tmp_path):
    with pytest.raises(UserError, match=naming(tmp_path / "none.pth", "exist")):
        checkpoints.load(tmp_path / "none.pth")
    with pytest.raises(UserError, match=naming(tmp_path, "not a file")):
        checkpoints.load(tmp_path)
    torch.save(torch.ones(1), tmp_path / "tensor.pth")
    with pytest.raises(UserError, match=naming(tmp_path / "tensor.pth", "Tensor", "state_dict()")):
        checkpoints.load(tmp_path / "tensor.pth")


def test_a_file_that_may_not_be_opened_says_so(tmp_path, monkeypatch):
    def refused(*args):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "model.pth").write_bytes(b"x")
    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(UserError, match=naming(tmp_path / "model.pth", "Permission denied")):
        checkpoints.load(tmp_path / "model.pth")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_found_in_every_layout(network, wrap, prefix):
    state = network.state_dict()
    found = checkpoints.state_dict_of(wrap({prefix + key: value for key, value in state.items()}))
    assert found.keys() == state.keys()
    assert torch.equal(found["0.weight"], state["0.weight"])


def test_a_checkpoint_without_weights_is_refused():
    with pytest.raises(UserError, match=naming("a.pth", "epoch, optimizer, seed, ...")):
        checkpoints.state_dict_of({"epoch": 1, "optimizer": {}, "seed": 1, "lr": 1}, "a.pth")
    with pytest.raises(UserError, match=naming("'model'", "empty")):
        checkpoints.state_dict_of({"model": {}})


def test_the_same_architecture_passes(network):
    state = network.state_dict()
    checkpoints.check_architecture(state, state, "a.pth")
    frozen = {key: value for key, value in state.items() if "num_batches" not in key}
    checkpoints.check_architecture(state, frozen, "a.pth")
    checkpoints.check_architecture(frozen, state, "a.pth")


def test_another_architecture_is_refused_with_counts_and_a_few_keys(network):
    state = network.state_dict()
    other = {
        "0.weight": torch.zeros(8, 3, 3, 3),
        "0.bias": state["0.bias"],
        "head.a": torch.zeros(1),
    }
    words = (
        *("a.pth", "architecture", 7, 3, "config"),
        "4 missing (1.bias, 1.running_mean, 1.running_var, ...)",
        "1 unexpected (head.a)",
        "1 of another shape (0.weight (8, 3, 3, 3) instead of (4, 3, 3, 3))",
    )
    with pytest.raises(UserError, match=naming(*words)):
        checkpoints.check_architecture(state, other, "a.pth")


def test_importing_the_module_imports_no_framework():
    script = "import sys, dynbackbones.checkpoints; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"mmengine", "detectron2", "PIL", "sklearn"} & set(loaded)
