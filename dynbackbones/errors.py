"""What this package raises when the input, not the code, is at fault."""


class UserError(ValueError):
    """A mistake in something that the user gave: a file, a folder, a config key, an option.

    The message is one line that names the thing, the value and the remedy. Command line tools
    print it without a traceback; any other exception is a defect and keeps its traceback.
    """


def mistake_in(traceback: str) -> str | None:
    """The message of the `UserError` that a traceback ends with; None if it was a defect.

    A traceback as text is all that other processes leave of an exception.
    """
    last = (traceback.strip().splitlines() or [""])[-1]
    kind = f"{UserError.__module__}.{UserError.__qualname__}: "
    return last.removeprefix(kind) if last.startswith(kind) else None
