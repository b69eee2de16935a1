"""From a path, bytes or a ModelProto to a parsed ModelProto, with what goes wrong on the way."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from google.protobuf.message import (  # type: ignore[import-untyped] # protobuf has no stubs
    DecodeError,
)

from optc.errors import ModelError
from optc.frontend.wire import cut_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

_SMALL = 1 << 20
_LIMIT = (1 << 31) - 1  # protobuf readers refuse messages of 2 GiB and more

# What people pass by mistake, by the bytes at an offset: what it is, and what to do instead.
_FOREIGN = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the model", "fetch it: git lfs pull"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it, or export the model with torch.onnx.export"),
    (0, b"<?xml", "an XML file", "give the ONNX model that it was converted from"),
    (0, b"\x89HDF", "an HDF5 file", "export the model with tf2onnx"),
    (4, b"TFL3", "a TensorFlow Lite model", "export the model with tf2onnx"),
    (4, b"ORTM", "a model in ONNX Runtime's own format", "give the .onnx file it was made from"),
)


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes:
        label: the file as the user gave it; names the model in messages.
        folder: where files with external data lie; None for a model in memory.
    """

    label: str
    folder: Path | None = None

    def error(self, code: str, message: str, hint: str | None = None) -> ModelError:
        """An error about this model."""
        return ModelError(code, message, location=self.label, hint=hint)


@dataclass(frozen=True)
class Parsed:
    """A model that is parsed but for its large weights.

    Attributes:
        model: the message.
        weights: raw data that `model` lacks, by index of the initializer.
        source: where it comes from.
    """

    model: onnx.ModelProto
    weights: Mapping[int, memoryview]
    source: Source


def decode(message: Any, data: bytes, problem: ModelError) -> Any:
    """Parse a message of this class; `problem` is raised when the bytes do not decode."""
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise problem from error


def open_source(source: str | Path | bytes | onnx.ModelProto, sha256: str | None = None) -> Parsed:
    """Read and parse a model; external data is not touched.

    Args:
        source: path, serialized model, or a model already parsed.
        sha256: expected digest of the file, in hexadecimal; not for a parsed model.

    Raises:
        ModelError: the file cannot be read, is not protobuf, is not a model, or is another file
            than the digest says.
    """
    if isinstance(source, (str, Path)):
        place = Source(str(source), Path(source).parent)
        data = _read(Path(source), place)
    elif isinstance(source, bytes):
        place = Source("<bytes>")
        data = source
    else:
        if sha256 is not None:
            raise ValueError("a parsed model has no digest")
        return Parsed(source, {}, Source("<model>"))
    _check_digest(data, sha256, place)
    return _parse(data, place)


def _read(path: Path, place: Source) -> bytes:
    try:
        if path.is_dir():
            raise place.error("model-is-folder", "this is a folder", "give the .onnx file in it")
        if not path.is_file():
            message = "not a regular file" if path.exists() else "no such file"
            raise place.error("model-missing", message, "check the path of the model")
        _check_size(path.stat().st_size, place)
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise place.error("model-unreadable", f"cannot read the model: {error}") from error


def _check_size(size: int, place: Source) -> None:
    if size > _LIMIT:
        raise place.error(
            "model-too-large",
            f"the file has {size} bytes; ONNX files end at 2 GiB, which is a limit of protobuf",
            "store the weights beside it: onnx.save_model(…, save_as_external_data=True)",
        )


def _check_digest(data: bytes, expected: str | None, place: Source) -> None:
    if expected is None:
        return
    found = hashlib.sha256(data).hexdigest()
    if found != expected.lower():
        raise place.error(
            "model-sha256-mismatch",
            f"the SHA-256 of the model is {found}, expected {expected}",
            "use the model that the digest was taken from, or correct the digest",
        )


def _parse(data: bytes, place: Source) -> Parsed:
    if not data:
        raise place.error("model-empty", "the file is empty", "export or download it again")
    _check_size(len(data), place)
    for offset, magic, what, hint in _FOREIGN:
        if data.startswith(magic, offset):
            raise place.error("not-a-model", f"this is {what}", hint)
    weights: dict[int, memoryview] = {}
    with suppress(ValueError):  # then protobuf knows better, or says what is wrong
        data, weights = cut_weights(data)
    model = decode(onnx.ModelProto, data, _unreadable(data, place))
    if not model.HasField("graph"):
        raise place.error(
            "not-a-model",
            "this is not an ONNX model: it holds no graph",
            "give an .onnx file; parts of models and test data have other forms",
        )
    return Parsed(model, weights, place)


def _unreadable(data: bytes, place: Source) -> ModelError:
    if _is_tensor(data):
        return place.error(
            "not-a-model", "this is a tensor, not a model", "give the .onnx file that it goes with"
        )
    return place.error(
        "model-truncated",
        "the file is truncated or not an ONNX model: its protobuf does not decode",
        "export or download it again, and compare sizes with the original",
    )


def _is_tensor(data: bytes) -> bool:
    """Whether small data is a TensorProto, as in test_data_set folders."""
    if len(data) > _SMALL:
        return False
    with suppress(DecodeError):
        return bool(onnx.TensorProto.FromString(data).data_type)
    return False
