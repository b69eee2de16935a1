"""Loads what optc has compiled: the model with exactly the options that were emitted for it.

    session = optc.runtime.load("build/quickstart/cascadelake")

The files are checked against the manifest and the CPU against what the model needs, so that a
damaged copy, or int8 weights on a CPU that would compute them wrongly, is an error here and not a
wrong result later. The number of threads is the emitted one, less where this process may use fewer
cores, or the one that launch.sh gives.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optc.emit.folder import MANIFEST, file_digest
from optc.errors import CapabilityError, ModelError, TargetError
from optc.launch.amx import tile_permission
from optc.launch.engines import open_engine
from optc.launch.options import FILE, read_options
from optc.launch.topology import detect_topology
from optc.targets import detect_host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.launch.engines import Engine
    from optc.launch.options import LaunchOptions

__all__ = ["LoadedModel", "load", "open_artifact"]


@dataclass(frozen=True)
class LoadedModel:
    """An artefact that is ready to run.

    Attributes:
        folder: its folder, ``OUT/<target>``.
        options: what it was loaded with; the thread count is the one in force.
        engine: runs it on numpy arrays; `engine.native` is what `load` returns.
        notes: what the user should know, e.g. that AMX is hidden.
    """

    folder: Path
    options: LaunchOptions
    engine: Engine
    notes: tuple[str, ...]


def load(folder: str | Path, *, threads: int | None = None, check_hashes: bool = True) -> Any:
    """Load an artefact as an object of its runtime.

    Args:
        folder: ``OUT/<target>``.
        threads: number of threads; None: ``OPTC_THREADS`` where launch.sh sets it, else the
            emitted count, or the cores of the largest NUMA node that this process may use, or its
            cgroup quota, whichever is least.
        check_hashes: compare the files with the manifest; reads all of the model once more.

    Returns:
        An ``onnxruntime.InferenceSession`` or an ``openvino.CompiledModel``.

    Raises:
        ModelError: ``artifact-missing``, ``artifact-damaged``, or the runtime rejects the model.
        CapabilityError: ``cpu-unsuitable``: results would be wrong or nothing would run here;
            ``runtime-missing`` or ``runtime-too-old``.
        TargetError: ``threads-invalid``, or the CPU of this machine cannot be read.

    A `RuntimeWarning` says what costs speed.
    """
    loaded = open_artifact(folder, threads=threads, check_hashes=check_hashes)
    for note in loaded.notes:
        warnings.warn(note, RuntimeWarning, stacklevel=2)
    return loaded.engine.native


def open_artifact(
    folder: str | Path, *, threads: int | None = None, check_hashes: bool = True
) -> LoadedModel:
    """As `load`, with the options, the notes, and a way to run the model on numpy arrays."""
    place = Path(folder)
    options = artefact_options(place)
    if check_hashes:
        _check_files(place)
    flags = detect_host().flags
    _check_cpu(options, flags, place)
    options = options.with_threads(_threads(options, threads))
    engine = open_engine(place / options.model, options)
    return LoadedModel(place, options, engine, tuple(_tile_notes(options, flags)))


def artefact_options(folder: Path) -> LaunchOptions:
    """The options that an artefact was emitted with.

    Raises:
        ModelError: ``artifact-missing``: the folder holds none; ``artifact-damaged``.
    """
    file = folder / FILE
    if not file.is_file():
        raise _missing(folder)
    return read_options(file)


def _missing(place: Path) -> ModelError:
    """The error for a folder that is no artefact; the whole output is the usual confusion."""
    hint = "give the folder of one target in the output of `optc compile`"
    manifest = place / MANIFEST
    if manifest.is_file():
        targets = ", ".join(str(place / name) for name in _manifest(manifest).get("targets", ()))
        hint = f"this is the output of all targets; load one of {targets}"
    return ModelError(
        "artifact-missing", f"there is no {FILE} here", location=str(place), hint=hint
    )


def _check_files(place: Path) -> None:
    """Compare every file of the artefact that is loaded with the manifest."""
    resolved = place.resolve()
    manifest = resolved.parent / MANIFEST
    if not manifest.is_file():
        raise ModelError(
            "artifact-damaged",
            f"there is no {MANIFEST} beside the folder to check it against",
            location=str(place),
            hint="copy the whole output folder, or load with check_hashes=False",
        )
    prefix = f"{resolved.name}/"
    listed = _manifest(manifest)["files"].items()
    own = {name.removeprefix(prefix): e for name, e in listed if name.startswith(prefix)}
    for name in sorted(own):
        if name.startswith("launch/") and name != FILE:
            continue  # scripts and services are not loaded; they may be adapted
        file = resolved / name
        if not file.is_file():
            raise _damaged(place / name, "the file is missing")
        if file_digest(file) != own[name].get("sha256"):
            raise _damaged(place / name, "the file differs from the one that was compiled")
    if FILE not in own:
        raise _damaged(place, f"{MANIFEST} does not list it")


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(
        "artifact-damaged",
        reason,
        location=str(path),
        hint="compile again, or copy the output folder again",
    )


def _manifest(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, "the manifest cannot be read") from error
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise _damaged(path, "this is not a manifest of optc")
    return content


def _check_cpu(options: LaunchOptions, flags: frozenset[str], place: Path) -> None:
    """Refuse a CPU on which the artefact would fail or compute wrong results."""
    for need in options.needs:
        if not flags.intersection(need.any_of):
            raise CapabilityError(
                "cpu-unsuitable",
                f"this CPU has no {' and no '.join(need.any_of)}: {need.why}",
                location=str(place),
                hint="`optc targets detect` says which target this machine is; compile for that",
            )


def _threads(options: LaunchOptions, asked: int | None) -> int:
    """The thread count in force."""
    text = os.environ.get("OPTC_THREADS")
    if asked is None and not text:
        return min(options.threads, detect_topology().largest)
    number = asked if asked is not None else int(text) if text and text.isdecimal() else 0
    if number < 1:
        raise TargetError(
            "threads-invalid",
            f"the number of threads must be at least 1, not {text if asked is None else asked}",
            hint="it comes from `threads`, or from OPTC_THREADS in the environment",
        )
    return number


def _tile_notes(options: LaunchOptions, flags: frozenset[str]) -> list[str]:
    """Why the artefact runs slower than the AMX tiles it was compiled for would let it."""
    hidden = [flag for flag in options.tile_flags if flag not in flags]
    if hidden:
        return [
            f"this CPU shows no {hidden[0]}: the model runs, but slower than on AMX; usual "
            f"reasons: another CPU, Linux before 5.16 (this is {os.uname().release}), the "
            "hypervisor, the BIOS"
        ]
    if options.tile_flags and (refusal := tile_permission()):
        return [f"the model runs, but slower than on AMX: {refusal}"]
    return []
