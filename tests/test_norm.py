"""Normalizations and softmax on every backend and instruction set, beside their formulas, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from differences import derivative

import fastconv as fc
from fastconv import testing
from fastconv.testing import Target

_Shape = tuple[int, ...]

#: Of rows and columns, blocks and slices, planes that fill vectors or not.
SHAPES: list[_Shape] = [
    (2, 3), (5, 37), (3, 4, 5), (2, 8, 7, 7), (3, 20, 5, 6), (2, 6, 1, 4, 3), (1, 2, 130, 131), (40, 16, 9, 1),
    (200, 3, 2), (2, 300, 4), (9000, 4),
]  # fmt: skip

LAYOUTS = {3: ("NCL", "NLC"), 4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}


def _last(x: np.ndarray) -> np.ndarray:
    """The same with the channels last."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def _both(x: np.ndarray) -> list[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    first, last = LAYOUTS.get(x.ndim, ("NCHW", "NHWC"))
    return [(first, lambda a: a), (last, _last)]


def _random(shape: _Shape, dtype: str, seed: int = 1, offset: float = 0.0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape) + offset).astype(dtype)


def _normal(x: np.ndarray, axes: tuple[int, ...], eps: float, centred: bool = True) -> np.ndarray:
    x = x.astype("f8")
    mean = x.mean(axes, keepdims=True) if centred else 0.0
    return np.asarray((x - mean) / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + eps))


def _close(actual: np.ndarray, expected: np.ndarray, what: str = "", factor: float = 1.0) -> None:
    error = (4e-6 if actual.dtype == np.float32 else 2e-13) * factor
    testing.assert_close(actual, expected, error * np.maximum(np.abs(expected), 1), what)


def _columns(value: np.ndarray | None, ndim: int) -> Any:
    return value if value is None else value.reshape(-1, *(1,) * (ndim - 2))


@pytest.mark.parametrize("affine", ["both", "weight", "bias", "neither"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batches(target: Target, dtype: str, shape: _Shape, affine: str) -> None:
    x, c = _random(shape, dtype, offset=3), shape[1]
    w = _random((c,), dtype, 2) if affine in ("both", "weight") else None
    b = _random((c,), dtype, 3) if affine in ("both", "bias") else None
    axes = (0, *range(2, x.ndim))
    expected = _normal(x, axes, 1e-3) * (1.0 if w is None else _columns(w, x.ndim))
    expected = expected + (0.0 if b is None else _columns(b, x.ndim))
    count = x.size // c
    for layout, laid in _both(x):
        running = [_random((c,), dtype, 4), np.abs(_random((c,), dtype, 5))]
        before = [r.copy() for r in running]
        with testing.on(target):
            y, mean, rstd = testing.proven(
                target, fc.batch_norm, laid(x), *running, w, b, True, 0.25, 1e-3, layout=layout, return_statistics=True
            )
            _close(y, laid(expected), layout)
            var = x.astype("f8").var(axes)
            _close(mean, x.mean(axes, dtype="f8"))
            _close(rstd, 1 / np.sqrt(var + 1e-3))
            _close(running[0], 0.75 * before[0] + 0.25 * x.mean(axes, dtype="f8"))
            _close(running[1], 0.75 * before[1] + 0.25 * var * count / (count - 1))
            # Evaluation.
            kept = [r.copy() for r in running]
            out = testing.nan_filled(laid(x).shape, dtype)
            assert fc.batch_norm(laid(x), *running, w, b, eps=1e-3, layout=layout, out=out) is out
            testing.assert_exact(np.stack(running), np.stack(kept))
        m, v = (_columns(r.astype("f8"), x.ndim) for r in running)
        result = (x - m) / np.sqrt(v + 1e-3) * (1 if w is None else _columns(w, x.ndim))
        _close(out, laid(result + (0 if b is None else _columns(b, x.ndim))), layout, 4)


@pytest.mark.parametrize("order", testing.MEMORY_ORDERS)
@pytest.mark.parametrize("shape", [(3, 20, 5, 6), (2, 300, 4), (70, 9)], ids=str)
def test_any_strides(target: Target, dtype: str, shape: _Shape, order: str) -> None:
    laid = testing.MEMORY_ORDERS[order]
    x, dy, w = _random(shape, dtype), _random(shape, dtype, 2), _random((shape[1],), dtype, 3)
    rows = _random(shape[1:], dtype, 4)
    with testing.on(target):
        for plain, changed in (
            (fc.batch_norm(x, None, None, w, w, True), fc.batch_norm(laid(x), None, None, laid(w), laid(w), True)),
            (fc.layer_norm(x, shape[1:], rows, rows), fc.layer_norm(laid(x), shape[1:], laid(rows), laid(rows))),
            (fc.softmax(x, 1), fc.softmax(laid(x), 1)),
            (fc.log_softmax(x, -1), fc.log_softmax(laid(x), -1)),
            (fc.softmax_backward(dy, x, 1), fc.softmax_backward(laid(dy), laid(x), 1)),
        ):
            _close(changed, plain.astype("f8"), order)
        out = laid(testing.nan_filled(shape, dtype))
        assert fc.softmax(x, 0, out=out) is out
        _close(np.array(out), fc.softmax(x, 0).astype("f8"))
        ours = fc.layer_norm_backward(laid(dy), laid(x), shape[1:], laid(rows), laid(rows))
        for got, plain in zip(ours, fc.layer_norm_backward(dy, x, shape[1:], rows, rows), strict=True):
            _close(got, plain.astype("f8"), order, 4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layers_groups_and_images(target: Target, dtype: str, shape: _Shape) -> None:
    x, c = _random(shape, dtype, offset=-2), shape[1]
    w, b = _random((c,), dtype, 2), _random((c,), dtype, 3)
    with testing.on(target):
        for axis in range(1, x.ndim):
            sizes, axes = shape[axis:], tuple(range(axis, x.ndim))
            lw, lb = _random(sizes, dtype, 4), _random(sizes, dtype, 5)
            y = testing.proven(target, fc.layer_norm, x, sizes, lw, lb)
            _close(y, _normal(x, axes, 1e-5) * lw + lb, f"layer {sizes}")
            _close(fc.rms_norm(x, sizes, lw, 1e-3), _normal(x, axes, 1e-3, False) * lw, f"rms {sizes}")
        for groups in {1, c} | ({c // 2} if c % 2 == 0 else set()):
            split = x.reshape(shape[0], groups, c // groups, *shape[2:])
            expected = _normal(split, tuple(range(2, split.ndim)), 1e-5).reshape(shape)
            expected = expected * _columns(w, x.ndim) + _columns(b, x.ndim)
            for layout, laid in _both(x):
                _close(fc.group_norm(laid(x), groups, w, b, layout=layout), laid(expected), f"{groups} groups {layout}")
        if x.ndim > 2:
            expected = _normal(x, tuple(range(2, x.ndim)), 1e-5) * _columns(w, x.ndim) + _columns(b, x.ndim)
            for layout, laid in _both(x):
                running = [np.zeros(c, dtype), np.ones(c, dtype)]
                y = fc.instance_norm(laid(x), *running, w, b, layout=layout)
                _close(y, laid(expected), layout)
                plane, axes = x.size // (shape[0] * c), tuple(range(2, x.ndim))
                _close(running[0], 0.1 * x.mean(axes, dtype="f8").mean(0))
                _close(running[1], 0.9 + 0.1 * x.astype("f8").var(axes).mean(0) * plane / (plane - 1))


@pytest.mark.parametrize("shape", [*SHAPES, (7,), ()], ids=str)
def test_softmax(target: Target, dtype: str, shape: _Shape) -> None:
    x = np.asarray(_random(shape, dtype, offset=50) * np.asarray(3, dtype))
    with testing.on(target):
        for dim in range(-1, max(x.ndim, 1)):
            wide = x.astype("f8") - x.max(dim, keepdims=True)
            log = wide - np.log(np.exp(wide).sum(dim, keepdims=True))
            y = testing.proven(target, fc.softmax, x, dim)
            testing.assert_close(y, np.exp(log), (4e-7 if dtype == "float32" else 1e-14) * np.exp(log) + 1e-37)
            _close(testing.proven(target, fc.log_softmax, x, dim), log)


def test_softmax_of_differences_that_round(target: Target, dtype: str) -> None:
    """x less the largest has more digits than its dtype, and makes exp wrong by as many units as it is large."""
    x = _random((30, 700), dtype) * np.asarray(10, dtype)
    e = np.exp(x.astype("f8") - x.max(1, keepdims=True))
    expected = e / e.sum(1, keepdims=True)
    error = (4e-7 if dtype == "float32" else 1e-14) * expected + 1e-37
    with testing.on(target):
        testing.assert_close(fc.softmax(x, 1), expected, error)
        testing.assert_close(fc.softmax(np.ascontiguousarray(x.T), 0), expected.T, error.T)


def test_means_far_from_zero(target: Target) -> None:
    """Each element loses no more than it must: float32 would round the mean by 3e-5."""
    x = _random((40, 300), "float32", offset=1000)
    with testing.on(target):
        _close(fc.layer_norm(x, 300), _normal(x, (1,), 1e-5))
        _close(fc.batch_norm(x, None, None, training=True), _normal(x, (0,), 1e-5))


def test_softmax_of_extreme_numbers(target: Target, dtype: str) -> None:
    large = float(np.finfo(dtype).max)
    rows = np.array([[large, 0, -large], [-np.inf, 0, 0], [-800, 0, -np.inf], [-large, -large, -large]], dtype)
    with testing.on(target):
        for x, axis in ((rows, 1), (np.ascontiguousarray(rows.T), 0), (np.tile(rows, (1, 2000)), 1)):
            y = fc.softmax(x, axis)
            with np.errstate(all="ignore"):
                e = np.exp(x - x.max(axis, keepdims=True))
            testing.assert_close(y, e / e.sum(axis, keepdims=True), 1e-7)
        alone = np.full((2, 20_000), -np.inf, dtype)
        alone[:, -1] = 0
        for x, axis in ((alone, 1), (np.ascontiguousarray(alone.T), 0)):
            testing.assert_exact(fc.softmax(x, axis), (x == 0).astype(dtype))
        assert fc.log_softmax(rows, 1)[2, 2] == -np.inf
        for bad in ([np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf]):
            assert np.isnan(fc.softmax(np.array(bad, dtype), 0)).all()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_same_bits_for_any_number_of_threads(target: Target, count: int) -> None:
    x, dy = (_random((6, 10, 60, 61), "float32", seed) for seed in (1, 2))
    w = _random((10,), "float32", 3)

    def results() -> list[bytes]:
        y = [fc.batch_norm(x, None, None, w, w, True), fc.layer_norm(x, (60, 61)), fc.softmax(x, 1), fc.softmax(x, 3)]
        y += fc.batch_norm_backward(dy, x, None, None, w, w, True)
        y += fc.group_norm_backward(dy, x, 2, w, w)
        return [a.tobytes() for a in y]

    with testing.on(target):
        with fc.threads(3):
            expected = results()
        with fc.threads(count):
            assert results() == expected


# ---------------------------------------------------------------------------------------------------- gradients

_X = _random((3, 4, 2, 3), "float64", 7)
_C, _S = _random((4,), "float64", 8), _random((2, 3), "float64", 9)

#: Functions of x, w and b with the other arguments behind; of these arrays that there are.
_CASES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], tuple[np.ndarray, ...]]] = {
    "batch": ("batch_norm", (None, None), {"training": True}, (_C, _C + 1)),
    "batch, weight alone": ("batch_norm", (None, None), {"training": True}, (_C,)),
    "batch, nothing": ("batch_norm", (None, None), {"training": True}, ()),
    "batch, channels last": ("batch_norm", (None, None), {"training": True, "layout": "NHWC"}, (_C[:3], _C[1:])),
    "evaluation": ("batch_norm", (_C, _C**2), {}, (_C, _C + 1)),
    "instance": ("instance_norm", (None, None), {}, (_C, _C + 1)),
    "instance, nothing": ("instance_norm", (), {}, ()),
    "instance, running": ("instance_norm", (_C, _C**2), {"use_input_stats": False}, (_C, _C + 1)),
    "layer": ("layer_norm", ((2, 3),), {}, (_S, _S + 1)),
    "layer, nothing": ("layer_norm", (3,), {}, ()),
    "group": ("group_norm", (2,), {}, (_C, _C + 1)),
    "group, channels last": ("group_norm", (3,), {"layout": "NHWC"}, (_C[:3], _C[1:])),
    "rms": ("rms_norm", ((2, 3),), {"eps": 0.1}, (_S,)),
    "normalize": ("normalize", (), {}, ()),
    "normalize, p=3": ("normalize", (3,), {"dim": (1, 3)}, ()),
    "normalize, p=1": ("normalize", (1, -1), {}, ()),
    "normalize, p=inf": ("normalize", (np.inf, 2), {}, ()),
    "normalize, small": ("normalize", (2, 1, 50.0), {}, ()),
    "response": ("local_response_norm", (3, 0.5, 0.7, 2.0), {}, ()),
    "response, even": ("local_response_norm", (4, 0.5), {"layout": "NHWC"}, ()),
    "response, all": ("local_response_norm", (99, 0.5), {}, ()),
    "softmax": ("softmax", (1,), {}, ()),
    "log_softmax": ("log_softmax", (-1,), {}, ()),
}  # fmt: skip


@pytest.mark.parametrize("case", _CASES)
def test_gradients(target: Target, case: str) -> None:
    name, others, options, arrays = _CASES[case]
    dy = _random(_X.shape, "float64", 10)

    def function(x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        return np.asarray(getattr(fc, name)(x, *others, *parameters, **options))

    with testing.on(target):
        found = getattr(fc, f"{name}_backward")(dy, _X, *others, *arrays, **options)
        found = found if isinstance(found, tuple) else (found,)
        testing.assert_close(found[0], derivative(lambda x: function(x, *arrays), _X, dy), 1e-7, "dx")
        for i, array in enumerate(arrays):
            rest = [*arrays]

            def of_parameter(a: np.ndarray, i: int = i, rest: list[np.ndarray] = rest) -> np.ndarray:
                return function(_X, *rest[:i], a, *rest[i + 1 :])

            testing.assert_close(found[1 + i], derivative(of_parameter, array, dy), 1e-7, f"parameter {i}")
        assert all(absent is None for absent in found[1 + len(arrays) :])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_large_gradients(target: Target, dtype: str, shape: _Shape) -> None:
    x, dy = _random(shape, dtype), _random(shape, dtype, 2)
    w = _random((shape[1],), dtype, 3)
    rows = _random(shape[1:], dtype, 4)

    def results() -> dict[str, Any]:
        mean, rstd = fc.batch_norm(x, None, None, training=True, return_statistics=True)[1:]
        return {
            "batch": fc.batch_norm_backward(dy, x, None, None, w, w, True, statistics=(mean, rstd)),
            "evaluation": fc.batch_norm_backward(dy, x, w, w * w, w, w),
            "layer": fc.layer_norm_backward(dy, x, shape[1:], rows, rows),
            "rms": fc.rms_norm_backward(dy, x, shape[-1], rows.reshape(-1, shape[-1])[0]),
            "group": fc.group_norm_backward(dy, x, 1, w, w),
            "softmax": (fc.softmax_backward(dy, x, 1), fc.softmax_backward(dy, x, 0), fc.softmax_backward(dy, x, -1)),
            "log": (fc.log_softmax_backward(dy, x, 1), fc.log_softmax_backward(dy, x, -1)),
        }

    with fc.use_backend("reference"):
        expected = results()
    with testing.on(target):
        found = results()
    for name, arrays in expected.items():
        for i, (a, e) in enumerate(zip(found[name], arrays, strict=True)):
            error = (5e-6 if dtype == "float32" else 1e-12) * np.maximum(np.abs(e).max(initial=1), 1)
            testing.assert_close(a, e.astype("f8"), error, f"{name} {i}")


# ---------------------------------------------------------------------------------------------------- arguments


def test_what_is_refused() -> None:
    x, c = np.ones((2, 4, 3), "f4"), np.ones(4, "f4")
    frozen = c.copy()
    frozen.flags.writeable = False
    for call, error, text in (
        (lambda: fc.batch_norm(x, None, c), TypeError, "running_mean is None"),
        (lambda: fc.batch_norm(x, frozen, c, training=True), ValueError, "running_mean is read-only"),
        (lambda: fc.batch_norm(x, c, c, c[:3]), ValueError, r"weight has shape \(3,\).*\(4,\)"),
        (lambda: fc.batch_norm(x[:1, :, :1], c, c, training=True), ValueError, "more than one value"),
        (lambda: fc.batch_norm(x, c, c, eps=-1), ValueError, "eps=-1"),
        (lambda: fc.batch_norm(x, c, c, layout="NCHW"[::-1]), ValueError, "layout='WHCN'"),
        (lambda: fc.batch_norm_backward(x[:1], x, c, c), ValueError, r"dy has shape \(1, 4, 3\)"),
        (lambda: fc.batch_norm_backward(x, x, c, c, statistics=c), TypeError, "statistics"),
        (lambda: fc.batch_norm_backward(x, x, c, c, statistics=(c, x)), ValueError, "statistics has an array of shape"),
        (lambda: fc.layer_norm(x, (4,)), ValueError, r"normalized_shape=\(4,\)"),
        (lambda: fc.layer_norm(x, 3, c), ValueError, r"weight has shape \(4,\)"),
        (lambda: fc.group_norm(x, 3), ValueError, "num_groups=3"),
        (lambda: fc.group_norm(x, 0), ValueError, "num_groups=0"),
        (lambda: fc.instance_norm(c[:, None]), ValueError, "3 dimensions"),
        (lambda: fc.normalize(x, 0), ValueError, "p=0"),
        (lambda: fc.local_response_norm(x, 0), ValueError, "size=0"),
        (lambda: fc.softmax(x, 3), ValueError, "dim=3.*-3 to 2"),
        (lambda: fc.softmax(x, None), TypeError, "dim=None"),
        (lambda: fc.softmax_backward(x, x, 1, y=x[:1]), ValueError, "y has shape"),
    ):
        with pytest.raises(error, match=text):
            call()


def test_nothing_to_normalize(target: Target) -> None:
    x, c = np.ones((0, 4, 3), "f4"), np.ones(4, "f4")
    with testing.on(target):
        assert fc.batch_norm(x, c, c, training=True).shape == x.shape
        testing.assert_exact(c, np.ones(4, "f4"))
        assert fc.softmax(x, 1).shape == x.shape
        for found in (
            fc.batch_norm_backward(x, x, None, None, c, c, True),
            fc.batch_norm_backward(x, x, c, c, c, c),
            fc.group_norm_backward(x, x, 2, c, c),
        ):
            assert found[0].shape == x.shape
            testing.assert_exact(found[1], np.zeros(4, "f4"))
            testing.assert_exact(found[2], np.zeros(4, "f4"))
        assert fc.normalize_backward(x, x).shape == x.shape
        assert fc.local_response_norm_backward(x, x, 3).shape == x.shape
