"""Optimizers: ``step(parameters)`` changes every parameter by its gradient.

The memory of an optimizer (momentum) belongs to the parameter objects that it has seen: one optimizer may serve
several calls of ``fit``, or several networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import cos, inf, pi, sqrt
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .losses import as_numbers
from .parameter import Parameter

__all__ = ["SGD", "Adam", "Optimizer", "cosine"]

Memory = dict[str, np.ndarray]


def cosine(progress: float) -> float:
    """A schedule for ``fit``: from 1 at progress 0 along half a cosine to 0 at progress 1."""
    return 0.5 * (1 + cos(pi * progress))


class _Number:
    """An attribute that is a float from 0 to below ``below``; whatever is assigned is checked."""

    def __init__(self, below: float = inf) -> None:
        self.below = below

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, _: type | None = None) -> Any:
        return self if owner is None else vars(owner)[self.name]

    def __set__(self, owner: Any, value: Any) -> None:
        vars(owner)[self.name] = _number(value, self.name, self.below)


class Optimizer:
    """A rule that moves parameters; ``lr`` and ``weight_decay`` (L2, added to the gradient) may change at any time.

    It can be copied and pickled, but only together with the network that it has moved, as in
    ``copy.deepcopy((net, optimizer))``: its memory is that of the network's parameters. ``state_dict`` goes by names.
    """

    lr = _Number()
    weight_decay = _Number()

    def __init__(self, lr: float, weight_decay: float = 0.0) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self._memories: WeakKeyDictionary[Parameter, Memory] = WeakKeyDictionary()
        # Of a copy: the parameters that came with it, held until it is seen which of them the network has.
        self._unclaimed: list[Parameter] = []

    def step(self, parameters: Mapping[str, Parameter]) -> None:
        """Move every trainable parameter, once however often it is named, and use its gradient up (None afterwards).

        Before anything moves, it raises RuntimeError if one has no gradient, or if this optimizer is a copy that was
        made without its network; TypeError or ValueError if a gradient or the memory is not like its parameter.
        """
        moving = {name: p for name, p in _unique(parameters) if p.trainable}
        for name, p in moving.items():
            if p.grad is None:
                raise RuntimeError(
                    f"parameter {name!r} has no gradient: call backward before step, and freeze what forward does not "
                    "use (trainable = False)"
                )
            _check(f"the gradient of {name!r}", p.grad, p.value.shape, p.value.dtype)
        memories = self._memories_of(moving)
        for name, p in moving.items():
            value, gradient = p.value, p.grad
            if self.weight_decay:
                gradient = gradient + value.dtype.type(self.weight_decay) * value
            self._move(value, gradient, memories[name])
            p.version += 1
            p.grad = None

    def _move(self, value: np.ndarray, gradient: np.ndarray, memory: Memory) -> None:
        """Change ``value`` and ``memory`` in place."""
        raise NotImplementedError

    def _fields(self) -> tuple[str, ...]:
        """What is remembered of each parameter: zeros like it at first; ``count`` is one int."""
        return ()

    def _memories_of(self, parameters: Mapping[str, Parameter]) -> dict[str, Memory]:
        """The memory of each parameter, new where there is none."""
        if self._unclaimed and parameters:
            if set(self._unclaimed).isdisjoint(parameters.values()):
                raise RuntimeError(
                    "this optimizer was copied or pickled without the network that it moves: copy or pickle the two "
                    "together, as in copy.deepcopy((net, optimizer)), or use state_dict and load_state_dict"
                )
            self._unclaimed = []
        result, fields = {}, self._fields()
        for name, p in parameters.items():
            memory = self._memories.get(p)
            if memory is None or memory.keys() != set(fields):
                memory = self._memories[p] = {field: np.zeros(*_form(field, p.value)) for field in fields}
            for field, array in memory.items():
                _check(f"the {field} of {name!r} in the optimizer", array, *_form(field, p.value))
            result[name] = memory
        return result

    # ----------------------------------------------------------------------------------------------- state

    def state_dict(self, parameters: Mapping[str, Parameter]) -> dict[str, np.ndarray]:
        """Copies of what is remembered of ``parameters`` (``net.parameters()``), by name (``"0.weight.velocity"``).

        With it, the network's ``state_dict`` and the generator that ``fit`` was given, training goes on bit for bit.
        ``lr`` and the other arguments of the constructor are not in it.
        """
        memories = self._memories_of(dict(_unique(parameters)))
        return {f"{name}.{field}": a.copy() for name, memory in memories.items() for field, a in memory.items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray], parameters: Mapping[str, Parameter]) -> None:
        """Remember ``state``, as ``state_dict`` gave it, of ``parameters``.

        Raises KeyError if a name is missing or too many, ValueError for another shape or a count below 0, TypeError for
        another dtype; then nothing was changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state is a {type(state).__name__}: allowed is a mapping of names to arrays")
        named, fields = dict(_unique(parameters)), self._fields()
        names = {f"{name}.{field}" for name in named for field in fields}
        missing, extra = sorted(names - state.keys()), sorted(map(str, state.keys() - names))
        if missing or extra:
            raise KeyError(f"state does not fit the optimizer: missing {missing}, unknown {extra}")
        memories: dict[Parameter, Memory] = {}
        for name, p in named.items():
            memory = memories[p] = {}
            for field in fields:
                key = f"{name}.{field}"
                memory[field] = array = as_numbers(f"state[{key!r}]", state[key]).copy()
                _check(f"state[{key!r}]", array, *_form(field, p.value))
                if field == "count" and array < 0:
                    raise ValueError(f"state[{key!r}]={array}: allowed is 0 or more")
        self._memories.update(memories)
        self._unclaimed = []

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_memories": list(self._memories.items())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        pairs = state["_memories"]
        self._memories = WeakKeyDictionary({p: {k: a.copy() for k, a in memory.items()} for p, memory in pairs})
        self._unclaimed = [p for p, _ in pairs]


class SGD(Optimizer):
    """Stochastic gradient descent: ``v = momentum v + g``, ``w -= lr v`` (nesterov: ``w -= lr (g + momentum v)``)."""

    momentum = _Number(below=1)

    def __init__(
        self, lr: float = 0.01, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> None:
        super().__init__(lr, weight_decay)
        self.momentum = momentum
        if nesterov and not self.momentum:
            raise ValueError("nesterov=True: allowed only with momentum > 0")
        self.nesterov = bool(nesterov)

    def _fields(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _move(self, value: np.ndarray, gradient: np.ndarray, memory: Memory) -> None:
        if self.momentum:
            velocity = memory["velocity"]
            velocity *= self.momentum
            velocity += gradient
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        value -= self.lr * gradient


class Adam(Optimizer):
    """Adam: ``w -= lr m / (sqrt(v) + eps)`` with bias-corrected running means m of g and v of g^2."""

    eps = _Number()

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        beta1, beta2 = betas
        self.betas = (_number(beta1, "betas[0]", below=1), _number(beta2, "betas[1]", below=1))
        self.eps = eps

    def _fields(self) -> tuple[str, ...]:
        return ("count", "m", "v")

    def _move(self, value: np.ndarray, gradient: np.ndarray, memory: Memory) -> None:
        beta1, beta2 = self.betas
        memory["count"] += 1
        count, m, v = int(memory["count"]), memory["m"], memory["v"]
        m += (1 - beta1) * (gradient - m)
        v += (1 - beta2) * (gradient * gradient - v)
        size = self.lr / (1 - beta1**count)
        value -= size * m / (np.sqrt(v) / sqrt(1 - beta2**count) + self.eps)


def _unique(parameters: Mapping[str, Parameter]) -> Iterable[tuple[str, Parameter]]:
    """Each parameter once, with its first name."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"parameters is a {type(parameters).__name__}: allowed is a mapping, as net.parameters() gives")
    first: dict[Parameter, str] = {}
    for name, parameter in parameters.items():
        first.setdefault(parameter, name)
    return ((name, parameter) for parameter, name in first.items())


def _form(field: str, value: np.ndarray) -> tuple[tuple[int, ...], np.dtype]:
    return ((), np.dtype(np.int64)) if field == "count" else (value.shape, value.dtype)


def _check(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if array.dtype != dtype:
        raise TypeError(f"{name} has dtype {array.dtype}: allowed is {dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}: allowed is {shape}")


def _number(value: Any, name: str, below: float = inf) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r}: allowed is a number") from None
    if not 0 <= number < below:
        raise ValueError(f"{name}={value!r}: allowed is 0 <= {name} < {below}")
    return number
