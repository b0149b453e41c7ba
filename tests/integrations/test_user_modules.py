import sys

import pytest

from dynbackbones.errors import UserError
from dynbackbones.integrations.user_modules import import_modules
from tests.messages import naming


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The current folder, of which Python knows nothing yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_modules_of_the_current_folder_are_imported_in_order_and_once(here):
    (here / "first_of_mine.py").write_text("count = 0\n")
    (here / "second_of_mine.py").write_text("import first_of_mine\nfirst_of_mine.count += 1\n")
    import_modules(["first_of_mine", "second_of_mine"])
    import_modules(["second_of_mine"])
    assert sys.modules["first_of_mine"].count == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent_of_mine", "", ("no module absent_of_mine",)),
        ("absent.of.mine", "", ("no module absent",)),
        ("mine.py", "", ("module, mine,", "folder")),
        ("faulty_a", "x = y", ("NameError", "'y'", "faulty_a.py, line 1")),
        ("faulty_b", "x = (", ("SyntaxError", "faulty_b.py, line 1")),
        ("faulty_c", "import gone_d", ("ModuleNotFoundError", "'gone_d'", "faulty_c.py, line 1")),
    ],
)
def test_what_cannot_be_imported_is_named(here, name, content, words):
    if content:
        (here / f"{name}.py").write_text(content)
    with pytest.raises(UserError, match=naming(f"--import {name}", *words)) as caught:
        import_modules([name])
    assert "\n" not in str(caught.value)


def test_without_modules_nothing_changes():
    before = [*sys.path]
    import_modules([])
    assert sys.path == before
