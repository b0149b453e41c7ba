"""Conversion of checkpoints between this package and others; imports torch only, no framework."""

from dynbackbones.conversion.architecture import Architecture, find_architecture
from dynbackbones.conversion.conversion import Conversion, convert
from dynbackbones.conversion.formats import FORMATS, TARGETS
from dynbackbones.conversion.report import Report
from dynbackbones.conversion.source import Source, read_source

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
