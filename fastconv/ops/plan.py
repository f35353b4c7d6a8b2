"""Plans: a convolution whose kernel is chosen and whose weights are packed once, to be run many times."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from ..arguments import flag
from ..arrays import as_array, as_output
from ..dispatch import Choice, choose
from ..settings import changed
from ..spec import ActivationLike, ConvSpec, Ints, Padding, activation_of
from .conv import bias, choose_conv, filters, geometry_of, sizes
from .ranks import of_ranks

__all__ = ["Plan", "plan_conv1d", "plan_conv2d", "plan_conv3d"]


class Plan:
    """A convolution ready to run: ``plan(x, residual=None, out=None)`` gives what ``conv{n}d`` gives.

    It keeps its own copy of the weights, as they were and packed, and of the bias. Two threads may call it at once.
    It never changes, so ``copy`` gives the plan itself. A pickle holds the weights as they were; where it is loaded
    they are packed anew: for the same kernel, of the same bits, or where that cannot run for the one chosen there.
    """

    def __init__(self, choice: Choice, unbatched: bool, w: np.ndarray, b: np.ndarray | None) -> None:
        """w and b, as the kernel of ``choice`` takes them, are the plan's from here on."""
        spec, kernel = choice.spec, choice.kernel
        self.spec = spec
        self.x_shape: tuple[int, ...] = spec.x_shape[unbatched:]
        self.y_shape: tuple[int, ...] = spec.y_shape[unbatched:]
        self.dtype = w.dtype
        self._choice, self._kernel, self._unbatched = choice, kernel, unbatched
        self._weights, self._w, self._b = w, kernel.pack(w), b

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
        if (residual is not None) is not self.spec.residual:
            raise ValueError(f"residual: this plan was made with residual={self.spec.residual}")
        if residual is not None:
            residual = as_array("residual", residual, self.dtype)
            if residual.shape != self.y_shape:
                raise ValueError(f"residual has shape {residual.shape}: allowed is {self.y_shape}")
        y = as_output(out, self.y_shape, self.dtype, x, residual)
        if y.size:
            if self._unbatched:
                residual = None if residual is None else residual[None]
                self._kernel(x[None], self._w, self._b, residual, y[None])
            else:
                self._kernel(x, self._w, self._b, residual, y)
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
    return kind(choice, unbatched, w, b)


def plan_conv(
    ndim: int,
    x_shape: tuple[int, ...],
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    layout: str = "NCHW",
    activation: ActivationLike = None,
    residual: bool = False,
) -> Plan:
    """A ``Plan`` of conv{n}d for x of ``x_shape`` (n, ic, {s}), n may lack, with w (oc, ic/groups, {k}) packed.

    ``plan(x, residual=None, out=None)`` then computes ``conv{n}d(x, w, b, ...)``; a residual is taken if and only if
    ``residual`` is True here. Attributes: ``backend``, ``isa``, ``algorithm``, ``workspace_bytes``, ``explain()``.
    The other arguments, and the errors, are those of ``conv{n}d``.
    """
    w = filters(ndim, w)
    b = bias(b, w.shape[0], w.dtype)
    shape = sizes("x_shape", x_shape)
    unbatched = len(shape) == ndim + 1
    shape = (1, *shape) if unbatched else shape
    geometry, activation = geometry_of(stride, padding, dilation, groups), activation_of(activation)
    residual = flag("residual", residual)
    choice = choose_conv("fwd", shape, w.shape, w.dtype, geometry, layout, b is not None, residual, activation, True)
    return Plan(choice, unbatched, w.copy(), None if b is None else b.copy())


plan_conv1d, plan_conv2d, plan_conv3d = of_ranks(plan_conv)
