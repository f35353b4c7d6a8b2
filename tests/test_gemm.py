"""Matrix products on every backend and instruction set, forward and backward."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from cases.gemm import PRODUCTS
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from fastconv import testing
from fastconv.testing import Target

_Shape = tuple[int, ...]


def _operands(a: _Shape, b: _Shape, dtype: str, seed: int = 13) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return testing.integers(rng, a, dtype, a[-1]), testing.integers(rng, b, dtype)


@pytest.mark.parametrize(("a_shape", "b_shape"), PRODUCTS, ids=str)
def test_products_are_exact_on_whole_numbers(target: Target, dtype: str, a_shape: _Shape, b_shape: _Shape) -> None:
    a, b = _operands(a_shape, b_shape, dtype)
    expected = a @ b
    with testing.on(target):
        out = testing.nan_filled(expected.shape, dtype)
        assert fc.matmul(a, b, out=out) is out
        if expected.size:
            testing.assert_exact(testing.proven(target, fc.matmul, a, b), expected)
    testing.assert_exact(out, expected)


@pytest.mark.parametrize(("a_shape", "b_shape"), PRODUCTS, ids=str)
def test_gradients_are_adjoint(target: Target, dtype: str, a_shape: _Shape, b_shape: _Shape) -> None:
    a, b = _operands(a_shape, b_shape, dtype)
    y = a @ b
    columns = b_shape[-1] if len(b_shape) > 1 else 1
    dy, bias = testing.integers(np.random.default_rng(14), y.shape, dtype), np.ones(columns, dtype)
    with testing.on(target):
        da, db, dbias = fc.matmul_backward(dy, a, b, bias)
    assert (da.shape, db.shape, dbias.shape) == (a.shape, b.shape, bias.shape)
    assert testing.adjoint_gap(y, dy, (a, da), (b, db)) == 0
    testing.assert_exact(dbias, dy.reshape(prod(dy.shape) // columns if columns else 0, columns).sum(axis=0))


_TYPICAL = [
    ((130, 300), (300, 70)),
    ((7, 33), (33, 17)),
    ((3, 5, 8), (3, 8, 9)),
    ((4, 5, 8), (8, 9)),
    ((1, 60), (60, 33)),
    ((7, 530), (530, 29)),
    ((29, 530), (530, 16)),
]


@pytest.mark.parametrize("order_b", ["contiguous", *testing.MEMORY_ORDERS])
@pytest.mark.parametrize("order_a", ["contiguous", *testing.MEMORY_ORDERS])
@pytest.mark.parametrize(("a_shape", "b_shape"), _TYPICAL, ids=str)
def test_any_strides(target: Target, a_shape: _Shape, b_shape: _Shape, order_a: str, order_b: str) -> None:
    a, b = _operands(a_shape, b_shape, "float32")
    expected = a @ b
    change = {"contiguous": np.copy, **testing.MEMORY_ORDERS}
    with testing.on(target):
        for order_out in testing.MEMORY_ORDERS if order_a == order_b else ["contiguous"]:
            out = change[order_out](testing.nan_filled(expected.shape, "float32"))
            testing.proven(target, fc.matmul, change[order_a](a), change[order_b](b), out=out)
            testing.assert_exact(out, expected, order_out)


@pytest.mark.parametrize(("a_shape", "b_shape"), _TYPICAL, ids=str)
def test_transposed_operands(target: Target, dtype: str, a_shape: _Shape, b_shape: _Shape) -> None:
    a, b = _operands(a_shape, b_shape, dtype)
    a_t, b_t = (np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) for x in (a, b))
    with testing.on(target):
        for left, right in [(a_t, b), (a, b_t), (a_t, b_t)]:
            testing.assert_exact(testing.proven(target, fc.matmul, left, right), a @ b)


@pytest.mark.parametrize("activation", [None, "relu", ("leaky_relu", 0.25), ("clip", -9, 40)], ids=str)
@pytest.mark.parametrize(("a_shape", "b_shape"), _TYPICAL, ids=str)
def test_epilogue(target: Target, dtype: str, a_shape: _Shape, b_shape: _Shape, activation: Any) -> None:
    a, b = _operands(a_shape, b_shape, dtype)
    bias = testing.integers(np.random.default_rng(15), (b_shape[-1],), dtype)
    with testing.on(target):
        y = testing.proven(target, fc.matmul, a, b, bias, activation)
        testing.assert_exact(y, fc.activate(a @ b + bias, activation))
        testing.assert_exact(testing.proven(target, fc.matmul, a, b, None, activation), fc.activate(a @ b, activation))


@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("c_shape", [None, (), (1,), (33,), (14, 1), (14, 33)], ids=str)
def test_gemm_and_its_gradients(target: Target, dtype: str, trans_a: bool, trans_b: bool, c_shape: Any) -> None:
    rng = np.random.default_rng(16)
    a, b = testing.integers(rng, (14, 70), dtype), testing.integers(rng, (70, 33), dtype)
    c = None if c_shape is None else testing.integers(rng, c_shape, dtype)
    own_a, own_b = (np.ascontiguousarray(x.T) if t else x for x, t in ((a, trans_a), (b, trans_b)))
    dy = testing.integers(rng, (14, 33), dtype)
    options = {"alpha": 2, "beta": -0.5, "trans_a": trans_a, "trans_b": trans_b}
    with testing.on(target):
        y = testing.proven(target, fc.gemm, own_a, own_b, c, **options)
        da, db, dc = testing.proven(target, fc.gemm_backward, dy, own_a, own_b, c, **options)
    testing.assert_exact(y, 2 * (a @ b) if c is None else 2 * (a @ b) - c / 2)
    da, db = (x.T if t else x for x, t in ((da, trans_a), (db, trans_b)))
    testing.assert_exact(da, 2 * dy @ b.T)
    testing.assert_exact(db, 2 * a.T @ dy)
    if c is None:
        assert dc is None
    else:
        assert testing.adjoint_gap(np.broadcast_to(c, dy.shape) * -0.5, dy, (c, dc)) == 0
        assert dc.shape == c.shape


@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(14, 1200, 33), (2, 5000, 9), (9, 5000, 2), (3, 1200, 200), (200, 1200, 3), (200, 70, 33)],
    ids=str,
)
def test_an_epilogue_is_applied_once_to_all_of_a_sum(
    target: Target, dtype: str, m: int, k: int, n: int, trans_b: bool
) -> None:
    """Over several blocks of the sum and of the rows, and with few rows or columns, where all is transposed."""
    a, b = _operands((m, k), (k, n), dtype)
    own_b = np.ascontiguousarray(b.T) if trans_b else b
    rng = np.random.default_rng(19)
    c, bias = testing.integers(rng, (m, n), dtype), testing.integers(rng, (n,), dtype)
    with testing.on(target):
        y = testing.proven(target, fc.gemm, a, own_b, c, 2, -0.5, trans_b=trans_b)
        z = testing.proven(target, fc.matmul, a, own_b.T if trans_b else b, bias, "relu")
        smooth = testing.proven(target, fc.matmul, a, own_b.T if trans_b else b, bias, "tanh")
    testing.assert_exact(y, 2 * (a @ b) - c / 2)
    testing.assert_exact(z, np.maximum(a @ b + bias, 0))
    testing.assert_close(smooth, np.tanh(a @ b + bias), 4 * np.finfo(dtype).eps, "tanh")


def test_gradients_of_what_is_broadcast_are_summed_accurately(dtype: str) -> None:
    rng = np.random.default_rng(21)
    dy, w, x = (rng.random(s).astype(dtype) for s in ((20_000, 3), (3, 2), (20_000, 2)))
    exact = dy.astype(np.longdouble).sum(0)
    # Rounded once, and what additions in float64 round.
    bound = np.finfo(dtype).eps / 2 * exact + 300 * np.finfo("float64").eps * exact
    with fc.use_backend("reference"):
        sums = {
            "linear": fc.linear_backward(dy, x, w, np.zeros(3, dtype))[2],
            "linear, batches": fc.linear_backward(dy.reshape(20, 50, 20, 3), x.reshape(20, 50, 20, 2), w, w[:, 0])[2],
            "matmul": fc.matmul_backward(dy, x, w.T, w[:, 0])[2],
            "gemm": fc.gemm_backward(dy, x, w, np.zeros((1, 3), dtype), trans_b=True)[2][0],
            "batches": fc.matmul_backward(dy[:, None], np.ones((1, 1, 1), dtype), np.ones((20_000, 1, 3), dtype))[0],
        }
    for name, found in sums.items():
        if name == "batches":  # of which each is a sum of three
            testing.assert_close(found.reshape(()), exact.sum(), 2 * np.finfo(dtype).eps * exact.sum(), name)
        else:
            testing.assert_close(found, exact, bound, name)


@pytest.mark.skipif(int(np.__version__.split(".")[0]) < 2, reason="arrays of this NumPy have at most 32 axes")
def test_arrays_of_as_many_axes_as_there_can_be() -> None:
    x, w = np.full((1,) * 40, 2, "float32"), np.full((1, 1), 3, "float32")
    with fc.use_backend("reference"):
        dx, dw, db = fc.linear_backward(x, x, w, w[0])
        y = fc.matmul(x, x)
        deep = fc.matmul(np.ones((1,) * 64), np.ones((1,) * 64))
    assert (dx.shape, dx.item(), dw.tolist(), db.tolist()) == (x.shape, 6, [[4]], [2])
    assert (y.shape, y.item(), deep.shape) == (x.shape, 4, (1,) * 64)


def test_gemm_without_beta_does_not_read_c(target: Target, dtype: str) -> None:
    a, b = _operands((9, 8), (8, 17), dtype)
    with testing.on(target):
        y = testing.proven(target, fc.gemm, a, b, np.full((9, 17), np.nan, dtype), beta=0)
    testing.assert_exact(y, a @ b)


@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_linear_and_its_gradients(target: Target, dtype: str, batch: _Shape, activation: Any) -> None:
    rng = np.random.default_rng(17)
    x, w, b = (testing.integers(rng, s, dtype) for s in ((*batch, 40), (33, 40), (33,)))
    before = x @ w.T + b
    dy = testing.integers(rng, before.shape, dtype)
    with testing.on(target):
        y = fc.linear(x, w, b, activation=activation)
        dx, dw, db = fc.linear_backward(dy, x, w, b, activation=activation)
        assert fc.linear_backward(dy, x, w)[2] is None
    masked = dy if activation is None else dy * (before > 0)
    rows = masked.reshape(prod(batch), 33)
    testing.assert_exact(y, fc.activate(before, activation))
    testing.assert_exact(dx, masked @ w)
    testing.assert_exact(dw, rows.T @ x.reshape(prod(batch), 40))
    testing.assert_exact(db, rows.sum(axis=0))


@pytest.mark.parametrize(("a_shape", "b_shape"), [*_TYPICAL, ((67, 1100), (1100, 35)), ((3, 2000), (2000, 3))], ids=str)
def test_real_data_within_the_bound_of_rounding(target: Target, dtype: str, a_shape: _Shape, b_shape: _Shape) -> None:
    rng = np.random.default_rng(18)
    a, b = (rng.standard_normal(s).astype(dtype) for s in (a_shape, b_shape))
    with testing.on(target):
        y = testing.proven(target, fc.matmul, a, b)
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    bound = testing.error_bound(np.abs(a).astype("float64") @ np.abs(b).astype("float64"), a_shape[-1], dtype)
    testing.assert_close(y, exact, bound)
    assert testing.relative_l2(y, exact.astype("float64")) < (2e-6 if dtype == "float32" else 4e-15)


def test_nan_stays_in_its_row_and_column(target: Target, dtype: str) -> None:
    a, b = _operands((20, 30), (30, 40), dtype)
    a[3, 7] = np.nan
    with testing.on(target):
        y = testing.proven(target, fc.matmul, a, b)
    assert np.isnan(y[3]).all()
    assert not np.isnan(np.delete(y, 3, axis=0)).any()


@pytest.mark.parametrize(("a_shape", "b_shape"), _TYPICAL, ids=str)
def test_nothing_is_read_or_written_outside(target: Target, dtype: str, a_shape: _Shape, b_shape: _Shape) -> None:
    a, b = _operands(a_shape, b_shape, dtype)
    watched = [testing.surrounded(x) for x in (a, b, a @ b)]
    (wa, _), (wb, _), (wy, _) = watched
    wy.fill(np.nan)
    with testing.on(target):
        fc.matmul(wa, wb, out=wy)
    testing.assert_exact(wy, a @ b)
    for _, check in watched:
        check()


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    m=st.integers(1, 40), n=st.integers(1, 40), k=st.integers(1, 90),
    batch=st.sampled_from([(), (3,), (2, 2)]), flip=st.booleans(), double=st.booleans(),
)  # fmt: skip
def _any_product(target: Target, m: int, n: int, k: int, batch: _Shape, flip: bool, double: bool) -> None:
    a, b = _operands((*batch, m, k), (*batch[1:], k, n), "float64" if double else "float32")
    if flip:
        a = np.asfortranarray(a)
    with testing.on(target):
        testing.assert_exact(testing.proven(target, fc.matmul, a, b), a @ b)


def test_any_product(target: Target) -> None:
    _any_product(target)
