"""What CPU generations and runtimes can do, as data that can be asked.

A target is a CPU generation (`cpus/*.yaml`), a runtime executes the model on it
(`runtimes/*.yaml`). Every number names its source; what is unknown is null and says why.
"""

from __future__ import annotations

import os
from pathlib import Path

from optc.errors import TargetError, nearest
from optc.targets.answers import Answer
from optc.targets.ask import Question, ask
from optc.targets.capabilities import CAPABILITIES, Precision
from optc.targets.compare import Difference, differences
from optc.targets.fact import Fact
from optc.targets.host import Host, detect_host, host_capabilities, host_target
from optc.targets.loading import (
    RUNTIME_NAMES,
    TARGET_NAMES,
    find_target,
    load_runtime,
    read_profile,
    read_target,
    shipped_targets,
    target_files,
)
from optc.targets.model import Target
from optc.targets.query import (
    MissingCapability,
    available_capabilities,
    missing_capability,
    runtimes_with,
    targets_with,
)
from optc.targets.runtimes import Knob, PrecisionSupport, Runtime

__all__ = [
    "CAPABILITIES",
    "RUNTIME_NAMES",
    "Answer",
    "Difference",
    "Fact",
    "Host",
    "Knob",
    "MissingCapability",
    "Precision",
    "PrecisionSupport",
    "Question",
    "Runtime",
    "Target",
    "ask",
    "available_capabilities",
    "detect_host",
    "differences",
    "find_target",
    "host_capabilities",
    "is_target_file",
    "load_runtime",
    "load_target",
    "missing_capability",
    "read_profile",
    "runtime_names",
    "runtimes_with",
    "target_files",
    "target_names",
    "targets_with",
]


def target_names() -> tuple[str, ...]:
    """Names of the targets that are shipped, the oldest generation first."""
    return TARGET_NAMES


def runtime_names() -> tuple[str, ...]:
    """Names of the runtimes that are shipped."""
    return RUNTIME_NAMES


def load_target(name_or_path: str | Path) -> Target:
    """Load a target by name, by alias, from a descriptor file, or as ``host``.

    Args:
        name_or_path: a name or alias in any case, e.g. ``cascadelake`` or ``CLX``; ``host`` for
            the highest target whose flags this machine has; a Path, or text with a folder or a
            .yaml or .yml ending, for a descriptor file.

    Raises:
        TargetError: unknown name, broken descriptor, or a host below every target.
    """
    if isinstance(name_or_path, Path) or is_target_file(name_or_path):
        return read_target(Path(name_or_path))
    wanted = name_or_path.lower()
    if wanted == "host":
        return host_target()
    if found := find_target(wanted):
        return found
    aliases = [alias for target in shipped_targets() for alias in target.names.aliases]
    close = nearest(wanted, (*TARGET_NAMES, *aliases, "host"))
    known = ", ".join(
        f"{target.id} ({', '.join(target.names.aliases)})" for target in shipped_targets()
    )
    raise TargetError(
        "target-unknown",
        f"there is no target '{name_or_path}'; known: {known}, host, or the path of a .yaml file",
        hint=f"did you mean '{close}'?" if close else None,
    )


def is_target_file(name: str) -> bool:
    """Whether text names a file rather than a target."""
    return os.sep in name or name.lower().endswith((".yaml", ".yml"))
