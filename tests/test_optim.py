"""Steps of optimizers: every backend against the reference, which is held against hand-computed numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import testing
from fastconv.testing import Target
from fastconv.testing.updates import magnitude

#: What is remembered besides the parameter and the gradient, and the other arguments.
_RULES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "sgd": ("sgd_step", (), {"lr": 0.1, "weight_decay": 0.3}),
    "momentum": ("sgd_step", ("momentum_buffer",), {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}),
    "nesterov": (
        "sgd_step", ("momentum_buffer",), {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3, "nesterov": True},
    ),
    "adam": ("adam_step", ("exp_avg", "exp_avg_sq"), {"step": 3, "lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3,
                                                      "weight_decay": 0.3}),
    "adamw": ("adamw_step", ("exp_avg", "exp_avg_sq"), {"step": 1, "lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-3,
                                                        "weight_decay": 0.3}),
    "rmsprop": ("rmsprop_step", ("square_avg",), {"lr": 0.1, "alpha": 0.8, "eps": 1e-2, "weight_decay": 0.3}),
    "centered": ("rmsprop_step", ("square_avg", "grad_avg"), {"lr": 0.1, "alpha": 0.8, "eps": 1e-2, "weight_decay": 0}),
    "rmsprop, momentum": ("rmsprop_step", ("square_avg", "momentum_buffer"),
                          {"lr": 0.1, "alpha": 0.8, "eps": 1e-2, "momentum": 0.5, "weight_decay": 0.0}),
    "rmsprop, all": ("rmsprop_step", ("square_avg", "grad_avg", "momentum_buffer"),
                     {"lr": 0.1, "alpha": 0.8, "eps": 1e-2, "momentum": 0.5, "weight_decay": 0.3}),
}  # fmt: skip


def _arrays(rule: str, shape: tuple[int, ...], dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(rule))
    arrays = {name: rng.standard_normal(shape) for name in ("param", "grad", *_RULES[rule][1])}
    # A mean of squares is more than the square of the mean.
    for name in ("exp_avg_sq", "square_avg"):
        if name in arrays:
            arrays[name] = 0.5 + arrays[name] ** 2 + np.square(arrays.get("grad_avg", 0.0))
    return {name: np.asarray(a, dtype) for name, a in arrays.items()}


def _moved(rule: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By the reference, in float64."""
    function, _, options = _RULES[rule]
    wide = {name: a.astype(np.float64) for name, a in arrays.items()}
    with fc.use_backend("reference"):
        getattr(fc, function)(**wide, **options)
    return wide


def _check(rule: str, before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> None:
    """Within what rounding can do; the gradient as it was."""
    expected, (function, _, options) = _moved(rule, before), _RULES[rule]
    names = [name for name in fc.testing.updates.CHANGED[function] if name in before]
    recipe = fc.testing.Problem(function, {name: _Plain(a) for name, a in before.items()} | options)
    for i, name in enumerate(names):
        size = magnitude(recipe, i, tuple(expected[n] for n in names))
        testing.assert_close(after[name], expected[name], 8 * np.finfo(after[name].dtype).eps * size, name)
    np.testing.assert_array_equal(after["grad"], before["grad"])


class _Plain:
    """An array, as recipes of arrays show theirs."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def plain(self) -> np.ndarray:
        return self._array


@pytest.mark.parametrize("rule", _RULES)
def test_a_step_is_what_float64_makes_it(target: Target, dtype: str, rule: str) -> None:
    function, _, options = _RULES[rule]
    for shape in ((), (1,), (7,), (1301,), (5, 1, 33), (2, 3, 4, 5), (90_001,)):
        before = _arrays(rule, shape, dtype)
        after = {name: a.copy() for name, a in before.items()}
        with testing.on(target):
            assert testing.proven(target, getattr(fc, function), **after, **options) is None
        _check(rule, before, after)


def test_nothing_to_move(target: Target) -> None:
    with testing.on(target):
        fc.adam_step(*(np.ones((3, 0)) for _ in range(4)), 1)


@pytest.mark.parametrize("order", testing.MEMORY_ORDERS)
@pytest.mark.parametrize("rule", ["momentum", "adam", "rmsprop, all"])
def test_any_strides(target: Target, dtype: str, rule: str, order: str) -> None:
    """Each array with strides of its own; what lies between the elements stays."""
    function, _, options = _RULES[rule]
    before = _arrays(rule, (3, 70, 11), dtype)
    turned = testing.MEMORY_ORDERS[order]
    for laid in (lambda i: turned, lambda i: turned if i % 2 else np.copy):
        after = {name: laid(i)(a) for i, (name, a) in enumerate(before.items())}
        with testing.on(target):
            getattr(fc, function)(**after, **options)
        _check(rule, before, after)


@pytest.mark.parametrize("rule", _RULES)
def test_nothing_outside_is_read_or_written(target: Target, dtype: str, rule: str) -> None:
    function, _, options = _RULES[rule]
    before = _arrays(rule, (1, 37), dtype)
    # Ones, of which a step makes something else.
    memory = {name: np.ones(37 + 128, dtype) for name in before}
    after = {name: m[64:101].reshape(1, 37) for name, m in memory.items()}
    for name, array in after.items():
        array[...] = before[name]
    with testing.on(target):
        getattr(fc, function)(**after, **options)
    _check(rule, before, after)
    for m in memory.values():
        np.testing.assert_array_equal(np.delete(m, np.s_[64:101]), 1)


@pytest.mark.parametrize("rule", ["nesterov", "adam", "rmsprop, all"])
def test_the_same_bits_for_any_number_of_threads(target: Target, rule: str) -> None:
    function, _, options = _RULES[rule]
    before, results = _arrays(rule, (3, 70_001), "float32"), []
    for threads in (1, 2, 5):
        after = {name: a.copy() for name, a in before.items()}
        with testing.on(target), fc.threads(threads):
            getattr(fc, function)(**after, **options)
        results.append(b"".join(a.tobytes() for a in after.values()))
    assert results[0] == results[1] == results[2]


def test_whole_numbers_exactly(target: Target, dtype: str) -> None:
    """Of two steps with momentum 1/2, in halves and quarters."""
    w, v = np.array([4, -2, 0, 8, 1] * 9, dtype), np.zeros(45, dtype)
    g = np.array([1, 2, -4, 0, 3] * 9, dtype)
    with testing.on(target):
        fc.sgd_step(w, g, v, 0.5, 0.5)
        np.testing.assert_array_equal(w, [3.5, -3, 2, 8, -0.5] * 9)
        fc.sgd_step(w, g, v, 0.5, 0.5, 0.25, True)
    # g + w / 4; v = v / 2 + that; w less half of that and half of v.
    g = g + np.array([3.5, -3, 2, 8, -0.5] * 9) / 4
    v1 = np.array([1, 2, -4, 0, 3] * 9) / 2 + g
    np.testing.assert_array_equal(v, v1)
    np.testing.assert_array_equal(w, np.array([3.5, -3, 2, 8, -0.5] * 9) - 0.5 * (g + v1 / 2))


def test_what_is_not_finite_stays_where_it_is(target: Target, dtype: str) -> None:
    w, g, v = np.ones(19, dtype), np.ones(19, dtype), np.ones(19, dtype)
    w[3], g[7], v[11], g[13] = np.inf, np.nan, np.inf, -np.inf
    m, s = v.copy(), np.ones(19, dtype)
    with testing.on(target):
        for step in (lambda p: fc.sgd_step(p, g, v, 0.5, 0.5), lambda p: fc.adamw_step(p, g, m, s, 1)):
            moved = w.copy()
            step(moved)
            assert np.flatnonzero(~np.isfinite(moved)).tolist() == [3, 7, 11, 13]
    # Of a parameter that is infinite no decay of 0 makes a NaN.
    assert moved[3] == np.inf


def test_a_centered_variance_is_not_negative(target: Target) -> None:
    w, s, m = np.ones(64, "f4"), np.zeros(64, "f4"), np.zeros(64, "f4")
    with testing.on(target):
        for _ in range(50):
            fc.rmsprop_step(w, np.linspace(1, 1.1, 64, dtype="f4"), s, m, lr=1e-3, alpha=0.5, eps=0.1)
    assert np.isfinite(w).all()


def test_what_is_refused() -> None:
    def arrays(*shape: int) -> list[np.ndarray]:
        return [np.ones(shape or (3, 4), "f4") for _ in range(4)]

    w, g, m, s = arrays()
    still = np.ones((3, 4), "f4")
    still.flags.writeable = False
    for call, error, text in (
        (lambda: fc.sgd_step(w, g, lr=-1), ValueError, "lr=-1.0: allowed is 0 <= lr"),
        (lambda: fc.sgd_step(w, g, momentum=0.5), TypeError, "momentum_buffer is None"),
        (lambda: fc.sgd_step(w, g, m, momentum=1), ValueError, "momentum=1"),
        (lambda: fc.sgd_step(w, g, m, nesterov=True), ValueError, "nesterov=True"),
        (lambda: fc.sgd_step(w, g[0]), ValueError, r"grad has shape \(4,\): allowed is \(3, 4\), the shape of param"),
        (lambda: fc.sgd_step(w, g.astype("f8")), TypeError, "grad has dtype float64"),
        (lambda: fc.sgd_step(w, w), ValueError, "grad overlaps param"),
        (lambda: fc.sgd_step(w, g, w[::-1], momentum=0.5), ValueError, "momentum_buffer overlaps param"),
        (lambda: fc.sgd_step(still, g), ValueError, "param is read-only"),
        (lambda: fc.sgd_step(np.broadcast_to(w[:1], (3, 4)).copy()[:0], g[:0], m[:0, :3], momentum=0.5), ValueError,
         "momentum_buffer has shape"),
        (lambda: fc.adam_step(w, g, m, m, 1), ValueError, "exp_avg_sq overlaps exp_avg"),
        (lambda: fc.adam_step(w, g, m, None, 1), TypeError, "exp_avg_sq is None"),
        (lambda: fc.adam_step(w, g, m, s, 0), ValueError, "step=0"),
        (lambda: fc.adamw_step(w, g, m, s, 1, betas=(0.9, 1)), ValueError, r"betas=\(0.9, 1\)"),
        (lambda: fc.adamw_step(w, g, m, s, 1, betas=0.9), TypeError, "betas=0.9"),
        (lambda: fc.adamw_step(w, g, m, still, 1), ValueError, "exp_avg_sq is read-only"),
        (lambda: fc.rmsprop_step(w, g, None), TypeError, "square_avg is None"),
        (lambda: fc.rmsprop_step(w, g, s, alpha=1), ValueError, "alpha=1"),
        (lambda: fc.rmsprop_step(w, g, s, momentum=0.5), TypeError, "momentum_buffer is None"),
        (lambda: fc.rmsprop_step(w, g, s, np.lib.stride_tricks.as_strided(m, (3, 4), (4, 4))), ValueError,
         "grad_avg has strides"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            call()
    for array in (w, g, m, s):
        np.testing.assert_array_equal(array, np.ones((3, 4)))
