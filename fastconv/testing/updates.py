"""Steps of optimizers, which change arrays in place. See ``drawing`` and ``judge``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .draws import Call, Problem

__all__ = ["CHANGED", "changed", "magnitude", "update"]

#: function -> its arrays that a call changes.
CHANGED: dict[str, tuple[str, ...]] = {
    "sgd_step": ("param", "momentum_buffer"),
    "adam_step": ("param", "exp_avg", "exp_avg_sq"),
    "adamw_step": ("param", "exp_avg", "exp_avg_sq"),
    "rmsprop_step": ("param", "square_avg", "grad_avg", "momentum_buffer"),
}


def changed(problem: Problem) -> list[str]:
    """Those that this call changes."""
    return [name for name in CHANGED.get(problem.function, ()) if problem.arguments.get(name) is not None]


def update(c: Call) -> Problem:
    d, name = c.d, c.name
    ndim = d.pick("rank", range(7), 0.1)
    shape = [d.size(f"size {i}", most) for i, most in enumerate(d.shares(d.budget() / 10, *(1.0,) * ndim))]
    if ndim and d.chance("empty", 0.02):
        shape[0] = 0
    momentum = d.pick("momentum", (0.9, 0.0, 0.5)) if name in ("sgd_step", "rmsprop_step") else 0.0
    arguments: dict[str, Any] = {
        "param": c.array("param", shape, changes=True),
        "grad": c.array("grad", shape),
    }
    for array in CHANGED[name][1:]:
        if array == "momentum_buffer" and not momentum:
            continue
        if array == "grad_avg" and not d.chance("centered", 0.5):
            continue
        kind = {"exp_avg_sq": "positive", "square_avg": "count", "grad_avg": "positive"}.get(array)
        arguments[array] = c.array(array, shape, kind, changes=True)
    if name.startswith("adam"):
        arguments |= {"step": d.pick("step", (1, 2, 1000)), "betas": d.pick("betas", ((0.9, 0.999), (0.5, 0.75)))}
    elif momentum:
        arguments["momentum"] = momentum
    arguments |= {"lr": d.pick("lr", (0.5, 1e-3)), "weight_decay": d.pick("weight_decay", (0.0, 0.25))}
    if name == "sgd_step" and momentum and d.chance("nesterov", 0.5):
        arguments["nesterov"] = True
    if name == "rmsprop_step":
        arguments["alpha"] = d.pick("alpha", (0.75, 0.99))
    if name != "sgd_step":
        arguments["eps"] = d.pick("eps", (1e-3, 0.5))
    return Problem(name, arguments)


def magnitude(problem: Problem, number: int, results: tuple[np.ndarray, ...]) -> np.ndarray:
    """How large what is added up for one of the results is, where that comes of a division, as a part of it."""
    given = problem.arguments
    w, g, *_ = (np.abs(given[name].plain().astype(np.float64)) for name in ("param", "grad"))
    g = g + given["weight_decay"] * w
    before = {name: np.abs(given[name].plain().astype(np.float64)) for name in changed(problem)}
    after = dict(zip(changed(problem), (np.abs(r.astype(np.float64)) for r in results), strict=True))
    name = changed(problem)[number]
    if name in ("exp_avg_sq", "square_avg"):
        return before[name] + g**2
    if name in ("exp_avg", "grad_avg"):
        return before[name] + g
    move, eps = g, given.get("eps", 0.0)
    if problem.function.startswith("adam"):
        first, second = (1 - beta ** given["step"] for beta in given["betas"])
        move = (before["exp_avg"] + g) / first / (np.sqrt(after["exp_avg_sq"] / second) + eps)
    elif problem.function == "rmsprop_step":
        centre = after.get("grad_avg", 0.0)
        variance = np.maximum(after["square_avg"] - centre**2, 0)
        # What a variance is off by, it is in full under the root.
        move = g / (np.sqrt(variance) + eps) * (1 + (1 + after["square_avg"]) / (variance + eps**2))
    if "momentum_buffer" in before:
        move = move + before["momentum_buffer"]
    return move if name == "momentum_buffer" else w + given["lr"] * 2 * move
