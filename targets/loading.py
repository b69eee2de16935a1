"""Reads descriptor files. Errors carry the file and the key path.

The files of the package are read once; a file of the user is read every time. A file may extend a
target: `extends` names one, or another file relative to its own, and the file states only what
differs. Mappings merge, null removes a key (RFC 7386), lists and facts replace as a whole: a value
never keeps the source of another one.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import ValidationError

from optc.errors import TargetError, did_you_mean
from optc.targets.conversion_table import ConversionTable
from optc.targets.extensions import ExtensionTable
from optc.targets.fact import Descriptor
from optc.targets.kernels import KernelTable
from optc.targets.model import Target
from optc.targets.runtimes import Profile, Runtime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TARGET_NAMES = (
    "skylake",
    "cascadelake",
    "cooperlake",
    "icelake",
    "sapphirerapids",
    "emeraldrapids",
)
RUNTIME_NAMES = ("onnxruntime", "openvino")
CONVERTED_NAMES = ("openvino",)
"""Runtimes with a format of their own, to which a converter must bring the graph."""
MAX_BYTES = 256 * 1024
"""Largest descriptor that is read; those of the package have up to 40 KiB."""
MAX_DEPTH = 8
"""Longest chain of files that extend each other."""

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


@cache
def shipped_kernels(name: str) -> KernelTable:
    """The kernels of the runtime of the package called `name`, one of RUNTIME_NAMES."""
    return read_descriptor(_HERE / "kernels" / f"{name}.yaml", KernelTable)


@cache
def shipped_conversions(name: str) -> ConversionTable:
    """What the converter of a runtime cannot take; `name` is one of CONVERTED_NAMES."""
    return read_descriptor(_HERE / "conversions" / f"{name}.yaml", ConversionTable)


@cache
def shipped_extensions() -> ExtensionTable:
    """The instruction set extensions that targets can have."""
    return read_descriptor(_HERE / "extensions.yaml", ExtensionTable)


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


def read_profile(path: Path) -> Profile:
    """Read the costs of a machine that `optc targets costs` measured.

    Raises:
        TargetError: as `read_descriptor`.
    """
    return read_descriptor(path, Profile)


def find_target(name: str) -> Target | None:
    """The shipped target of this name or alias, in any case; None when there is none."""
    wanted = name.lower()
    if wanted in TARGET_NAMES:
        return shipped_target(wanted)
    found = (target for target in shipped_targets() if wanted in target.names.aliases)
    return next(found, None)


def read_target(path: Path) -> Target:
    """Read a target from a file of the user, which may extend another target.

    Raises:
        TargetError: as `read_descriptor`; also an unknown base, or files that extend in a circle.
    """
    data, base = _with_base(path, ())
    target = _validated(data, Target, path)
    if base is not None and target.id == base:
        raise TargetError(
            "descriptor-invalid",
            f"id: '{base}' is the name of the target that it extends",
            location=str(path),
            hint="give it a name of its own: `id` names the folder of the artefact",
        )
    return target


def target_files(path: Path) -> tuple[Path, ...]:
    """The files of the user that describe a target: this one and those that it extends.

    Raises:
        TargetError: a file cannot be read.
    """
    files: list[Path] = []
    at: Path | None = path
    while at is not None and at not in files and len(files) < MAX_DEPTH:
        files.append(at)
        data = _read_yaml(at)
        base = data.get("extends") if isinstance(data, dict) else None
        at = at.parent / base if isinstance(base, str) and find_target(base) is None else None
    return tuple(files)


def read_descriptor(path: Path, kind: type[_D]) -> _D:
    """Read and validate one descriptor file.

    Raises:
        TargetError: the file cannot be read, is not YAML, or does not validate; all problems of
            the file are in one message, each with its key path.
    """
    return _validated(_read_yaml(path), kind, path)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A descriptor's data with `change` on top, by the rules of the module."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(old, dict) and isinstance(value, dict) and "value" not in value:
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _with_base(path: Path, seen: tuple[Path, ...]) -> tuple[object, str | None]:
    """The data of a file on top of what it extends, and the id of that."""
    data = _read_yaml(path)
    if not isinstance(data, dict) or "extends" not in data:
        return data, None
    name = data.pop("extends")
    here = path.resolve()
    if here in seen or len(seen) == MAX_DEPTH:
        problem = "a circle" if here in seen else f"a chain of more than {MAX_DEPTH} files"
        chain = " -> ".join(str(step) for step in (*seen, here))
        raise TargetError("descriptor-invalid", f"extends: {problem}: {chain}", location=str(path))
    if not isinstance(name, str):
        raise TargetError(
            "descriptor-invalid",
            "extends: must be the name of a target or the path of a file",
            location=str(path),
        )
    if known := find_target(name):
        return merge(_as_written(known), data), known.id
    if not name.lower().endswith((".yaml", ".yml")):
        raise TargetError(
            "target-unknown",
            f"extends: there is no target '{name}'; known: {', '.join(TARGET_NAMES)}, "
            "or the path of a .yaml file",
            location=str(path),
            hint=did_you_mean(name.lower(), TARGET_NAMES),
        )
    base, _ = _with_base(path.parent / name, (*seen, here))
    if not isinstance(base, dict):
        raise TargetError("descriptor-invalid", "extends: not a descriptor", location=str(path))
    return merge(base, data), base.get("id")


def _as_written(target: Target) -> dict[str, Any]:
    """A target as the data of a file: without the fields that do not apply to it."""
    return target.model_dump(mode="json", exclude_none=False, exclude_unset=True)


def _validated(data: object, kind: type[_D], path: Path) -> _D:
    """The descriptor that data describes; all problems in one error."""
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

    The loader of users' files is PyYAML's pure Python one: on deep nesting it ends in
    RecursionError, where the one on libyaml, ten times as fast, overruns the C stack.
    """
    shipped = _HERE in path.parents
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader) if shipped else yaml.SafeLoader
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
        node = yaml.compose(content, Loader=loader)
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
