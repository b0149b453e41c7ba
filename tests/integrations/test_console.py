"""What reaches the console, and that nobody else's is touched."""

import io
import logging
import os
import subprocess
import sys
import warnings

from dynbackbones.integrations import console


def logger_of_a_framework(tmp_path):
    """A logger with a console and a file."""
    logger = logging.Logger("any")
    for handler in (logging.StreamHandler(sys.stdout), logging.FileHandler(tmp_path / "log.txt")):
        handler.setFormatter(logging.Formatter("framework: %(message)s"))
        logger.addHandler(handler)
    return logger


def test_the_console_has_what_is_for_people_and_the_file_everything(tmp_path, capsys):
    logger = logger_of_a_framework(tmp_path)
    console.quieten(logger, lambda record: record.getMessage().startswith("table"))
    console.quieten(logger)  # a second run in the same process
    logger.info("environment")
    logger.info("loaded weights", extra=console.TO_CONSOLE)
    logger.info("table")
    logger.warning("a file is missing")
    logger.warning('"FileClient" will be deprecated in future.')
    assert capsys.readouterr().out == "loaded weights\ntable\nwarning: a file is missing\n"
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert len(lines) == 5
    assert all(line.startswith("framework: ") for line in lines)


def test_libraries_are_silent_here_and_in_processes_started_later(monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:theirs")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        console.silence_libraries()
        console.silence_libraries()
        warnings.warn("torch.meshgrid: in an upcoming release, ...", stacklevel=1)
        warnings.warn("the rate stays at 1", stacklevel=1)
    assert [str(one.message) for one in caught] == ["the rate stays at 1"]
    rules = os.environ["PYTHONWARNINGS"].split(",")
    assert rules[0] == "ignore:theirs"
    assert len(rules) == len(set(rules)) == 1 + len(console._WARNINGS)
    code = (
        "import warnings\n"
        "warnings.warn('`torch.jit.script` is deprecated. Please ...', FutureWarning)\n"
        "warnings.warn('a user can act on this')"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stderr.count("Warning: ") == 1
    assert "a user can act on this" in process.stderr


def test_a_console_that_is_gone_ends_nothing(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    console.say("iter 20/60")


def test_importing_the_package_leaves_warnings_and_loggers_alone():
    code = (
        "import logging, os, warnings\n"
        "before = list(warnings.filters)\n"
        "import dynbackbones.integrations.console\n"
        "import dynbackbones.integrations.openmmlab, dynbackbones.cli.train\n"
        "from mmengine.logging import MMLogger\n"
        "ours = [rule for rule in warnings.filters if rule not in before and rule[1]\n"
        "        and rule[1].match('torch.meshgrid')]\n"
        "filters = [f for h in MMLogger.get_instance('a').handlers for f in h.filters]\n"
        "print(ours, 'PYTHONWARNINGS' in os.environ,\n"
        "      [type(f).__module__ for f in filters if 'dynb' in type(f).__module__])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert process.stdout.splitlines()[-1] == "[] False []"
