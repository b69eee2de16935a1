"""Write the product that HardSwish is as the one operator.

    x * HardSigmoid(x) = x * max(0, min(1, x / 6 + 1/2)) = HardSwish(x)      alpha = 1/6, beta = 1/2

OpenVINO has a vectorized HardSwish that it fuses into the convolution before, and computes
HardSigmoid with reference code. ONNX Runtime expands HardSwish to the product by itself.
Source: ONNX operators HardSwish-14 and -22, HardSigmoid-6 and -22.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from optc.passes.base import RewritePass
from optc.rewrite.pattern import Rule

if TYPE_CHECKING:
    from optc.ir import Value
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal

_SLOPES: Final = (float(np.float32(1 / 6)), float(np.float32(0.1666667)))  # as exporters write 1/6
_OFFSET: Final = 0.5
_FIRST_OPSET: Final = 14


class HardsigmoidProduct(Rule):
    """HardSigmoid times its input becomes HardSwish.

    Refuses: an opset before 14, which has no HardSwish; another slope or offset; a HardSigmoid
    that something else uses.
    """

    def pattern(self, op: Any, x: Any) -> Pattern:
        """The product, in either order."""
        found: Pattern = op.Mul(x, op.HardSigmoid(x))
        return found

    def check(self, match: Match) -> Refusal | None:
        """Refuse what is not HardSwish, or cannot be written as it."""
        if match.graph.opset < _FIRST_OPSET:
            return match.refuse(f"opset {match.graph.opset} < {_FIRST_OPSET}, which has HardSwish")
        alpha = match.attribute("HardSigmoid", "alpha")
        beta = match.attribute("HardSigmoid", "beta")
        if alpha not in _SLOPES or beta != _OFFSET:
            return match.refuse(f"alpha {alpha:g} and beta {beta:g} are not those of HardSwish")
        if (use := match.other_use("HardSigmoid")) is not None:
            return match.refuse_use("HardSigmoid", use)
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """The operator."""
        return build.HardSwish(match.value("x"))


class LowerHardswish(RewritePass):
    """Write HardSigmoid times its input as HardSwish (see HardsigmoidProduct for what it refuses).

    The descriptor of the runtime asks for it: no recipe needs to.
    """

    name: ClassVar[str] = "lower-hardswish"
    rules: ClassVar[tuple[Rule, ...]] = (HardsigmoidProduct(),)
