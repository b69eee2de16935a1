"""What evidence is gathered about: a compiled artefact, an ONNX model or an OpenVINO IR."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from optc.errors import CapabilityError, ModelError, TargetError, did_you_mean
from optc.launch.engines import open_engine
from optc.launch.options import LaunchOptions
from optc.runtime import artefact_options
from optc.targets import RUNTIME_NAMES, find_target

if TYPE_CHECKING:
    from optc.launch.engines import Engine
    from optc.targets import Target

_IR = ".xml"
_ERRORS = 3  # onnxruntime's severities: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal


@dataclass(frozen=True)
class Subject:
    """A model in the runtime that executes it.

    Attributes:
        label: how tables and messages call it.
        model: the model file: ``.onnx``, or ``.xml`` of an OpenVINO IR.
        options: runtime and options; those of runtime.json for an artefact.
        folder: ``OUT/<target>`` of an artefact; None for a model file.
    """

    label: str
    model: Path
    options: LaunchOptions
    folder: Path | None = None

    @property
    def runtime(self) -> str:
        """Name of the runtime."""
        return self.options.runtime

    @property
    def is_ir(self) -> bool:
        """Whether the file is an OpenVINO IR."""
        return self.model.suffix == _IR

    @cached_property
    def target(self) -> Target | None:
        """The CPU that an artefact was compiled for; None for a model file, or a foreign target."""
        return find_target(self.options.target) if self.options.target else None

    def with_options(self, options: LaunchOptions) -> Subject:
        """The same with other options, perhaps of another runtime."""
        return replace(self, options=options)

    def with_threads(self, threads: int) -> Subject:
        """The same with another number of threads."""
        return replace(self, options=self.options.with_threads(threads))

    def open(self) -> Engine:
        """Load it in its runtime.

        Raises:
            CapabilityError: the runtime is not installed or too old.
            ModelError: the runtime rejects the model.
        """
        return open_engine(self.model, self.options)


def find_subject(
    place: str | Path, *, runtime: str | None = None, threads: int = 1, label: str | None = None
) -> Subject:
    """The model that a path of the command line means.

    Args:
        place: ``OUT/<target>``, an ONNX file, or the ``.xml`` file of an OpenVINO IR.
        runtime: what executes it; None: the artefact's own, OpenVINO for an IR, else ONNX Runtime.
        threads: threads of the runtime.
        label: how it is called; default the path as it was given.

    Raises:
        ModelError: ``model-missing``, or what `read_options` raises for a damaged artefact.
        TargetError: ``runtime-unknown``.
        CapabilityError: ``runtime-cannot-read``: the runtime does not read such a file.
    """
    path = Path(place)
    if runtime is not None and runtime not in RUNTIME_NAMES:
        raise TargetError(
            "runtime-unknown",
            f"there is no runtime '{runtime}'; known: {', '.join(RUNTIME_NAMES)}",
            hint=did_you_mean(runtime, RUNTIME_NAMES),
        )
    folder = path if path.is_dir() else None
    options: LaunchOptions | None = None
    if folder is not None:
        options = artefact_options(folder)
        path = folder / options.model
    if not path.is_file():
        raise ModelError("model-missing", "there is no such model file", location=str(path))
    if runtime == "onnxruntime" and path.suffix == _IR:
        raise CapabilityError(
            "runtime-cannot-read",
            "onnxruntime does not read OpenVINO IR",
            location=str(path),
            hint="leave out --runtime, or give the ONNX model",
        )
    wanted = runtime or ("openvino" if path.suffix == _IR else "onnxruntime")
    if options is None or (runtime is not None and runtime != options.runtime):
        target = options.target if options is not None else ""
        batch = options.batch if options is not None else 1
        options = LaunchOptions.default(wanted, target=target, batch=batch)
    return Subject(label or str(place), path, _quiet(options).with_threads(threads), folder)


def _quiet(options: LaunchOptions) -> LaunchOptions:
    """Without the runtime's warnings, which would stand between the lines of a table."""
    if options.runtime != "onnxruntime":
        return options
    asked = {"log_severity_level": _ERRORS, **options.session_options}
    return options.model_copy(update={"session_options": asked})
