"""Command line of ``dynbackbones blockdrop-table``."""

from dynbackbones.experiments.policy_table import main as main
