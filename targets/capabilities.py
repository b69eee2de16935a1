"""What a CPU can do, by the names that recipes use in `when:` and passes in `requires`.

A capability is read off the CPU flags, never off a generation number: Cooper Lake and Ice Lake-SP
are both "3rd Gen Xeon", and only the first has BF16. A runtime takes capabilities away again when
it has no kernels for the precision they serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class Capability:
    """One capability.

    Attributes:
        description: one line for ``optc targets`` and for error messages.
        flags: alternatives; each is a set of /proc/cpuinfo flags that must all be present.
        serves: precisions that it accelerates; a runtime that computes none of them makes no use
            of the capability. Empty: every runtime uses it.
    """

    description: str
    flags: tuple[tuple[str, ...], ...]
    serves: tuple[Precision, ...] = ()

    def present(self, flags: Collection[str]) -> bool:
        """Whether a CPU with `flags` has the capability."""
        return any(all(flag in flags for flag in choice) for choice in self.flags)

    def wanted(self) -> str:
        """The flags it is read from, for people: ``avx512_bf16, or amx_tile with amx_bf16``."""
        return ", or ".join(" with ".join(choice) for choice in self.flags)


# Flag spelling: Linux arch/x86/include/asm/cpufeatures.h. oneDNN means f, bw, dq and vl
# by AVX512_CORE; every AVX-512 Xeon has cd as well.
TABLE: Mapping[str, Capability] = MappingProxyType(
    {
        "avx2": Capability("256-bit vectors with fused multiply-add", (("avx2", "fma"),)),
        "avx512": Capability(
            "512-bit vectors (AVX-512 F, CD, BW, DQ, VL)",
            (("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"),),
        ),
        "vnni": Capability(
            "int8 dot product into int32 without intermediate saturation",
            (("avx512_vnni",), ("avx_vnni",)),
            ("int8",),
        ),
        "avx512_vnni": Capability(
            "int8 dot product on 512-bit vectors", (("avx512_vnni",),), ("int8",)
        ),
        "avx_vnni": Capability("int8 dot product on 256-bit vectors", (("avx_vnni",),), ("int8",)),
        "bf16": Capability(
            "native bfloat16 arithmetic, on vectors or tiles",
            (("avx512_bf16",), ("amx_tile", "amx_bf16")),
            ("bf16",),
        ),
        "avx512_bf16": Capability(
            "bfloat16 dot product on 512-bit vectors", (("avx512_bf16",),), ("bf16",)
        ),
        "avx512_fp16": Capability(
            "float16 arithmetic on 512-bit vectors", (("avx512_fp16",),), ("fp16",)
        ),
        "amx": Capability("tile matrix unit (AMX)", (("amx_tile",),), ("int8", "bf16")),
        "amx_int8": Capability(
            "int8 matrix multiply on AMX tiles", (("amx_tile", "amx_int8"),), ("int8",)
        ),
        "amx_bf16": Capability(
            "bfloat16 matrix multiply on AMX tiles", (("amx_tile", "amx_bf16"),), ("bf16",)
        ),
    }
)

CAPABILITIES: Mapping[str, str] = MappingProxyType(
    {name: capability.description for name, capability in TABLE.items()}
)
"""Every capability with its one-line description, in the order `optc targets` lists them."""


def capabilities_of(flags: Collection[str]) -> frozenset[str]:
    """The capabilities of a CPU with these /proc/cpuinfo flags."""
    return frozenset(name for name, capability in TABLE.items() if capability.present(flags))
