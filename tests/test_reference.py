"""The oracle itself: hand-computed numbers, literal loops, and the rules as they are written down."""

from __future__ import annotations

from itertools import product
from math import e, erf, erfc, exp, log1p, pi, prod, sqrt, tanh

import numpy as np
import pytest
from cases.conv import CONVS, TRANSPOSED, Conv
from cases.pool import POOLS, Pool

import fastconv as fc
from fastconv import spec, testing
from fastconv.ops.activation import erfc as vector_erfc


@pytest.fixture(autouse=True)
def _on_the_reference():
    with fc.use_backend("reference"):
        yield


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


def _convolution_by_loops(
    x: np.ndarray, w: np.ndarray, dy: np.ndarray, problem: spec.ConvSpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, dx and dw, one multiplication at a time."""
    y, dx, dw = np.zeros(problem.y_shape), np.zeros(problem.x_shape), np.zeros(problem.w_shape)
    icg, ocg = problem.ic // problem.groups, problem.oc // problem.groups
    for n, o in product(range(problem.n), range(problem.oc)):
        for place in np.ndindex(problem.out_size):
            for c in range(icg):
                for tap in np.ndindex(problem.kernel):
                    at = tuple(
                        p * s - lo + t * d
                        for p, s, (lo, _), t, d in zip(
                            place, problem.stride, problem.pads, tap, problem.dilation, strict=True
                        )
                    )
                    if all(0 <= a < size for a, size in zip(at, problem.in_size, strict=True)):
                        source, weight, target = (n, o // ocg * icg + c, *at), (o, c, *tap), (n, o, *place)
                        y[target] += x[source] * w[weight]
                        dx[source] += w[weight] * dy[target]
                        dw[weight] += x[source] * dy[target]
    return y, dx, dw


def _conv_spec(case: Conv) -> spec.ConvSpec:
    return spec.conv_spec("fwd", case.x_shape, case.w_shape, "float64", **case.arguments, layout="NCHW")


_SMALL = [case for case in CONVS if _conv_spec(case).macs < 8_000]


@pytest.mark.parametrize("case", _SMALL, ids=str)
def test_convolution_is_the_sum_of_its_products(case: Conv) -> None:
    rng, problem = _rng(case.name), _conv_spec(case)
    x, w, dy = (testing.integers(rng, s, "float64") for s in (case.x_shape, case.w_shape, problem.y_shape))
    y, dx, dw = _convolution_by_loops(x, w, dy, problem)
    n = case.ndim
    testing.assert_exact(getattr(fc, f"conv{n}d")(x, w, **case.arguments), y)
    testing.assert_exact(getattr(fc, f"conv{n}d_backward_input")(dy, w, x.shape, **case.arguments), dx)
    testing.assert_exact(getattr(fc, f"conv{n}d_backward_weight")(x, dy, w.shape, **case.arguments), dw)


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_transposed_convolution_spreads_each_element(case: Conv) -> None:
    rng, n = _rng(case.name), case.ndim
    x, w = (testing.integers(rng, s, "float64") for s in (case.x_shape, case.transposed_w_shape))
    problem = spec.conv_transpose_spec(x.shape, w.shape, "float64", **case.arguments, layout="NCHW")
    zeros = np.zeros(problem.x_shape)
    _, expected, _ = _convolution_by_loops(zeros, w, x, problem)
    testing.assert_exact(getattr(fc, f"conv_transpose{n}d")(x, w, **case.arguments), expected)


def test_the_small_cases_are_many() -> None:
    assert len(_SMALL) > 40


def test_convolution_by_hand() -> None:
    x = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    w = np.array([[[[1.0, 2], [3, 4]]]])
    # 1 + 2*2 + 3*4 + 4*5 = 37: a correlation, the kernel is not flipped.
    testing.assert_exact(fc.conv2d(x, w), np.array([[[[37.0, 47], [67, 77]]]]))
    testing.assert_exact(
        fc.conv2d(x, w, np.array([0.5]), stride=2, padding=1)[0, 0], np.array([[4.5, 18.5], [36.5, 77.5]])
    )
    testing.assert_exact(
        fc.conv_transpose2d(x[..., :2, :2], w)[0, 0], np.array([[1.0, 4, 4], [7, 23, 18], [12, 31, 20]])
    )


@pytest.mark.parametrize(
    ("padding", "size", "kernel", "stride", "dilation", "pads"),
    [
        ("same", 10, 3, 2, 1, (0, 1)),
        ("same", 5, 3, 2, 1, (1, 1)),
        ("same", 300, 2, 2, 1, (0, 0)),
        ("same", 9, 4, 1, 1, (1, 2)),
        ("same", 9, 4, 1, 2, (3, 3)),
        ("same", 9, 2, 1, 1, (0, 1)),
        ("same_lower", 10, 3, 2, 1, (1, 0)),
        ("same_lower", 9, 4, 1, 1, (2, 1)),
        ("causal", 9, 3, 1, 4, (8, 0)),
        ("valid", 9, 3, 2, 1, (0, 0)),
        (2, 9, 3, 2, 1, (2, 2)),
        ([(-1, 3)], 9, 3, 2, 1, (-1, 3)),
    ],
)
def test_padding_rules(padding, size, kernel, stride, dilation, pads) -> None:
    assert spec.conv_pads(padding, (size,), (kernel,), (stride,), (dilation,)) == (pads,)


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_same_gives_a_size_of_ceil_size_over_stride(size: int, stride: int, kernel: int) -> None:
    x, w = np.ones((1, 1, size)), np.ones((1, 1, kernel))
    for padding in ("same", "same_lower"):
        assert fc.conv1d(x, w, stride=stride, padding=padding).shape == (1, 1, -(-size // stride))


def test_negative_pads_crop() -> None:
    x, w = np.arange(8.0).reshape(1, 1, 8), np.array([[[1.0, 10]]])
    testing.assert_exact(fc.conv1d(x, w, padding=[(-2, -1)]), fc.conv1d(x[..., 2:-1], w))
    testing.assert_exact(fc.conv1d(x, w, padding=[(-9, 11)]), np.zeros((1, 1, 9)))


def test_causal_output_does_not_see_the_future() -> None:
    x, w = np.zeros((1, 1, 9)), np.ones((1, 1, 3))
    x[..., 4] = 1
    assert np.nonzero(fc.conv1d(x, w, padding="causal", dilation=2)[0, 0])[0].tolist() == [4, 6, 8]


_ACTIVATIONS = {
    "relu": lambda v: max(v, 0),
    "relu6": lambda v: min(max(v, 0), 6),
    ("leaky_relu", 0.25): lambda v: v if v > 0 else v / 4,
    "leaky_relu": lambda v: v if v > 0 else v / 100,
    ("clip", -1, 2): lambda v: min(max(v, -1), 2),
    "sigmoid": lambda v: 1 / (1 + e**-v),
    "tanh": tanh,
    "silu": lambda v: v / (1 + e**-v),
    "hardswish": lambda v: v * min(max(v + 3, 0), 6) / 6,
    "gelu": lambda v: v * (1 + erf(v / sqrt(2))) / 2,
    "gelu_tanh": lambda v: v * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 * v**3))) / 2,
    "mish": lambda v: v * tanh(log1p(e**v)),
    "softplus": lambda v: log1p(e**v) if v <= 20 else v,
    ("softplus", 2, 4): lambda v: log1p(e ** (2 * v)) / 2 if 2 * v <= 4 else v,
    "logsigmoid": lambda v: -log1p(e**-v),
    "elu": lambda v: v if v > 0 else e**v - 1,
    ("elu", 0.5): lambda v: v if v > 0 else (e**v - 1) / 2,
    "selu": lambda v: 1.0507009873554805 * (v if v > 0 else 1.6732632423543772 * (e**v - 1)),
    ("celu", 2): lambda v: v if v > 0 else 2 * (e ** (v / 2) - 1),
    "hardsigmoid": lambda v: min(max(v / 6 + 0.5, 0), 1),
    "exp": lambda v: e**v,
    "softsign": lambda v: v / (1 + abs(v)),
    None: lambda v: v,
    "identity": lambda v: v,
}


@pytest.mark.parametrize("activation", _ACTIVATIONS, ids=str)
def test_activations_as_they_are_defined(activation) -> None:
    values = np.array([-20, -4, -3, -1.5, -0.1, 0, 0.1, 1.5, 3, 4, 20]).reshape(1, 1, -1)
    expected = np.vectorize(_ACTIVATIONS[activation], otypes=[float])(values)
    fused = fc.conv1d(values, np.ones((1, 1, 1)), activation=activation)
    np.testing.assert_allclose(fused, expected, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(fc.activate(values, activation), expected, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(
        fc.conv_transpose1d(values, np.ones((1, 1, 1)), activation=activation), expected, rtol=1e-14, atol=1e-15
    )
    h = 1e-6
    away = values[
        np.min(np.abs(values - np.array([-3, -1, 0, 2, 3, 6, 20]).reshape(-1, 1, 1)), axis=0, keepdims=True) > h
    ]
    slope = (fc.activate(away + h, activation) - fc.activate(away - h, activation)) / (2 * h)
    np.testing.assert_allclose(fc.activate_backward(np.ones_like(away), away, activation), slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("activation", "kinks", "slopes"),
    [("relu", [0], [0]), ("relu6", [0, 6], [0, 0]), (("clip", -1, 2), [-1, 2], [0, 0]), ("leaky_relu", [0], [0.01])],
)
def test_slopes_at_kinks(activation, kinks, slopes) -> None:
    """Those of PyTorch."""
    assert fc.activate_backward(np.ones(len(kinks)), np.array(kinks, float), activation).tolist() == slopes


def test_the_error_function_is_accurate_where_it_is_tiny_too() -> None:
    rng = np.random.default_rng(9)
    x = np.concatenate([np.linspace(-7, 27, 9001), 3 * rng.standard_normal(5000), [0, -0.0, 1e-300, -1e300, 5e-324]])
    expected = np.array([erfc(v) for v in x])
    normal = expected > np.finfo(float).tiny
    np.testing.assert_allclose(vector_erfc(x)[normal], expected[normal], rtol=4 * np.finfo(float).eps)
    np.testing.assert_allclose(vector_erfc(x)[~normal], expected[~normal], atol=np.finfo(float).tiny, rtol=0)
    special = vector_erfc(np.array([np.nan, np.inf, -np.inf, 28, 1e308]))
    testing.assert_exact(special, np.array([np.nan, 0, 2, 0, 0]))
    # Views, no dimension, nothing.
    testing.assert_exact(vector_erfc(x[4000:2000:-3].reshape(-1, 1)), vector_erfc(x)[4000:2000:-3, None])
    assert vector_erfc(np.array(0.0)).tolist() == 1
    assert vector_erfc(x[:0]).shape == (0,)


def test_gelu_keeps_its_digits_far_below_zero(dtype: str) -> None:
    x = np.array([-10, -8, -5, -1, 2], dtype)
    expected = [v * erfc(-v / sqrt(2)) / 2 for v in x.tolist()]
    slope = [erfc(-v / sqrt(2)) / 2 + v * exp(-v * v / 2) / sqrt(2 * pi) for v in x.tolist()]
    relative = 1e-13 if dtype == "float64" else 5e-7
    fused = fc.conv1d(x.reshape(1, 1, -1), np.ones((1, 1, 1), dtype), activation="gelu")
    for found, right in ((fc.activate(x, "gelu"), expected), (fused[0, 0], expected),
                         (fc.activate_backward(np.ones_like(x), x, "gelu"), slope)):  # fmt: skip
        assert found.dtype == dtype
        np.testing.assert_allclose(found, right, rtol=relative)


def test_activations_of_nan_and_infinity() -> None:
    values = np.array([np.nan, np.inf, -np.inf]).reshape(1, 1, 3)
    one = np.ones((1, 1, 1))
    for activation, expected in {
        "relu": [np.nan, np.inf, 0],
        "relu6": [np.nan, 6, 0],
        "leaky_relu": [np.nan, np.inf, -np.inf],
        "sigmoid": [np.nan, 1, 0],
        "tanh": [np.nan, 1, -1],
        "softplus": [np.nan, np.inf, 0],
        "logsigmoid": [np.nan, 0, -np.inf],
        "elu": [np.nan, np.inf, -1],
        "celu": [np.nan, np.inf, -1],
        "hardsigmoid": [np.nan, 1, 0],
        "exp": [np.nan, np.inf, 0],
    }.items():
        testing.assert_exact(fc.conv1d(values, one, activation=activation)[0, 0], np.array(expected), activation)


def test_epilogue_is_activation_of_the_sum() -> None:
    x, w, b = np.full((1, 1, 2), 2.0), np.full((1, 1, 1), 3.0), np.array([1.0])
    residual = np.array([[[-9.0, 4]]])
    testing.assert_exact(fc.conv1d(x, w, b, activation="relu", residual=residual), np.array([[[0.0, 11]]]))


# ------------------------------------------------------------------------------------------------------ pooling


def _pooling_by_loops(x: np.ndarray, problem: spec.PoolSpec) -> tuple[np.ndarray, ...]:
    """Maxima, their positions, sums and averages, one window at a time, from the definition of the windows."""
    best, sums, averages = (np.zeros(problem.y_shape) for _ in range(3))
    indices = np.zeros(problem.y_shape, np.int64)
    for target in np.ndindex(problem.y_shape):
        taps, counts, inside_counts = [], [], []
        for o, size, out, k, s, (lo, hi), d in zip(
            target[2:], problem.in_size, problem.out_size, problem.kernel, problem.stride, problem.pads,
            problem.dilation, strict=True,
        ):  # fmt: skip
            if problem.adaptive:
                positions = list(range(o * size // out, -(-(o + 1) * size // out)))
                counts.append(len(positions))
            else:
                positions = [o * s - lo + t * d for t in range(k)]
                counts.append(sum(p < size + hi for p in positions))
            taps.append([p for p in positions if 0 <= p < size])
            inside_counts.append(len(taps[-1]))
        elements = [(x[(*target[:2], *at)], np.ravel_multi_index(at, problem.in_size)) for at in product(*taps)]
        top, where = elements[0]
        for value, index in elements:
            if value > top or np.isnan(value):
                top, where = value, index
        total = sum(value for value, _ in elements)
        divisor = problem.divisor or prod(counts if problem.count_include_pad else inside_counts)
        best[target], indices[target], sums[target], averages[target] = top, where, total, total / divisor
    return best, indices, sums, averages


def _pool_spec(case: Pool, kind: str) -> spec.PoolSpec:
    arguments = dict(case.arguments)
    if kind.startswith(("adaptive", "global")):
        size = arguments.pop("output_size", 1)
        return spec.adaptive_pool_spec("max", "fwd", case.x_shape, "float64", case.ndim, size, layout="NCHW")
    return spec.pool_spec("max", "fwd", case.x_shape, "float64", case.ndim, **arguments, layout="NCHW")


@pytest.mark.parametrize("case", [case for case in POOLS if prod(case.x_shape) < 700], ids=str)
def test_pooling_window_by_window(case: Pool) -> None:
    x = testing.integers(_rng(case.name), case.x_shape, "float64")
    for kind in case.kinds:
        function = getattr(fc, f"{kind}_pool{case.ndim}d")
        best, indices, sums, averages = _pooling_by_loops(x, _pool_spec(case, kind))
        expected = best if "max" in kind else averages if "avg" in kind else sums
        np.testing.assert_allclose(function(x, **case.arguments), expected, rtol=1e-15, atol=0)
        if kind in ("max", "adaptive_max"):
            testing.assert_exact(function(x, **case.arguments, return_indices=True)[1], indices)


def test_average_with_ceil_mode_by_hand() -> None:
    x = np.arange(1.0, 17).reshape(1, 1, 4, 4)
    expected = np.array([[14 / 9, 10 / 3, 2], [19 / 3, 11, 6], [4.5, 7.5, 4]])
    np.testing.assert_allclose(fc.avg_pool2d(x, 3, 2, 1, ceil_mode=True)[0, 0], expected, rtol=1e-15)


def test_ceil_mode_drops_a_window_that_starts_behind_the_input() -> None:
    x = np.ones((1, 1, 5))
    assert fc.max_pool1d(x, 2, 3, 1, ceil_mode=True).shape == (1, 1, 2)
    assert fc.max_pool1d(x, 2, 2, 0, ceil_mode=True).shape == (1, 1, 3)


def test_of_equal_maxima_the_first_counts_and_of_nans_the_last() -> None:
    nan = np.nan
    x = np.array([[1.0, 7, 7, 7], [nan, 0, nan, 9], [-np.inf] * 4])[:, None]
    y, indices = fc.max_pool1d(x, 4, return_indices=True)
    testing.assert_exact(y[:, 0, 0], np.array([7, nan, -np.inf]))
    assert indices[:, 0, 0].tolist() == [1, 2, 0]


def test_padding_never_is_the_maximum() -> None:
    x = np.full((1, 1, 3, 3), -5.0)
    y, indices = fc.max_pool2d(x, 3, 1, 1, return_indices=True)
    testing.assert_exact(y, x)
    assert indices[0, 0].tolist() == [[0, 0, 1], [0, 0, 1], [3, 3, 4]]


def test_gradients_of_overlapping_maxima_add_up() -> None:
    x = np.array([[[0.0, 5, 0, 0]]])
    testing.assert_exact(fc.max_pool1d_backward(np.array([[[1.0, 10, 100]]]), x, 2, 1), np.array([[[0.0, 11, 100, 0]]]))


def test_average_gradient_uses_the_same_divisors() -> None:
    x, dy = np.zeros((1, 1, 3)), np.array([[[6.0, 12]]])
    testing.assert_exact(fc.avg_pool1d_backward(dy, x, 3, 2, 1), np.array([[[2.0, 6, 4]]]))
    testing.assert_exact(fc.avg_pool1d_backward(dy, x, 3, 2, 1, count_include_pad=False), np.array([[[3.0, 9, 6]]]))


# ----------------------------------------------------------------------------------------------------- products


def test_gemm_by_hand() -> None:
    a, b = np.array([[1.0, 2]]), np.array([[3.0, 4], [5, 6]])
    testing.assert_exact(fc.matmul(a, b), np.array([[13.0, 16]]))
    testing.assert_exact(fc.gemm(a, b, np.array([1.0, 2]), alpha=2, beta=10), np.array([[36.0, 52]]))
    testing.assert_exact(fc.gemm(b, a, trans_a=True, trans_b=True), np.array([[13.0], [16]]))
    testing.assert_exact(fc.linear(a, b, np.array([1.0, -100]), activation="relu"), np.array([[12.0, 0]]))


def test_beta_of_zero_does_not_read_c() -> None:
    a = np.eye(2)
    testing.assert_exact(fc.gemm(a, a, np.full((2, 2), np.nan), beta=0), a)
