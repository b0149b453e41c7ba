"""Files of unknown origin: none runs, none writes, and each is read or refused in one line."""

import argparse
import collections
import contextlib
import datetime
import enum
import functools
import io
import os
import pathlib
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from tests.fuzzing import fuzz
from tests.messages import naming
from tests.watch import watched

safetensors_torch = pytest.importorskip("safetensors.torch")  # of the dev extra


def torch_file(content, zipped=True):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


WEIGHTS = {"model": {"conv.weight": torch.arange(6.0).reshape(2, 3)}, "meta": {"epoch": 3}}
FILES = {
    "zip": torch_file(WEIGHTS),
    "legacy": torch_file(WEIGHTS, zipped=False),
    "zip with others": torch_file({**WEIGHTS, "extra": nn.ReLU()}),
    "legacy with others": torch_file({**WEIGHTS, "extra": nn.ReLU()}, zipped=False),
    "pickle": pickle.dumps({"w": WEIGHTS["model"]["conv.weight"].numpy()}),
    "safetensors": safetensors_torch.save(WEIGHTS["model"]),
}
SUFFIXES = [".pth", ".pkl", ".safetensors", ".t7"]


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory):
    """Whatever reading imports is imported before anybody watches."""
    folder = tmp_path_factory.mktemp("first")
    for suffix in SUFFIXES:
        for number, content in enumerate(FILES.values()):
            (folder / f"{number}{suffix}").write_bytes(content)
            with contextlib.suppress(UserError):
                checkpoints.load(folder / f"{number}{suffix}")


def check(folder, content, suffix=".pth"):
    """Reads a file under watch: nothing happens, and what it ends in is a dictionary or one line.

    Returns:
        The error's message; None where it was read.
    """
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    path = folder / f"model{suffix}"
    path.write_bytes(content)
    message = None
    with watched() as events:
        try:
            loaded = checkpoints.load(path)
        except UserError as error:
            message = str(error)
    done = [event for event in events if event != f"open {path}" and "encodings" not in event]
    assert done == []
    assert os.listdir(folder) == [path.name]
    if message is None:
        assert isinstance(loaded, dict)
        try:
            checkpoints.state_dict_of(loaded, f"checkpoint {path}")
        except UserError as error:
            message = str(error)
    if message is not None:
        assert str(path) in message and "\n" not in message
    return message


def test_the_watch_sees_what_happens(tmp_path):
    path = tmp_path / "a.pth"
    for act in (lambda: os.mkdir(tmp_path / "a"), lambda: eval("1"), lambda: path.write_text("")):
        with watched() as events:
            act()
        assert events


@fuzz(examples=60)
@given(
    data=st.sampled_from(list(FILES)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=4),
    length=st.floats(0, 1),
    suffix=st.sampled_from(SUFFIXES),
)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, data, changes, length, suffix):
    content = bytearray(FILES[data])
    for place, new in changes:
        start = int(place * len(content))
        content[start : start + len(new)] = new
    check(tmp_path / data, content[: max(1, round(length * len(content)))], suffix)


# What pickles are made of, so that many of them do something.

NAMES = st.sampled_from(
    """
    os system,posix system,nt system,builtins eval,builtins exec,__builtin__ eval,io open,
    builtins getattr,builtins __import__,commands getoutput,subprocess Popen,pathlib Path,
    shutil rmtree,runpy run_path,ctypes CDLL,importlib import_module,operator methodcaller,
    functools partial,os.path join,pickle loads,tempfile mkdtemp,antigravity a,
    torch load,torch.hub load,torch save,torch.jit load,numpy load,numpy save,
    dynbackbones.checkpoints.unpickling load,a_module_that_is_not_there Kind,argparse Namespace,
    torch._utils _rebuild_tensor_v2,torch._utils _rebuild_parameter,torch FloatStorage,
    torch._tensor _rebuild_from_type_v2,torch.storage UntypedStorage,torch float32,torch Size,
    numpy dtype,numpy ndarray,numpy.core.multiarray _reconstruct,numpy._core.multiarray scalar,
    numpy._core.numeric _frombuffer,_codecs encode,collections OrderedDict,
    collections defaultdict,collections Counter,copyreg _reconstructor,copy_reg _reconstructor,
    builtins bytearray,builtins set,builtins bytes
    """.replace("\n", "").replace("    ", "").split(",")
).map(str.encode)
TEXT = st.sampled_from(["touch run", "../run", "w", "storage", "module", "cpu", "0", "f4", ""])


def text_of(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


CONSTANTS = st.one_of(
    TEXT.map(text_of),
    st.integers(0, 255).map(lambda n: b"K" + bytes([n])),
    st.integers(-(2**31), 2**31 - 1).map(lambda n: b"J" + struct.pack("<i", n)),
    st.binary(max_size=6).map(lambda b: b"C" + bytes([len(b)]) + b),
    st.integers(0, 2**80).map(lambda n: b"\x8a\x0b" + n.to_bytes(11, "little")),
    st.sampled_from([b"N", b"]", b"}", b")", b"\x8f", b"\x88", b"\x89"]),
)
GLOBALS = st.one_of(
    NAMES.map(lambda name: b"c" + name.replace(b" ", b"\n") + b"\n"),
    NAMES.map(lambda n: b"".join(text_of(part.decode()) for part in n.split()) + b"\x93"),
)
CALL = st.builds(
    lambda name, arguments, how: name + b"(" + b"".join(arguments) + b"t" + how,
    GLOBALS,
    st.lists(CONSTANTS, max_size=4),
    st.sampled_from([b"R", b"\x81", b"}\x92"]),
)
STORAGE = st.builds(
    lambda parts: b"(" + text_of("storage") + b"".join(parts) + b"tQ",
    st.lists(st.one_of(GLOBALS, CONSTANTS), min_size=3, max_size=5),
)
# The rest: states, items, sets, pairs, the memo, references, the oldest calls, names by number.
OPERATIONS = st.one_of(
    st.sampled_from([b"b", b"a", b"s", b"(e", b"(u", b"(\x90", b"\x85", b"\x86", b"0", b"2"]),
    st.sampled_from([b"(", b"t", b"e", b"u", b"d", b"l", b"o", b"Q", b"Prun\n", b"\x82\x01"]),
    st.sampled_from([b"R", b"\x81"]),
    st.integers(0, 3).flatmap(
        lambda n: st.sampled_from([b"q" + bytes([n]), b"h" + bytes([n]), b"\x94"])
    ),
    NAMES.map(lambda name: b"i" + name.replace(b" ", b"\n") + b"\n"),
)
PICKLES = st.builds(
    lambda protocol, parts, whole: (
        b"\x80" + bytes([protocol]) + (b"}" if whole else b"") + b"".join(parts) + b"."
    ),
    st.sampled_from([0, 2, 4, 5]),
    st.lists(st.one_of(CALL, CALL, GLOBALS, CONSTANTS, STORAGE, OPERATIONS), max_size=12),
    st.booleans(),
)


@fuzz(examples=150)
@given(
    data=PICKLES,
    suffix=st.sampled_from(SUFFIXES),
    packed=st.sampled_from(["", "zip", "legacy"]),
)
def test_no_pickle_does_anything(tmp_path, data, suffix, packed):
    if packed == "zip":
        data = archive({"archive/data.pkl": data, "archive/version": b"3\n"})
    elif packed == "legacy":
        start = FILES["legacy"]
        begin = start.index(b"\x80\x02}q\x00(X\x05\x00\x00\x00model")
        data = start[:begin] + data + start[begin:]
    check(tmp_path / "in", data, suffix)


class Kind:
    """Of which files hold objects, with all that an object can have."""

    def __init__(self, *parts):
        self.parts = parts


class Kinds(dict):
    pass


class Slotted:
    __slots__ = ("parts",)

    def __init__(self, *parts):
        self.parts = parts


LEAVES = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.sampled_from([Kind, len, nn.ReLU(), range(3), pathlib.Path("a"), datetime.date.max, {1, 2}]),
    st.sampled_from([np.float32(1), np.arange(3), np.dtype("f4"), torch.ones(2), torch.float32]),
    st.sampled_from([collections.deque([1]), collections.Counter("ab"), argparse.Namespace(a=1)]),
    st.sampled_from([enum.Enum("A", "b"), torch.device("cpu"), slice(1), 1j, ValueError("a")]),
)
ANYTHING = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.lists(parts, max_size=3),
        st.dictionaries(st.text(max_size=3), parts, max_size=3),
        st.lists(parts, max_size=3).map(tuple),
        st.builds(Kind, parts, parts),
        st.builds(Slotted, parts),
        st.dictionaries(st.text(max_size=3), parts, max_size=3).map(Kinds),
        st.dictionaries(st.text(max_size=3), parts, max_size=3).map(collections.OrderedDict),
        parts.map(lambda part: collections.defaultdict(list, a=part)),
        parts.map(lambda part: functools.partial(Kind, part)),
    ),
    max_leaves=8,
)


@fuzz(examples=100)
@given(
    beside=st.dictionaries(st.text(), ANYTHING, max_size=3),
    key=st.sampled_from(["model", "state_dict"]),
    protocol=st.sampled_from([2, 4, 5]),
    zipped=st.booleans(),
)
def test_whatever_lies_beside_them_weights_are_taken(tmp_path, beside, key, protocol, zipped):
    buffer = io.BytesIO()
    content = {**beside, key: WEIGHTS["model"]}
    try:
        torch.save(
            content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped
        )
    except (pickle.PicklingError, TypeError, AttributeError):  # not even Python can
        return
    message = check(tmp_path / "in", buffer.getvalue())
    assert message is None or "builtins.len" in message
    if message is None:
        loaded = checkpoints.load(tmp_path / "in" / "model.pth")
        found = checkpoints.state_dict_of(loaded)
        assert torch.equal(found["conv.weight"], WEIGHTS["model"]["conv.weight"])


def archive(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def members_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


@fuzz(examples=60)
@given(
    source=st.sampled_from(["zip", "zip with others"]),
    names=st.lists(
        st.sampled_from(["../run", "/tmp/run", "archive/../../run", "archive/data/1", "C:\\run"]),
        max_size=3,
    ),
    key=st.sampled_from(["0", "../run", "../../run", "/etc/passwd", "0/../0"]),
    size=st.sampled_from([6, 0, -1, 10**6, 2**40, 2**62]),
    compression=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_no_archive_reaches_outside(tmp_path, source, names, key, size, compression):
    members = members_of(FILES[source])
    content = members["archive/data.pkl"]
    at = content.index(text_of("cpu"))
    number = b"\x8a\x09" + size.to_bytes(9, "little", signed=True)
    members["archive/data.pkl"] = (
        content[:at].replace(text_of("0"), text_of(key)) + content[at:].replace(b"K\x06", number, 1)
    )
    message = check(tmp_path / "in", archive(members | dict.fromkeys(names, b"x"), compression))
    if key == "0" and size == 6 and not names:
        assert message is None
    elif key != "0" or size != 6:
        assert message is not None


def test_archives_that_would_fill_the_memory(tmp_path):
    members = members_of(FILES["zip"]) | {"archive/data/1": b"\0" * 2**27}
    message = check(tmp_path / "in", archive(members, zipfile.ZIP_DEFLATED))
    assert str(2**27 + 352)[:4] in message and "unpack" in message
    for repeated in (torch.zeros(1).expand(2**40), torch.zeros(1, 1).expand(2**20, 2**20)):
        message = check(tmp_path / "in", torch_file({"model": {"conv.weight": repeated}}))
        assert "conv.weight" in message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_tar_archive_is_not_unpacked(tmp_path, suffix):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name in ("storages", "tensors", "pickle", "../run"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            file.addfile(entry, io.BytesIO(b"\x80\x02K."))
        link = tarfile.TarInfo("storages")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    message = check(tmp_path / "in", buffer.getvalue(), suffix)
    assert "tar archive" in message or suffix == ".safetensors"


@fuzz(examples=40)
@given(
    header=st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda kind, shape, offsets: (
                f'{{"w": {{"dtype": "{kind}", "shape": {shape}, "data_offsets": {offsets}}}}}'
            ).encode(),
            st.sampled_from(["F32", "BF16", "I64", "F99", "../run"]),
            st.lists(st.integers(-1, 2**40), max_size=3),
            st.lists(st.integers(-1, 2**40), max_size=3),
        ),
    ),
    length=st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    body=st.binary(max_size=24),
)
def test_no_safetensors_file_does_anything(tmp_path, header, length, body):
    length = len(header) if length is None else length
    check(tmp_path / "in", struct.pack("<Q", length) + header + body, ".safetensors")


def test_safetensors_are_read(tmp_path, monkeypatch):
    net = dynbackbones.build_backbone("cifar_resnet20")
    safetensors_torch.save_file(net.state_dict(), tmp_path / "a.safetensors")
    other = dynbackbones.build_backbone("cifar_resnet20")
    dynbackbones.load_weights(other, tmp_path / "a.safetensors")
    assert torch.equal(other.conv1.weight, net.conv1.weight)
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    with pytest.raises(UserError, match=naming("a.safetensors", "pip install safetensors")):
        checkpoints.load(tmp_path / "a.safetensors")


OTHER_FORMATS = {
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "gzip": (b"\x1f\x8b\x08\0", "compressed"),
    "zip of files": (archive({"model.pth": b"x"}), "unpack it"),
}


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_another_format_is_called_by_its_name(tmp_path, name):
    content, word = OTHER_FORMATS[name]
    assert word in check(tmp_path / "in", content)


def test_a_program_is_not_run(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "a.pth")
    with pytest.raises(UserError, match=naming("a.pth", "TorchScript", "state_dict")):
        checkpoints.load(tmp_path / "a.pth")


def test_tensors_that_are_no_weights(tmp_path):
    for tensor in (
        torch.ones(2, 2).to_sparse(),
        torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.quint8),
        torch.ones(2, 2, device="meta"),
    ):
        torch.save({"model": {"conv.weight": tensor}}, tmp_path / "a.pth")
        with pytest.raises(UserError, match=naming("a.pth", "conv.weight")):
            checkpoints.load_weights(dynbackbones.build_backbone("resnet18"), tmp_path / "a.pth")


def test_a_site_that_forbids_the_second_way_of_reading(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(FILES["zip with others"])
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(UserError, match=naming("a.pth", "TORCH_FORCE_WEIGHTS_ONLY_LOAD")):
        checkpoints.load(tmp_path / "a.pth")
