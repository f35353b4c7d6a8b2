"""Calls of elementwise functions and of their gradients; new arrays."""

from __future__ import annotations

import inspect
from math import prod

import numpy as np

import fastconv as fc

from .draws import PARAMETERS_OF, Call, Problem

__all__ = ["BROADCAST", "DROPOUTS", "UNARY", "broadcast", "dropout", "elementwise", "prelu"]

#: Elementwise functions of two or three arrays that are broadcast, and all of one.
BROADCAST = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "scale_shift")
DROPOUTS = ("dropout", "feature_dropout")
UNARY = (
    *("activate", "relu", "relu6", "leaky_relu", "hardtanh", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
    *("softsign", "hardswish", "hardsigmoid", "sigmoid", "tanh", "logsigmoid", "exp", "log", "sqrt", "abs", "erf"),
)


def elementwise(c: Call) -> Problem:
    ndim = c.d.pick("rank", range(7), 0.1)
    shape = [c.d.size(f"size {i}", most) for i, most in enumerate(c.d.shares(c.d.budget() / 30, *(1.0,) * ndim))]
    if ndim and c.d.chance("empty", 0.02):
        shape[0] = 0
    if c.name == "empty":
        given = shape[0] if ndim == 1 and c.d.chance("as an int", 0.5) else tuple(shape)
        return Problem("empty", {"shape": given} | ({} if c.dtype == "float32" else {"dtype": c.dtype}))
    arguments = {"dy": c.array("dy", shape)} if "backward" in c.name else {}
    arguments["x"] = c.array("x", shape)
    if c.name.startswith("activate"):
        arguments["activation"] = c.activation()
    name = {"hardtanh": "clip"}.get(stem := c.name.removesuffix("_backward"), stem)
    parameters = [
        p for p in inspect.signature(getattr(fc, c.name)).parameters if p not in ("dy", "x", "activation", "out")
    ]
    if name in PARAMETERS_OF and c.d.chance("parameters", 0.7):
        arguments |= dict(zip(parameters, c.d.pick(name, PARAMETERS_OF[name]), strict=False))
    if stem == "gelu" and c.d.chance("approximate", 0.5):
        arguments["approximate"] = "tanh"
    return Problem(c.name, arguments | c.out(shape))


def broadcast(c: Call) -> Problem:
    """Operands of one shape, of which each may lack axes, or have ones instead."""
    ndim = c.d.pick("rank", range(7), 0.1)
    shape = [c.d.size(f"size {i}", most) for i, most in enumerate(c.d.shares(c.d.budget() / 30, *(1.0,) * ndim))]
    if ndim and c.d.chance("empty", 0.02):
        shape[0] = 0
    names = ["a", "b"] if c.name.removesuffix("_backward") != "scale_shift" else ["x", "s", "t"]
    shapes = []
    for name in names:
        less = c.d.pick(f"axes that {name} lacks", range(ndim + 1)) if c.d.chance(f"{name} lacks axes", 0.3) else 0
        ones = [c.d.chance(f"{name} has one at {i}", 0.3) for i in range(ndim)]
        shapes.append([1 if one else size for one, size in zip(ones, shape, strict=True)][less:])
    whole = np.broadcast_shapes(*map(tuple, shapes))
    backward = "backward" in c.name
    arguments = {"dy": c.array("dy", whole)} if backward else {}
    arguments |= {name: c.array(name, own) for name, own in zip(names, shapes, strict=True)}
    length = max(prod(whole) // max(prod(own), 1) for own in shapes) if backward else 1
    return Problem(c.name, arguments | ({} if backward else c.out(whole)), None, c.bounded(length))


def prelu(c: Call) -> Problem:
    ndim = c.d.pick("rank", range(6), 0.1)
    shape = [c.d.size(f"size {i}", most) for i, most in enumerate(c.d.shares(c.d.budget() / 30, *(1.0,) * ndim))]
    each = ndim > 1 and c.d.chance("a slope for each channel", 0.7)
    length = prod(shape) // (shape[1] if each else 1)
    backward = "backward" in c.name
    arguments = {"dy": c.array("dy", shape)} if backward else {}
    arguments |= {"x": c.array("x", shape), "weight": c.array("weight", [shape[1] if each else 1])}
    return Problem(c.name, arguments | ({} if backward else c.out(shape)), None, c.bounded(length) if backward else 1)


def dropout(c: Call) -> Problem:
    d, features = c.d, c.name.startswith("feature")
    ndim = d.pick("rank", range(2, 6) if features else range(7), 0.1)
    shape = [d.size(f"size {i}", most) for i, most in enumerate(d.shares(d.budget() / 30, *(1.0,) * ndim))]
    if ndim and d.chance("empty", 0.02):
        shape[0] = 0
    arguments = {"dy": c.array("dy", shape)} if "backward" in c.name else {}
    arguments |= {"x": c.array("x", shape), "p": d.pick("p", (0.5, 0.1, 0.25, 0.9, 0.0, 1.0, 1e-9))}
    if d.chance("evaluation", 0.1):
        arguments["training"] = False
    arguments["seed"] = d.pick("which seed", (0, 1, 2**32, 2**63 - 1, 123456789))
    if d.chance("offset given", 0.5):
        arguments["offset"] = d.pick("offset", (1, 2**31, 2**32, 2**63 - 1))
    if features and d.chance("channels last", 0.5):
        arguments["layout"] = "NHWC"
    return Problem(c.name, arguments | c.out(shape))
