"""Networks in files that other runtimes compute: ONNX, with what is skipped really skipped."""

# Imported for the networks that they make known.
from dynbackbones.export import blockdrop as _blockdrop  # noqa: F401
from dynbackbones.export import sar as _sar  # noqa: F401
from dynbackbones.export.files import ExportReport as ExportReport
from dynbackbones.export.files import check_output as check_output
from dynbackbones.export.files import to_onnx as to_onnx
from dynbackbones.export.glance_focus import glance_focus_to_onnx as glance_focus_to_onnx
