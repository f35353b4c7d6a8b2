"""The tape: what a forward call did, in order, so that it can be run backward.

A call of a module in training mode records. Every layer in it says with ``record`` what it computed from what, and how
the gradient of the result becomes that of each operand. Arrays are known by identity; whatever else Python did to get
from one layer to the next is of no concern, so branches, layers used twice and shared parameters need nothing special:
gradients that meet are added. What would go unnoticed is arithmetic on arrays that nobody recorded. So backward refuses
a tape on which a layer read an array of unknown origin, and recorded arrays are read-only until they are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from ..arrays import as_array
from .parameter import Parameter

__all__ = ["Tape", "constant", "current_tape", "evaluating", "is_evaluating", "record"]

Gradient = Callable[[np.ndarray], np.ndarray]

#: What calls in this thread (or asynchronous task) do: record on a tape, evaluate whatever the modules' mode is, or,
#: with None, as each module's mode says.
_mode: ContextVar[Any] = ContextVar("fastconv.nn mode", default=None)
_EVALUATION = object()

_adding = Lock()


def current_tape() -> Tape | None:
    """The tape on which calls are recorded now."""
    mode = _mode.get()
    return mode if isinstance(mode, Tape) else None


def is_evaluating() -> bool:
    return _mode.get() is _EVALUATION


@contextmanager
def evaluating() -> Iterator[None]:
    """Inside, in this thread only, every module is in evaluation mode and nothing is recorded."""
    token = _mode.set(_EVALUATION)
    try:
        yield
    finally:
        _mode.reset(token)


def record(y: np.ndarray, *operands: tuple[np.ndarray | Parameter, Gradient]) -> np.ndarray:
    """``y``, known to be computed from ``operands``: what the ``forward`` of a layer returns that computes itself.

    Each operand is an array or a ``Parameter``, together with a function from the gradient of the loss in y to that in
    the operand, of the operand's shape and dtype. In evaluation mode y is returned as it is; else it is read-only from
    here on, and a view of y is returned if y was known already, as the input of a layer that changes gradients alone.

    >>> def forward(self, x):  # a layer with one learned factor a column
    ...     w = self.factor.value
    ...     return nn.record(x * w, (x, lambda dy: dy * w), (self.factor, lambda dy: (dy * x).sum(0)))
    """
    tape = current_tape()
    return y if tape is None else tape.add(y, operands)


def constant(x: np.ndarray) -> np.ndarray:
    """``x`` for layers inside ``forward`` to read as data: it gets no gradient, nor does what it was computed from."""
    tape = current_tape()
    if tape is not None:
        x = x.view()  # what else reads x itself goes on as before
        tape.know(x)
    return x


class _Step(NamedTuple):
    """One recorded result and the operands that it was computed from; arrays by their number on the tape."""

    result: int
    operands: list[tuple[int | Parameter, Gradient]]


class Tape:
    """The steps of one forward call. It keeps no array alive: what a gradient needs is in the functions recorded."""

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[ref[np.ndarray], int]] = {}  # by id
        self._types: list[tuple[tuple[int, ...], np.dtype]] = []  # by number
        self._steps: list[_Step] = []
        self._versions: dict[Parameter, int] = {}
        self._unknown: str | None = None
        self._inputs: list[int | None] = []
        self._output: int | None = None

    def run(self, forward: Callable[..., np.ndarray], inputs: tuple[Any, ...]) -> np.ndarray:
        """``forward(*inputs)``, recorded."""
        inputs = tuple([_read_only(x) for x in inputs])
        self._inputs = [self.know(x) if isinstance(x, np.ndarray) else None for x in inputs]
        token = _mode.set(self)
        try:
            y = forward(*inputs)
        finally:
            _mode.reset(token)
        self._output = self._number(y)
        return y

    def know(self, array: np.ndarray) -> int:
        """Give the array a number."""
        number = len(self._types)
        self._types.append((array.shape, array.dtype))
        self._numbers[id(array)] = ref(array), number
        return number

    def _number(self, array: Any) -> int | None:
        # An id is used again when its array is gone.
        reference, number = self._numbers.get(id(array), (None, None))
        return number if reference is not None and reference() is array else None

    def add(self, y: np.ndarray, operands: tuple[tuple[np.ndarray | Parameter, Gradient], ...]) -> np.ndarray:
        if not isinstance(y, np.ndarray):
            raise TypeError(f"y is {_kind(y)}: allowed is an array")
        sources: list[tuple[int | Parameter, Gradient]] = []
        for operand, gradient in operands:
            if isinstance(operand, Parameter):
                self._versions.setdefault(operand, operand.version)
                sources.append((operand, gradient))
                continue
            number = self._number(operand)
            if number is None:
                self._unknown = _kind(operand)
            else:
                sources.append((number, gradient))
        if self._number(y) is not None:
            y = y.view()
        y.flags.writeable = False
        self._steps.append(_Step(self.know(y), sources))
        return y

    def trained(self) -> set[Parameter]:
        """The parameters that were used and are learned."""
        return {parameter for parameter in self._versions if parameter.requires_grad}

    def check(self, dy: Any) -> np.ndarray:
        """``dy`` for ``backward``; raises what keeps that from being right."""
        if self._output is None:
            raise RuntimeError(f"the result of forward was not recorded: {_ORIGINS}")
        if self._unknown is not None:
            raise RuntimeError(f"a layer read {self._unknown} of unknown origin: {_ORIGINS}")
        changed = [p for p, version in self._versions.items() if p.version != version]
        if changed:
            raise RuntimeError(f"{changed[0]!r} was changed after the forward call: call forward again")
        shape, dtype = self._types[self._output]
        dy = as_array("dy", dy, dtype)
        if dy.shape != shape:
            raise ValueError(f"dy has shape {dy.shape}: allowed is {shape}, that of the result of forward")
        return dy

    def backward(self, dy: np.ndarray, need_dx: bool) -> list[np.ndarray | None]:
        """The gradients of the inputs (None where there is none); adds those of the parameters to their ``grad``.

        Only what leads to a parameter that ``requires_grad``, or with ``need_dx`` to an input, is computed. Uses the
        tape up.
        """
        needed = {number for number in self._inputs if need_dx}
        for step in self._steps:
            if any(o.requires_grad if isinstance(o, Parameter) else o in needed for o, _ in step.operands):
                needed.add(step.result)
        arrays: dict[Any, np.ndarray] = {self._output: dy}
        parameters: dict[Any, np.ndarray] = {}
        while self._steps:  # what a step holds is freed when it is done
            step = self._steps.pop()
            if step.result not in arrays:  # nobody used it, or no gradient beyond it is needed
                continue
            dy = arrays.pop(step.result)
            for operand, gradient in step.operands:
                if isinstance(operand, Parameter):
                    if operand.requires_grad:
                        value = operand.value
                        _add(parameters, operand, _checked(gradient(dy), value.shape, value.dtype))
                elif operand in needed:
                    _add(arrays, operand, _checked(gradient(dy), *self._types[operand]))
        with _adding:
            for parameter, gradient in parameters.items():
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        if not need_dx:
            return []
        # An input that the result does not depend on has a gradient of zeros.
        return [None if n is None else arrays[n] if n in arrays else np.zeros(*self._types[n]) for n in self._inputs]


_ORIGINS = (
    "in training mode every array inside forward comes from its input, a module, nn.add, nn.concatenate, nn.record or "
    "nn.constant"
)


def _add(sums: dict[Any, np.ndarray], key: Any, gradient: np.ndarray) -> None:
    # Never in place: a gradient may be somebody else's array, or a view of it.
    sums[key] = sums[key] + gradient if key in sums else gradient


def _checked(gradient: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if isinstance(gradient, np.generic):  # NumPy's results without dimensions
        gradient = np.asarray(gradient)
    if not isinstance(gradient, np.ndarray) or gradient.shape != shape or gradient.dtype != dtype:
        raise RuntimeError(f"a recorded gradient is {_kind(gradient)}: allowed is what its operand is, {shape} {dtype}")
    return gradient


def _read_only(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        x = x.view()
        x.flags.writeable = False
    return x


def _kind(x: Any) -> str:
    return f"an array of {x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
