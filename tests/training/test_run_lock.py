import multiprocessing
import os
import signal
import socket
import time

import pytest

from dynbackbones.errors import UserError
from dynbackbones.training.run_lock import LOCK, locked
from tests.messages import naming

FORK = multiprocessing.get_context("fork")


def _hold(folder, ready):
    with locked(folder):
        ready.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """Another process that runs in the folder."""
    ready = FORK.Event()
    process = FORK.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


def test_a_second_run_is_refused(holder, tmp_path):
    words = (tmp_path, f"process {holder.pid}", socket.gethostname())
    for _ in range(2):
        with pytest.raises(UserError, match=naming(*words)), locked(tmp_path):
            pytest.fail("two runs in one folder")
    assert (tmp_path / LOCK).exists()


def test_the_lock_goes_with_a_killed_run(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on")
    assert not (tmp_path / LOCK).exists()


def test_processes_that_load_data_do_not_keep_the_lock(tmp_path):
    with locked(tmp_path):
        child = FORK.Process(target=time.sleep, args=(60,))
        child.start()
    ready = FORK.Event()
    process = FORK.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    for one in (process, child):
        one.kill()
        one.join()


def test_the_folder_is_left_as_it_was(tmp_path):
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "log").touch()
    assert os.listdir(tmp_path / "a") == ["log"]


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    (tmp_path / ".iter_2.pth.abc.partial").touch()
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_folder_where_nobody_may_write():
    mistake = naming("/sys/run", "name another folder")
    with pytest.raises(UserError, match=mistake), locked("/sys/run"):
        pytest.fail("a run in /sys")
