"""Command line of ``dynbackbones compare``."""

from dynbackbones.experiments.comparison import main as main
