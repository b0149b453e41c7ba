"""Command lines; the files in ``tools/`` call them."""
