"""runtime.json as typed data: what the templates write and `optc.runtime` reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from optc.errors import ModelError
from optc.targets import load_runtime

if TYPE_CHECKING:
    from pathlib import Path

FILE = "launch/runtime.json"
"""Where it lies in the folder of an artefact."""

# As the templates of runtime.json, for a process that may use any of its CPUs.
_DEFAULTS: dict[str, dict[str, object]] = {
    "onnxruntime": {
        "providers": ("CPUExecutionProvider",),
        "session_options": {
            "execution_mode": "ORT_SEQUENTIAL",
            "graph_optimization_level": "ORT_ENABLE_ALL",
            "inter_op_num_threads": 1,
        },
        "session_config": {"session.intra_op.allow_spinning": "0"},
    },
    "openvino": {
        "properties": {
            "ENABLE_CPU_PINNING": "NO",
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
        },
    },
}
_THREADS = {"onnxruntime": "intra_op_num_threads", "openvino": "INFERENCE_NUM_THREADS"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NeededFlags(_Part):
    """CPU flags of which one must be there, and what would happen without."""

    any_of: tuple[str, ...]
    why: str


class LaunchOptions(_Part):
    """Everything that is needed to load an artefact.

    `session_options` and `session_config` are ONNX Runtime's, `properties` are OpenVINO's; all are
    passed on as they are.
    """

    schema_version: Literal[1]
    target: str
    runtime: Literal["onnxruntime", "openvino"]
    minimum_version: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]
    mode: str
    batch: Annotated[int, Field(ge=1)]
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    needs: tuple[NeededFlags, ...]
    tile_flags: tuple[str, ...]
    providers: tuple[str, ...] = ()
    session_options: dict[str, str | int] = {}
    session_config: dict[str, str] = {}
    device: str = "CPU"
    properties: dict[str, str] = {}

    @classmethod
    def default(
        cls, runtime: str, *, threads: int = 1, target: str = "", batch: int = 1
    ) -> LaunchOptions:
        """Options for a model that no launch folder belongs to: lowest latency, fp32 stays fp32.

        Args:
            runtime: ``onnxruntime`` or ``openvino``.
            threads: threads of the runtime.
            target: CPU target, where one is meant.
            batch: samples per request.
        """
        known = {
            "schema_version": 1,
            "target": target,
            "runtime": runtime,
            "minimum_version": load_runtime(runtime).versions.minimum,
            "mode": "latency",
            "batch": batch,
            "model": "model",
            "needs": (),
            "tile_flags": (),
        }
        return cls.model_validate({**known, **_DEFAULTS[runtime]}).with_threads(threads)

    @property
    def _counted(self) -> dict[str, str] | dict[str, str | int]:
        """The options that the thread count is one of."""
        return self.session_options if self.runtime == "onnxruntime" else self.properties

    @property
    def threads(self) -> int:
        """The thread count that is stated; it always is."""
        return int(self._counted[_THREADS[self.runtime]])

    def with_threads(self, threads: int) -> LaunchOptions:
        """The same options with another thread count."""
        key = _THREADS[self.runtime]
        if self.runtime == "onnxruntime":
            return self.model_copy(update={"session_options": {**self._counted, key: threads}})
        return self.model_copy(update={"properties": {**self._counted, key: str(threads)}})


def read_options(path: Path) -> LaunchOptions:
    """Read and validate runtime.json.

    Raises:
        ModelError: ``artifact-damaged``: it cannot be read, or is not what optc writes.
    """
    try:
        options = LaunchOptions.model_validate(json.loads(path.read_text(encoding="utf-8")))
        assert options.threads >= 1
    except (OSError, ValueError, KeyError, AssertionError) as error:
        reason = "it is not what optc writes"
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
        elif isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        raise ModelError(
            "artifact-damaged",
            f"the launch options cannot be used: {reason}",
            location=str(path),
            hint="compile again, or copy the output folder again",
        ) from error
    return options
