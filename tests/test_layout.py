"""Tests lie where what they test lies."""

from pathlib import Path

import dynbackbones

TESTS = Path(__file__).parent
PACKAGE = Path(dynbackbones.__file__).parent

# What is about the package as a whole lies on top, and what is about the tests.
WHOLE = {"docs", "docstrings", "doors", "import", "readme", "registered_backbone", "rooms", "wheel"}
TOOLS = {"layout", "messages"}
# What is about the package as a whole too, but needs such a machine.
MACHINES = {"gpu"}


def misplaced(tests: Path, package: Path) -> list[str]:
    """Test files whose folder the package does not have, or, on top, whose module."""
    modules = WHOLE | TOOLS | {path.stem for path in package.glob("*.py")}
    found = []
    for path in sorted(tests.rglob("test_*.py")):
        folder = path.parent.relative_to(tests)
        on_top = folder == Path() and path.stem.removeprefix("test_") not in modules
        known = (package / folder / "__init__.py").is_file() or str(folder) in MACHINES
        if on_top or not known:
            found.append(path.relative_to(tests).as_posix())
    return found


def test_tests_mirror_the_package():
    assert misplaced(TESTS, PACKAGE) == []


def test_a_misplaced_file_is_noticed(tmp_path):
    placed = ("test_rooms.py", "layers/test_stem.py", "gpu/test_check.py")
    for name in (*placed, "test_losses.py", "losses/test_it.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert misplaced(tmp_path, PACKAGE) == ["losses/test_it.py", "test_losses.py"]


def test_file_names_are_unique():
    names = sorted(path.name for path in TESTS.rglob("test_*.py"))
    assert sorted(set(names)) == names


def test_only_the_top_is_a_package():
    assert list(TESTS.rglob("__init__.py")) == [TESTS / "__init__.py"]
