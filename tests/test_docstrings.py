"""Every public name shows how it is used, and what docstrings show is true."""

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

import dynbackbones
from dynbackbones.backbones import factory

ROOT = Path(dynbackbones.__file__).parent
PUBLIC = {
    name: value
    for name, value in vars(dynbackbones).items()
    if not name.startswith("_") and not isinstance(value, ModuleType)
}


def examples() -> list[doctest.DocTest]:
    """Those of the whole package; each sees what it imports itself and nothing else."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        if ">>>" in path.read_text(encoding="utf-8"):
            name = ".".join(["dynbackbones", *path.relative_to(ROOT).with_suffix("").parts])
            found += doctest.DocTestFinder().find(importlib.import_module(name), globs={})
    return [test for test in found if test.examples]


def run(test: doctest.DocTest) -> str:
    """What is wrong with the examples; empty if they show the truth."""
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    return "".join(report)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What an example registers is forgotten, and no framework hears of it."""
    monkeypatch.setattr(factory, "_REGISTERED", dict(factory._REGISTERED))
    monkeypatch.setattr(factory, "_VARIANTS", dict(factory._VARIANTS))
    monkeypatch.setattr(factory, "_LISTENERS", [])


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example_that_shows_a_result(name):
    text = PUBLIC[name].__doc__ or ""
    assert "\n    Example:\n" in text
    shown = doctest.DocTestParser().get_examples(text.partition("    Example:\n")[2])
    assert any(example.want for example in shown)


@pytest.mark.parametrize("test", examples(), ids=lambda test: test.name)
def test_examples_do_what_they_show(test):
    assert run(test) == ""


def test_an_example_that_shows_something_else_is_noticed():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert "Expected" in run(test)
