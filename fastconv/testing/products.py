"""Calls of matrix products and of their gradients."""

from __future__ import annotations

import inspect
from math import prod
from typing import Any

import numpy as np

import fastconv as fc

from .draws import Call, Problem

__all__ = ["matrix_product"]


def _batches(c: Call, budget: float) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Two batch shapes that broadcast, and their broadcast."""
    d = c.d
    ndim = d.pick("batch axes", (0, 1, 2, 3), 0.5)
    sizes = [d.size(f"batch {i}", most) for i, most in enumerate(d.shares(budget, *(1.0,) * ndim))]
    pair = []
    for name in ("a", "b"):
        shape = [1 if d.chance(f"{name} broadcast {i}", 0.25) else s for i, s in enumerate(sizes)]
        pair.append(tuple(shape[d.pick(f"{name} lacks", range(ndim + 1), 0.7) :]))
    return pair[0], pair[1], np.broadcast_shapes(*pair)


def matrix_product(c: Call) -> Problem:
    d, name, backward = c.d, c.name, c.name.endswith("_backward")
    budget = d.budget()
    batch_, m_, n_, k_ = d.shares(budget, 0.5, 1.0, 1.0, 1.0)
    m, n, k = (d.size(axis, most) for axis, most in (("m", m_), ("n", n_), ("k", k_)))
    if d.chance("empty", 0.02):
        m, n, k = (0 if d.pick("empty axis", (0, 1, 2)) == i else v for i, v in enumerate((m, n, k)))
    parameters: dict[str, Any] = {}
    added: dict[str, Any] = {}
    activation = None if name.startswith("gemm") else c.activation()
    if name.startswith("gemm"):
        c.bounded(4 * max(k, m, n))
        parameters |= {"trans_a": d.chance("trans_a", 0.5), "trans_b": d.chance("trans_b", 0.5)}
        a, b = (k, m) if parameters["trans_a"] else (m, k), (n, k) if parameters["trans_b"] else (k, n)
        parameters |= {
            "alpha": d.pick("alpha", (1.0, 2, -0.5, 0.0), 0.4),
            "beta": d.pick("beta", (1.0, 0.0, 2, -1), 0.4),
        }
        if d.chance("c", 0.6):
            shape = tuple(1 if d.chance(f"c {i}", 0.2) else s for i, s in enumerate((m, n)))
            added["c"] = c.array("c", shape[d.pick("c lacks", (0, 1, 2), 0.7) :])
        y: tuple[int, ...] = (m, n)
        first, second = "a", "b"
    elif name.startswith("linear"):
        batch, _, _ = _batches(c, batch_)
        lead = batch if d.chance("one row", 0.1) else (*batch, m)
        if d.chance("many axes", 0.01):
            lead = (*(1,) * 36, *lead)
        c.bounded(max(k, n, prod(lead)))
        a, b, y, first, second = (*lead, k), (n, k), (*lead, n), "x", "w"
        added |= {"b": c.array("b", (n,))} if d.chance("bias", 0.5) else {}
    else:
        left, right, batch = _batches(c, batch_)
        c.bounded(max(k, n * prod(batch), m * prod(batch)))
        a, b, y, first, second = (*left, m, k), (*right, k, n), (*batch, m, n), "a", "b"
        if d.chance("a is a row", 0.08):
            a, y = (k,), (*right, n)
        if d.chance("b is a column", 0.08):
            b, y = (k,), a[:-1]
        if len(b) > 1 and d.chance("bias", 0.5):
            added["bias"] = c.array("bias", (n,))
    arguments = {"dy": c.array("dy", y)} if backward else {}
    arguments |= {first: c.array(first, a), second: c.array(second, b), **added}
    arguments |= c.given(activation=activation, **parameters)
    arguments |= c.out(y) if "out" in inspect.signature(getattr(fc, name)).parameters else {}
    return Problem(name, arguments, None, max(k, m * prod(y[:-2]), n) if backward else k)
