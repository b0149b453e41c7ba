"""How a command ends: a mistake of the user in one line."""

import io
import signal
import sys
from collections.abc import Callable

from dynbackbones.errors import UserError
from dynbackbones.training.stopping import Stopped

# By what they are imported as: what they are called, and the extra they come with.
_OPTIONAL = {
    "PIL": ("pillow", "detection"),
    "cv2": ("opencv-python-headless", "detection"),
    "matplotlib": ("matplotlib", "demo"),
    "mmcv": ("onedl-mmcv", "openmmlab"),
    "mmengine": ("onedl-mmengine", "detection"),
    "mmpretrain": ("onedl-mmpretrain", "openmmlab"),
    "mmseg": ("onedl-mmsegmentation", "openmmlab"),
    "onnx": ("onnx", "export"),
    "onnxruntime": ("onnxruntime", "export"),
    "pycocotools": ("pycocotools", "detection"),
    "sklearn": ("scikit-learn", "demo"),
    "tensorboard": ("tensorboard", "detection"),
}


def run(main: Callable[[], None]) -> None:
    """Call ``main``; a mistake of the user ends in one line and exit code 2.

    So do an optional package that is missing, what may not be read or written, a folder where a
    file should be, and a training that a signal stopped, with the code that shells have for it.
    Errors of the program itself keep their traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may be no text, which the stream of errors can print already.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
    except UserError as error:
        print(f"error: {_message(error)}", file=sys.stderr)
        sys.exit(2)
    except (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        if error.filename is None:
            raise
        problem = UserError(f"{error.filename}: {error.strerror}; allow it, or name another path")
        print(f"error: {_message(problem)}", file=sys.stderr)
        sys.exit(2)
    except ImportError as error:
        missing = _missing(error)
        if missing is None:
            raise
        package, extra = _OPTIONAL[missing]
        remedy = f"run pip install 'dynbackbones[{extra}]'"
        print(f"error: {package} is needed and not installed: {remedy}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped.message, file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _message(error: UserError) -> str:
    """The one line of an error; data loader workers put their traceback before it."""
    text, kind = str(error).strip(), type(error)
    _, _, last = text.rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
    return "\\n".join(last.splitlines())  # of names with line breaks, say


def _missing(error: BaseException | None) -> str | None:
    """The optional package whose absence an error comes from, which libraries may have reworded."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name in _OPTIONAL:
            return error.name
        error = error.__cause__ or error.__context__
    return None
