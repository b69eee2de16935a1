"""Tensors whose bytes lie in files beside the model.

A location comes from the model file, which may come from anywhere, so it is not trusted: it must
be a relative path to a regular file that lies, symbolic links resolved, inside the model's folder.
Source: onnx.proto, TensorProto.external_data. The optional `checksum` covers the whole file and
would force reading it, so it is not verified.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from optc.frontend.strings import pairs
from optc.ir import ExternalData

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from optc.frontend.source import Source


class ExternalFiles:
    """Finds and checks the files with external data of one model."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._files: dict[str, ExternalData] = {}

    def locate(self, proto: onnx.TensorProto, needed: int) -> ExternalData:
        """A handle on the `needed` bytes of a tensor; nothing is read.

        Raises:
            ModelError: the file is missing or not allowed, or the tensor does not lie within it.
        """
        entries = pairs(proto.external_data)
        whole = self._file(entries.get("location", ""), proto.name)
        offset = self._number(entries, "offset", proto.name) or 0
        length = self._number(entries, "length", proto.name)
        if length is not None and length != needed:
            raise self._source.error(
                "external-data-size",
                f"tensor {proto.name!r} needs {needed} bytes, its external data has {length}",
                "export the model again",
            )
        if offset + needed > whole.length:
            raise self._source.error(
                "external-data-truncated",
                f"tensor {proto.name!r} ends at byte {offset + needed} of {whole.path.name!r}, "
                f"which has {whole.length}",
                "copy the data file again; it belongs to another model or is incomplete",
            )
        return ExternalData(whole.path, offset, needed, whole.stamp)

    def _number(self, entries: dict[str, str], key: str, name: str) -> int | None:
        text = entries.get(key, "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise self._source.error(
                "external-data-invalid",
                f"tensor {name!r}: {key} of its external data is {text[:40]!r}, not a number",
                "export the model again",
            )
        return int(text)

    def _file(self, location: str, name: str) -> ExternalData:
        found = self._files.get(location)
        if found is None:
            found = self._files[location] = self._open(location, name)
        return found

    def _open(self, location: str, name: str) -> ExternalData:
        folder = self._source.folder
        if folder is None:
            raise self._source.error(
                "external-data-no-folder",
                f"tensor {name!r} is stored outside of the model, which was given without a path",
                "load the model from its file",
            )
        try:
            path = self._resolve(folder, location, name)
            if not path.is_file():
                raise self._source.error(
                    "external-data-missing",
                    f"tensor {name!r} is stored in {location!r}, which is not there",
                    f"put the file {location!r} into the folder of the model",
                )
            return ExternalData.whole(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
            raise self._source.error(
                "external-data-unreadable", f"external data of tensor {name!r}: {error}"
            ) from error

    def _resolve(self, folder: Path, location: str, name: str) -> Path:
        relative = PurePosixPath(location)
        if not location or relative.is_absolute() or ".." in relative.parts:
            raise self._source.error(
                "external-data-path",
                f"tensor {name!r} is stored in {location!r}; only a relative path inside of the "
                "model's folder is allowed",
                "store the data beside the model and save the model again",
            )
        path = (folder / relative).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise self._source.error(
                "external-data-path",
                f"tensor {name!r} is stored in {location!r}, a link that leaves the model's folder",
                "replace the link by the file itself",
            )
        return path
