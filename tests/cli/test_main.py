"""The command ``dynbackbones``, by which all commands are found, and ``--import``."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dynbackbones
from dynbackbones.cli.main import COMMANDS, main
from tests.messages import names

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def typed(monkeypatch, capsys):
    """Runs the command in this process; returns its exit code, and what it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/dynbackbones", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr()

    return run


def test_the_list_of_commands(typed):
    for words in ((), ("--help",)):
        code, printed = typed(*words)
        assert code == 0
        for name, command in COMMANDS.items():
            assert re.search(rf"^  {name} +{command.purpose}$", printed.out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_of_its_own_and_imports(typed, name):
    if COMMANDS[name].needs:
        pytest.importorskip("mmpretrain")
    code, printed = typed(name, "--help")
    assert code == 0
    assert f"usage: dynbackbones {name} " in printed.out
    assert "--import MODULE" in printed.out


def test_the_version(typed):
    code, printed = typed("--version")
    assert (code, printed.out) == (0, f"dynbackbones {dynbackbones.__version__}\n")


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("trian", "train"),
        ("train_net", "train-net"),
        ("convert_checkpoint", "convert"),
        ("zzz", "train-net, train, test"),
    ],
)
def test_an_unknown_command_is_refused_with_the_nearest(typed, word, remedy):
    code, printed = typed(word)
    assert code == 2
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert names(printed.err, word, remedy)


def test_what_a_command_needs_is_said(typed, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, printed = typed("train", "config.py")
    assert code == 2
    assert names(printed.err, "engine openmmlab", "mmengine, cv2", "pip install")


def test_python_m_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "dynbackbones", "convert", "a.pth"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("usage: dynbackbones convert ")


def test_the_console_script_is_the_command():
    code = (
        "import setuptools\n"
        "from distutils.core import run_setup\n"
        "print(run_setup('setup.py', stop_after='init').entry_points)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (script,) = re.findall(r"'dynbackbones = (.*?)'", result.stdout)
    entry = importlib.metadata.EntryPoint("dynbackbones", script, "console_scripts")
    assert entry.load() is main


def test_every_tool_is_a_command():
    called = {}
    for tool in (ROOT / "tools").glob("*.py"):
        (called[tool.stem],) = re.findall(r'main\("(.*)"\)', tool.read_text())
    renamed = {"convert-checkpoint": "convert"}
    for stem, name in called.items():
        dashed = stem.replace("_", "-")
        assert name == renamed.get(dashed, dashed)
    # In a checkout the configs are there to be seen.
    assert set(called.values()) == set(COMMANDS) - {"configs"}
