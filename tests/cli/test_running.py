import os

import pytest

from dynbackbones.cli import running
from dynbackbones.errors import UserError
from tests.messages import names


def test_user_errors_are_one_line_and_exit_code_2(capsys):
    def main():
        raise UserError("folder /x does not exist; make it")

    with pytest.raises(SystemExit) as exit_:
        running.run(main)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: folder /x does not exist; make it\n"


def test_user_errors_of_data_loader_workers_are_one_line(capsys):
    def main():
        raise UserError(
            "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent "
            'call last):\n  File "x.py"\ndynbackbones.errors.UserError: image a.jpg is truncated\n'
        )

    with pytest.raises(SystemExit):
        running.run(main)
    assert capsys.readouterr().err == "error: image a.jpg is truncated\n"


def test_names_with_line_breaks_stay_one_line(capsys):
    worker = "Caught it\nTraceback\ndynbackbones.errors.UserError: "

    def main(message):
        raise UserError(message)

    for before in ("", worker):
        with pytest.raises(SystemExit):
            running.run(lambda before=before: main(f"{before}image a\nb.jpg is truncated"))
        assert capsys.readouterr().err == "error: image a\\nb.jpg is truncated\n"


@pytest.mark.parametrize(
    "kind", [PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError]
)
def test_what_the_system_refuses_to_open_is_one_line(capsys, kind):
    def main():
        raise kind(1, "Not that", "/x/a\nb")

    with pytest.raises(SystemExit) as exit_:
        running.run(main)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and names(error, "/x/a\\nb", "Not that", "name")


def test_names_that_are_no_text_are_printed(capfdbinary):
    running.run(lambda: print(os.fsdecode(b"/x/\xff.jpg")))
    assert b"/x/" in capfdbinary.readouterr().out


def test_errors_of_the_system_without_a_file_are_defects():
    def main():
        raise PermissionError("of a socket")

    with pytest.raises(PermissionError, match="socket"):
        running.run(main)


def test_defects_keep_their_traceback():
    def main():
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        running.run(main)


def test_an_optional_package_that_is_missing_is_one_line(capsys):
    def main():
        try:
            raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
        except ImportError as error:
            raise ImportError("please install it") from error

    with pytest.raises(SystemExit) as exit_:
        running.run(main)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and names(error, "scikit-learn", "dynbackbones[demo]")


def test_other_modules_that_are_missing_keep_their_traceback():
    def main():
        raise ModuleNotFoundError("No module named 'mmcv._ext'", name="mmcv._ext")

    with pytest.raises(ModuleNotFoundError, match="_ext"):
        running.run(main)
