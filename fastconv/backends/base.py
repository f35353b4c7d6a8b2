"""What a backend is: a module-like object that compiles specs into kernels, or says why not.

To add one: a folder here with a ``BACKEND`` object in its ``__init__``, and its word in ``settings.ORDER``.
Tests and benchmarks enumerate what dispatch knows; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..settings import Settings
from ..spec import (
    DTYPES,
    ConvSpec,
    CopySpec,
    GemmSpec,
    LossSpec,
    MapSpec,
    PoolSpec,
    ReduceSpec,
    ResizeSpec,
    Types,
    UpdateSpec,
)

Spec = ConvSpec | PoolSpec | GemmSpec | MapSpec | ReduceSpec | UpdateSpec | LossSpec | CopySpec | ResizeSpec

#: Of which types the compiled backends have kernels.
COMPILED = tuple(map(Types.of, DTYPES))


@runtime_checkable
class Kernel(Protocol):
    """A spec compiled by one backend. Re-entrant: two threads may call it at once.

    Arrays have the spec's types and any strides; ``out`` has its result's shape and is never read. The call is

    * ``ConvSpec`` fwd: ``kernel(x, w, b, residual, out)``, bwd_input: ``kernel(dy, w, b, residual, out)``,
      bwd_weight: ``kernel(x, dy, None, None, out)``;
    * ``PoolSpec`` fwd: ``kernel(x, out, indices)``, bwd: ``kernel(dy, x, indices, out)``
      (``x`` and ``indices``: for max only; ``indices``, int64 or None, are flat positions inside a channel plane:
      bwd raises IndexError if one is not); a maximum's fwd may be of integers;
    * ``GemmSpec``: ``kernel(a, b, bias, c, out)`` with a (batch, m, k), b (batch, k, n), out and c (batch, m, n); where
      the batch is 1, all of them may lack that axis;
    * ``MapSpec``: ``kernel(*operands, out)``, all of the spec's shape: what is broadcast has strides of 0; of dropout
      ``kernel(x, numbers, out)``, where ``numbers`` is a contiguous array of two uint64;
    * ``ReduceSpec``: ``kernel(six operands, four results)``, those of ``spec.REDUCTIONS``, each with all axes of the
      spec's shape; along an axis, an operand has that size or 1, a result but the first 1 where it is reduced;
    * ``ResizeSpec``: ``kernel(x, out)`` fwd, ``kernel(dy, out)`` bwd;
    * ``UpdateSpec``: ``kernel(parameter, gradient, three that are remembered, numbers)``: all but the gradient and the
      numbers, which are those of ``spec.UpdateNumbers`` in float64, are read and written;
    * ``LossSpec``: ``kernel(x, target, weight, pos_weight, dy, out)``, each with all axes of the spec's shape and along
      them that size or 1; a sum's ``out`` has no axes. ValueError if an x of ``"binary"`` is not from 0 to 1;
    * ``CopySpec``: ``kernel(x, out)``, backward ``kernel(dy, out)``.

    Absent operands are None. No dimension of a spec is zero: the operators settle empty problems themselves.
    """

    backend: str
    isa: str
    algorithm: str
    workspace_bytes: int
    reason: str
    """Why this algorithm, and what was refused before it: one line a candidate."""

    def __call__(self, *arrays: Any) -> None: ...

    def pack(self, w: np.ndarray) -> Any:
        """The weights in the form that this kernel reads fastest; the call takes the result in place of ``w``."""
        ...


class Backend(Protocol):
    """``settings`` are those that hold where the search began: what a backend compiles for, it reads there alone."""

    name: str

    def available(self) -> str | None:
        """None if it can run here, else the reason why not."""
        ...

    def isas(self) -> dict[str, str | None]:
        """Its instruction sets, best first, with None for one that this CPU runs and the reason if not.

        Empty where it has no choice of them, or cannot run.
        """
        ...

    def refuse(self, spec: Spec, settings: Settings) -> str | None:
        """None if it computes ``spec``, else the reason why not."""
        ...

    def algorithms(self, spec: ConvSpec, settings: Settings) -> dict[str, str | None]:
        """The algorithms that it has for this direction, with None for one that can run and the reason if not."""
        ...

    def compile(self, spec: Spec, settings: Settings) -> Kernel:
        """By the algorithm and for the instruction set of ``settings`` where those name any."""
        ...


def refuse_types(types: Types, have: Sequence[Types]) -> str | None:
    """None if ``types`` are among those that a backend has, else the reason to refuse."""
    return None if types in have else f"it computes {' and '.join(map(str, have))}, not {types}"


def isa_of(isas: dict[str, str | None], forced: str | None) -> str:
    """The instruction set that kernels get: the forced one, else the best of ``Backend.isas()`` that this CPU runs.

    ValueError for one that is unknown, RuntimeError for one that cannot run here.
    """
    if forced is None:
        return next(name for name, reason in isas.items() if reason is None)
    if forced not in isas:
        raise ValueError(f"isa={forced!r}: allowed is {', '.join(isas)}")
    if reason := isas[forced]:
        raise RuntimeError(f"isa={forced!r} cannot run here: {reason}")
    return forced
