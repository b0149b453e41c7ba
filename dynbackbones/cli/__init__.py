"""The command ``dynbackbones``: `main` has the table of commands, each in a file of its own."""
