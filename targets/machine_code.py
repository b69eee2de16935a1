"""Machine code of measuring loops: the few x86-64 instructions that `optc.targets.probe` times.

A loop is a function ``void loop(uint64_t iterations)`` of the System V ABI. Encodings: Intel SDM
volume 2, sections 2.3 (VEX prefix) and 2.7 (EVEX prefix).
"""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAP_0F38 = 2
_PREFIX = {"66": 1, "F3": 2}


@dataclass(frozen=True)
class Instruction:
    """A vector instruction of three registers: ``destination += source x source``.

    Attributes:
        name: mnemonic in the spelling of the SDM.
        prefix: mandatory prefix.
        opcode: opcode in the map 0F38.
        bits: vector width; 256 is encoded by VEX, 512 by EVEX.
        operations: arithmetic operations of one instruction, a multiply-add counting as two.
    """

    name: str
    prefix: Literal["66", "F3"]
    opcode: int
    bits: Literal[256, 512]
    operations: int

    def encode(self, destination: int, source: int) -> bytes:
        """The instruction with one register as destination and another as both sources (0-15)."""
        vex = self.bits == 256
        registers = 0xC0 | (destination & 7) << 3 | (source & 7)
        # R, X and B extend the registers, vvvv is the first source; all are stored inverted.
        extension = (destination < 8) << 7 | 1 << 6 | (source < 8) << 5
        first_source = (~source & 15) << 3
        pp = _PREFIX[self.prefix]
        if vex:
            prefix = bytes([0xC4, extension | _MAP_0F38, first_source | 1 << 2 | pp])
        else:
            second = first_source | 1 << 2 | pp
            length_512_no_mask = 2 << 5 | 1 << 3
            prefix = bytes([0x62, extension | 1 << 4 | _MAP_0F38, second, length_512_no_mask])
        return prefix + bytes([self.opcode, registers])


FMA_256 = Instruction("VFMADD231PS ymm", "66", 0xB8, 256, 16)
FMA_512 = Instruction("VFMADD231PS zmm", "66", 0xB8, 512, 32)
VNNI_512 = Instruction("VPDPBUSD zmm", "66", 0x50, 512, 128)
BF16_512 = Instruction("VDPBF16PS zmm", "F3", 0x52, 512, 64)

_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_VZEROALL = b"\xc5\xfc\x77"
_VZEROUPPER = b"\xc5\xf8\x77"
_IMUL_RAX_RAX = b"\x48\x0f\xaf\xc0"
_DEC_RDI = b"\x48\xff\xcf"
_RET = b"\xc3"
IMUL_LATENCY = 3
"""Cycles of a 64-bit IMUL that waits for the one before it, on every Xeon and on Zen.

Source: Intel, Optimization Reference Manual; AMD, Software Optimization Guide for Family 19h.
"""


def loop(body: Sequence[bytes]) -> bytes:
    """A function that runs the body as often as its argument says, from zeroed vectors."""
    inside = b"".join(body) + _DEC_RDI
    # The displacement counts from the end of the jump, which is six bytes long.
    jump = b"\x0f\x85" + (-(len(inside) + 6)).to_bytes(4, "little", signed=True)
    return _ENDBR64 + _VZEROALL + inside + jump + _VZEROUPPER + _RET


def clock_body(vector: Instruction | None, chains: int = 4, vectors: int = 11) -> list[bytes]:
    """A body that takes ``chains x IMUL_LATENCY`` cycles, and loads the vector units meanwhile.

    Eleven vector instructions in twelve cycles keep even a core with one unit just below its
    limit, so that the chain of multiplications alone decides the time.
    """
    loads = [vector.encode(register, 15) for register in range(vectors)] if vector else []
    share = -(-len(loads) // chains)
    body = []
    for step in range(chains):
        body += [_IMUL_RAX_RAX, *loads[step * share : (step + 1) * share]]
    return body


def rate_body(vector: Instruction, accumulators: int = 12) -> list[bytes]:
    """A body of independent vector instructions: enough for two units of four cycles' latency."""
    return [vector.encode(register, 15) for register in range(accumulators)]


class Code:
    """Executable memory with one loop in it.

    Raises:
        OSError: the system forbids memory that is writable and executable.
    """

    def __init__(self, code: bytes) -> None:
        self._memory = mmap.mmap(
            -1, len(code), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        )
        self._memory.write(code)
        # The pointer keeps the buffer exported, and with it the memory alive.
        self._start = ctypes.c_char.from_buffer(self._memory)
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(ctypes.addressof(self._start))

    def run(self, iterations: int) -> None:
        """Run the loop; at least one iteration."""
        self._function(max(1, iterations))
