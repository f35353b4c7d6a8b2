"""Pooling on every backend and instruction set, forward and backward."""

from __future__ import annotations

from typing import Any

import layouts
import numpy as np
import pytest
from cases.pool import A_POOLING, POOLS, Pool
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from fastconv import dispatch, testing
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
    # One alone, then all of them.
    others = indices.copy()
    others.flat[1234] = 89
    for moved in (others, rng.permuted(indices)):
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
    own = layouts.to(x.astype(dtype), last)
    for arguments in (
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "stride": 1, "dilation": 2},
        {"kernel_size": 9, "stride": 1, "padding": 4},
    ):
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
        patch.setattr(dispatch, "_of_environment", dispatch.Settings)
        (choice,) = fc.explain(fc.max_pool2d, np.ones((1, 1, 4, 4)), 2)
    assert choice.kernel.backend != target.backend
