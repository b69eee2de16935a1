"""The options of `quantize-int8`."""

from typing import Any, Literal

from pydantic import Field, field_validator

from optc.ir import DType
from optc.numerics.calibrate import RangeSettings
from optc.passes.base import PassOptions
from optc.passes.int8_plan import Wishes
from optc.passes.int8_sites import Scheme
from optc.passes.int8_write import WeightStyle
from optc.passes.selector import Keep, Selector


class QuantizeInt8Options(PassOptions):
    """Options of `quantize-int8`. What a recipe leaves out comes from the runtime's descriptor."""

    mode: Literal["static", "dynamic", "weights"] = Field(
        default="static",
        description="static: ranges from calibration data; dynamic: ranges from each input as it "
        "comes, for matrix products; weights: only constants are stored in 8 bits",
    )
    calibration: RangeSettings = Field(
        default=RangeSettings(), description="how ranges follow from data: a method, or a mapping"
    )
    activations: Scheme = Field(
        default="u8",
        description="type of activations; symmetric: the zero point is the middle of the type",
    )
    padded_activations: Scheme | None = Field(
        default=None,
        description="the same for operands of convolutions with padding that have negative "
        "elements; null: as the others",
    )
    product_activations: Scheme = Field(
        default="u8", description="the same for operands of products of two activations"
    )
    weights: Literal["s8", "u8"] = Field(default="s8", description="type of weights")
    symmetric_weights: bool = Field(
        default=True, description="whether the zero points of weights are the middle of the type"
    )
    per_channel: bool = Field(
        default=True, description="whether each output channel has a scale of its own"
    )
    bias: Literal["s32", "f32"] = Field(
        default="s32", description="s32: biases are quantized in the scale of the products"
    )
    saturation: Literal["avoid", "allow"] = Field(
        default="allow",
        description="avoid: weights whose products cannot saturate the sums of 16 bits that CPUs "
        "without VNNI form; allow: the full range",
    )
    operators: tuple[str, ...] = Field(
        default=(), description="operators beside products that may be computed on integers"
    )
    unify: tuple[str, ...] = Field(
        default=(), description="operators with several operands whose scales are to be equal"
    )
    placement: Literal["gain", "kernels"] = Field(
        default="gain",
        description="gain: what is predicted to be fastest; kernels: all that has a kernel",
    )
    coverage: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="share of the multiply-adds of a static model that `gain` brings on integers, "
        "where that costs no more of the predicted saving than `forgo`; 0: what is fastest",
    )
    forgo: float = Field(
        default=0.1, ge=0, le=1, description="share of the predicted saving for `coverage` to cost"
    )
    only: tuple[Selector, ...] = Field(
        default=(),
        description="products to quantize, all when left out: regular expressions on node names, "
        "or mappings with op, name, domain",
    )
    keep: Keep = ()
    first: bool = Field(
        default=True, description="whether products right behind the inputs may be quantized"
    )
    last: bool = Field(
        default=True, description="whether products right before the outputs may be quantized"
    )

    @field_validator("calibration", mode="before")
    @classmethod
    def _method(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    @property
    def style(self) -> WeightStyle:
        """How weights are quantized."""
        return WeightStyle(
            DType.I8 if self.weights == "s8" else DType.U8,
            self.per_channel,
            self.symmetric_weights,
            safe=self.saturation == "avoid",
            bias=self.bias == "s32",
        )

    @property
    def wishes(self) -> Wishes:
        """What is said about single operations."""
        return Wishes(self.only, self.keep, self.first, self.last)
