"""The demo dataset, which the package makes itself: handwritten digits in textured scenes."""

from dynbackbones.demo.digits import ensure_digits as ensure_digits
from dynbackbones.demo.digits import write_digits as write_digits
