"""Reads descriptor files. Errors carry the file and the key path.

The files of the package are read once; a file of the user is read every time.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml
from pydantic import ValidationError

from optc.errors import TargetError, did_you_mean
from optc.targets.fact import Descriptor
from optc.targets.model import Target
from optc.targets.runtimes import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET_NAMES = ("cascadelake", "cooperlake", "icelake", "sapphirerapids")
RUNTIME_NAMES = ("onnxruntime", "openvino")
MAX_BYTES = 256 * 1024
"""Largest descriptor that is read; those of the package have about 8 KiB."""

_HERE = Path(__file__).parent
_D = TypeVar("_D", bound=Descriptor)


@cache
def shipped_target(name: str) -> Target:
    """The target descriptor of the package called `name`, one of TARGET_NAMES."""
    return read_descriptor(_HERE / "cpus" / f"{name}.yaml", Target)


@cache
def shipped_runtime(name: str) -> Runtime:
    """The runtime descriptor of the package called `name`, one of RUNTIME_NAMES."""
    return read_descriptor(_HERE / "runtimes" / f"{name}.yaml", Runtime)


def shipped_targets() -> tuple[Target, ...]:
    """All target descriptors of the package, the oldest generation first."""
    return tuple(shipped_target(name) for name in TARGET_NAMES)


def load_runtime(name: str) -> Runtime:
    """Load the descriptor of a runtime by name, in any case.

    Raises:
        TargetError: there is no such runtime.
    """
    wanted = name.lower()
    if wanted in RUNTIME_NAMES:
        return shipped_runtime(wanted)
    raise TargetError(
        "runtime-unknown",
        f"there is no runtime '{name}'; known: {', '.join(RUNTIME_NAMES)}",
        hint=did_you_mean(wanted, RUNTIME_NAMES),
    )


def read_descriptor(path: Path, kind: type[_D]) -> _D:
    """Read and validate one descriptor file.

    Raises:
        TargetError: the file cannot be read, is not YAML, or does not validate; all problems of
            the file are in one message, each with its key path.
    """
    data = _read_yaml(path)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problems = [
            f"{key_path(problem['loc'])}: {_words(problem['type'], problem['msg'])}"
            for problem in error.errors(include_url=False, include_context=False)
        ]
        raise TargetError(
            "descriptor-invalid",
            f"not a valid {kind.__name__.lower()} descriptor\n  " + "\n  ".join(problems),
            location=str(path),
            hint="`optc targets show cascadelake` prints a complete descriptor to compare with",
        ) from error


def key_path(parts: Sequence[str | int]) -> str:
    """``identification.models[0].steppings`` from a sequence of keys and indices."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".") or "(whole file)"


def _words(kind: str, message: str) -> str:
    """A pydantic message in the words of a descriptor file."""
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "missing key"
    return message.removeprefix("Value error, ")


def _read_yaml(path: Path) -> object:
    """The data of a YAML file without aliases and without duplicate keys.

    The loader is PyYAML's pure Python one: on deep nesting it ends in RecursionError, where the
    one on libyaml overruns the C stack.
    """
    place = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TargetError("descriptor-unreadable", reason, location=place) from error
    if len(content) > MAX_BYTES:
        raise TargetError(
            "descriptor-unreadable", f"larger than {MAX_BYTES // 1024} KiB", location=place
        )
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
        _refuse_surprises(node, (), place, set())
        return yaml.constructor.SafeConstructor().construct_document(node) if node else None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        reason = getattr(error, "problem", None) or "cannot be read as YAML"
        raise TargetError("descriptor-unreadable", reason, location=where) from error


def _refuse_surprises(
    node: yaml.Node | None, path: tuple[str | int, ...], place: str, seen: set[int]
) -> None:
    """Refuse what plain data does not need: aliases and keys that are given twice."""
    if node is None:
        return
    if id(node) in seen:
        raise TargetError(
            "descriptor-invalid", f"{key_path(path)}: aliases are not allowed", location=place
        )
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _refuse_surprises(item, (*path, index), place, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            inner = (*path, str(key.value))
            if key.value in keys:
                raise TargetError(
                    "descriptor-invalid",
                    f"{key_path(inner)}: the key is given twice",
                    location=f"{place}:{key.start_mark.line + 1}:{key.start_mark.column + 1}",
                )
            keys.add(str(key.value))
            _refuse_surprises(value, inner, place, seen)
