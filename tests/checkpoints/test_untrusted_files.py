"""Files of unknown origin: none runs, none writes, and each is read or refused in one line."""

import io

import torch
from hypothesis import given
from hypothesis import strategies as st

from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from tests.fuzzing import fuzz


def torch_file(content, zipped=True):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


WEIGHTS = {"model": {"conv.weight": torch.arange(6.0).reshape(2, 3)}, "meta": {"epoch": 3}}
FILES = [torch_file(WEIGHTS), torch_file(WEIGHTS, zipped=False)]


@fuzz(examples=60)
@given(
    data=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=4),
    length=st.floats(0, 1),
    suffix=st.sampled_from([".pth", ".pkl"]),
)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, data, changes, length, suffix):
    content = bytearray(data)
    for place, new in changes:
        start = int(place * len(content))
        content[start : start + len(new)] = new
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content[: max(1, round(length * len(content)))])
    try:
        assert isinstance(checkpoints.load(path), dict)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
