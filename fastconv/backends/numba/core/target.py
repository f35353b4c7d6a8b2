"""The vector unit of the CPU that Numba compiles for, and the tiles that fit it."""

from __future__ import annotations

from numba.core.registry import cpu_target

__all__ = ["ABREAST", "BLOCK", "BYTES", "FMA", "ISA", "KC", "MR", "NV", "PITCH", "lanes"]


def _vector_unit() -> tuple[str, int, int, int, bool]:
    """(name, bytes of a vector, tile rows, tile vectors, fma) of the CPU that Numba compiles for."""
    triple, _, listed = cpu_target.target_context.codegen().magic_tuple()[:3]
    features = {f[1:] for f in listed.split(",") if f.startswith("+")}
    if "avx512f" in features:
        return "avx512", 64, 14, 2, True
    if {"avx2", "fma"} <= features:
        return "avx2", 32, 6, 2, True
    if triple.startswith(("aarch64", "arm64")):
        return "neon", 16, 8, 2, True
    return "vector128", 16, 4, 2, False


ISA, BYTES, MR, NV, FMA = _vector_unit()

#: Reduction block of a GEMM. The rows of a packed left panel lie PITCH elements apart: no power of two.
KC = 256
PITCH = KC + 16

#: Vectors that kernels without a register tile keep in registers side by side.
ABREAST = 4

#: Terms of a sum that are added one after another.
BLOCK = 512


def lanes(dtype: str) -> int:
    """Elements of ``dtype`` in one vector."""
    return BYTES // (8 if dtype == "float64" else 4)
