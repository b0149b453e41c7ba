import subprocess
import sys

import pytest

from dynbackbones.inference.allocator import VARIABLES, tune_allocator

FAULTS = """
import resource, sys, torch
import dynbackbones
if sys.argv[1] == "tuned":
    assert dynbackbones.tune_allocator()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
before = faults()
for _ in range(5):
    torch.ones(2**24)
print(faults() - before)
"""


def faults(kind):
    run = [sys.executable, "-c", FAULTS, kind]
    return int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_memory_of_large_tensors_is_kept(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert faults("tuned") < faults("default") / 5


@pytest.mark.parametrize("name", VARIABLES)
def test_what_users_have_set_holds(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    assert tune_allocator() is False


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert tune_allocator() is False
