"""Elementwise functions: their accuracy, their gradients, and arrays of every shape and order."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import testing
from fastconv.spec import ACTIVATIONS, SELU_SCALE
from fastconv.testing import Target
from fastconv.testing.elementwise import BROADCAST

_ARITHMETIC: dict[str, Any] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "maximum": np.maximum,
    "minimum": np.minimum, "scale_shift": lambda x, s, t: x * s + t,
}  # fmt: skip

#: Shapes of operands: what is broadcast, in which axes; runs that are long, short, one element.
_SHAPES = [
    ((2, 3, 5, 7), (2, 3, 5, 7)), ((2, 3, 5, 7), (2, 3, 1, 1)), ((2, 5, 7, 19), (2, 1, 1, 19)),
    ((3, 1, 4), (2, 3, 5, 1)), ((), ()), ((), (5,)), ((1, 1), (1, 700)), ((40_000,), (40_000,)), ((3, 33_000), (3, 1)),
    ((9, 3, 2, 2, 2, 1, 3, 2), (3, 2)), ((0, 3), (1, 3)),
]  # fmt: skip

#: The functions of float64 that they are held against, and where.
_EXACT: dict[str, tuple[Any, float, float]] = {
    "exp": (np.exp, -87, 88), "log": (np.log, 0, 1e4), "tanh": (np.tanh, -12, 12),
    "sqrt": (np.sqrt, 0, 1e4), "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), -80, 80),
    "silu": (lambda x: x / (1 + np.exp(-x)), -80, 80),
}  # fmt: skip


def _whole(seed: int, *shapes: tuple[int, ...], dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [testing.integers(rng, shape, dtype) for shape in shapes]


@pytest.mark.parametrize("name", _EXACT)
def test_functions_are_accurate_to_two_units_of_the_last_place(target: Target, dtype: str, name: str) -> None:
    function, low, high = _EXACT[name]
    rng = np.random.default_rng(1)
    near_0, near_1 = rng.uniform(max(low, -1), 1, 2000), 1 + rng.uniform(-0.1, 0.1, 999)
    x = np.concatenate([rng.uniform(low, high, 4000), near_0, near_1]).astype(dtype)
    expected = function(x.astype(np.longdouble))
    with testing.on(target):
        y = testing.proven(target, getattr(fc, name), x)
    assert np.max(np.abs(y - expected) / np.spacing(np.abs(expected).astype(dtype))) <= 2


def test_the_error_function_is_accurate_to_four_units_of_the_last_place(target: Target, dtype: str) -> None:
    x = np.concatenate([np.linspace(-7, 7, 3001), np.linspace(-1e-3, 1e-3, 500), [1e-30]]).astype(dtype)
    expected = np.array([math.erf(v) for v in x.tolist()])
    with testing.on(target):
        y = testing.proven(target, fc.erf, x)
    # (Of float64 what it is held against has an error, too.)
    assert np.max(np.abs(y - expected) / np.spacing(np.abs(expected).astype(dtype))) <= 4


def test_functions_at_the_ends_of_the_range(target: Target, dtype: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e30, -1e30, np.finfo(dtype).tiny], dtype)
    nan, inf, tiny = np.nan, np.inf, np.finfo(dtype).tiny
    log_tiny, log_large = np.log(tiny), np.log(x[5])
    expected = {
        "exp": [nan, inf, 0, 1, 1, inf, 0, 1],
        "log": [nan, inf, nan, -inf, -inf, log_large, nan, log_tiny],
        "tanh": [nan, 1, -1, 0, -0.0, 1, -1, tiny],
        "erf": [nan, 1, -1, 0, -0.0, 1, -1, tiny * 2 / np.sqrt(np.pi)],
        "sqrt": [nan, inf, nan, 0, -0.0, np.sqrt(x[5]), nan, np.sqrt(tiny)],
        "abs": [nan, inf, inf, 0, 0, x[5], x[5], tiny],
        "sigmoid": [nan, 1, 0, 0.5, 0.5, 1, 0, 0.5],
        "softplus": [nan, inf, 0, np.log(2), np.log(2), x[5], 0, np.log(2)],
    }
    for name, right in expected.items():
        with testing.on(target):
            y = testing.proven(target, getattr(fc, name), x)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(y, np.array(right, dtype), rtol=4 * np.finfo(dtype).eps, err_msg=name)
        zeros = np.array(right) == 0
        assert np.array_equal(np.signbit(y[zeros]), np.signbit(np.array(right)[zeros])), name


def test_derivatives_are_at_their_limits_far_from_zero(target: Target, dtype: str) -> None:
    x = np.array([np.inf, -np.inf, 1e30, -1e30, 300, -300], dtype)
    for name in ("sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "mish", "softplus", "elu", "selu", "softsign", "erf"):
        with testing.on(target):
            dx = testing.proven(target, fc.activate_backward, np.ones_like(x), x, name)
        above = 0 if name in ("sigmoid", "tanh", "softsign", "erf") else SELU_SCALE if name == "selu" else 1
        np.testing.assert_allclose(dx, np.array([above, 0] * 3), atol=2e-5, err_msg=name)
        assert dx[1] == 0, name  # also where it is multiplied by infinity


def test_slopes_keep_their_digits_where_they_are_tiny(target: Target, dtype: str) -> None:
    x = np.linspace(5, 40, 301).astype(dtype)
    x = np.concatenate([x, -x])
    e = np.exp(-np.abs(x.astype(np.longdouble)))
    with testing.on(target):
        sigmoid = testing.proven(target, fc.sigmoid_backward, np.ones_like(x), x)
        tanh = testing.proven(target, fc.tanh_backward, np.ones_like(x), x / 2)
    np.testing.assert_allclose(sigmoid, (e / (1 + e) ** 2).astype(dtype), rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(tanh, (4 * e / (1 + e) ** 2).astype(dtype), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])
def test_derivatives_are_slopes(target: Target, name: str) -> None:
    x = np.concatenate([np.linspace(-9.1, 9.3, 501), np.linspace(-0.6, 0.7, 99)])
    x = np.abs(x) + 0.5 if name in ("log", "sqrt") else x
    # Away from kinks, and from where softplus is x.
    x, h = x[np.min(np.abs(x[:, None] - [0, -3, 3, 6, 20]), axis=1) > 1e-4], 1e-5
    parameters = {"leaky_relu": (0.25,), "elu": (0.5,), "celu": (2.0,), "softplus": (0.7,)}.get(name, ())
    with testing.on(target):
        dx = testing.proven(target, fc.activate_backward, np.full_like(x, -2), x, (name, *parameters))
    with fc.use_backend("reference"):
        rise = fc.activate(x + h, (name, *parameters)) - fc.activate(x - h, (name, *parameters))
    np.testing.assert_allclose(dx, -2 * rise / (2 * h), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in ("identity", "exp")])
def test_derivatives_at_kinks_and_between_them(target: Target, dtype: str, name: str) -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(0, 8, 3001), [0, 3, -3, 6, 20]]).astype(dtype)
    x = np.abs(x) + 1 if name in ("log", "sqrt") else x
    dy = rng.normal(size=x.shape).astype(dtype)
    with fc.use_backend("reference"):
        expected = fc.activate_backward(dy.astype(np.float64), x.astype(np.float64), name)
    with testing.on(target):
        dx = testing.proven(target, fc.activate_backward, dy, x, name)
    testing.assert_close(dx, expected, 16 * np.finfo(dtype).eps * np.abs(dy) * np.maximum(np.abs(x), 1), name)


@pytest.mark.parametrize("shapes", _SHAPES, ids=str)
@pytest.mark.parametrize("name", BROADCAST)
def test_arithmetic_is_that_of_numpy(target: Target, dtype: str, name: str, shapes: Any) -> None:
    operands = _whole(4, *shapes, *([shapes[-1]] if name == "scale_shift" else []), dtype=dtype)
    if name == "divide":
        operands[1] = np.asarray(2 ** (operands[1] % 4))
    expected = _ARITHMETIC[name](*operands)
    out = testing.nan_filled(expected.shape, dtype)
    with testing.on(target):
        assert getattr(fc, name)(*operands, out=out) is out
        if expected.size:
            testing.assert_exact(testing.proven(target, getattr(fc, name), *operands), expected)
    testing.assert_exact(out, expected)


@pytest.mark.parametrize("order", list(testing.MEMORY_ORDERS), ids=str)
def test_arrays_may_lie_as_they_like(target: Target, dtype: str, order: Any) -> None:
    a, b = _whole(5, (3, 4, 5, 9), (3, 4, 1, 9), dtype=dtype)
    lie = testing.MEMORY_ORDERS[order]
    out = lie(testing.nan_filled(a.shape, dtype))
    with testing.on(target):
        testing.proven(target, fc.multiply, lie(a), lie(b), out=out)
        smooth = testing.proven(target, fc.tanh, lie(a))
        testing.assert_exact(smooth, fc.tanh(a))  # the same bits wherever they lie
    testing.assert_exact(out, a * b)


def test_nothing_is_read_or_written_beside_the_arrays(target: Target, dtype: str) -> None:
    for n in (1, 3, 8, 15, 17, 31, 515, 1411):
        for side in ("start", "end"):
            a, b = (testing.guarded(x, side) for x in _whole(6, (2, n), (2, n), dtype=dtype))
            out = testing.guarded(testing.nan_filled((2, n), dtype), side)
            with testing.on(target):
                fc.add(a, b, out=out)
                testing.assert_exact(out, a + b)
                fc.silu(a, out=out)
                fc.silu_backward(a, b, out=out)
                fc.multiply(a[:, ::2], b[:, :1], out=out[:, ::2])
            testing.assert_exact(out[:, ::2], a[:, ::2] * b[:, :1])


@pytest.mark.parametrize("shape", [(200_001,), (7, 40_001), (500, 3, 211), (40_000, 2, 3)], ids=str)
def test_bits_do_not_depend_on_threads_and_places(target: Target, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(0, 3, shape).astype("float32")
    s = rng.normal(0, 3, shape[:1] + (1,) * (len(shape) - 1)).astype("float32")
    with testing.on(target):
        with fc.threads(1):
            alone = fc.gelu(x), fc.multiply(x, s), fc.silu_backward(x, x)
        with fc.threads(3):
            testing.assert_exact(fc.gelu(x), alone[0])
            testing.assert_exact(fc.multiply(x, s), alone[1])
            testing.assert_exact(fc.silu_backward(x, x), alone[2])
        testing.assert_exact(fc.gelu(x.reshape(-1)[5:]), alone[0].reshape(-1)[5:])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [5, 16, 24, 32, 99])
def test_fused_activations_are_those_of_the_result(target: Target, channels: int, layout: str) -> None:
    rng = np.random.default_rng(11)
    shape = (2, 7, 5, 13) if layout == "NCHW" else (2, 5, 13, 7)
    x = rng.normal(0, 2, shape).astype("float32")
    w = rng.normal(0, 2, (channels, 7, 1, 1)).astype("float32")
    with testing.on(target):
        before = fc.conv2d(x, w, layout=layout)
        for name in ("sigmoid", "tanh", "silu", "gelu", "gelu_tanh"):
            fused, alone = fc.conv2d(x, w, layout=layout, activation=name), fc.activate(before, name)
            # The reference has its sums in double precision.
            rounding = 0 if target.backend == "c" else 8 * np.finfo("float32").eps * np.maximum(np.abs(before), 1)
            testing.assert_close(fused, alone, rounding, name)


@pytest.mark.parametrize("name", BROADCAST)
@pytest.mark.parametrize("shapes", [s for s in _SHAPES if 40_000 not in s[0]], ids=str)
def test_gradients_of_arithmetic(target: Target, name: str, shapes: Any) -> None:
    operands = _whole(8, *shapes, *([shapes[-1]] if name == "scale_shift" else []), dtype="float64")
    if name == "divide":
        operands[1] = np.asarray(2 ** (operands[1] % 4))
    y = _ARITHMETIC[name](*operands)
    (dy,) = _whole(9, y.shape, dtype="float64")
    with testing.on(target):
        gradients = getattr(fc, f"{name}_backward")(dy, *operands)
    for k, (x, dx) in enumerate(zip(operands, gradients, strict=True)):
        assert dx.shape == x.shape
        assert not np.shares_memory(dx, dy)
        # By the rise to both sides, of which a kink has the mean; steps are powers of two, and exact but for a divisor.
        rise = [_ARITHMETIC[name](*operands[:k], x + h, *operands[k + 1 :]) for h in (2.0**-20, -(2.0**-20))]
        slope = dy * (rise[0] - rise[1]) * 2**19
        extra = slope.ndim - x.ndim
        axes = (*range(extra), *(extra + i for i, n in enumerate(x.shape) if n == 1))
        np.testing.assert_allclose(dx, slope.sum(axes, keepdims=True).reshape(x.shape), rtol=1e-9, atol=1e-7)


def test_a_maximum_lets_nan_through(target: Target, dtype: str) -> None:
    a, b = (np.array(v, dtype) for v in ([np.nan, 1, np.nan, np.inf, -np.inf], [1, np.nan, np.nan, 2, 2]))
    with testing.on(target):
        testing.assert_exact(fc.maximum(a, b), np.maximum(a, b))
        testing.assert_exact(fc.minimum(a, b), np.minimum(a, b))


def test_prelu_and_its_gradients(target: Target, dtype: str) -> None:
    x, dy = _whole(10, (3, 5, 4, 7), (3, 5, 4, 7), dtype=dtype)
    weight = np.arange(-2, 3).astype(dtype)
    slopes = weight.reshape(5, 1, 1)
    with testing.on(target):
        testing.assert_exact(testing.proven(target, fc.prelu, x, weight), np.where(x > 0, x, slopes * x))
        dx, dweight = testing.proven(target, fc.prelu_backward, dy, x, weight)
        testing.assert_exact(fc.prelu(x, weight[:1]), np.where(x > 0, x, -2 * x))
        assert fc.prelu_backward(dy, x, weight[:1])[1].shape == (1,)
    testing.assert_exact(dx, np.where(x > 0, dy, slopes * dy))
    testing.assert_exact(dweight, np.where(x > 0, 0, dy * x).sum((0, 2, 3)))


def test_named_functions_are_those_of_activate(dtype: str) -> None:
    x = np.linspace(-5, 5, 41).astype(dtype)
    pairs = {
        ("leaky_relu", 0.3): (fc.leaky_relu, fc.leaky_relu_backward, {"negative_slope": 0.3}),
        ("clip", -2, 1): (fc.hardtanh, fc.hardtanh_backward, {"min_val": -2, "max_val": 1}),
        ("elu", 0.5): (fc.elu, fc.elu_backward, {"alpha": 0.5}),
        ("celu", 2): (fc.celu, fc.celu_backward, {"alpha": 2}),
        ("softplus", 2, 3): (fc.softplus, fc.softplus_backward, {"beta": 2, "threshold": 3}),
        "gelu": (fc.gelu, fc.gelu_backward, {}),
        "gelu_tanh": (fc.gelu, fc.gelu_backward, {"approximate": "tanh"}),
        "relu6": (fc.relu6, fc.relu6_backward, {}),
        "mish": (fc.mish, fc.mish_backward, {}),
    }
    for activation, (forward, backward, parameters) in pairs.items():
        testing.assert_exact(forward(x, **parameters), fc.activate(x, activation))
        testing.assert_exact(backward(x, x, **parameters), fc.activate_backward(x, x, activation))


def test_arguments_that_fit_no_function_are_named() -> None:
    x = np.ones((2, 3), "float32")
    for call, words in [
        (lambda: fc.add(x, x[:, :2]), ("a has shape (2, 3), b has shape (2, 2)", "broadcast")),
        (lambda: fc.add_backward(x[0], x, x), ("dy has shape (3,)", "(2, 3)")),
        (lambda: fc.celu(x, 0), ("alpha=0", "above 0")),
        (lambda: fc.softplus(x, beta=0), ("beta=0", "not 0")),
        (lambda: fc.gelu(x, "erf"), ("approximate='erf'", "none, tanh")),
        (lambda: fc.prelu(x, x[0, :2]), ("weight has shape (2,)", "(3,)")),
        (lambda: fc.relu(x, out=x), ("out", "overlaps")),
        (lambda: fc.activate(x, ("celu", -1)), ("activation=('celu', -1)", "above 0")),
    ]:
        with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
            call()
