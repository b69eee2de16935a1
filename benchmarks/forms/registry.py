"""All cases."""

from __future__ import annotations

from .activations import CASES as ACTIVATIONS
from .attention import CASES as ATTENTION
from .convolution import CASES as CONVOLUTION
from .decode import CASES as DECODE
from .elementwise import CASES as ELEMENTWISE
from .image import CASES as IMAGE
from .matmul import CASES as MATMUL
from .movement import CASES as MOVEMENT
from .normalization import CASES as NORMALIZATION

CASES = (
    *NORMALIZATION,
    *ATTENTION,
    *DECODE,
    *MATMUL,
    *CONVOLUTION,
    *IMAGE,
    *ACTIVATIONS,
    *MOVEMENT,
    *ELEMENTWISE,
)
