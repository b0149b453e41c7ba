"""A package, so that `tests` is this folder to child processes too, whatever else is installed."""
