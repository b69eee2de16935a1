"""The descriptor of one CPU generation, as read from ``cpus/*.yaml``.

Units are part of the field names: kib, mib, mts (mega-transfers per second), gbps (gigabytes per
second), ghz. Throughput is in operations per cycle and core, a multiply-add counting as two.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from optc.targets.capabilities import capabilities_of
from optc.targets.describe import describe
from optc.targets.fact import Confidence, Descriptor, Fact, Flag, Name, Some, Text, Version
from optc.targets.paths import PATH_NEEDS, VECTOR_PATHS, ComputePath, vector_rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.targets.answers import Answer
    from optc.targets.extensions import Extension
    from optc.targets.runtimes import Runtime

Count = Annotated[int, Field(strict=True, gt=0)]
Number = Annotated[float, Field(strict=True, gt=0)]

# Each level contains the one before it (oneDNN, "CPU dispatcher control"). The levels between AVX2
# and AVX512_CORE that only client and efficiency cores have are left out: no target reaches them.
ONEDNN_ISA_ORDER = (
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
    "AVX512_CORE_BF16",
    "AVX512_CORE_FP16",
    "AVX512_CORE_AMX",
    "AVX512_CORE_AMX_FP16",
)
OnednnIsa = Literal[
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
    "AVX512_CORE_BF16",
    "AVX512_CORE_FP16",
    "AVX512_CORE_AMX",
    "AVX512_CORE_AMX_FP16",
]


class Names(Descriptor):
    """How people call the CPU."""

    codename: Text = Field(description="Intel's code name")
    brand: Text = Field(description="product name; two targets may share one: never a key")
    aliases: tuple[Name, ...] = Field(description="short names accepted wherever a target is named")


class CpuModel(Descriptor):
    """One CPUID model number of the generation."""

    model: Annotated[int, Field(strict=True, ge=0, le=255)] = Field(description="display model")
    steppings: Some[Annotated[int, Field(strict=True, ge=0, le=15)]] = Field(
        description="steppings that are this generation; siblings share a model"
    )
    product: Text = Field(description="the vendor's platform name, e.g. CLX-SP")


class Identification(Descriptor):
    """CPUID values. They confirm what the flags say; virtual machines often fake them."""

    vendor: Text = Field(description="vendor string of /proc/cpuinfo")
    family: Annotated[int, Field(strict=True, ge=0)] = Field(description="display family")
    models: Some[CpuModel] = Field(description="models of this generation")
    source: Text = Field(description="where the numbers are from")
    confidence: Confidence = Field(description="how sure the numbers are")

    def matches(self, vendor: str, family: int, model: int, stepping: int) -> bool:
        """Whether CPUID values name this generation."""
        return (vendor, family) == (self.vendor, self.family) and any(
            model == known.model and stepping in known.steppings for known in self.models
        )


class Isa(Descriptor):
    """Instruction set extensions."""

    flags: Some[Flag] = Field(
        description="flags that tell the CPU apart, in the spelling of /proc/cpuinfo"
    )
    source: Text = Field(description="where the list is from")
    confidence: Confidence = Field(description="how sure the list is")


class Toolchain(Descriptor):
    """How compilers and oneDNN call the CPU."""

    gcc_march: Text = Field(description="value of gcc and clang -march")
    gcc_minimum: Fact[Version] = Field(description="first GCC that knows the name")
    onednn_isa: OnednnIsa = Field(
        description="highest oneDNN ISA it reaches, as in ONEDNN_MAX_CPU_ISA"
    )
    onednn_source: Text = Field(description="where the oneDNN level is from")


class Topology(Descriptor):
    """Sockets, cores, threads and their connection."""

    max_cores_per_socket: Fact[Count] = Field(description="physical cores of the largest SKU")
    max_sockets: Fact[Count] = Field(description="sockets without node controllers")
    threads_per_core: Fact[Count] = Field(description="hardware threads, Hyper-Threading on")
    upi_links: Fact[Count] = Field(description="socket interconnect links of the largest SKUs")
    upi_gtps: Fact[Number] = Field(description="giga-transfers per second and link")
    numa_nodes_per_socket: Fact[tuple[Count, ...]] = Field(
        description="choices that sub-NUMA clustering offers, 1 being off"
    )


class Caches(Descriptor):
    """Cache sizes."""

    l1d_kib: Fact[Count] = Field(description="level-1 data cache per core")
    l2_kib: Fact[Count] = Field(description="level-2 cache per core")
    l3_kib_per_core: Fact[Count] = Field(description="last-level cache per core")
    l3_mib_max: Fact[Number] = Field(description="last-level cache of the largest SKU")


class Memory(Descriptor):
    """Memory of one socket."""

    kind: Fact[Text] = Field(description="memory technology")
    channels: Fact[Count] = Field(description="channels per socket")
    mts_1dpc: Fact[Count] = Field(description="transfer rate, one module per channel, top SKUs")
    mts_2dpc: Fact[Count] = Field(description="transfer rate, two modules per channel, top SKUs")
    peak_gbps: Fact[Number] = Field(description="channels x mts_1dpc x 8 bytes")
    stream_efficiency: Fact[Annotated[Number, Field(le=1)]] = Field(
        description="share of the peak that STREAM triad reaches"
    )

    @model_validator(mode="after")
    def _peak_follows(self) -> Self:
        channels, rate, peak = self.channels.value, self.mts_1dpc.value, self.peak_gbps.value
        if channels is None or rate is None or peak is None:
            return self
        # Data sheets round to 0.1 GB/s.
        if abs(peak - channels * rate * 8 / 1000) > 0.05:
            raise ValueError(
                f"peak_gbps: {peak} is not {channels} channels x {rate} MT/s x 8 bytes"
            )
        return self


class Compute(Descriptor):
    """Peak arithmetic of one core."""

    fma512_units: Fact[Count] = Field(description="512-bit FMA units of the largest SKUs")
    ops_per_cycle: dict[ComputePath, Fact[Number]] = Field(
        description="operations per cycle and core by path, both FMA units running; "
        "`optc.targets.peak` corrects it for CPUs with one"
    )

    @model_validator(mode="after")
    def _within_the_width(self) -> Self:
        for path, (bits, instructions) in VECTOR_PATHS.items():
            rate = self.ops_per_cycle.get(path)
            limit = vector_rate(2, bits, instructions)
            # Rates are written with two decimals.
            if rate and rate.value is not None and rate.value > limit + 0.005:
                raise ValueError(
                    f"ops_per_cycle.{path}: {rate.value:g} is more than two 512-bit units can do "
                    f"({limit:g})"
                )
        return self


class Frequency(Descriptor):
    """Clock rates. They belong to the SKU, the licence level and the cooling."""

    base_ghz: Fact[Number] = Field(description="guaranteed clock of scalar code")
    avx512_ghz: Fact[Number] = Field(description="sustained clock under 512-bit FMA")
    amx_ghz: Fact[Number] | None = Field(
        default=None, description="sustained clock under AMX; absent without AMX"
    )


class AmxTile(Descriptor):
    """Geometry of the AMX tile registers."""

    tiles: Fact[Count] = Field(description="tile registers per core")
    rows: Fact[Count] = Field(description="rows of one tile")
    row_bytes: Fact[Count] = Field(description="bytes of one row")


class Numerics(Descriptor):
    """What the arithmetic does to values."""

    int8_saturates_int16: Fact[bool] = Field(
        description="whether pairs of u8 x s8 products saturate in int16 on the fastest int8 path"
    )
    int8_operands: Fact[tuple[Literal["u8s8", "s8s8", "s8u8", "u8u8"], ...]] = Field(
        description="activation x weight types that have an instruction"
    )
    bf16_rounding: Fact[Text] | None = Field(
        default=None, description="rounding of the bf16 dot product; absent without native bf16"
    )
    bf16_denormals: Fact[Text] | None = Field(
        default=None, description="denormals in the bf16 dot product; absent without native bf16"
    )


class SoftwareMinimum(Descriptor):
    """The first version of a piece of software that makes a capability usable."""

    capability: Name = Field(description="capability of this target, see `optc.targets`")
    software: Text = Field(description="what must be new enough")
    minimum: Fact[Text] = Field(description="first version that works")


class LaunchRules(Descriptor):
    """How many cores one model instance gets in each mode."""

    latency_cores: Fact[Count] = Field(description="cores per instance, batch 1, many instances")
    online_cores: Fact[tuple[Count, Count]] = Field(
        description="fewest and most cores of one online service"
    )
    throughput_cores: Fact[Count] = Field(description="fewest cores of one large-batch instance")
    same_node_gain: Fact[tuple[Number, Number]] = Field(
        description="speed-up range from staying on one NUMA node, as a fraction"
    )


class Advice(Descriptor):
    """A recommendation for the machine. Never a requirement: sources disagree by generation."""

    topic: Literal["hyper-threading", "turbo", "sub-numa", "c-states", "governor", "memory", "os"]
    advice: Text = Field(description="what the source recommends")
    generation: Text = Field(description="the CPU generation the source speaks about")
    source: Text = Field(description="title of the source")
    note: Text | None = Field(default=None, description="who disagrees, or when it does not apply")


class Target(Descriptor):
    """One CPU generation: what it is, what it can do, and how to start a model on it."""

    schema_version: Literal[1] = Field(description="version of this file format")
    id: Name = Field(description="the name of the target")
    names: Names = Field(description="how people call it")
    identification: Identification = Field(description="CPUID values")
    isa: Isa = Field(description="instruction set extensions; these decide, not the model number")
    toolchain: Toolchain = Field(description="compiler and oneDNN names")
    topology: Topology = Field(description="sockets, cores and threads")
    caches: Caches = Field(description="cache sizes")
    memory: Memory = Field(description="memory of one socket")
    compute: Compute = Field(description="peak arithmetic of one core")
    frequency: Frequency = Field(description="clock rates")
    amx_tile: AmxTile | None = Field(default=None, description="tile geometry; absent without AMX")
    numerics: Numerics = Field(description="rounding and saturation")
    software: tuple[SoftwareMinimum, ...] = Field(
        description="first versions that make a capability usable; unlisted: any that knows it"
    )
    launch: LaunchRules = Field(description="cores per instance by mode")
    advice: tuple[Advice, ...] = Field(description="recommendations for BIOS, memory and OS")

    @property
    def name(self) -> str:
        """The name in recipes and output folders; the same as `id`."""
        return self.id

    @property
    def aliases(self) -> tuple[str, ...]:
        """Short names of the target."""
        return self.names.aliases

    @property
    def title(self) -> str:
        """Code name and product name, for people."""
        return f"{self.names.codename} ({self.names.brand})"

    @property
    def capabilities(self) -> frozenset[str]:
        """Names from `optc.targets.CAPABILITIES` that the flags give."""
        return capabilities_of(self.isa.flags)

    @property
    def extensions(self) -> Mapping[str, Extension]:
        """The instruction set extensions it has, by capability."""
        from optc.targets.loading import shipped_extensions

        return shipped_extensions().of(self.capabilities)

    @property
    def identity(self) -> str:
        """``cascadelake@1a2b3c4d5e6f``: the name and a digest of everything the descriptor says."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        return f"{self.id}@{digest[:12]}"

    @property
    def rank(self) -> tuple[int, int]:
        """Order of the targets by what runs on them: oneDNN ISA level, then number of flags."""
        return ONEDNN_ISA_ORDER.index(self.toolchain.onednn_isa), len(self.isa.flags)

    def query(
        self,
        *,
        op: str | None = None,
        dtype: str | None = None,
        runtime: Runtime | str | None = None,
        isa: str | None = None,
        min_kernel: str | None = None,
        runtime_version: str | None = None,
        cores: int = 1,
        ghz: float | None = None,
    ) -> Answer:
        """Ask what the target can do; `optc.targets.Question` explains the arguments.

        Example: ``load_target("spr").query(op="MatMul", dtype="int8", runtime="openvino")``

        Raises:
            TargetError: an unknown name, or an incomplete question.
        """
        from optc.targets.ask import Question, ask

        asked = Question(op, dtype, runtime, isa, min_kernel, runtime_version, cores, ghz)
        return ask(self, asked)

    def to_dict(self) -> dict[str, object]:
        """The whole descriptor as data for JSON, with what follows from it."""
        derived = {"identity": self.identity, "capabilities": sorted(self.capabilities)}
        extensions = {name: row.model_dump(mode="json") for name, row in self.extensions.items()}
        return {**derived, **self.model_dump(mode="json"), "extensions": extensions}

    def describe(self) -> str:
        """The whole descriptor as text: values with sources, unknown ones with the reason."""
        head = f"{self.title}\ncapabilities: {', '.join(sorted(self.capabilities))}\n\n"
        return head + describe(self) + describe({"extensions": self.extensions})

    @model_validator(mode="after")
    def _describes_what_it_has(self) -> Self:
        """A number for hardware that is not there, or none for hardware that is, is a mistake."""
        has = self.capabilities
        for path, capability in PATH_NEEDS.items():
            if (path in self.compute.ops_per_cycle) != (capability in has):
                state = "has" if capability in has else "lacks"
                raise ValueError(f"compute.ops_per_cycle.{path}: the target {state} {capability}")
        optional = {
            "amx_tile": (self.amx_tile, "amx"),
            "frequency.amx_ghz": (self.frequency.amx_ghz, "amx"),
            "numerics.bf16_rounding": (self.numerics.bf16_rounding, "bf16"),
            "numerics.bf16_denormals": (self.numerics.bf16_denormals, "bf16"),
        }
        for path_name, (value, capability) in optional.items():
            if (value is not None) != (capability in has):
                state = "has" if capability in has else "lacks"
                raise ValueError(f"{path_name}: the target {state} {capability}")
        for requirement in self.software:
            if requirement.capability not in has:
                raise ValueError(f"software: the target lacks {requirement.capability}")
        return self
