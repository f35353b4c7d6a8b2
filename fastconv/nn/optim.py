"""Optimizers: they change parameters by their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import cos, pi
from typing import Any

import numpy as np

from ..ops.optim import adam_step, adamw_step, checked_betas, rmsprop_step, sgd_step, within
from .losses import as_numbers
from .module import Module
from .parameter import Parameter

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "cosine", "weight_decay_groups"]

Group = dict[str, Any]
Memory = dict[str, Any]
#: What the constructors take: ``net.parameters()``, parameters without names, or groups.
Params = Mapping[str, Parameter] | Iterable[Parameter | Mapping[str, Any]]


def cosine(progress: float) -> float:
    """A schedule for ``fit``: from 1 at progress 0 along half a cosine to 0 at progress 1."""
    return 0.5 * (1 + cos(pi * progress))


def weight_decay_groups(net: Module, weight_decay: float) -> list[Group]:
    """Groups for an optimizer of ``net`` that leave biases and the parameters of norms out of weight decay.

    Those are the parameters that are named ``bias`` or have fewer than two dimensions.

    >>> nn.SGD(nn.weight_decay_groups(net, 1e-4), lr=0.1, momentum=0.9)
    """
    decayed, others = {}, {}
    for name, parameter in net.parameters().items():
        kept = parameter.value.ndim < 2 or name.rpartition(".")[2] == "bias"
        (others if kept else decayed)[name] = parameter
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


class Optimizer:
    """A rule that moves parameters, in groups that each have options of their own.

    ``params`` is ``net.parameters()``, an iterable of ``Parameter`` objects, or an iterable of groups: dicts with
    ``"params"`` and those options that differ from the constructor's. Without it, the optimizer takes the parameters of
    the first network that ``fit`` trains with it. ``param_groups`` has the groups, as dicts with every option, that may
    be changed at any time.

    >>> nn.Adam([{"params": net.body.parameters(), "lr": 1e-4}, {"params": net.head.parameters()}], lr=1e-3)

    An optimizer is copied and pickled together with the network that it moves, as in ``copy.deepcopy((net,
    optimizer))``; alone, it would move copies of the parameters. TypeError or ValueError for an option that is unknown
    or out of range, for a parameter that is in two groups, or for what is no parameter.
    """

    def __init__(self, params: Params | None = None, **defaults: Any) -> None:
        self.defaults = self._checked(defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Parameter, Memory] = {}
        for group in () if params is None else _groups(params):
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Move the parameters of another group, too."""
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if "params" not in group or unknown:
            allowed = ", ".join(self.defaults)
            raise ValueError(
                f"a group has {sorted(map(str, group))}: allowed is params, with {allowed} where they differ"
            )
        params = _named(group["params"])
        for other in self.param_groups:
            for name in (name for name, p in params.items() if p in other["params"].values()):
                raise ValueError(f"parameter {name!r} is in two groups")
        self.param_groups.append({"params": params, **self._checked(self.defaults | dict(group))})

    def _checked(self, options: Mapping[str, Any]) -> Group:
        """The options of a group, each as its type; raises for one that is out of range."""
        return {name: within(name, options[name]) for name in ("lr", "weight_decay")}

    def step(self) -> None:
        """Move every parameter that ``requires_grad``, and use its gradient up (None afterwards).

        Before anything moves, it raises RuntimeError if there are no parameters or one has no gradient; TypeError or
        ValueError if an option is out of range, or a gradient or what is remembered is not like its parameter.
        """
        if not self.param_groups:
            raise RuntimeError(f"nothing to move: allowed is {type(self).__name__}(net.parameters(), ...)")
        moves = []
        for group in self.param_groups:
            group.update(self._checked(group))
            for name, p in group["params"].items():
                if not p.requires_grad:
                    continue
                if p.grad is None:
                    raise RuntimeError(
                        f"parameter {name!r} has no gradient: call backward before step, and freeze what forward does "
                        "not use (requires_grad = False)"
                    )
                _check(f"the gradient of {name!r}", p.grad, p.value.shape, p.value.dtype)
                moves.append((p, self._memory(name, p, group), group))
        for p, memory, group in moves:
            self._move(p.value, np.asarray(p.grad), memory, group)
            p.version += 1
            p.grad = None

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.param_groups:
            for parameter in group["params"].values():
                parameter.grad = None

    def _move(self, value: np.ndarray, gradient: np.ndarray, memory: Memory, group: Group) -> None:
        """Change ``value`` and ``memory`` in place."""
        raise NotImplementedError

    def _fields(self, group: Group) -> tuple[str, ...]:
        """What is remembered of each parameter of the group: arrays like it, zeros at first; ``step`` is one int."""
        return ()

    def _memory(self, name: str, p: Parameter, group: Group) -> Memory:
        memory = self.state.setdefault(p, {})
        for field in self._fields(group):
            if field not in memory:
                memory[field] = np.zeros(*_form(field, p.value))
            _check(f"the {field} of {name!r} in the optimizer", memory[field], *_form(field, p.value))
        return memory

    # ----------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the options and of what is remembered, by group and name: ``"group0.lr"``,
        ``"group0.conv.weight.exp_avg"``.

        With it, the network's ``state_dict`` and the generator that ``fit`` was given, training goes on bit for bit.
        A parameter that was never moved is not in it.
        """
        state = {}
        for prefix, group in self._numbered():
            state |= {prefix + option: np.array(group[option]) for option in self.defaults}
            for name, p in group["params"].items():
                state |= {f"{prefix}{name}.{field}": a.copy() for field, a in self.state.get(p, {}).items()}
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over ``state``, as ``state_dict`` gave it, of an optimizer with the same groups.

        Raises KeyError if a name is missing or too many, ValueError for another shape or a number out of range,
        TypeError for another dtype; then nothing was changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state is a {type(state).__name__}: allowed is a mapping of names to arrays")
        arrays = {name: as_numbers(f"state[{name!r}]", value) for name, value in state.items()}
        options = {prefix + option for prefix, _ in self._numbered() for option in self.defaults}
        missing = options - arrays.keys()
        if missing:
            raise KeyError(f"state does not fit the optimizer: missing {sorted(missing)}")
        groups: list[Group] = []
        places: list[tuple[Parameter, dict[str, str]]] = []
        for prefix, group in self._numbered():
            groups.append(self._checked({option: arrays[prefix + option].tolist() for option in self.defaults}))
            for name, p in group["params"].items():
                names = {field: f"{prefix}{name}.{field}" for field in self._fields(groups[-1])}
                if not arrays.keys().isdisjoint(names.values()):
                    places.append((p, names))
        used = {name for _, names in places for name in names.values()}
        missing, extra = used - arrays.keys(), arrays.keys() - used - options
        if missing or extra:
            raise KeyError(f"state does not fit the optimizer: missing {sorted(missing)}, unknown {sorted(extra)}")
        memories = {
            p: {field: _remembered(name, arrays[name], field, p) for field, name in names.items()}
            for p, names in places
        }
        for group, given in zip(self.param_groups, groups, strict=True):
            group.update(given)
        self.state = memories

    def _numbered(self) -> Iterator[tuple[str, Group]]:
        """The groups, each with what its names in a state begin with."""
        return ((f"group{i}.", group) for i, group in enumerate(self.param_groups))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {
            "param_groups": [dict(group) for group in self.param_groups],
            "state": {p: {field: a.copy() for field, a in memory.items()} for p, memory in self.state.items()},
        }


class SGD(Optimizer):
    """Stochastic gradient descent: ``v = momentum v + g``, ``w -= lr v`` (nesterov: ``w -= lr (g + momentum v)``).

    ``weight_decay`` times w is added to the gradient g (L2).
    """

    def __init__(
        self,
        params: Params | None = None,
        lr: float = 0.01,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def _checked(self, options: Mapping[str, Any]) -> Group:
        momentum, nesterov = within("momentum", options["momentum"], 1), bool(options["nesterov"])
        if nesterov and not momentum:
            raise ValueError("nesterov=True: allowed only with momentum > 0")
        return super()._checked(options) | {"momentum": momentum, "nesterov": nesterov}

    def _fields(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def _move(self, value: np.ndarray, gradient: np.ndarray, memory: Memory, group: Group) -> None:
        buffer = memory["momentum_buffer"] if group["momentum"] else None
        sgd_step(value, gradient, buffer, group["lr"], group["momentum"], group["weight_decay"], group["nesterov"])


class Adam(Optimizer):
    """Adam: ``w -= lr m / (sqrt(v) + eps)`` with bias-corrected running means m of g and v of g^2.

    ``weight_decay`` times w is added to the gradient g (L2).
    """

    _function = staticmethod(adam_step)

    def __init__(
        self,
        params: Params | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _checked(self, options: Mapping[str, Any]) -> Group:
        return super()._checked(options) | {
            "betas": checked_betas(options["betas"]),
            "eps": within("eps", options["eps"]),
        }

    def _fields(self, group: Group) -> tuple[str, ...]:
        return ("step", "exp_avg", "exp_avg_sq")

    def _move(self, value: np.ndarray, gradient: np.ndarray, memory: Memory, group: Group) -> None:
        memory["step"] += 1
        options = (group[name] for name in ("lr", "betas", "eps", "weight_decay"))
        self._function(value, gradient, memory["exp_avg"], memory["exp_avg_sq"], int(memory["step"]), *options)


class AdamW(Adam):
    """Adam with decoupled weight decay: before each step ``w *= 1 - lr weight_decay``; the gradient stays as it is."""

    _function = staticmethod(adamw_step)

    def __init__(
        self,
        params: Params | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """``s = alpha s + (1 - alpha) g^2``, ``w -= lr g / (sqrt(s) + eps)``.

    With ``centered``, the square of the running mean of g is taken off s under the root; with ``momentum``,
    ``b = momentum b + g / (...)`` and ``w -= lr b``. ``weight_decay`` times w is added to the gradient g (L2).
    """

    def __init__(
        self,
        params: Params | None = None,
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        options = {"alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum, "centered": centered}
        super().__init__(params, lr=lr, **options)

    def _checked(self, options: Mapping[str, Any]) -> Group:
        return super()._checked(options) | {
            "alpha": within("alpha", options["alpha"], 1),
            "eps": within("eps", options["eps"]),
            "momentum": within("momentum", options["momentum"], 1),
            "centered": bool(options["centered"]),
        }

    def _fields(self, group: Group) -> tuple[str, ...]:
        means = ("square_avg", "grad_avg") if group["centered"] else ("square_avg",)
        return (*means, "momentum_buffer") if group["momentum"] else means

    def _move(self, value: np.ndarray, gradient: np.ndarray, memory: Memory, group: Group) -> None:
        names, there = ("square_avg", "grad_avg", "momentum_buffer"), self._fields(group)
        arrays = (memory[name] if name in there else None for name in names)
        options = (group[name] for name in ("lr", "alpha", "eps", "weight_decay", "momentum"))
        rmsprop_step(value, gradient, *arrays, *options)


def _groups(params: Any) -> list[Mapping[str, Any]]:
    """What the constructor was given, as groups."""
    if isinstance(params, Mapping):
        return [{"params": params}]
    if isinstance(params, (int, float, Module)) or not isinstance(params, Iterable):
        raise TypeError(
            f"params is a {type(params).__name__}: allowed are parameters, as net.parameters() gives them, or groups "
            "of them (the learning rate is lr=...)"
        )
    params = list(params)
    return params if params and all(isinstance(p, Mapping) for p in params) else [{"params": params}]


def _named(params: Any) -> dict[str, Parameter]:
    """The parameters of a group by name, each once, by its first."""
    named = params.items() if isinstance(params, Mapping) else ((str(i), p) for i, p in enumerate(params))
    first: dict[Parameter, str] = {}
    for name, parameter in named:
        if not isinstance(parameter, Parameter):
            raise TypeError(f"params[{name}] is a {type(parameter).__name__}: allowed is a Parameter")
        first.setdefault(parameter, name)
    return {name: parameter for parameter, name in first.items()}


def _form(field: str, value: np.ndarray) -> tuple[tuple[int, ...], np.dtype]:
    return ((), np.dtype(np.int64)) if field == "step" else (value.shape, value.dtype)


def _remembered(name: str, array: np.ndarray, field: str, p: Parameter) -> np.ndarray:
    """A copy of an array of a state; raises if it is not like its parameter."""
    _check(f"state[{name!r}]", array, *_form(field, p.value))
    if field == "step" and array < 0:
        raise ValueError(f"state[{name!r}]={array}: allowed is 0 or more")
    return array.copy()


def _check(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if array.dtype != dtype:
        raise TypeError(f"{name} has dtype {array.dtype}: allowed is {dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}: allowed is {shape}")
