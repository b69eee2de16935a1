"""What an instruction set extension consists of and how a log proves that it ran.

The rows are in ``extensions.yaml``, one per capability that is an extension of its own. oneDNN
renamed its kernels twice, so a name proves an extension only for a range of versions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from optc.targets.capabilities import TABLE
from optc.targets.fact import (
    Confidence,
    Descriptor,
    Name,
    Pattern,
    Some,
    Text,
    Version,
    version_key,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class KernelName(Descriptor):
    """How ONEDNN_VERBOSE names kernels of the extension in a range of oneDNN versions."""

    since: Version = Field(description="first oneDNN version")
    until: Version | None = Field(default=None, description="last one; null: the newest checked")
    pattern: Pattern = Field(description="what the implementation name holds")
    types: tuple[Text, ...] = Field(
        default=(), description="types of `src:` and `wei:` that must be seen besides the name"
    )
    source: Text = Field(description="where the names are from")
    confidence: Confidence = Field(description="how sure that is")


class Extension(Descriptor):
    """One extension: its instructions, and the names that prove it."""

    instructions: Some[Text] = Field(description="instructions, in the spelling of the SDM")
    consists_of: tuple[Text, ...] = Field(
        default=(), description="sub-extensions by CPUID name; empty when it has none"
    )
    purpose: Text = Field(description="what the instructions do")
    onednn_names: tuple[KernelName, ...] = Field(
        default=(), description="proof in ONEDNN_VERBOSE; empty when no name proves it"
    )
    openvino_name: Pattern | None = Field(
        default=None, description="proof in OpenVINO's primitiveType; null when none proves it"
    )
    note: Text | None = Field(default=None, description="what to beware of")
    source: Text = Field(description="where the instructions are from")
    confidence: Confidence = Field(description="how sure that is")

    def proven_by(self, kernel: str, onednn: str, src: str = "", wei: str = "") -> bool:
        """Whether a line of ONEDNN_VERBOSE shows that the extension ran.

        Args:
            kernel: implementation name, e.g. ``brg_conv_fwd:avx512_core_vnni``.
            onednn: version of oneDNN, e.g. ``3.13.0``.
            src: element type of the source, e.g. ``u8``.
            wei: element type of the weights.
        """
        return any(
            re.search(name.pattern, kernel)
            and (not name.types or {src, wei} <= set(name.types))
            and version_key(name.since) <= version_key(onednn)
            and (name.until is None or within(onednn, name.until))
            for name in self.onednn_names
        )

    def shown_by(self, primitive: str) -> bool:
        """Whether OpenVINO's primitiveType shows that the extension ran."""
        return self.openvino_name is not None and bool(re.search(self.openvino_name, primitive))


class ExtensionTable(Descriptor):
    """All extensions by capability."""

    schema_version: Literal[1] = Field(description="version of this file format")
    extensions: dict[Name, Extension] = Field(description="by capability")

    @model_validator(mode="after")
    def _names_capabilities(self) -> Self:
        if unknown := sorted(set(self.extensions) - set(TABLE)):
            raise ValueError(f"extensions: there is no capability {', '.join(unknown)}")
        return self

    def of(self, capabilities: frozenset[str]) -> Mapping[str, Extension]:
        """The extensions among these capabilities, in the order of the file."""
        return {name: row for name, row in self.extensions.items() if name in capabilities}
