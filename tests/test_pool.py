"""Pooling on every backend and instruction set, forward and backward."""

from __future__ import annotations

import tracemalloc
from typing import Any

import layouts
import numpy as np
import pytest
from cases.pool import A_POOLING, POOLS, Pool
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from fastconv import settings as of_fastconv
from fastconv import testing
from fastconv.backends import tables
from fastconv.testing import Target

_KINDS = [(case, kind) for case in POOLS for kind in case.kinds]
_IDS = [f"{kind} {case}" for case, kind in _KINDS]


def _bound(kind: str, expected: np.ndarray) -> Any:
    """Sums and maxima of whole numbers are exact; an average rounds its divisor, its quotient and its sums."""
    return 8 * np.finfo("float32").eps * np.abs(expected) + 1e-6 if "avg" in kind else 0


def _check(target: Target, kind: str, x: np.ndarray, dtype: str, last: bool, arguments: dict[str, Any]) -> None:
    ndim = x.ndim - 2
    function, backward = (getattr(fc, f"{kind}_pool{ndim}d{t}") for t in ("", "_backward"))
    with fc.use_backend("reference"):
        y = function(x, **arguments)
        dy = testing.integers(np.random.default_rng(7), y.shape, "float64")
        dx = backward(dy, x, **arguments)
    own_x, own_y, own_dy, own_dx = (layouts.to(a.astype(dtype), last) for a in (x, y, dy, dx))
    kw = {**arguments, "layout": layouts.name(last, ndim)}
    with testing.on(target):
        out, gradient = testing.nan_filled(own_y.shape, dtype), testing.nan_filled(own_x.shape, dtype)
        assert testing.proven(target, function, own_x, **kw, out=out) is out
        assert testing.proven(target, backward, own_dy, own_x, **kw, out=gradient) is gradient
        testing.assert_close(out, own_y, _bound(kind, own_y), "y")
        testing.assert_close(gradient, own_dx, _bound(kind, own_dx), "dx")
        if kind in ("max", "adaptive_max"):
            with fc.use_backend("reference"):
                expected = layouts.to(function(x, **arguments, return_indices=True)[1], last)
            top, indices = testing.proven(target, function, own_x, **kw, return_indices=True)
            testing.assert_exact(top, own_y, "y, with indices")
            assert indices.dtype == np.int64
            testing.assert_exact(indices, expected, "indices")
            given_back = testing.proven(target, backward, own_dy, own_x, **kw, indices=indices)
            testing.assert_exact(given_back, own_dx, "dx, with indices")


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(("case", "kind"), _KINDS, ids=_IDS)
def test_forward_backward_and_indices(pooling_target: Target, dtype: str, last: bool, case: Pool, kind: str) -> None:
    # Few different numbers: there are many equal maxima.
    x = testing.integers(np.random.default_rng(list(case.name.encode())), case.x_shape, "float64")
    _check(pooling_target, kind, x, dtype, last, case.arguments)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_indices_of_other_windows(pooling_target: Target, dtype: str, last: bool) -> None:
    rng, layout = np.random.default_rng(15), layouts.name(last, 2)
    x = layouts.to(testing.integers(rng, (3, 37, 9, 10), dtype), last)
    y, indices = fc.max_pool2d(x, 2, layout=layout, return_indices=True)
    # One alone, one to the window on its left, then all of them.
    others, beside = indices.copy(), indices.copy()
    others.flat[1234] = 89
    np.moveaxis(beside, -1 if last else 1, 1)[1, 0, 2, 3] = 44
    for moved in (others, beside, rng.permuted(indices)):
        with fc.use_backend("reference"):
            dx = fc.max_pool2d_backward(y, x, 2, layout=layout, indices=moved)
        with testing.on(pooling_target):
            got = testing.proven(pooling_target, fc.max_pool2d_backward, y, x, 2, layout=layout, indices=moved)
        testing.assert_exact(got, dx)
    for wrong in (-1, 90, 2**32, 2**32 + indices.flat[1234], 2**62, -(2**63)):
        indices.flat[1234] = wrong
        with testing.on(pooling_target), pytest.raises(ValueError, match=r"indices .* 0 to 89"):
            fc.max_pool2d_backward(y, x, 2, layout=layout, indices=indices)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("kernel", [2, 5])
def test_indices_outside_the_plane(pooling_target: Target, dtype: str, last: bool, kernel: int) -> None:
    layout = layouts.name(last, 2)
    x = layouts.to(testing.integers(np.random.default_rng(9), (3, 17, 9, 11), dtype), last)
    y, indices = fc.max_pool2d(x, kernel, 1, layout=layout, return_indices=True)
    for wrong in (-1, 99, 2**32, 2**62, -(2**63)):
        indices.flat[777] = wrong
        with testing.on(pooling_target), pytest.raises(ValueError, match=r"indices .* 0 to 98"):
            fc.max_pool2d_backward(y, x, kernel, 1, layout=layout, indices=indices)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_nan_and_infinity(pooling_target: Target, dtype: str, last: bool) -> None:
    rng = np.random.default_rng(8)
    x = rng.choice([np.nan, np.inf, -np.inf, 1.0, 2.0], (2, 17, 9, 11), p=[0.1, 0.1, 0.4, 0.2, 0.2])
    x[0, 0] = -np.inf
    x[0, 1] = np.nan
    layout = layouts.name(last, 2)
    for channels, arguments in (
        (17, {"kernel_size": 3, "stride": 2, "padding": 1}),
        (17, {"kernel_size": 2, "stride": 1, "dilation": 2}),
        (17, {"kernel_size": 9, "stride": 1, "padding": 4}),
        (1, {"kernel_size": (2, 9), "stride": 3, "padding": (0, 4)}),
    ):
        own = layouts.to(x[:, -channels:].astype(dtype), last)
        with fc.use_backend("reference"):
            dy = testing.integers(rng, fc.max_pool2d(own, **arguments, layout=layout).shape, dtype)
            dx = fc.max_pool2d_backward(dy, own, **arguments, layout=layout)
            y, indices = fc.max_pool2d(own, **arguments, layout=layout, return_indices=True)
        with testing.on(pooling_target):
            got = testing.proven(pooling_target, fc.max_pool2d, own, **arguments, layout=layout, return_indices=True)
            plain = testing.proven(pooling_target, fc.max_pool2d, own, **arguments, layout=layout)
            gradient = testing.proven(pooling_target, fc.max_pool2d_backward, dy, own, **arguments, layout=layout)
        testing.assert_exact(got[0], y)
        testing.assert_exact(got[1], indices)
        testing.assert_exact(plain, y)
        testing.assert_exact(gradient, dx)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_nan_and_infinity_stay_in_their_windows(pooling_target: Target, dtype: str, last: bool) -> None:
    x = testing.integers(np.random.default_rng(13), (1, 9, 21, 23), dtype)
    x[0, 3, 2, 3], x[0, 4, 15, 20], x[0, 5, 0, 0] = np.nan, np.inf, -np.inf
    own, layout = layouts.to(x, last), layouts.name(last, 2)
    for kernel in (3, 11):
        with fc.use_backend("reference"):
            y = fc.sum_pool2d(own, kernel, 1, layout=layout)
        with testing.on(pooling_target):
            testing.assert_exact(testing.proven(pooling_target, fc.sum_pool2d, own, kernel, 1, layout=layout), y)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_the_error_of_long_sums(pooling_target: Target, last: bool) -> None:
    """Thousands of numbers, one after the other, would lose more digits than this."""
    x = np.random.default_rng(14).random((1, 37, 112, 120), "float32")
    exact, layout = x.mean((2, 3), dtype="float64")[:, :, None, None], layouts.name(last, 2)
    with testing.on(pooling_target):
        y = testing.proven(pooling_target, fc.global_avg_pool2d, layouts.to(x, last), layout=layout)
    assert np.abs(y - layouts.to(exact, last)).max() < 5e-7


@pytest.mark.parametrize("kind", ["max", "avg", "sum"])
@pytest.mark.parametrize("order", testing.MEMORY_ORDERS)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_any_strides(pooling_target: Target, kind: str, last: bool, order: str) -> None:
    change, layout = testing.MEMORY_ORDERS[order], layouts.name(last, 2)
    function, backward = getattr(fc, f"{kind}_pool2d"), getattr(fc, f"{kind}_pool2d_backward")
    x = layouts.to(testing.integers(np.random.default_rng(9), (2, 17, 8, 10), "float32"), last)
    with fc.use_backend("reference"):
        y = function(x, 2, layout=layout)
        dx = backward(y, x, 2, layout=layout)
    with testing.on(pooling_target):
        out = change(testing.nan_filled(y.shape, "float32"))
        testing.assert_exact(testing.proven(pooling_target, function, change(x), 2, layout=layout, out=out), y)
        out = change(testing.nan_filled(x.shape, "float32"))
        testing.assert_exact(
            testing.proven(pooling_target, backward, change(y), change(x), 2, layout=layout, out=out), dx
        )


@pytest.mark.parametrize("kind", ["max", "avg", "sum"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_nothing_is_read_or_written_outside(pooling_target: Target, dtype: str, kind: str, last: bool) -> None:
    layout = layouts.name(last, 2)
    function, backward = getattr(fc, f"{kind}_pool2d"), getattr(fc, f"{kind}_pool2d_backward")
    x = layouts.to(testing.integers(np.random.default_rng(10), (2, 9, 7, 11), dtype), last)
    with testing.on(pooling_target):
        y = function(x, 3, 2, 1, layout=layout)
        (wx, check_x), (wy, check_y), (wdx, check_dx) = map(testing.surrounded, (x, y, x))
        function(wx, 3, 2, 1, layout=layout, out=wy)
        testing.assert_exact(wy, y)
        backward(wy, wx, 3, 2, 1, layout=layout, out=wdx)
        testing.assert_exact(wdx, backward(y, x, 3, 2, 1, layout=layout))
    for check in (check_x, check_y, check_dx):
        check()


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "avg", "sum", "global_max", "adaptive_max", "adaptive_avg"])
def test_without_a_batch_dimension(pooling_target: Target, kind: str, ndim: int) -> None:
    function, backward = (getattr(fc, f"{kind}_pool{ndim}d{t}") for t in ("", "_backward"))
    arguments = () if "global" in kind else (2,)
    x = testing.integers(np.random.default_rng(11), (1, 3, 6, 4, 8)[: ndim + 2], "float32")
    with testing.on(pooling_target):
        y = testing.proven(pooling_target, function, x, *arguments)
        testing.assert_exact(testing.proven(pooling_target, function, x[0], *arguments), y[0])
        dx = testing.proven(pooling_target, backward, y, x, *arguments)
        testing.assert_exact(testing.proven(pooling_target, backward, y[0], x[0], *arguments), dx[0])
        if kind in ("max", "adaptive_max"):
            top, indices = testing.proven(pooling_target, function, x[0], *arguments, return_indices=True)
            assert top.shape == indices.shape == y.shape[1:]
            got = testing.proven(pooling_target, backward, y[0], x[0], *arguments, indices=indices)
            testing.assert_exact(got, dx[0])


def _against_reference(
    target: Target, stem: str, x: np.ndarray, *arguments: Any, dy: Any = None, **options: Any
) -> None:
    """Result, indices and gradients, with and without indices, exactly those of contiguous arrays in the reference."""
    function, backward = getattr(fc, stem), getattr(fc, f"{stem}_backward")
    located = stem.startswith(("max", "adaptive_max"))
    own = np.array(x)
    with fc.use_backend("reference"):
        y = function(own, *arguments, **options)
        dy = testing.integers(np.random.default_rng(21), y.shape, x.dtype) if dy is None else dy
        dx = backward(np.array(dy), own, *arguments, **options)
        indices = function(own, *arguments, **options, return_indices=True)[1] if located else None
    with testing.on(target):
        out, gradient = testing.nan_filled(y.shape, x.dtype), testing.nan_filled(x.shape, x.dtype)
        testing.assert_exact(testing.proven(target, function, x, *arguments, **options, out=out), y, "y")
        testing.assert_exact(testing.proven(target, backward, dy, x, *arguments, **options, out=gradient), dx, "dx")
        if located:
            found = testing.proven(target, function, x, *arguments, **options, return_indices=True)[1]
            testing.assert_exact(found, indices, "indices")
            for given_back in (indices, _off_its_grid(indices), np.repeat(indices, 2, axis=-1)[..., ::-2][..., ::-1]):
                got = testing.proven(target, backward, dy, x, *arguments, **options, indices=given_back)
                testing.assert_exact(got, dx, "dx, with indices")


def test_gradients_of_sums_that_lie_a_step_of_1_apart_along_the_width_alone(pooling_target: Target) -> None:
    x = np.zeros((1, 1, 3, 2), "float32")
    dy = np.array([[[[1, 2]]]], "float32")
    with testing.on(pooling_target):
        dx = testing.proven(pooling_target, fc.sum_pool2d_backward, dy, x, (2, 1), (2, 1))
    testing.assert_exact(dx, np.array([[[[1, 2], [1, 2], [0, 0]]]], "float32"))
    _against_reference(pooling_target, "sum_pool2d", np.ones((2, 3, 17, 21), "float32"), (3, 2), (2, 1), (1, 0))
    _against_reference(pooling_target, "sum_pool3d", np.ones((1, 2, 4, 9, 11), "float32"), 2, (2, 2, 1))
    # Each dy with a share of its own, and planes of one element.
    _against_reference(
        pooling_target, "avg_pool3d", np.ones((1, 3, 4, 1, 1)), (4, 5, 3), (1, 1, 3), "same", count_include_pad=False,
        dy=np.full((1, 3, 4, 1, 1), 12.0),
    )  # fmt: skip


@pytest.mark.parametrize("stem", ["adaptive_max_pool3d", "adaptive_avg_pool3d"])
def test_a_depth_of_1_becomes_several(pooling_target: Target, stem: str) -> None:
    x = np.arange(1.0, 5, dtype="float32").reshape(1, 1, 1, 2, 2)
    with testing.on(pooling_target):
        y = testing.proven(
            pooling_target, getattr(fc, stem), x, (2, 1, 1), out=testing.nan_filled((1, 1, 2, 1, 1), "f4")
        )
    assert y.ravel().tolist() == ([4, 4] if "max" in stem else [2.5, 2.5])
    _against_reference(pooling_target, stem, np.repeat(x, 3, axis=1), (3, 1, 1))
    _against_reference(pooling_target, "sum_pool3d", x, (2, 2, 2), 1, (1, 0, 0))


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (6, 1), (9, 1), (12, 1), (12, 2)])
def test_a_row_of_many_windows_around_a_maximum(pooling_target: Target, kernel: int, stride: int) -> None:
    x = testing.integers(np.random.default_rng(17), (1, 40, 8), "float32")
    _against_reference(pooling_target, "max_pool1d", x, kernel, stride, layout="NLC")
    _against_reference(pooling_target, "max_pool2d", x[:, None], (1, kernel), (1, stride), layout="NHWC")


def test_rows_of_a_gradient_that_threads_share(pooling_target: Target) -> None:
    x = testing.integers(np.random.default_rng(18), (1, 112, 112, 16), "float32")
    for threads in (1, 2, 3):
        with fc.threads(threads):
            _against_reference(pooling_target, "max_pool2d", x, 3, 2, 1, layout="NHWC")


def test_a_last_window_may_overhang_the_padding_behind_alone(pooling_target: Target) -> None:
    x = np.arange(1.0, 6, dtype="float32").reshape(1, 1, 5)
    with testing.on(pooling_target):
        y = testing.proven(pooling_target, fc.max_pool1d, x, 2, 5, ((0, 1),), ceil_mode=True)
    assert y.ravel().tolist() == [2]
    _against_reference(pooling_target, "max_pool1d", x, 2, 4, ((0, 1),), ceil_mode=True)


def test_numbers_beyond_32_bits(pooling_target: Target) -> None:
    x = np.arange(1.0, 11, dtype="float32")[None]
    whole = {"kernel_size": 2**33, "stride": 1, "padding": 2**32}
    dy = np.ones((1, 11), "float32")
    expected = [
        (lambda: fc.max_pool1d(x, **whole), [10] * 11),
        (lambda: fc.sum_pool1d(x, **whole), [55] * 11),
        (lambda: fc.avg_pool1d(x, **whole), [np.float32(55 / 2**33)] * 11),
        (lambda: fc.max_pool1d(x, 2**62, 1, 2**61), [10] * 11),
        (lambda: fc.max_pool1d(x, 2, 2**40), [2]),
        (lambda: fc.max_pool1d(x, 3, 1, 2**33, 2**33), x[0].tolist()),
        (lambda: fc.sum_pool1d_backward(dy, x, **whole), [11] * 10),
        (lambda: fc.max_pool1d_backward(dy, x, **whole), [0] * 9 + [11]),
    ]
    for function, right in expected:
        with testing.on(pooling_target):
            if pooling_target.backend == "c":
                with pytest.raises(NotImplementedError, match="kernel, stride, padding or dilation is over 2147483647"):
                    function()
            else:
                assert function().tolist() == [right]


def test_numbers_of_32_bits(pooling_target: Target) -> None:
    x = testing.integers(np.random.default_rng(20), (1, 3, 4, 10), "float32")
    most = 2**31 - 1
    _against_reference(pooling_target, "max_pool2d", x, (1, most), 1, (0, most // 2))
    _against_reference(pooling_target, "sum_pool2d", x, (3, most), 1, (1, most // 2))
    _against_reference(pooling_target, "max_pool2d", x, 2, most)
    _against_reference(pooling_target, "max_pool2d", x, 3, 2, most, most)
    _against_reference(pooling_target, "max_pool2d", x, (2, 3), (1, 2), (0, 2**20), (3, 2**20))


@pytest.mark.parametrize("size", [9132760301568586890, 2**31, 2**63 - 1])
def test_results_of_too_many_elements(size: int) -> None:
    with pytest.raises(ValueError, match=r"the result of shape .* elements; at most 2147483647 are allowed"):
        fc.adaptive_avg_pool1d(np.ones((1, 1, 10)), size)
    with pytest.raises(ValueError, match="the result of shape"):
        fc.adaptive_max_pool1d(np.ones((0, 1, 10)), size)


def test_long_axes_keep_nothing() -> None:
    """Neither for each length, nor as Python objects."""
    fc.max_pool1d(np.zeros((1, 1, 9)), 2)
    tracemalloc.start()
    try:
        for function, arguments in (
            (fc.max_pool1d, (2, 1)),
            (fc.avg_pool1d, (4,)),
            (fc.adaptive_avg_pool1d, (99_999,)),
        ):
            for i in range(3):
                function(np.zeros((1, 1, 160_000 + i), "float32"), *arguments)
        assert tracemalloc.get_traced_memory()[0] < 2**20
    finally:
        tracemalloc.stop()


def test_tables_are_kept_within_their_limit() -> None:
    kept = tables._Kept(100)
    made: list[str] = []

    def get(key: str, nbytes: int) -> None:
        kept.get(key, nbytes, lambda: made.append(key))

    for key, nbytes in [("a", 40), ("b", 40), ("a", 40), ("c", 40), ("a", 40), ("b", 40), ("too large", 101)] * 2:
        get(key, nbytes)
    assert made == ["a", "b", "c", "b", "too large", "c", "b", "too large"]


#: x, the arguments, and how many numbers a sum has: every form in which sums are cut.
_LONG_SUMS = {
    "whole planes": ((1, 3, 300, 1000), "global_avg_pool2d", ()),
    "one channel": ((1, 1, 400, 700), "global_avg_pool2d", ()),
    "adaptive": ((1, 2, 900, 300), "adaptive_avg_pool2d", ((2, 3),)),
    "many rows": ((1, 5, 3000, 7), "avg_pool2d", ((2900, 2), 1)),
    "many columns": ((1, 2, 9000), "avg_pool1d", (8997, 2)),
    "boxes": ((1, 3, 5000), "avg_pool1d", (1500, 1)),
    "some rows": ((1, 17, 56, 56), "global_avg_pool2d", ()),
}


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", _LONG_SUMS)
def test_sums_of_many_numbers(pooling_target: Target, last: bool, case: str) -> None:
    """To 2^-16 of their sum, what 256 roundings in float32 come to; C, which sums what rounding loses, to 2^-19."""
    if pooling_target.backend == "reference":
        return  # what is compared with
    shape, stem, arguments = _LONG_SUMS[case]
    function, backward = getattr(fc, stem), getattr(fc, f"{stem}_backward")
    layout = layouts.name(last, len(shape) - 2)
    # Nearly the same numbers: their roundings go the same way.
    x = layouts.to(np.random.default_rng(22).random(shape, "float32") / 64 + np.float32(0.1), last)
    wide = x.astype("float64")
    bound = 2.0**-19 if pooling_target.backend == "c" else 2.0**-16
    with fc.use_backend("c"), fc.use_isa("scalar"):
        y = function(wide, *arguments, layout=layout)
        dy = np.random.default_rng(23).random(y.shape, "float32") / 64 + np.float32(0.1)
        dx = backward(dy.astype("float64"), wide, *arguments, layout=layout)
    with testing.on(pooling_target):
        got = testing.proven(pooling_target, function, x, *arguments, layout=layout)
        testing.assert_close(got, y, bound * y, "y")
        testing.assert_close(backward(dy, x, *arguments, layout=layout), dx, bound * dx, "dx")


def test_a_maximum_of_many_windows(pooling_target: Target) -> None:
    """One element gets 3,001 numbers of 0.1."""
    x = np.zeros((1, 1, 9_000), "float32")
    x[..., 4_500] = 1
    dy = np.full((1, 1, 6_000), 0.1, "float32")
    with testing.on(pooling_target):
        dx = testing.proven(pooling_target, fc.max_pool1d_backward, dy, x, 3_001, 1)
    assert abs(dx[0, 0, 4_500] / np.float64(dy[0, 0, 0]) / 3_001 - 1) < 2.0**-22


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinity_in_long_sums(pooling_target: Target, value: float) -> None:
    x = np.zeros((1, 2, 400, 3), "float32")
    x[0, 1, 100, 1] = value
    expected = np.broadcast_to([[[[0.0]], [[value]]]], (1, 2, 2, 2))
    for last in (False, True):
        with testing.on(pooling_target):
            y = testing.proven(
                pooling_target, fc.sum_pool2d, layouts.to(x, last), (399, 2), 1, layout=layouts.name(last, 2)
            )
        testing.assert_exact(y, layouts.to(expected, last))


_INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.usefixtures("free_choice")
@pytest.mark.parametrize("kind", _INTEGERS)
def test_maxima_of_integers(kind: str) -> None:
    limits = np.iinfo(kind)
    x = np.array([limits.min, limits.max - 1, limits.max, limits.min, 3, 2], kind)
    y, indices = fc.max_pool1d(x[None, None], 2, return_indices=True)
    assert y.dtype == x.dtype
    assert y.tolist() == [[[limits.max - 1, limits.max, 3]]]
    assert indices.tolist() == [[[1, 2, 4]]]
    out = np.empty((1, 1, 1, 1), kind)
    assert fc.global_max_pool2d(x.reshape(1, 1, 2, 3)[..., ::-1], out=out) is out
    assert out.item() == limits.max
    assert fc.adaptive_max_pool1d(x[None], 1).tolist() == [[limits.max]]
    for refused in (
        lambda: fc.max_pool1d_backward(y, x[None, None], 2),
        lambda: fc.avg_pool1d(x[None], 2),
        lambda: fc.sum_pool1d(x[None], 2),
        lambda: fc.global_avg_pool1d(x[None]),
        lambda: fc.conv1d(x[None], x[None, None]),
    ):
        with pytest.raises(TypeError, match=rf"x has dtype {kind}: allowed is float32 or float64"):
            refused()
    (choice,) = fc.explain(fc.max_pool1d, x[None], 2)
    assert choice.kernel.backend == "reference"
    usable = [name for name, reason in fc.backends().items() if reason is None]
    assert all(f"float32 and float64, not {kind}" in reason for name, reason in choice.refusals if name in usable)


@pytest.mark.usefixtures("free_choice")
def test_maxima_of_uint8_as_onnx_has_them() -> None:
    x = np.arange(1, 26, dtype="uint8").reshape(1, 1, 5, 5)
    expected = [[13, 14, 15, 15, 15], [18, 19, 20, 20, 20], *[[23, 24, 25, 25, 25]] * 3]
    assert fc.max_pool2d(x, 5, 1, 2)[0, 0].tolist() == expected


@pytest.mark.parametrize("shape", [(0, 6), (0, 3, 6), (2, 0, 6), (0, 0, 6)])
def test_without_images_or_channels(shape: tuple[int, ...]) -> None:
    """With or without a batch dimension: the result has none either."""
    x = np.zeros(shape, "float32")
    for y in (fc.max_pool1d(x, 2), fc.avg_pool1d(x, 2), fc.adaptive_max_pool1d(x, 3)):
        assert y.shape == (*shape[:-1], 3)
    y, indices = fc.max_pool1d(x, 2, return_indices=True)
    assert indices.shape == y.shape
    assert fc.max_pool1d_backward(y, x, 2).shape == fc.max_pool1d_backward(y, x, 2, indices=indices).shape == shape
    with pytest.raises(ValueError, match="kernel_size"):
        fc.max_pool1d(x, 7)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.array([2.0, 3.0]), TypeError), ([2], TypeError), ("2", TypeError), (0, ValueError), (-0.0, ValueError),
        (np.nan, ValueError), (np.inf, ValueError), (1e-45, ValueError), (10**400, ValueError),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_wrong_divisors(value: Any, error: type[Exception]) -> None:
    for function in (fc.avg_pool1d, lambda x, *a, **kw: fc.avg_pool1d_backward(x[..., :2], x, *a, **kw)):
        with pytest.raises(error, match=r"divisor_override=.*: allowed is .*a number"):
            function(np.ones((1, 1, 4), "float32"), 2, divisor_override=value)


def test_right_divisors() -> None:
    x = np.ones((1, 1, 4), "float32")
    for value in (2, -2.0, np.float32(2), np.int64(-2), 0.5, 10**30):
        assert fc.avg_pool1d(x, 2, divisor_override=value).tolist() == [[[np.float32(2 / float(value))] * 2]]


def test_indices_of_another_type() -> None:
    x = np.ones((1, 1, 4))
    y, indices = fc.max_pool1d(x, 2, return_indices=True)
    for wrong in (indices.astype("uint64"), indices.astype("int32"), indices.astype(">i8"), indices.tolist()):
        with pytest.raises(TypeError, match=r"indices is of .*: allowed is an array of int64"):
            fc.max_pool1d_backward(y, x, 2, indices=wrong)


def _broadcast(x: np.ndarray) -> np.ndarray:
    return np.broadcast_to(x[:, :1, ..., :1], x.shape)


def _overlapping(x: np.ndarray) -> np.ndarray:
    step = x.itemsize
    return np.lib.stride_tricks.as_strided(x.ravel(), x.shape, [step * (i + 1) for i in range(x.ndim)])


def _off_its_grid(x: np.ndarray) -> np.ndarray:
    """Between elements of which each is a byte longer than its own."""
    grid = np.zeros(x.shape, np.dtype([("a", x.dtype), ("b", "u1")]))
    grid["a"] = x
    return grid["a"]


def _cut_out(x: np.ndarray) -> np.ndarray:
    """Of a larger array: the stride of a dimension of size 1 is that of the next one before, which is no product."""
    cut = np.full([n + (n > 1) for n in x.shape], 7, x.dtype)[tuple(slice(0, n) for n in x.shape)]
    cut[...] = x
    return cut


_VIEWS = {
    **testing.MEMORY_ORDERS, "broadcast": _broadcast, "overlapping": _overlapping, "off its grid": _off_its_grid,
    "cut out": _cut_out, "channels in front": lambda x: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1),
    "every second image": lambda x: np.repeat(x, 2, axis=0)[::2],
}  # fmt: skip


@pytest.mark.parametrize("view", _VIEWS)
def test_views_of_every_kind(pooling_target: Target, view: str) -> None:
    change, rng = _VIEWS[view], np.random.default_rng(24)
    for last in (False, True):
        x = change(layouts.to(testing.integers(rng, (2, 9, 5, 1, 7), "float32"), last))
        layout = layouts.name(last, 3)
        for stem, arguments in (
            ("max_pool3d", ((3, 1, 2), (2, 1, 1))),
            ("max_pool3d", (2, 2, (1, 1, 1))),
            ("sum_pool3d", ((2, 1, 3), 1)),
            ("adaptive_max_pool3d", ((7, 2, 3),)),
        ):
            y = getattr(fc, stem)(x, *arguments, layout=layout)
            dy = change(testing.integers(rng, y.shape, "float32"))
            _against_reference(pooling_target, stem, x, *arguments, layout=layout, dy=dy)


@pytest.mark.parametrize("view", _VIEWS)
def test_views_of_planes(pooling_target: Target, view: str) -> None:
    change, rng = _VIEWS[view], np.random.default_rng(26)
    for last in (False, True):
        x, layout = change(layouts.to(testing.integers(rng, (2, 9, 5, 7), "float32"), last)), layouts.name(last, 2)
        for stem in ("global_max_pool2d", "global_sum_pool2d"):
            _against_reference(pooling_target, stem, x, layout=layout)
        dy = change(testing.integers(rng, fc.max_pool2d(x, 3, 2, 1, layout=layout).shape, "float32"))
        _against_reference(pooling_target, "max_pool2d", x, 3, 2, 1, layout=layout, dy=dy)


@pytest.mark.parametrize("view", ["reversed axes", "negative strides", "cut out", "channels in front"])
def test_results_in_views(pooling_target: Target, view: str) -> None:
    change, rng = _VIEWS[view], np.random.default_rng(25)
    for last in (False, True):
        layout = layouts.name(last, 3)
        x = layouts.to(testing.integers(rng, (3, 9, 6, 1, 7), "float32"), last)
        with fc.use_backend("reference"):
            y, indices = fc.adaptive_max_pool3d(x, (4, 2, 5), layout=layout, return_indices=True)
            dx = fc.adaptive_max_pool3d_backward(y, x, (4, 2, 5), layout=layout)
        with testing.on(pooling_target):
            out = change(testing.nan_filled(y.shape, "float32"))
            testing.assert_exact(fc.adaptive_max_pool3d(x, (4, 2, 5), layout=layout, out=out), y)
            for given_back in (None, indices, change(indices)):
                out = change(testing.nan_filled(x.shape, "float32"))
                backward = fc.adaptive_max_pool3d_backward
                testing.assert_exact(backward(y, x, (4, 2, 5), layout=layout, indices=given_back, out=out), dx)


@st.composite
def _problems(draw: st.DrawFn) -> tuple[str, tuple[int, ...], dict[str, Any]]:
    ndim = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["max", "avg", "sum"]))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    kernel, stride = each(1, 4), each(1, 4)
    dilation = each(1, 3) if kind == "max" else (1,) * ndim
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(d * k + draw(st.integers(0, 6)) for k, d in zip(kernel, dilation, strict=True))
    arguments = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": draw(st.booleans())}
    if kind == "max":
        arguments["dilation"] = dilation
    if kind == "avg":
        arguments["count_include_pad"] = draw(st.booleans())
    return kind, (draw(st.integers(1, 3)), draw(st.integers(1, 19)), *size), arguments


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(problem=_problems(), last=st.booleans(), double=st.booleans())
def _any_problem(target: Target, problem: Any, last: bool, double: bool) -> None:
    kind, shape, arguments = problem
    x = testing.integers(np.random.default_rng(12), shape, "float64")
    _check(target, kind, x, "float64" if double else "float32", last, arguments)


def test_any_problem(pooling_target: Target) -> None:
    _any_problem(pooling_target)


def test_a_backend_without_pooling_says_so_and_the_next_one_takes_it(target: Target) -> None:
    if target in testing.targets(A_POOLING):
        with testing.on(target):
            testing.proven(target, fc.max_pool2d, np.ones((1, 1, 4, 4)), 2)
        return
    with testing.on(target), pytest.raises(NotImplementedError, match=f"{target.backend}.*does not compute this: ."):
        fc.max_pool2d(np.ones((1, 1, 4, 4)), 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_fastconv, "_of_environment", of_fastconv.Settings)
        (choice,) = fc.explain(fc.max_pool2d, np.ones((1, 1, 4, 4)), 2)
    assert choice.kernel.backend != target.backend
