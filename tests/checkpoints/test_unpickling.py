import argparse
import collections
import copyreg
import datetime
import io
import os
import pathlib
import pickle
import subprocess

import numpy as np
import pytest
import torch
from torch import nn

from dynbackbones import checkpoints
from dynbackbones.checkpoints.rebuilding import Foreign
from dynbackbones.errors import UserError
from tests.messages import naming

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.arange(2)}


class Plain:
    """Of a module that the reader must not import."""

    def __init__(self):
        self.history = np.arange(3.0)
        self.method = self.nothing

    def nothing(self):
        pass

    def __setstate__(self, state):
        raise AssertionError("run")


class Slots:
    __slots__ = ("value",)

    def __init__(self):
        self.value = 1


class Dictionary(dict):
    def __setitem__(self, key, value):
        raise AssertionError("run")


class Items(list):
    def append(self, item):
        raise AssertionError("run")

    extend = append


class Called:
    def __reduce__(self):
        return Called, (), None, iter([1]), iter([("a", 1)])


HARMLESS = {
    "object": Plain(),
    "slots": Slots(),
    "dictionary": Dictionary(lr=0.1),
    "list": Items([1, 2]),
    "called": Called(),
    "class": nn.Conv2d,
    "module": nn.Conv2d(3, 4, 1),
    "path": pathlib.Path("a"),
    "time": datetime.datetime(2026, 1, 1),
    "options": argparse.Namespace(lr=0.1, path=pathlib.Path("a")),
    "default": collections.defaultdict(list, {"a": [1]}),
    "queue": collections.deque([1, 2]),
    "range": range(3),
    "set": {1, 2},
    "scalar": np.float64(0.5),
    "array": np.arange(1000.0).reshape(10, 100),
    "text array": {"kind": np.dtype("f4")},
    "key": {Plain(): 1},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", HARMLESS)
def test_weights_are_taken_whatever_lies_beside_them(tmp_path, name, protocol, zipped):
    for content in (
        {"model": STATE, name: HARMLESS[name]},
        {name: [(HARMLESS[name],)], "model": STATE, "epoch": 3},
    ):
        torch.save(
            content,
            tmp_path / "a.pth",
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=zipped,
        )
        loaded = checkpoints.load(tmp_path / "a.pth")
        found = checkpoints.state_dict_of(loaded)
        assert found.keys() == STATE.keys()
        assert all(torch.equal(found[key], value) for key, value in STATE.items())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_a_plain_pickle_may_hold_them_too(tmp_path, protocol, suffix):
    state = {key: value.numpy() for key, value in STATE.items()}
    content = {"model": state, **HARMLESS, "slots": None}
    del content["class"], content["module"]  # tensors need torch's format
    path = tmp_path / f"a{suffix}"
    path.write_bytes(pickle.dumps(content, protocol))
    found = checkpoints.state_dict_of(checkpoints.load(path))
    assert all(torch.equal(found[key], value) for key, value in STATE.items())
    assert {f"{__name__}.Plain", "pathlib.PosixPath", "argparse.Namespace"} < set(found.foreign)
    assert checkpoints.load(path)["dictionary"]["lr"] == 0.1


def test_what_was_not_loaded_is_named(tmp_path):
    torch.save({"model": STATE, "a": [HARMLESS["object"]], "b": nn.ReLU()}, tmp_path / "a.pth")
    found = checkpoints.state_dict_of(checkpoints.load(tmp_path / "a.pth"))
    assert found.foreign == (f"{__name__}.Plain", "torch.nn.modules.activation.ReLU")
    assert list(found.remarks()) == [f"not loaded: {', '.join(found.foreign)}"]


def test_what_is_data_keeps_its_values(tmp_path):
    torch.save({"model": STATE, **HARMLESS}, tmp_path / "a.pth")
    loaded = checkpoints.load(tmp_path / "a.pth")
    assert dict(loaded["dictionary"]) == {"lr": 0.1}
    assert loaded["default"] == {"a": [1]} and loaded["set"] == {1, 2}
    assert loaded["scalar"] == 0.5 and type(loaded["scalar"]) is np.float64
    np.testing.assert_array_equal(loaded["array"], HARMLESS["array"])
    assert isinstance(loaded["object"], Foreign) and not loaded["object"]


def test_weights_in_a_class_of_dictionaries(tmp_path):
    torch.save({"model": Dictionary(STATE)}, tmp_path / "a.pth")
    found = checkpoints.state_dict_of(checkpoints.load(tmp_path / "a.pth"))
    assert found.keys() == STATE.keys()


def test_tensors_of_all_kinds_beside_a_foreign_object(tmp_path):
    state = {
        "parameter": nn.Parameter(torch.ones(2, 2)),
        "view": torch.arange(12.0).reshape(3, 4).t()[1:],
        "half": torch.ones(3, dtype=torch.bfloat16),
        "small": torch.ones(3).to(torch.float8_e4m3fn),
        "flag": torch.tensor(True),
    }
    marked = nn.Parameter(torch.ones(2, 2))
    marked.note = "a"
    state["marked"] = marked
    torch.save({"model": state, "extra": HARMLESS["object"]}, tmp_path / "a.pth")
    found = checkpoints.state_dict_of(checkpoints.load(tmp_path / "a.pth"))
    for key, value in state.items():
        assert type(found[key]) is torch.Tensor and found[key].dtype == value.dtype
        assert torch.equal(found[key].float(), value.detach().float())


def test_versions_of_layers_stay_with_the_weights(tmp_path):
    state = nn.BatchNorm2d(3).state_dict()
    torch.save({"state_dict": state, "extra": HARMLESS["object"]}, tmp_path / "a.pth")
    assert checkpoints.load(tmp_path / "a.pth")["state_dict"]._metadata == state._metadata


class Calls:
    """What a file would do, by a name of a module and its arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def pickled(content, path):
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        (os.mkdir,),
        (os.system,),
        (eval,),
        (exec,),
        (open,),
        (io.open,),
        (__import__,),
        (subprocess.getoutput,),
        (subprocess.Popen,),
        (copyreg.add_extension,),
        (pickle.loads,),
        (os.putenv, "A"),
    ],
)
@pytest.mark.parametrize("write", [torch.save, pickled])
def test_what_does_something_is_refused_wherever_it_stands(tmp_path, call, beside, write):
    function, *arguments = call
    call = Calls(function, *arguments, "__import__('os').mkdir('run')")
    content = {"model": {}, "note": [call]} if beside else {"model": {"weight": call}}
    write(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=naming("a.pth", function.__name__, "state_dict")):
        checkpoints.load(tmp_path / "a.pth")


def test_a_foreign_object_among_the_weights_is_refused(tmp_path):
    torch.save({"model": {**STATE, "fc.weight": HARMLESS["object"]}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=naming("fc.weight", f"{__name__}.Plain")):
        checkpoints.state_dict_of(checkpoints.load(tmp_path / "a.pth"))


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_whole_module_is_named_and_refused(tmp_path, wrapped):
    module = nn.Linear(1, 1)
    torch.save({"model": module} if wrapped else module, tmp_path / "a.pth")
    with pytest.raises(UserError, match=naming("torch.nn.modules.linear.Linear", "state_dict")):
        checkpoints.state_dict_of(checkpoints.load(tmp_path / "a.pth"))


# Opcodes by which a file would reach what it was given.
ATTACKS = {
    "a state for a builder": b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",
    "a state for a class": b"ctorch.storage\nUntypedStorage\n}X\x01\x00\x00\x00aK\x01sb.",
    "a call of a class": b"ctorch.storage\nUntypedStorage\nK\x01\x85R.",
    "an object of a class": b"ctorch.storage\nUntypedStorage\n)\x81.",
    "the oldest call": b"(ctorch.storage\nUntypedStorage\no.",
    "its relative": b"(itorch.storage\nUntypedStorage\n.",
    "a name by number": b"\x82\x01.",
    "a reference": b"(X\x06\x00\x00\x00threadcos\nsystem\nX\x01\x00\x00\x00aX\x01\x00\x00\x00btQ.",
    "items for a tuple": b")K\x01a.",
    "an item of a list": b"]K\x00K\x01s.",
    "a setting of an ordered dictionary": b"ccollections\nOrderedDict\n)RK\x01b.",
    "an array as a call": b"cnumpy\nndarray\n(K\x01X\x01\x00\x00\x00OtR.",
    "an array of objects": b"cnumpy\ndtype\nX\x02\x00\x00\x00O8K\x00K\x01\x87R.",
    "another codec": b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    "many bytes": b"cbuiltins\nbytes\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_no_opcode_reaches_what_stands_for_names(tmp_path, name):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02" + ATTACKS[name])
    with pytest.raises(UserError, match=naming("a.pkl")) as error:
        checkpoints.load(path)
    assert "dictionary" not in str(error.value), "the pickle was read"
