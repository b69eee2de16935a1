"""optc: a declarative model-optimization compiler for Intel Xeon.

The library does what the command line does, without printing and without global state::

    import optc

    result = optc.compile("recipe.yaml")
    print(result.artifacts["cascadelake"].model)

Errors are `optc.OptcError` and its subclasses (see `optc.errors`). Names are imported on first use,
so that ``import optc`` costs nothing in a build system.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optc.driver import Artifact, CompileResult, Plan, compile, plan, run_passes
    from optc.emit.onnx import save_model
    from optc.errors import (
        CapabilityError,
        DataError,
        GoalMissed,
        InternalError,
        ModelError,
        OptcError,
        OutputError,
        RecipeError,
        TargetError,
    )
    from optc.evidence.audit import audit
    from optc.evidence.audit_result import Audit
    from optc.evidence.bench import BenchResult, bench
    from optc.evidence.compare import ModelComparison, compare
    from optc.frontend.onnx import load_model
    from optc.ir import Graph
    from optc.pipeline import PassRun
    from optc.recipe import Recipe, load_recipe
    from optc.targets import Target, load_target

__version__ = "0.1.0"

_HOME = {
    "optc.driver": ("Artifact", "CompileResult", "Plan", "compile", "plan", "run_passes"),
    "optc.emit.onnx": ("save_model",),
    "optc.errors": (
        "CapabilityError",
        "DataError",
        "GoalMissed",
        "InternalError",
        "ModelError",
        "OptcError",
        "OutputError",
        "RecipeError",
        "TargetError",
    ),
    "optc.evidence.audit": ("audit",),
    "optc.evidence.audit_result": ("Audit",),
    "optc.evidence.bench": ("BenchResult", "bench"),
    "optc.evidence.compare": ("ModelComparison", "compare"),
    "optc.frontend.onnx": ("load_model",),
    "optc.ir": ("Graph",),
    "optc.pipeline": ("PassRun",),
    "optc.recipe": ("Recipe", "load_recipe"),
    "optc.targets": ("Target", "load_target"),
}
_MODULES = ("errors", "golden", "runtime")
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Artifact",
    "Audit",
    "BenchResult",
    "CapabilityError",
    "CompileResult",
    "DataError",
    "GoalMissed",
    "Graph",
    "InternalError",
    "ModelComparison",
    "ModelError",
    "OptcError",
    "OutputError",
    "PassRun",
    "Plan",
    "Recipe",
    "RecipeError",
    "Target",
    "TargetError",
    "__version__",
    "audit",
    "bench",
    "compare",
    "compile",
    "load_model",
    "load_recipe",
    "load_target",
    "plan",
    "run_passes",
    "save_model",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"optc.{name}")
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'optc' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
