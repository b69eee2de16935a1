"""What is measured: an idea, and the forms that it can have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .maker import Maker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    Form = Callable[[Maker], str | list[str]]


@dataclass(frozen=True)
class Case:
    """An idea in its context; the first form is the reference.

    `keys` gives, per form, entries of the session (onnxruntime only); `tolerance` is the largest
    difference from the reference in units of its rms.
    """

    group: str
    name: str
    forms: Mapping[str, Form]
    keys: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tolerance: float = 1e-3

    def make(self, form: str) -> tuple[onnx.ModelProto, Maker]:
        """The model of a form."""
        maker = Maker()
        outputs = self.forms[form](maker)
        return maker.model([outputs] if isinstance(outputs, str) else outputs), maker
