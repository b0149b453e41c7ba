"""How a command ends: a mistake of the user in one line."""

import signal
import sys
from collections.abc import Callable

from dynbackbones.errors import UserError
from dynbackbones.training.stopping import Stopped


def run(main: Callable[[], None]) -> None:
    """Call ``main``; a mistake of the user ends in one line and exit code 2.

    So does a training that a signal stopped, with the code that shells have for it. Errors of the
    program itself keep their traceback.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {_message(error)}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped.message, file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _message(error: UserError) -> str:
    """The one line of an error; data loader workers put their traceback before it."""
    lines = str(error).strip().splitlines() or [""]
    kind = type(error)
    return lines[-1].removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")
