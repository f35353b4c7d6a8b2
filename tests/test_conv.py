"""Convolutions on every backend and instruction set: exact on whole numbers, within bounds on real ones."""

from __future__ import annotations

import math
from functools import cache
from math import prod
from typing import Any

import layouts
import numpy as np
import pytest
from cases.conv import CONVS, TRANSPOSED, Conv, conv
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from fastconv import testing
from fastconv.backends import backend as named
from fastconv.settings import Settings
from fastconv.testing import Target


@cache
def _exact(case: Conv) -> dict[str, np.ndarray]:
    """Whole-numbered arrays of the problem and what the reference makes of them, float64, channels first."""
    rng, n, kw = np.random.default_rng(list(case.name.encode())), case.ndim, case.arguments
    x, w = (testing.integers(rng, s, "float64", _length(case)) for s in (case.x_shape, case.w_shape))
    with fc.use_backend("reference"):
        y = getattr(fc, f"conv{n}d")(x, w, **kw)
        dy = testing.integers(rng, y.shape, "float64")
        dx = getattr(fc, f"conv{n}d_backward_input")(dy, w, x.shape, **kw)
        dw = getattr(fc, f"conv{n}d_backward_weight")(x, dy, w.shape, **kw)
    assert testing.adjoint_gap(y, dy, (x, dx), (w, dw)) == 0
    b, residual = testing.integers(rng, (case.oc,), "float64"), testing.integers(rng, y.shape, "float64")
    return {"x": x, "w": w, "b": b, "residual": residual, "y": y, "dy": dy, "dx": dx, "dw": dw}


def _length(case: Conv) -> int:
    """No sum of the three directions has more terms."""
    return max(case.ic, case.oc) * prod(case.kernel) + case.n * prod(case.size) * 4


def _arrays(case: Conv, dtype: str, last: bool) -> dict[str, np.ndarray]:
    plain = ("w", "dw", "b")
    return {k: v.astype(dtype) if k in plain else layouts.to(v.astype(dtype), last) for k, v in _exact(case).items()}


def _check_three_directions(target: Target, case: Conv, a: dict[str, np.ndarray], layout: str) -> None:
    n, kw = case.ndim, {**case.arguments, "layout": layout}
    forward, to_input, to_weight = (getattr(fc, f"conv{n}d{t}") for t in ("", "_backward_input", "_backward_weight"))
    with testing.on(target), fc.precision("strict"):
        for what, run, expected in [
            ("y", lambda out: testing.proven(target, forward, a["x"], a["w"], **kw, out=out), a["y"]),
            ("dx", lambda out: testing.proven(target, to_input, a["dy"], a["w"], a["x"].shape, **kw, out=out), a["dx"]),
            (
                "dw",
                lambda out: testing.proven(target, to_weight, a["x"], a["dy"], a["w"].shape, **kw, out=out),
                a["dw"],
            ),
        ]:
            out = testing.nan_filled(expected.shape, expected.dtype)
            assert run(out) is out
            testing.assert_exact(out, expected, what)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", CONVS, ids=str)
def test_three_directions_are_exact_on_whole_numbers(target: Target, dtype: str, last: bool, case: Conv) -> None:
    _check_three_directions(target, case, _arrays(case, dtype, last), layouts.name(last, case.ndim))


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_transposed_convolution_and_its_gradients(target: Target, dtype: str, last: bool, case: Conv) -> None:
    rng, n, kw = np.random.default_rng(1), case.ndim, case.arguments
    x, w = (testing.integers(rng, s, "float64") for s in (case.x_shape, case.transposed_w_shape))
    b = testing.integers(rng, (case.oc,), "float64")
    function, backward = getattr(fc, f"conv_transpose{n}d"), getattr(fc, f"conv_transpose{n}d_backward")
    with fc.use_backend("reference"):
        y = function(x, w, b, **kw)
        dy = testing.integers(rng, y.shape, "float64")
        dx, dw, db = backward(dy, x, w, b, **kw)
    assert testing.adjoint_gap(y, dy, (x, dx)) == abs(np.vdot(dy, np.zeros_like(y) + b.reshape(-1, *(1,) * n)))
    x, y, dy, dx = (layouts.to(a.astype(dtype), last) for a in (x, y, dy, dx))
    w, b = w.astype(dtype), b.astype(dtype)
    kw["layout"] = layouts.name(last, n)
    with testing.on(target), fc.precision("strict"):
        out = testing.nan_filled(y.shape, dtype)
        testing.assert_exact(testing.proven(target, function, x, w, b, **kw, out=out), y, "y")
        results = testing.proven(target, backward, dy, x, w, b, **kw)
    for result, expected in zip(results, (dx, dw, db), strict=True):
        testing.assert_exact(result, expected.astype(dtype))
        assert result.dtype == dtype


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize(("layout", "stride"), [("NHWC", 1), ("NHWC", 2), ("NCHW", 2)])
def test_an_axis_alone_runs_backwards(target: Target, dtype: str, layout: str, stride: int, axis: int) -> None:
    """Then addresses rise where columns fall: taps adjoin in memory in the order that they do not have."""
    rng, shapes = np.random.default_rng(axis), {"x": (1, 5, 9, 36), "dy": (1, -(-5 // stride), -(-9 // stride), 20)}
    if layout == "NCHW":
        shapes = {name: (n, c, h, w) for name, (n, h, w, c) in shapes.items()}
    x, dy = (testing.integers(rng, shapes[name], dtype) for name in ("x", "dy"))
    w = testing.integers(rng, (20, 36, 3, 3), dtype)
    x, dy, w = (np.flip(np.flip(array, axis).copy(), axis) for array in (x, dy, w))
    kw = {"stride": stride, "padding": 1, "layout": layout}

    def three() -> list[np.ndarray]:
        to_input, to_weight = fc.conv2d_backward_input, fc.conv2d_backward_weight
        return [fc.conv2d(x, w, **kw), to_input(dy, w, x.shape, **kw), to_weight(x, dy, w.shape, **kw)]

    with fc.use_backend("reference"):
        expected = three()
    with testing.on(target), fc.precision("strict"):
        results = testing.proven(target, three)
    for result, right in zip(results, expected, strict=True):
        testing.assert_exact(result, right)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "kw"),
    [
        # One axis alone has taps; along the other the sizes are equal, though its stride is 2.
        ((1, 16, 24, 24), (16, 16, 5, 1), {"stride": (1, 2), "padding": ((2, 2), (0, 24))}),
        # No more than one output along the depth, but inputs.
        (
            (1, 3, 6, 6, 19),
            (19, 1, 3, 3, 1),
            {"stride": (3, 1, 1), "padding": (0, 1, 0), "groups": 19, "layout": "NDHWC"},
        ),
        # A stride far beyond the kernel: most of the input is reached by no tap.
        ((1, 2, 500, 333), (3, 2, 3, 3), {"stride": 120, "padding": 1}),
        ((1, 500, 333, 16), (16, 1, 3, 3), {"stride": 120, "padding": 1, "groups": 16, "layout": "NHWC"}),
        ((1, 4, 70_000), (4, 4, 3), {"stride": 50_000, "padding": ((1, 0),)}),
    ],
    ids=["axis", "depth", "stride", "depthwise stride", "1-D stride"],
)
def test_axes_that_look_trivial(target: Target, dtype: str, x_shape, w_shape, kw: dict[str, Any]) -> None:
    rng, n = np.random.default_rng(0), len(x_shape) - 2
    x, w = (testing.integers(rng, shape, dtype) for shape in (x_shape, w_shape))
    forward, to_input, to_weight = (getattr(fc, f"conv{n}d{t}") for t in ("", "_backward_input", "_backward_weight"))

    def three() -> list[np.ndarray]:
        y = forward(x, w, **kw)
        return [y, to_input(y % 5, w, x.shape, **kw), to_weight(x, y % 5, w.shape, **kw)]

    with fc.use_backend("reference"):
        expected = three()
    with testing.on(target):
        results = testing.proven(target, three)
    for result, right in zip(results, expected, strict=True):
        testing.assert_exact(result, right)


_TYPICAL = [
    case
    for case in CONVS
    if case.name in {
        "17 channels 3x3", "33 channels 1x1", "stride 2 7x7", "asymmetric pads", "dilation 2", "2 groups", "kernel 4x4",
        "depthwise 17", "1-D causal", "3-D", "depthwise multiplier 2", "stride over kernel 1x1",
    }
]  # fmt: skip

_EXACT_ACTIVATIONS = [None, "relu", "relu6", ("leaky_relu", 0.25), ("clip", -2, 5)]
_SMOOTH_ACTIVATIONS = [
    "sigmoid", "tanh", "silu", "hardswish", "gelu", "gelu_tanh", "mish", "softplus", ("softplus", 2.0, 3.0),
    "logsigmoid", "elu", ("elu", -0.5), "selu", ("celu", 2.0), "hardsigmoid", "softsign",
]  # fmt: skip


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", _TYPICAL, ids=str)
def test_epilogues_are_exact_on_whole_numbers(target: Target, dtype: str, last: bool, case: Conv) -> None:
    function, a = getattr(fc, f"conv{case.ndim}d"), _arrays(case, dtype, last)
    kw = {**case.arguments, "layout": layouts.name(last, case.ndim)}
    for activation in _EXACT_ACTIVATIONS:
        for b in (None, a["b"]):
            for residual in (None, a["residual"]):
                before = a["y"] + 0 if b is None else a["y"] + (b if last else b.reshape(-1, *(1,) * case.ndim))
                expected = fc.activate(before if residual is None else before + residual, activation)
                out = testing.nan_filled(a["y"].shape, dtype)
                with testing.on(target), fc.precision("strict"):
                    testing.proven(
                        target, function, a["x"], a["w"], b, **kw, activation=activation, residual=residual, out=out
                    )
                testing.assert_exact(out, expected, f"{activation}, b {b is not None}, residual {residual is not None}")


@pytest.mark.parametrize("activation", _EXACT_ACTIVATIONS[1:], ids=str)
def test_transposed_convolution_has_the_epilogue_too(target: Target, dtype: str, activation: Any) -> None:
    rng = np.random.default_rng(2)
    x, w, b = (testing.integers(rng, s, dtype) for s in ((2, 9, 5, 6), (9, 17, 3, 3), (17,)))
    with fc.use_backend("reference"):
        expected = fc.activate(fc.conv_transpose2d(x, w, b, 2), activation)
    with testing.on(target), fc.precision("strict"):
        y = testing.proven(target, fc.conv_transpose2d, x, w, b, 2, activation=activation)
    testing.assert_exact(y, expected)


@pytest.mark.parametrize("activation", _SMOOTH_ACTIVATIONS, ids=str)
def test_smooth_activations_are_within_a_few_roundings(target: Target, dtype: str, activation: Any) -> None:
    # The convolution is the identity, so that the activation alone is seen.
    x = np.concatenate([np.linspace(-12, 12, 497), [-1e4, -90, -0.0, 1e-30, 90, 1e4]]).reshape(1, 1, -1)
    x = x.astype(dtype)
    with fc.use_backend("reference"):
        expected = fc.conv1d(x.astype("float64"), np.ones((1, 1, 1)), activation=activation)
    with testing.on(target):
        y = testing.proven(target, fc.conv1d, x, np.ones((1, 1, 1), dtype), activation=activation)
    testing.assert_close(y, expected, 8 * np.finfo(dtype).eps * np.maximum(np.abs(x), 1), str(activation))


def test_exponentials_are_within_two_units_of_the_last_place(target: Target, dtype: str) -> None:
    least, most = (-87.3, 88.7) if dtype == "float32" else (-708.3, 709.7)
    x = np.concatenate([np.linspace(least, most, 9001), np.linspace(-1, 1, 999), [0.0, 1e-30]]).astype(dtype)
    far = np.array([np.nan, np.inf, -np.inf, 2 * most, -2 * most], dtype)
    kw: dict[str, Any] = {"w": np.ones((1, 1, 1), dtype), "activation": "exp"}
    with testing.on(target):
        y = testing.proven(target, fc.conv1d, x.reshape(1, 1, -1), **kw)[0, 0]
        beyond = testing.proven(target, fc.conv1d, far.reshape(1, 1, -1), **kw)[0, 0]
    expected = np.exp(x.astype(np.longdouble))
    assert np.max(np.abs(y - expected) / np.spacing(y)) <= 2
    testing.assert_exact(beyond, np.array([np.nan, np.inf, 0, np.inf, 0], dtype))


def test_gelu_keeps_its_digits_far_below_zero(target: Target, dtype: str) -> None:
    x = np.linspace(-12, 4, 999).astype(dtype).reshape(1, 1, -1)
    expected = np.array([v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.astype(np.float64).flat])
    with testing.on(target):
        y = testing.proven(target, fc.conv1d, x, np.ones((1, 1, 1), dtype), activation="gelu")
    np.testing.assert_allclose(y[0, 0], expected, rtol=1e-6 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", _TYPICAL, ids=str)
def test_smooth_activations_come_once_over_every_result(target: Target, dtype: str, last: bool, case: Conv) -> None:
    """By every road that writes results: the same as of a result that is written before."""
    function, a = getattr(fc, f"conv{case.ndim}d"), _arrays(case, dtype, last)
    kw = {**case.arguments, "layout": layouts.name(last, case.ndim), "b": a["b"], "residual": a["residual"]}
    out = testing.nan_filled(a["y"].shape, dtype)
    with testing.on(target), fc.precision("strict"):
        before = function(a["x"], a["w"], **kw)
        testing.proven(target, function, a["x"], a["w"], **kw, activation="silu", out=out)
    with fc.use_backend("reference"):
        expected = fc.activate(before.astype(np.float64), "silu")
    testing.assert_close(out, expected, 8 * np.finfo(dtype).eps * np.maximum(np.abs(before), 1), "silu")


def test_activations_of_nan_and_infinity(target: Target, dtype: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1], dtype).reshape(1, 1, 4)
    for activation in [*_EXACT_ACTIVATIONS, "sigmoid", "tanh"]:
        with fc.use_backend("reference"):
            expected = fc.conv1d(x, np.ones((1, 1, 1), dtype), activation=activation)
        with testing.on(target):
            y = testing.proven(target, fc.conv1d, x, np.ones((1, 1, 1), dtype), activation=activation)
        testing.assert_close(np.nan_to_num(y, nan=-77), np.nan_to_num(expected, nan=-77), 1e-6, str(activation))


def _three(case: Conv, x: np.ndarray, w: np.ndarray, dy: np.ndarray, layout: str) -> list[np.ndarray]:
    """y, dx and dw."""
    forward, to_input, to_weight = (
        getattr(fc, f"conv{case.ndim}d{t}") for t in ("", "_backward_input", "_backward_weight")
    )
    kw = {**case.arguments, "layout": layout}
    return [forward(x, w, **kw), to_input(dy, w, x.shape, **kw), to_weight(x, dy, w.shape, **kw)]


@cache
def _real(case: Conv) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """x, w and dy, which float32 holds exactly; y, dx and dw; and these of the absolute values."""
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(_exact(case)[k].shape).astype("float32").astype("float64") for k in ("x", "w", "dy")]
    with fc.use_backend("reference"):
        layout = layouts.name(False, case.ndim)
        return arrays, _three(case, *arrays, layout), _three(case, *map(np.abs, arrays), layout)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", CONVS, ids=str)
def test_real_data_within_the_bound_of_rounding(target: Target, dtype: str, last: bool, case: Conv) -> None:
    (x, w, dy), expected, magnitude = _real(case)
    x, w, dy = (a.astype(dtype) for a in (x, w, dy))
    own = (layouts.to(x, last), w, layouts.to(dy, last), layouts.name(last, case.ndim))
    with testing.on(target):
        results = testing.proven(target, _three, case, *own)
        with fc.precision("strict"):
            strict = testing.proven(target, _three, case, *own)
    icg, ocg, points = case.ic // case.groups, case.oc // case.groups, dy.size // case.oc
    lengths = [icg * prod(case.kernel), ocg * prod(case.kernel), points]
    for k, (want, size, length) in enumerate(zip(expected, magnitude, lengths, strict=True)):
        if k < 2:
            want, size = layouts.to(want, last), layouts.to(size, last)
        testing.assert_close(strict[k], want, testing.error_bound(size, length, dtype), ("y", "dx", "dw")[k])
        assert testing.relative_l2(results[k], want) < (5e-6 if dtype == "float32" else 5e-15)


@pytest.mark.parametrize("order", testing.MEMORY_ORDERS)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", _TYPICAL, ids=str)
def test_any_strides_of_inputs_and_outputs(target: Target, last: bool, case: Conv, order: str) -> None:
    change = testing.MEMORY_ORDERS[order]
    a = {k: change(v) for k, v in _arrays(case, "float32", last).items()}
    n, kw = case.ndim, {**case.arguments, "layout": layouts.name(last, case.ndim)}
    with testing.on(target), fc.precision("strict"):
        for what, name, operands in [
            ("y", f"conv{n}d", (a["x"], a["w"], a["b"])),
            ("dx", f"conv{n}d_backward_input", (a["dy"], a["w"], a["x"].shape)),
            ("dw", f"conv{n}d_backward_weight", (a["x"], a["dy"], a["w"].shape)),
        ]:
            out = change(testing.nan_filled(a[what].shape, "float32"))
            extra = {"residual": a["residual"]} if what == "y" else {}
            expected = a[what]
            if what == "y":
                expected = expected + a["residual"] + (a["b"] if last else a["b"].reshape(-1, *(1,) * n))
            testing.proven(target, getattr(fc, name), *operands, **kw, **extra, out=out)
            testing.assert_exact(out, expected, what)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_broadcast_and_misaligned_inputs(target: Target, last: bool) -> None:
    rng = np.random.default_rng(4)
    x = np.broadcast_to(testing.integers(rng, (1, 1, 6, 7), "float32"), (2, 5, 6, 7))
    x = np.moveaxis(x, 1, -1) if last else x
    w = testing.integers(rng, (3, 5, 3, 3), "float32")
    raw = np.zeros(w.nbytes + 1, np.uint8)
    misaligned = raw[1:].view("float32").reshape(w.shape)
    misaligned[...] = w
    assert not misaligned.flags.aligned
    layout = layouts.name(last, 2)
    with fc.use_backend("reference"):
        expected = fc.conv2d(x.copy(), w, layout=layout)
    with testing.on(target), fc.precision("strict"):
        testing.assert_exact(testing.proven(target, fc.conv2d, x, misaligned, layout=layout), expected)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", _TYPICAL, ids=str)
def test_nothing_is_read_or_written_outside(target: Target, dtype: str, last: bool, case: Conv) -> None:
    a = _arrays(case, dtype, last)
    watched = {k: testing.surrounded(v) for k, v in a.items()}
    for k in ("y", "dx", "dw"):
        watched[k][0].fill(np.nan)
    n, kw = case.ndim, {**case.arguments, "layout": layouts.name(last, case.ndim)}
    x, w, dy, y, dx, dw = (watched[k][0] for k in ("x", "w", "dy", "y", "dx", "dw"))
    with testing.on(target), fc.precision("strict"):
        getattr(fc, f"conv{n}d")(x, w, **kw, out=y)
        getattr(fc, f"conv{n}d_backward_input")(dy, w, x.shape, **kw, out=dx)
        getattr(fc, f"conv{n}d_backward_weight")(x, dy, w.shape, **kw, out=dw)
    for k, (inner, check) in watched.items():
        check()
        testing.assert_exact(inner, a[k], k)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_without_a_batch_dimension(target: Target, dtype: str, ndim: int, last: bool) -> None:
    case = conv(f"unbatched {ndim}", 1, 5, 6, (4, 5, 6)[:ndim], 3, padding=1, stride=2)
    a, kw = _arrays(case, dtype, last), {"padding": 1, "stride": 2, "layout": layouts.name(last, ndim)}
    with testing.on(target), fc.precision("strict"):
        out = testing.nan_filled(a["y"].shape[1:], dtype)
        residual = a["residual"][0]
        y = testing.proven(target, getattr(fc, f"conv{ndim}d"), a["x"][0], a["w"], **kw, residual=residual, out=out)
        assert y is out
        dx, dw, db, dr = testing.proven(
            target, getattr(fc, f"conv{ndim}d_backward"), a["dy"][0], a["x"][0], a["w"], a["b"], **kw
        )
    testing.assert_exact(y, a["y"][0] + residual)
    testing.assert_exact(dx, a["dx"][0])
    testing.assert_exact(dw, a["dw"])
    testing.assert_exact(db, _exact(case)["dy"].sum(axis=(0, *range(2, ndim + 2))).astype(dtype))
    assert dr is None


def test_backward_gives_the_gradient_of_every_array(target: Target, dtype: str) -> None:
    rng = np.random.default_rng(5)
    x, w, b = (testing.integers(rng, s, dtype) for s in ((2, 6, 7, 8), (8, 3, 3, 3), (8,)))
    kw = {"groups": 2, "padding": 1, "activation": "relu"}
    residual = testing.integers(rng, (2, 8, 7, 8), dtype)
    dy = testing.integers(rng, residual.shape, dtype)
    with testing.on(target), fc.precision("strict"):
        gradients = testing.proven(target, fc.conv2d_backward, dy, x, w, b, **kw, residual=residual)
        without = testing.proven(target, fc.conv2d_backward, dy, x, w, None, **kw)
    with fc.use_backend("reference"):
        before = fc.conv2d(x, w, b, groups=2, padding=1, residual=residual)
        masked = dy * (before > 0)
        expected = [
            fc.conv2d_backward_input(masked, w, x.shape, groups=2, padding=1),
            fc.conv2d_backward_weight(x, masked, w.shape, groups=2, padding=1),
            masked.sum(axis=(0, 2, 3)),
            masked,
        ]
    for got, want in zip(gradients, expected, strict=True):
        testing.assert_exact(got, want)
    assert without[2] is None
    assert without[3] is None


def test_two_runs_give_the_same_bits(target: Target) -> None:
    rng = np.random.default_rng(6)
    x, w = (rng.standard_normal(s).astype("float32") for s in ((2, 33, 14, 15), (31, 33, 3, 3)))
    with testing.on(target):
        first = [f(x, w) for f in (fc.conv2d, lambda x, w: fc.conv2d_backward_weight(x, fc.conv2d(x, w), w.shape))]
        again = [f(x, w) for f in (fc.conv2d, lambda x, w: fc.conv2d_backward_weight(x, fc.conv2d(x, w), w.shape))]
    for a, b in zip(first, again, strict=True):
        testing.assert_exact(a, b)


_FAR = 2**32


def _ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


def _counted(*shape: int, start: int = 1) -> np.ndarray:
    return np.arange(start, start + prod(shape), dtype="float32").reshape(shape)


#: function, arrays and shapes, arguments, the result.
_EXTREME: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], Any]] = {
    "one output": ("conv2d", (_ones(1, 1, 3, 3), _ones(1, 1, 1, 1)), {"stride": _FAR}, [1]),
    "one output, 3-D": ("conv3d", (_ones(1, 1, 3, 3, 3), _ones(1, 1, 1, 1, 1)), {"stride": 2**62}, [1]),
    "one output, dw": (
        "conv2d_backward_weight", (_ones(1, 1, 3, 3), _ones(1, 1, 1, 1), (1, 1, 1, 1)), {"stride": _FAR}, [1],
    ),
    "one output, dx": (
        "conv2d_backward_input", (_ones(1, 1, 1, 1), _ones(1, 1, 1, 1), (1, 1, 1, 3)), {"stride": _FAR}, [1, 0, 0],
    ),
    "one output, dx, 3-D": (
        "conv3d_backward_input", (_ones(1, 1, 1, 1, 1), _ones(1, 1, 1, 1, 1), (1, 1, 1, 2, 2)), {"stride": 2**31},
        [1, 0, 0, 0],
    ),
    "stride 2^16, dx": (
        "conv2d_backward_input", (_ones(1, 1, 1, 1), _counted(1, 1, 2, 2), (1, 1, 2, 3)), {"stride": 2**16},
        [1, 2, 0, 3, 4, 0],
    ),
    "stride 20000, dx": (
        "conv2d_backward_input", (_ones(1, 1, 1, 1), _ones(1, 1, 1, 1), (1, 1, 2, 2)), {"stride": 20000}, [1, 0, 0, 0],
    ),
    "padding behind": (
        "conv1d", (_ones(1, 1, 10), _ones(1, 1, 1)), {"stride": _FAR, "padding": ((0, _FAR),)}, [1, 0],
    ),
    "padding before": (
        "conv1d", (_counted(1, 1, 2), _counted(1, 1, 2, start=2)), {"padding": ((_FAR, 0),), "dilation": _FAR}, [3, 6],
    ),
    "dilation": (
        "conv1d", (_counted(1, 1, 3), _counted(1, 1, 2, start=2)), {"padding": ((0, _FAR),), "dilation": _FAR},
        [2, 4, 6],
    ),
    "dilation, dx": (
        "conv1d_backward_input", (_counted(1, 1, 3), _counted(1, 1, 2, start=2), (1, 1, 3)),
        {"padding": ((0, _FAR),), "dilation": _FAR}, [2, 4, 6],
    ),
    "dilation, dw": (
        "conv1d_backward_weight", (_counted(1, 1, 3), _ones(1, 1, 3), (1, 1, 2)),
        {"padding": ((0, _FAR),), "dilation": _FAR}, [6, 0],
    ),
    "padding and stride": (
        "conv1d", (15 * _ones(1, 1, 1), _ones(1, 1, 1)), {"stride": 2**34, "padding": _FAR}, [0],
    ),
    "padding and dilation": (
        "conv1d", (15 * _ones(1, 1, 1), _ones(1, 1, 3)), {"dilation": 2**33, "padding": 2**33}, [15],
    ),
    "same": (
        "conv1d", (_ones(1, 3, 2), _ones(1, 2, 3)), {"padding": "same", "dilation": _FAR, "layout": "NLC"}, [2, 2, 2],
    ),
    "of 62 bits": (
        "conv1d", (_ones(1, 1, 3), _counted(1, 1, 2)), {"stride": 2**62, "dilation": 2**62, "padding": 2**62}, [2, 1],
    ),
    "of 62 bits, transposed": ("conv_transpose1d", (_ones(1, 1, 1), _ones(1, 1, 1)), {"stride": 2**62}, [1]),
    "of 62 bits, cropped": (
        "conv1d", (_counted(1, 1, 5), _ones(1, 1, 1)), {"stride": 2**62, "padding": ((-3, 2**62),)}, [4, 0],
    ),
    # Below 2^31, where copies and tables of the padded image would take gigabytes.
    "copies": (
        "conv1d", (_counted(1, 2, 3), _counted(2, 1, 2)),
        {"padding": ((0, 2**30),), "dilation": 2**30 + 1, "groups": 2}, [1, 2, 12, 15],
    ),
    "phases": (
        "conv1d_backward_input", (_counted(1, 1, 2), _ones(1, 1, 1), (1, 1, 600_000)), {"stride": 599_999},
        [1, *[0] * 599_998, 2],
    ),
}  # fmt: skip


@pytest.mark.usefixtures("free_choice")
@pytest.mark.parametrize("name", _EXTREME)
def test_extreme_numbers_give_the_right_value(name: str) -> None:
    """From the reference, and from a compiled backend, unless all of them say why not."""
    function, args, kwargs, expected = _EXTREME[name]
    run = getattr(fc, function)
    (choice,) = fc.explain(run, *args, **kwargs)
    compiled = [t for t in testing.targets() if t.backend == "c"]
    if choice.kernel.backend == "reference":
        compiled = []
        for backend in testing.backends_here():
            assert backend == "reference" or "padding" in named(backend).refuse(choice.spec, Settings())
    for target in (*compiled, Target("reference")):
        with testing.on(target):
            got = run(*args, **kwargs)
        testing.assert_exact(got.ravel(), np.array(expected, "float32"), f"{target}")


@pytest.mark.parametrize("size", [2**31, 2**62])
def test_results_that_are_too_large_are_refused_even_if_they_are_empty(size: int) -> None:
    for n in (0, 1):
        with pytest.raises(ValueError, match="the result of shape"):
            fc.conv_transpose1d(_ones(n, 1, 2), _ones(1, 1, 1), stride=size)
        with pytest.raises(ValueError, match="x of shape"):
            fc.conv1d_backward_input(_ones(n, 1, 1), _ones(1, 1, 1), (n, 1, size))


def test_gradients_of_a_transposed_convolution_whose_stride_takes_no_step() -> None:
    x, w = _counted(1, 1, 1), _counted(1, 1, 2)
    y = fc.conv_transpose1d(x, w, stride=7, output_padding=6)
    dx, dw, _ = fc.conv_transpose1d_backward(_counted(*y.shape), x, w, stride=7, output_padding=6)
    assert y.ravel().tolist() == [1, 2, 0, 0, 0, 0, 0, 0]
    assert (dx.item(), dw.ravel().tolist()) == (5, [1, 2])


@st.composite
def _problems(draw: st.DrawFn) -> Conv:
    ndim = draw(st.integers(1, 3))
    limit = {1: 40, 2: 14, 3: 7}[ndim]

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8]))
    ic, oc = (groups * draw(st.integers(1, 20 // groups + 1)) for _ in range(2))
    kernel, stride, dilation, extra = each(1, 5), each(1, 4), each(1, 3), each(0, limit)
    los = each(-3, 5)
    his = each(-3, 5)
    # As large as the kernel makes necessary, and something more.
    size = tuple(
        max(1, d * (k - 1) + 1 - lo - hi) + e for k, d, lo, hi, e in zip(kernel, dilation, los, his, extra, strict=True)
    )
    options = {"stride": stride, "dilation": dilation, "padding": tuple(zip(los, his, strict=True))}
    name = f"{size} {kernel} {groups}"
    return Conv(name, draw(st.integers(1, 3)), ic, oc, size, kernel, groups, tuple(options.items()))


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(case=_problems(), last=st.booleans(), double=st.booleans())
def _any_problem(target: Target, case: Conv, last: bool, double: bool) -> None:
    arrays = _arrays(case, "float64" if double else "float32", last)
    _exact.cache_clear()
    _check_three_directions(target, case, arrays, layouts.name(last, case.ndim))


def test_any_problem(target: Target) -> None:
    _any_problem(target)


# ------------------------------------------------------------------------------------------- gradients of a bias


def test_a_bias_gradient_of_more_ones_than_float32_counts() -> None:
    ones = np.broadcast_to(np.float32(1), (1, 4200, 4200, 2))
    assert fc.conv_backward_bias(ones, layout="NHWC").tolist() == [17640000, 17640000]


@pytest.mark.parametrize("order", ["contiguous", *testing.MEMORY_ORDERS])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((3000, 5, 7), "NCL"), ((7, 5003, 5), "NLC"), ((6000, 7, 1, 1), "NCHW"), ((3, 2, 131, 73), "NCHW"),
        ((5, 61, 67, 3), "NHWC"), ((1, 3, 1, 5000), "NHWC"), ((2, 3, 5, 31, 33), "NCDHW"), ((2, 5, 31, 33, 9), "NDHWC"),
    ],
    ids=str,
)  # fmt: skip
def test_a_bias_gradient_is_rounded_once(dtype: str, shape: tuple[int, ...], layout: str, order: str) -> None:
    dy = {"contiguous": np.copy, **testing.MEMORY_ORDERS}[order](np.random.default_rng(6).random(shape).astype(dtype))
    channel = layout.index("C")
    exact = np.moveaxis(dy, channel, -1).reshape(-1, shape[channel]).astype(np.longdouble).sum(0)
    # Additions in float64, of far fewer than all, and one rounding.
    bound = (np.finfo(dtype).eps / 2 + 300 * np.finfo("float64").eps) * exact
    testing.assert_close(fc.conv_backward_bias(dy, layout=layout), exact, bound)


def test_gradients_of_a_bias_are_the_same_sums(dtype: str) -> None:
    rng = np.random.default_rng(7)
    dy, x = rng.random((2, 100, 101, 2)).astype(dtype), np.ones((2, 100, 101, 1), dtype)
    exact = dy.astype(np.longdouble).sum((0, 1, 2))
    bound = (np.finfo(dtype).eps / 2 + 300 * np.finfo("float64").eps) * exact
    w, b = np.ones((2, 1, 1, 1), dtype), np.ones(2, dtype)
    with fc.use_backend("reference"):
        testing.assert_close(fc.conv2d_backward(dy, x, w, b, layout="NHWC")[2], exact, bound)
        wt = w.transpose(1, 0, 2, 3)
        testing.assert_close(fc.conv_transpose2d_backward(dy, x, wt, b, layout="NHWC")[2], exact, bound)


def test_a_bias_goes_on_with_the_next_block_of_rows(target: Target, dtype: str) -> None:
    rng = np.random.default_rng(8)
    x, w, b = (testing.integers(rng, s, dtype) for s in ((1, 9, 5, 7), (400, 9, 1, 1), (400,)))
    with testing.on(target), fc.precision("strict"):
        y = testing.proven(target, fc.conv2d, x, w, b)
    testing.assert_exact(y, np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]) + b[:, None, None])
