"""Reductions over axes on every backend and instruction set, forward and backward, beside NumPy."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from differences import derivative
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from fastconv import testing
from fastconv.testing import Target

_Shape = tuple[int, ...]

#: Shapes and axes: vectors along what is reduced and across, rests of vectors and blocks, slices, axes that merge.
CASES: list[tuple[_Shape, Any]] = [
    ((), None),
    ((1,), 0),
    ((37,), None),
    ((1, 1, 5), (0, 1)),
    ((7, 9), 0),
    ((7, 9), 1),
    ((130, 3), 0),
    ((3, 130), 0),
    ((40, 30), -1),
    ((33, 40), 1),
    ((5, 6, 7), (0, 2)),
    ((5, 6, 7), 1),
    ((5, 6, 7), None),
    ((70, 80), None),
    ((3, 4, 2, 5), (1, 3)),
    ((2, 3, 1, 4, 2, 3), (0, 2, 4)),
    ((4, 3, 7, 7), (0, 2, 3)),
    ((4, 7, 7, 19), (0, 1, 2)),
    ((3, 2, 200, 2, 50), (0, 2, 4)),
    ((2, 20, 300), 1),
    ((30, 300), 0),
    ((100_003,), None),
    ((3, 40_001), 1),
    ((70_001, 2), 0),
    ((3000, 40), 0),
    ((2, 2, 2, 2, 2, 2, 2, 2), (0, 2, 4, 6)),
    ((2, 1, 2, 1, 2, 1, 2, 1, 2), (0, 1, 4, 8)),
]

ORDERS = ["contiguous", *testing.MEMORY_ORDERS]

_FUNCTIONS = {"sum": np.sum, "mean": np.mean, "amax": np.max, "amin": np.min}


def _laid(order: str, x: np.ndarray) -> np.ndarray:
    return testing.MEMORY_ORDERS[order](x) if x.ndim and order in testing.MEMORY_ORDERS else x


def _whole(shape: _Shape, dtype: str, seed: int = 1) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).integers(-9, 10, shape)).astype(dtype)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("shape", "dim"), CASES, ids=str)
def test_whole_numbers_are_exact(target: Target, dtype: str, shape: _Shape, dim: Any, order: str) -> None:
    x = _whole(shape, dtype)
    laid = _laid(order, x)
    with testing.on(target):
        for name, theirs in _FUNCTIONS.items():
            for keepdim in (False, True):
                y = testing.proven(target, getattr(fc, name), laid, dim, keepdim)
                assert type(y) is np.ndarray
                assert y.dtype == x.dtype
                expected = np.asarray(theirs(x.astype("f8"), axis=dim, keepdims=keepdim)).astype(dtype)
                testing.assert_exact(y, expected, name)
        if not isinstance(dim, tuple):
            for name, theirs in (("argmax", np.argmax), ("argmin", np.argmin)):
                y = testing.proven(target, getattr(fc, name), laid, dim)
                assert y.dtype == np.int64
                testing.assert_exact(y, np.asarray(theirs(x, axis=dim)), name)


@pytest.mark.parametrize("correction", [0, 1, 0.5, 3])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("shape", "dim"), CASES, ids=str)
def test_variances(target: Target, dtype: str, shape: _Shape, dim: Any, order: str, correction: float) -> None:
    x = np.asarray(np.random.default_rng(2).standard_normal(shape) + 100).astype(dtype)
    with testing.on(target):
        y = testing.proven(target, fc.var, _laid(order, x), dim, correction=correction)
    exact = x.astype("f8")
    count = exact.size // max(np.sum(exact, axis=dim).size, 1)
    squares = np.asarray(((exact - exact.mean(dim, keepdims=True)) ** 2).sum(dim))
    with np.errstate(all="ignore"):
        expected = squares / np.float64(max(count - correction, 0))
    finite = np.isfinite(expected)
    testing.assert_exact(np.isfinite(y), finite)
    error = np.finfo(dtype).eps * (2 if dtype == "float32" else 10 * 100**2)
    testing.assert_close(y[finite], expected[finite], error * expected[finite] + 1e-20)


@pytest.mark.parametrize("where", ["first", "last", "all"])
@pytest.mark.parametrize(("shape", "dim"), [case for case in CASES if not isinstance(case[1], tuple)], ids=str)
def test_nan_is_larger_and_smaller_than_any_number(target: Target, shape: _Shape, dim: Any, where: str) -> None:
    x = _whole(shape, "float32")
    flat = x.reshape(-1)
    flat[{"first": slice(0, 1), "last": slice(-1, None), "all": slice(None, None, 3)}[where]] = np.nan
    with testing.on(target):
        testing.assert_exact(fc.amax(x, dim), np.asarray(np.max(x, axis=dim)))
        testing.assert_exact(fc.amin(x, dim), np.asarray(np.min(x, axis=dim)))
        testing.assert_exact(fc.argmax(x, dim), np.asarray(np.argmax(x, axis=dim)))
        testing.assert_exact(fc.argmin(x, dim), np.asarray(np.argmin(x, axis=dim)))


@pytest.mark.parametrize("order", testing.MEMORY_ORDERS)
def test_places_are_counted_in_the_order_of_the_axes(target: Target, order: str) -> None:
    for shape in ((5, 6, 7), (70, 80)):
        x = _whole(shape, "float32")
        with testing.on(target):
            assert fc.argmax(_laid(order, x)) == np.argmax(x)
            assert fc.argmin(_laid(order, x)) == np.argmin(x)


@pytest.mark.parametrize("value", [-np.inf, np.inf, 0.0])
@pytest.mark.parametrize(
    ("shape", "dim"), [((70,), 0), ((5, 70), 0), ((70, 5), 0), ((5, 70), 1), ((9000,), 0)], ids=str
)
def test_of_equals_the_first(target: Target, shape: _Shape, dim: int, value: float) -> None:
    x = np.full(shape, value, "f4")
    with testing.on(target):
        assert (fc.argmax(x, dim) == 0).all()
        assert (fc.argmin(x, dim) == 0).all()
        assert (fc.amax(x, dim) == value).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_shape_and_axes(target: Target, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 5, 8, 17, 33]), min_size=1, max_size=4)))
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    order = data.draw(st.permutations(range(len(shape))))
    x = _whole(shape, "float32", data.draw(st.integers(0, 9)))
    x = x.transpose(order).copy().transpose(np.argsort(order))
    with testing.on(target):
        testing.assert_exact(fc.sum(x, tuple(axes)), np.asarray(x.sum(tuple(axes))))
        testing.assert_exact(fc.amax(x, tuple(axes)), np.asarray(x.max(tuple(axes))))


@pytest.mark.parametrize("shape", [(1 << 20,), (1 << 20, 2), (2, 1 << 20)], ids=str)
def test_a_million_terms(target: Target, shape: _Shape) -> None:
    """Of one sign: 1e-6 of what they are; added one after the other in float32 they would lose 3e-3."""
    x = np.random.default_rng(3).random(shape, dtype=np.float32) + np.float32(0.1)
    axis = int(np.argmax(shape))
    with testing.on(target):
        y, mean, var = fc.sum(x, axis), fc.mean(x, axis), fc.var(x, axis)
    exact = x.astype("f8")
    testing.assert_close(y, exact.sum(axis), 1e-7 * exact.sum(axis))
    testing.assert_close(mean, exact.mean(axis), 1e-7 * exact.mean(axis))
    testing.assert_close(var, exact.var(axis, ddof=1), 1e-7 * exact.var(axis))


@pytest.mark.parametrize("shape", [(110_000,), (110_000, 4), (4, 110_000), (3, 29, 51, 25, 4)], ids=str)
def test_long_sums_in_double(target: Target, shape: _Shape) -> None:
    """Of one sign, to 20 roundings: added one after the other they would be off by a hundred."""
    x = np.random.default_rng(3).random(shape)
    axis = tuple(i for i, n in enumerate(shape) if n != 4)
    with testing.on(target):
        y = fc.sum(x, axis)
    exact = [math.fsum(row) for row in np.moveaxis(x, axis, range(-len(axis), 0)).reshape(y.size, -1)]
    testing.assert_close(y, np.reshape(exact, y.shape), 20 * np.finfo("f8").eps * np.reshape(exact, y.shape))


@pytest.mark.parametrize(
    ("shape", "dim"), [((40_000,), 0), ((40_000, 3), 0), ((3, 40_000), 1), ((5, 2, 2, 3), (0, 2))], ids=str
)
def test_infinities_in_one_of_many_blocks(target: Target, dtype: str, shape: _Shape, dim: Any) -> None:
    """The mean is infinite, and each finite element infinitely far from it."""
    for where in (0, -1):
        x = _whole(shape, dtype)
        x.reshape(-1)[where] = np.inf
        with testing.on(target):
            dx = fc.var_backward(np.ones(np.sum(x, axis=dim).shape, dtype), x, dim)
        mean = np.mean(x, axis=dim, keepdims=True)
        testing.assert_exact(np.isneginf(dx), np.broadcast_to(np.isinf(mean), shape) & np.isfinite(x))
        testing.assert_exact(np.isnan(dx), np.isinf(x))


@pytest.mark.parametrize("function", ["sum", "var", "argmax"])
@pytest.mark.parametrize(
    ("shape", "dim"), [((200_000,), None), ((400, 300), 0), ((300, 400), 1), ((8, 5, 70, 70), (0, 2, 3))], ids=str
)
def test_the_same_bits_for_any_number_of_threads(target: Target, function: str, shape: _Shape, dim: Any) -> None:
    x = np.random.default_rng(4).standard_normal(shape).astype("f4")
    if function == "argmax":
        x, dim = np.round(x), None
    results = []
    with testing.on(target):
        for count in (1, 2, 3, 7):
            with fc.threads(count):
                results.append(getattr(fc, function)(x, dim).tobytes())
    assert len({*results}) == 1


def test_more_axes_than_kernels_know() -> None:
    x = _whole((2,) * 12, "float32")
    testing.assert_exact(fc.sum(x, (0, 2, 4, 6, 8, 10)), x.sum((0, 2, 4, 6, 8, 10)))


# --------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 0, 1, (0, 2), -1], ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "var", "amax", "amin"])
def test_gradients(target: Target, name: str, dim: Any, keepdim: bool) -> None:
    x = np.random.default_rng(5).permutation(60).reshape(3, 4, 5) / 7.0
    options = {"keepdim": keepdim} | ({"correction": 2} if name == "var" else {})
    with testing.on(target):
        y = getattr(fc, name)(x, dim, **options)
        dy = np.asarray(np.random.default_rng(6).standard_normal(y.shape))
        dx = getattr(fc, f"{name}_backward")(dy, x, dim, **options)
        expected = derivative(lambda x: getattr(fc, name)(x, dim, **options), x, dy)
    testing.assert_close(dx, expected, 1e-7)


def test_equal_maxima_share(target: Target) -> None:
    x = np.array([[1, 3, 3], [2, 2, 2]], "f4")
    with testing.on(target):
        testing.assert_exact(fc.amax_backward(np.array([2, 3], "f4"), x, 1), np.array([[0, 1, 1], [1, 1, 1]], "f4"))
        assert np.isnan(fc.amin_backward(np.ones(1, "f4"), np.array([[1, np.nan]], "f4"), 1)).all()


# ---------------------------------------------------------------------------------------------- nothing to reduce


def test_of_no_elements(target: Target) -> None:
    none = np.ones((3, 0), "f4")
    with testing.on(target), warnings.catch_warnings():
        warnings.simplefilter("error")
        testing.assert_exact(fc.sum(none, 1), np.zeros(3, "f4"))
        testing.assert_exact(fc.mean(none, 1), np.full(3, np.nan, "f4"))
        testing.assert_exact(fc.var(none, 1), np.full(3, np.nan, "f4"))
        assert fc.sum(none, 0).shape == (0,)
        assert fc.amax(none, 0).shape == (0,)
        assert fc.argmin(none, 0, keepdim=True).shape == (1, 0)
        assert fc.sum_backward(np.ones(3, "f4"), none, 1).shape == (3, 0)
        assert fc.var_backward(np.ones(3, "f4"), none, 1).shape == (3, 0)
        for function in (fc.amax, fc.amin, fc.argmax, fc.argmin):
            with pytest.raises(ValueError, match=r"x has shape \(3, 0\)"):
                function(none, 1)
