"""Golden graphs: what the passes make of a model, as text that is reviewed and then compared with.

One text per target lies beside the recipe, in version control. `check` compares it with what the
passes make now, `update` writes it anew. See `optc.golden.text` for what is in it.
"""

from optc.golden.recipe import Golden, GoldenResult, GoldenSuite, check, update
from optc.golden.text import Difference, compare_with, golden_text

__all__ = [
    "Difference",
    "Golden",
    "GoldenResult",
    "GoldenSuite",
    "check",
    "compare_with",
    "golden_text",
    "update",
]
