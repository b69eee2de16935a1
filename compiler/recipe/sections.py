"""The parts of a recipe below its top level."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from optc.ir import Shape
from optc.launch import Settings
from optc.launch import service as services
from optc.numerics.images import ImageSettings, image_samples
from optc.numerics.metrics import find_metric
from optc.numerics.sequences import Source, loaded_samples
from optc.passes.selector import Selector
from optc.recipe.deployment import Service, Topology
from optc.recipe.fields import FilePath, OneOf, Section, flaw, metric_names


def _bounds_in_order(dim: str) -> str:
    low, high = _bounds(dim)
    if low is not None and high is not None and low > high:
        raise flaw("wrong-value", f"'{dim}' begins above its end")
    return dim


Dim = (
    Annotated[int, Field(ge=0)]
    | Annotated[
        str,
        Field(
            pattern=r"^(\?|[A-Za-z_][A-Za-z0-9_.]*|[0-9]{1,9}\.\.[0-9]{1,9})$",
            examples=["?", "N", "1..8"],
        ),
        AfterValidator(_bounds_in_order),
    ]
)
"""A size; or `?`, a name, or bounds `1..8` for a dimension that stays dynamic."""

Split = Annotated[str, Field(min_length=1, pattern="^[^:]+$")]


class ModelSource(Section):
    """The model to compile."""

    path: FilePath = Field(description="the ONNX file")
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="digest of the file in lower-case hexadecimal; another file is then an error",
    )


class InputSpec(Section):
    """What is known about one input of the model."""

    shape: tuple[Dim, ...] | None = Field(
        default=None,
        description="one entry per dimension: a size fixes it; '?', a name, or bounds such as 1..8 "
        "leave it dynamic",
    )
    range: tuple[float, float] | None = Field(
        default=None, description="least and greatest value, both included, of seeded inputs"
    )

    @field_validator("range")
    @classmethod
    def _range_in_order(cls, range: tuple[float, float] | None) -> tuple[float, float] | None:
        if range and range[0] > range[1]:
            raise flaw("wrong-value", f"the range {list(range)} begins above its end")
        return range

    @property
    def dims(self) -> Shape | None:
        """The shape with sizes and names; None for a dimension that stays as the model has it."""
        if self.shape is None:
            return None
        return tuple(None if _is_open(dim) else dim for dim in self.shape)

    @property
    def smallest(self) -> Shape | None:
        """The shape with bounded dimensions at their lower bound; `?` is None, names stay."""
        return None if self.shape is None else tuple(_at_bound(dim, 0) for dim in self.shape)

    @property
    def largest(self) -> Shape | None:
        """The shape with bounded dimensions at their upper bound; `?` is None, names stay."""
        return None if self.shape is None else tuple(_at_bound(dim, 1) for dim in self.shape)


class Loader(Section):
    """Samples that an installed package makes of the files."""

    name: str = Field(
        min_length=1, description="an entry point of the group optc.data of an installed package"
    )
    options: Mapping[str, str | int | float | bool] = Field(
        default={}, description="keyword arguments for it"
    )


class DataSource(Section):
    """Inputs of the model in files."""

    path: FilePath = Field(
        description="an .npz or .npy file, a folder of them, or a folder of test_data_set_* folders"
    )
    split: Split | None = Field(
        default=None, description="which split of an .npz file: its keys are then `<split>:<input>`"
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        description="how many samples to use, from the first on; all when left out",
    )

    images: ImageSettings | None = Field(
        default=None, description="the path is an image or a folder of images, to be prepared so"
    )
    loader: Loader | None = Field(
        default=None, description="samples are made of what is at the path by an installed package"
    )

    @model_validator(mode="after")
    def _one_reading(self) -> Self:
        if self.images is not None and self.loader is not None:
            message = "'images' and 'loader' both say how the path is read"
            raise flaw("key-of-other-format", message, at=["loader"], hint="leave out one of them")
        return self

    @property
    def source(self) -> "Source | None":
        """What makes samples of the path; None where it holds arrays."""
        if self.images is not None:
            return partial(image_samples, self.images)
        if self.loader is not None:
            return partial(loaded_samples, self.loader.name, self.loader.options)
        return None


class CalibrationData(DataSource):
    """Inputs that statistics are taken from."""

    statistics: FilePath | None = Field(
        default=None,
        description="a file of statistics that `optc calibrate` took from this data; the model is "
        "then not run on it again",
    )


class ValidationData(DataSource):
    """Inputs that the result is judged on, disjoint from those of the calibration."""

    labels: str | None = Field(
        default=None,
        min_length=1,
        description="key of the labels in the .npz file, for top1 and top5",
    )


class Data(Section):
    """Real inputs of the model."""

    calibration: CalibrationData | None = Field(
        default=None, description="inputs that quantization takes its ranges from"
    )
    validation: ValidationData | None = Field(
        default=None, description="inputs for verification and accuracy; seeded ones when left out"
    )


class Emit(Section):
    """Form of the emitted model."""

    format: Literal["onnx", "openvino"] = Field(
        default="onnx",
        description="onnx: model.onnx; openvino: OpenVINO IR, model.xml and model.bin, for "
        "`runtime: openvino`",
    )
    opset: int | None = Field(
        default=None, ge=7, description="ONNX opset to raise the model to; its own when left out"
    )
    lower: bool = Field(
        default=True,
        description="write operators in the form that the runtime computes fastest, after the "
        "pipeline",
    )
    domains: tuple[str, ...] | None = Field(
        default=None,
        examples=[["com.microsoft"]],
        description="operator domains beside ONNX's own that the lowering may use; those of the "
        "runtime when left out, [] for a model that every runtime can load",
    )
    external_data: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="ONNX weights in a file of their own; auto: when the model is large",
    )
    weights: Literal["f32", "f16", "bf16"] = Field(
        default="f32",
        description="how float32 matrices and kernels lie in the file; computed with as float32: "
        "f16 and bf16 halve the file and round the weights",
    )
    bf16: Literal["implicit", "explicit"] = Field(
        default="implicit",
        description="how OpenVINO IR says what is computed in bf16. implicit: an fp32 graph with "
        "marks on what stays fp32, one file for CPUs with and without bf16; explicit: in its "
        "element types, exactly, for CPUs with bf16",
    )
    int8: Literal["qdq", "qoperator"] = Field(
        default="qdq",
        description="qdq: QuantizeLinear and DequantizeLinear around fp32 operators, which every "
        "runtime fuses; qoperator: operators on integers, for onnxruntime only",
    )
    keep_fp32: tuple[Selector, ...] = Field(
        default=(),
        description="nodes of OpenVINO IR that stay fp32 where the runtime computes in bf16: "
        "regular expressions on node names, or mappings with op, name, domain",
    )

    @model_validator(mode="after")
    def _keys_of_the_format(self) -> Self:
        foreign = {
            "onnx": ("bf16", "keep_fp32"),
            "openvino": ("external_data", "domains", "int8"),
        }
        others = foreign[self.format]
        for key in others:
            if getattr(self, key) != type(self).model_fields[key].default:
                needed = "openvino" if self.format == "onnx" else "onnx"
                message = f"'{key}' says nothing about format '{self.format}'"
                hint = f"leave it out, or write format: {needed}"
                raise flaw("key-of-other-format", message, at=[key], hint=hint)
        return self

    def allowed_domains(self, runtime: Sequence[str]) -> tuple[str, ...]:
        """Domains that may be used, given those of the runtime."""
        return tuple(runtime) if self.domains is None else self.domains

    @field_validator("opset")
    @classmethod
    def _known_opset(cls, opset: int | None) -> int | None:
        if opset is not None:
            from onnx.defs import onnx_opset_version

            if opset > (newest := onnx_opset_version()):
                message = f"opset {opset} is newer than the onnx package; allowed: 7 to {newest}"
                raise flaw("wrong-value", message)
        return opset


class Goal(Section):
    """What the result has to reach: `min` of a metric that is better when higher, else `max`."""

    metric: Annotated[str, OneOf("metric", metric_names)] = Field(
        description="how the result is compared with the source model, or with the labels"
    )
    min: float | None = Field(default=None, description="least acceptable value")
    max: float | None = Field(default=None, description="greatest acceptable value")
    on_miss: Literal["fail", "keep"] = Field(
        default="fail",
        description="fail: nothing is written; keep: the result is; exit code 4 in both cases",
    )

    @model_validator(mode="after")
    def _limit_on_the_right_side(self) -> Self:
        higher = self.higher_is_better
        key, other, way = ("min", "max", "higher") if higher else ("max", "min", "lower")
        if getattr(self, other) is not None:
            message = f"'{self.metric}' is better when {way}: its goal is '{key}', not '{other}'"
            raise flaw("goal-direction", message, at=[other], hint=f"write {key}: …")
        if getattr(self, key) is None:
            message = f"missing key '{key}': '{self.metric}' is better when {way}"
            raise flaw("missing-key", message, hint=f"write {key}: …")
        if higher and find_metric(self.metric).unit == "1" and self.limit > 1:
            message = f"'{self.metric}' is at most 1; {self.limit:g} is never reached"
            raise flaw("wrong-value", message, at=[key], hint="write a ratio: 0.99, not 99")
        return self

    @property
    def higher_is_better(self) -> bool:
        """Whether greater values of the metric are better."""
        return find_metric(self.metric).better == "higher"

    @property
    def limit(self) -> float:
        """The value to reach: `min` or `max`."""
        limit = self.min if self.min is not None else self.max
        assert limit is not None
        return limit

    def met(self, value: float) -> bool:
        """Whether `value` of the metric reaches the goal; NaN never does."""
        return find_metric(self.metric).meets(value, self.limit)


class Verify(Section):
    """The comparison of the result with the source model that every compile makes."""

    enabled: bool = Field(default=True, description="false: do not compare")
    samples: int = Field(default=4, ge=1, description="samples to compare on")
    seed: int = Field(
        default=0, ge=0, description="seed of the inputs when there is no validation data"
    )
    rtol: float | None = Field(
        default=None,
        ge=0,
        description="relative tolerance; from the precision of the result if left out",
    )
    atol: float | None = Field(
        default=None,
        ge=0,
        description="absolute tolerance; from the precision of the result if left out",
    )


class GoldenGraphs(Section):
    """The texts that `optc golden` compares the graphs with; they do not decide the result."""

    folder: FilePath | None = Field(
        default=None,
        description="where they lie, one per target; `<name of the recipe file>.golden` beside it "
        "when left out",
    )
    weights: bool = Field(
        default=True,
        description="false: the contents of weights are no part of them, so that a retrained model "
        "with the same graph is the same",
    )


class Launch(Section):
    """How the model will be run; decides instances, threads and memory binding."""

    mode: Literal["latency", "online", "throughput"] = Field(
        default="latency",
        description="latency: one request as fast as can be; online: many requests under a bound; "
        "throughput: large batches",
    )
    batch: int = Field(default=1, ge=1, description="samples per request")
    instances: int | None = Field(
        default=None,
        ge=1,
        description="processes on one machine; from mode and target when left out",
    )
    cores: int | None = Field(
        default=None,
        ge=1,
        description="physical cores per instance; from mode and target when left out",
    )
    topology: Topology | None = Field(
        default=None,
        description="the machine that will run the model; when left out, launch.sh plans with the "
        "machine it starts on, and nothing with CPU numbers is written",
    )
    runtime_version: str | None = Field(
        default=None,
        pattern=r"^[0-9]+(\.[0-9]+)*$",
        examples=["1.27"],
        description="version of the runtime on the machine: newer settings are not written; "
        "every supported version when left out",
    )
    allocator: Literal["system", "jemalloc", "tcmalloc"] = Field(
        default="system", description="memory allocator that launch.sh loads into the instances"
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="what the runtime computes fp32 operations in; bf16 is the runtime's own "
        "lowering of the emitted model: the model stays fp32, and verification and accuracy speak "
        "about fp32. Only where target and runtime have bf16",
    )
    service: Service = Field(default=Service(), description="the instances as services")

    @property
    def settings(self) -> Settings:
        """What the launch folder is rendered from."""
        service = services.Service(**self.service.model_dump())
        topology = self.topology.resolve() if self.topology else None
        own = self.model_dump(exclude={"topology", "service"})
        return Settings(**own, topology=topology, service=service)


def _bounds(dim: int | str) -> tuple[int | None, int | None]:
    if isinstance(dim, int) or ".." not in dim:
        return None, None
    low, high = dim.split("..")
    return int(low), int(high)


def _is_open(dim: int | str) -> bool:
    return isinstance(dim, str) and (dim == "?" or ".." in dim)


def _at_bound(dim: int | str, side: Literal[0, 1]) -> int | str | None:
    return _bounds(dim)[side] if _is_open(dim) else dim
