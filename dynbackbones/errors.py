"""What this package raises when the input, not the code, is at fault."""


class UserError(ValueError):
    """A mistake in something that the user gave: a file, a folder, a config key, an option.

    The message is one line that names the thing, the value and the remedy. Command line tools
    print it without a traceback; any other exception is a defect and keeps its traceback.
    """
