"""Conversion of checkpoints between this package and others; imports torch only, no framework."""

from dynbackbones.checkpoints.conversion.architecture import Architecture, find_architecture
from dynbackbones.checkpoints.conversion.conversion import Conversion, convert
from dynbackbones.checkpoints.conversion.formats import FORMATS, TARGETS
from dynbackbones.checkpoints.conversion.report import Report
from dynbackbones.checkpoints.conversion.source import Source, read_source

__all__ = [
    "FORMATS",
    "TARGETS",
    "Architecture",
    "Conversion",
    "Report",
    "Source",
    "convert",
    "find_architecture",
    "read_source",
]
