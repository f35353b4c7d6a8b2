"""Plans: a convolution whose kernel is chosen and whose weights are packed once, to be run many times."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from ..arguments import flag, plain
from ..arrays import DTYPE_NAMES, as_array, as_output
from ..dispatch import Choice, choose
from ..settings import changed
from ..spec import ConvSpec, activation_of
from .conv import _bias, _named, _spatial_shape, _weights, choose_conv

__all__ = ["Plan", "plan_conv1d", "plan_conv2d", "plan_conv3d"]


class Plan:
    """A convolution ready to run: ``plan(x, residual=None, out=None)`` gives what ``conv{n}d`` gives.

    It keeps its own copy of the weights, as they were and packed, and of the bias. Two threads may call it at once.
    It never changes, so ``copy`` gives the plan itself. A pickle holds the weights as they were; where it is loaded
    they are packed anew: for the same kernel, of the same bits, or where that cannot run for the one chosen there.
    """

    def __init__(
        self,
        ndim: int,
        x_shape: tuple[int, ...],
        w: Any,
        b: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: Any,
        layout: str,
        activation: Any,
        residual: bool,
    ) -> None:
        w = _weights(ndim, w)
        b = _bias(b, w.shape[0], w.dtype)
        shape = _spatial_shape(x_shape, "x_shape")
        unbatched = len(shape) == ndim + 1
        choice = choose_conv(
            "fwd",
            (1, *shape) if unbatched else shape,
            w.shape,
            DTYPE_NAMES[w.dtype],
            plain("stride", stride),
            plain("padding", padding),
            plain("dilation", dilation),
            plain("groups", groups),
            layout,
            b is not None,
            flag("residual", residual),
            activation_of(activation),
            True,
        )
        self._prepare(choice, unbatched, w.copy(), None if b is None else b.copy())

    def _prepare(self, choice: Choice, unbatched: bool, w: np.ndarray, b: np.ndarray | None) -> None:
        spec = choice.spec
        self._choice, self._unbatched = choice, unbatched
        self.spec = spec
        self.x_shape = spec.x_shape[unbatched:]
        self.y_shape = spec.y_shape[unbatched:]
        self.dtype = w.dtype
        self._weights, self._b = w, b
        self._w = choice.kernel.pack(w)

    def __copy__(self) -> Plan:
        return self

    def __deepcopy__(self, memo: Any) -> Plan:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        kernel, given = self._choice.kernel, self._choice.settings
        same = {"backend": kernel.backend, "isa": kernel.isa, "algorithm": kernel.algorithm}
        kept = {"limit": given.limit, "precision": given.precision}
        return _loaded, (type(self), self.spec, same, kept, self._unbatched, self._weights, self._b)

    @property
    def backend(self) -> str:
        """The backend that runs it."""
        return self._choice.kernel.backend

    @property
    def isa(self) -> str:
        """The instruction set that it runs on."""
        return self._choice.kernel.isa

    @property
    def algorithm(self) -> str:
        return self._choice.kernel.algorithm

    @property
    def workspace_bytes(self) -> int:
        """Memory that one call takes beside its arrays and the packed weights."""
        return self._choice.kernel.workspace_bytes

    def explain(self) -> str:
        """What was chosen, and why what comes before it was not."""
        return str(self._choice)

    def __call__(self, x: np.ndarray, residual: np.ndarray | None = None, out: np.ndarray | None = None) -> np.ndarray:
        x = as_array("x", x, self.dtype)
        if x.shape != self.x_shape:
            raise ValueError(f"x has shape {x.shape}: allowed is {self.x_shape}, which this plan was made for")
        if (residual is not None) != self.spec.residual:
            raise ValueError(f"residual: this plan was made with residual={self.spec.residual}")
        if residual is not None:
            residual = as_array("residual", residual, self.dtype)
            if residual.shape != self.y_shape:
                raise ValueError(f"residual has shape {residual.shape}: allowed is {self.y_shape}")
        y = as_output(out, self.y_shape, self.dtype, x, residual)
        if y.size:
            x, residual, result = (a[None] if self._unbatched and a is not None else a for a in (x, residual, y))
            self._choice.kernel(x, self._w, self._b, residual, result)
        return y if out is None else out

    def __repr__(self) -> str:
        return f"<Plan {self.x_shape} -> {self.y_shape} {self.dtype}: {self.algorithm}, {self.backend}, {self.isa}>"


def _loaded(
    kind: type[Plan],
    spec: ConvSpec,
    same: dict[str, str],
    kept: dict[str, Any],
    unbatched: bool,
    w: np.ndarray,
    b: np.ndarray | None,
) -> Plan:
    """The plan of which this is the pickle: under the settings ``kept``, on the ``same`` kernel where that can run."""
    with changed(**kept):
        choice = choose(spec)
        if any(getattr(choice.kernel, name) != value for name, value in same.items()):
            with suppress(NotImplementedError, RuntimeError, ValueError), changed(**same, tuning="off"):
                choice = choose(spec)
    plan = kind.__new__(kind)
    plan._prepare(choice, unbatched, w, b)
    return plan


def _make_plan(ndim: int) -> Callable[..., Plan]:
    def plan_conv(
        x_shape: tuple[int, ...],
        w: np.ndarray,
        b: np.ndarray | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        *,
        layout: str = "NCHW",
        activation: Any = None,
        residual: bool = False,
    ) -> Plan:
        return Plan(ndim, x_shape, w, b, stride, padding, dilation, groups, layout, activation, residual)

    return _named(
        plan_conv,
        f"plan_conv{ndim}d",
        ndim,
        """A ``Plan`` of conv{n}d for x of ``x_shape`` (n, ic, {s}), n may lack, with w (oc, ic/groups, {k}) packed.

    ``plan(x, residual=None, out=None)`` then computes ``conv{n}d(x, w, b, ...)``; a residual is taken if and only if
    ``residual`` is True here. Attributes: ``backend``, ``isa``, ``algorithm``, ``workspace_bytes``, ``explain()``.
    The other arguments, and the errors, are those of ``conv{n}d``.
    """,
    )


plan_conv1d, plan_conv2d, plan_conv3d = map(_make_plan, (1, 2, 3))
