"""Bad input: each gets its documented result, or an error that names the argument, the value and what is allowed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import testing
from fastconv.testing import Target

X = np.ones((2, 4, 6, 7), np.float32)
W = np.ones((8, 4, 3, 3), np.float32)
WT = np.ones((4, 8, 3, 3), np.float32)
B = np.ones(8, np.float32)
Y = np.ones((2, 8, 4, 5), np.float32)
A = np.ones((5, 6), np.float32)
C = np.ones((6, 7), np.float32)
READ_ONLY = np.ones((2, 8, 4, 5), np.float32)
READ_ONLY.flags.writeable = False
HUGE = np.broadcast_to(np.float32(1), (1, 1, 50_000, 50_000))
MEMORY = np.zeros(400, np.float32)

#: What is asked for, the error, and what its message must hold: the argument, the value, what is allowed.
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], tuple[str, ...]]] = {
    # New arrays
    "empty of a negative size": (lambda: fc.empty((3, -1)), ValueError, ("shape=(3, -1)", "not negative")),
    "empty of a string": (lambda: fc.empty(("a",)), ValueError, ("shape=('a',)", "not negative")),
    "empty of a fraction": (lambda: fc.empty(2.5), TypeError, ("shape=2.5", "ints")),
    "empty of integers": (lambda: fc.empty(3, "int32"), TypeError, ("dtype is int32", "float32 or float64")),
    # Ranks
    "x of rank 2": (lambda: fc.conv2d(X[0, 0], W), ValueError, ("x has shape (6, 7)", "4 dimensions", "or 3 without")),
    "x of rank 5": (lambda: fc.conv2d(X[None], W), ValueError, ("x has shape (1, 2, 4, 6, 7)", "4 dimensions")),
    "w of rank 3": (lambda: fc.conv2d(X, W[0]), ValueError, ("w has shape (4, 3, 3)", "4 dimensions")),
    "b of rank 2": (lambda: fc.conv2d(X, W, B[None]), ValueError, ("b has shape (1, 8)", "(8,)")),
    "pooling of rank 2": (lambda: fc.max_pool2d(A, 2), ValueError, ("x has shape (5, 6)", "4 dimensions", "3 without")),
    "transposed x of rank 2": (lambda: fc.conv_transpose2d(A, WT), ValueError, ("x has shape (5, 6)", "4 dimensions")),
    "bias gradient of rank 2": (lambda: fc.conv_backward_bias(A), ValueError, ("dy has shape (5, 6)", "3 to 5")),
    "matmul of a number": (lambda: fc.matmul(A, np.array(1, np.float32)), ValueError, ("b has shape ()",)),
    "gemm of rank 3": (lambda: fc.gemm(A[None], C), ValueError, ("a has shape (1, 5, 6)", "2 dimensions")),
    "linear with w of rank 1": (lambda: fc.linear(A, C[:, 0]), ValueError, ("w has shape (6,)", "(out, in)")),
    # Types
    "integers": (lambda: fc.conv2d(X.astype(int), W), TypeError, ("x has dtype int64", "float32 or float64")),
    "integer weights": (lambda: fc.conv2d(X, W.astype("int8")), TypeError, ("w has dtype int8", "float32")),
    "objects": (lambda: fc.conv2d(X.astype(object), W), TypeError, ("x has dtype object", "float32 or float64")),
    "complex": (lambda: fc.matmul(A.astype(complex), C), TypeError, ("a has dtype complex128", "float32")),
    "half": (lambda: fc.max_pool2d(X.astype("float16"), 2), TypeError, ("x has dtype float16", "float32")),
    "bytes swapped": (lambda: fc.conv2d(X.astype(">f4"), W), TypeError, ("x has dtype >f4", "float32")),
    "strings": (lambda: fc.avg_pool2d(X.astype(str), 2), TypeError, ("x has dtype <U", "float32")),
    "a list": (lambda: fc.conv2d(X.tolist(), W), TypeError, ("x is a list", "NumPy array")),
    "None": (lambda: fc.conv2d(X, None), TypeError, ("w is a NoneType", "NumPy array")),
    "mixed types": (lambda: fc.conv2d(X, W.astype("float64")), TypeError, ("w has dtype float64", "float32")),
    "mixed bias": (lambda: fc.conv2d(X, W, B.astype("float64")), TypeError, ("b has dtype float64", "float32")),
    "mixed product": (lambda: fc.matmul(A, C.astype("float64")), TypeError, ("b has dtype float64", "float32")),
    "mixed gradient": (
        lambda: fc.max_pool2d_backward(X.astype("float64"), X, 1), TypeError, ("dy has dtype float64", "float32"),
    ),
    "mixed residual": (
        lambda: fc.conv2d(X, W, residual=Y.astype("float64")), TypeError, ("residual has dtype float64", "float32"),
    ),
    # Channels and groups
    "channels": (lambda: fc.conv2d(X, W[:, :3]), ValueError, ("x of shape (2, 4, 6, 7)", "4 channels", "takes 3")),
    "channels last": (lambda: fc.conv2d(X, W, layout="NHWC"), ValueError, ("7 channels", "takes 4")),
    "groups of the input": (lambda: fc.conv2d(X, W, groups=2), ValueError, ("groups=2", "4 channels", "takes 8")),
    "groups of the output": (lambda: fc.conv2d(X, W[:7, :2], groups=2), ValueError, ("groups=2", "7 output channels")),
    "groups of 0": (lambda: fc.conv2d(X, W, groups=0), ValueError, ("groups=0", ">= 1")),
    "groups of -1": (lambda: fc.conv2d(X, W, groups=-1), ValueError, ("groups=-1", ">= 1")),
    "groups of 1.5": (lambda: fc.conv2d(X, W, groups=1.5), TypeError, ("groups=1.5", "int")),
    "transposed channels": (lambda: fc.conv_transpose2d(X, W), ValueError, ("4 channels", "takes 8")),
    "transposed groups": (lambda: fc.conv_transpose2d(X, WT, groups=3), ValueError, ("groups=3", "4 input channels")),
    "sizes of a product": (lambda: fc.matmul(A, A), ValueError, ("a of shape (5, 6)", "b of shape (5, 6)", "6 and 5")),
    "batches of a product": (
        lambda: fc.matmul(np.ones((2, 3, 4)), np.ones((3, 4, 5))), ValueError, ("(2, 3, 4)", "(3, 4, 5)", "broadcast"),
    ),
    "bias of a product": (lambda: fc.matmul(A, C, B), ValueError, ("bias has shape (8,)", "(7,)")),
    "linear features": (lambda: fc.linear(A, C), ValueError, ("x has shape (5, 6)", "(..., 7)")),
    "linear bias": (lambda: fc.linear(A, C.T.copy(), B), ValueError, ("b has shape (8,)", "(7,)")),
    "c of gemm": (lambda: fc.gemm(A, C, B), ValueError, ("c has shape (8,)", "(5, 7)")),
    "alpha of gemm": (lambda: fc.gemm(A, C, alpha="2x"), TypeError, ("alpha='2x'", "number")),
    # Strides, kernels, pads
    "stride 0": (lambda: fc.conv2d(X, W, stride=0), ValueError, ("stride=0", ">= 1")),
    "stride -1": (lambda: fc.conv2d(X, W, stride=(1, -1)), ValueError, ("stride=(1, -1)", ">= 1")),
    "stride 1.5": (lambda: fc.conv2d(X, W, stride=1.5), TypeError, ("stride=1.5", "int")),
    "3 strides": (lambda: fc.conv2d(X, W, stride=(1, 1, 1)), ValueError, ("stride=(1, 1, 1)", "2 of them")),
    "a stride in words": (lambda: fc.conv2d(X, W, stride="2"), TypeError, ("stride='2'", "int")),
    "pool stride 0": (lambda: fc.max_pool2d(X, 2, 0), ValueError, ("stride=0", ">= 1")),
    "dilation 0": (lambda: fc.conv2d(X, W, dilation=0), ValueError, ("dilation=0", ">= 1")),
    "kernel over input": (lambda: fc.conv2d(X[..., :2, :], W), ValueError, ("kernel size (3, 3)", "(2, 7)")),
    "kernel over padded input": (
        lambda: fc.conv2d(X, W, padding=1, dilation=4), ValueError, ("(3, 3)", "(4, 4)", "(6, 7)", "((1, 1), (1, 1))"),
    ),
    "cropped to nothing": (lambda: fc.conv2d(X, W, padding=[(-3, -3)] * 2), ValueError, ("kernel size", "(-3, -3)")),
    "kernel of size 0": (lambda: fc.conv2d(X, W[..., :0]), ValueError, ("w has shape (8, 4, 3, 0)", ">= 1")),
    "pool kernel 0": (lambda: fc.avg_pool2d(X, 0), ValueError, ("kernel_size=0", ">= 1")),
    "pool kernel over input": (lambda: fc.max_pool2d(X, 8), ValueError, ("kernel_size=8", "(6, 7)")),
    "negative pad": (lambda: fc.conv2d(X, W, padding=-1), ValueError, ("padding=-1", ">= 0")),
    "pad in words": (lambda: fc.conv2d(X, W, padding="full"), ValueError, ("padding='full'", "'same'", "'valid'")),
    "causal in 2-D": (lambda: fc.conv2d(X, W, padding="causal"), ValueError, ("padding='causal'", "'same'")),
    "3 pads": (lambda: fc.conv2d(X, W, padding=(1, 1, 1)), ValueError, ("padding=(1, 1, 1)", "2 of them")),
    "pad of 0.5": (lambda: fc.conv2d(X, W, padding=0.5), TypeError, ("padding=0.5", "ints")),
    "pool pad too large": (lambda: fc.max_pool2d(X, 3, padding=2), ValueError, ("padding=2", "0 to 1", "half")),
    "pool pad negative": (lambda: fc.max_pool2d(X, 3, padding=[(-1, 0)] * 2), ValueError, ("padding=", "0 to 1")),
    "window in the padding": (
        lambda: fc.max_pool1d(X[0, :, :, :1], 2, padding=2, dilation=3), ValueError, ("padding=2", "padding alone"),
    ),
    "divisor 0": (lambda: fc.avg_pool2d(X, 2, divisor_override=0), ValueError, ("divisor_override=0", "other than 0")),
    "pooling of no pixels": (lambda: fc.global_avg_pool2d(X[..., :0]), ValueError, ("x has", "(6, 0)", ">= 1")),
    "output_size 0": (lambda: fc.adaptive_avg_pool2d(X, 0), ValueError, ("output_size=0", ">= 1")),
    "3 outputs": (lambda: fc.adaptive_max_pool2d(X, (1, 2, 3)), ValueError, ("output_size=(1, 2, 3)", "2 of them")),
    "output_padding": (lambda: fc.conv_transpose2d(X, WT, output_padding=1), ValueError, ("output_padding=1",)),
    "transposed same": (lambda: fc.conv_transpose2d(X, WT, padding="same"), ValueError, ("padding='same'", "'valid'")),
    "transposed pad": (lambda: fc.conv_transpose2d(X, WT, padding=9), ValueError, ("padding=9", ">= 1")),
    "layout": (lambda: fc.conv2d(X, W, layout="NWHC"), ValueError, ("layout='NWHC'", "'NCHW'", "'NHWC'")),
    "layout of another rank": (lambda: fc.max_pool2d(X, 2, layout="NDHWC"), ValueError, ("layout='NDHWC'",)),
    "activation": (lambda: fc.conv2d(X, W, activation="rule"), ValueError, ("activation='rule'", "relu")),
    "activation parameters": (lambda: fc.matmul(A, C, None, ("relu", 1)), ValueError, ("activation=('relu', 1)",)),
    "activation 3": (lambda: fc.conv2d(X, W, activation=3), TypeError, ("activation=3", "relu")),
    # Shapes that must fit others
    "residual": (lambda: fc.conv2d(X, W, residual=X), ValueError, ("residual has shape (2, 4, 6, 7)", "(2, 8, 4, 5)")),
    "dy": (lambda: fc.conv2d_backward_input(X, W, X.shape), ValueError, ("dy has shape (2, 4, 6, 7)", "(2, 8, 4, 5)")),
    "dy of the weights": (
        lambda: fc.conv2d_backward_weight(X, X, W.shape), ValueError, ("dy has shape", "(2, 8, 4, 5)"),
    ),
    "dy of pooling": (lambda: fc.max_pool2d_backward(X, X, 2), ValueError, ("dy has shape", "(2, 4, 3, 3)")),
    "dy of a product": (lambda: fc.matmul_backward(A, A, C), ValueError, ("dy has shape (5, 6)", "(5, 7)")),
    "dy of gemm": (lambda: fc.gemm_backward(A, A, C), ValueError, ("dy has shape (5, 6)", "(5, 7)")),
    "input_shape": (lambda: fc.conv2d_backward_input(Y, W, 7), TypeError, ("input_shape=7", "tuple")),
    "input_shape of rank 2": (lambda: fc.conv2d_backward_input(Y, W, (6, 7)), ValueError, ("has shape (6, 7)",)),
    "weight_shape": (lambda: fc.conv2d_backward_weight(X, Y, (8, 4, 3)), ValueError, ("weight_shape=(8, 4, 3)",)),
    "indices of floats": (
        lambda: fc.max_pool2d_backward(X, X, 1, indices=X), TypeError, ("indices is of float32", "int64"),
    ),
    "indices too small": (
        lambda: fc.max_pool2d_backward(X, X, 1, indices=np.full(X.shape, -1)), ValueError, ("indices", "-1", "0 to 41"),
    ),
    "indices too large": (
        lambda: fc.max_pool2d_backward(X, X, 1, indices=np.full(X.shape, 42)), ValueError, ("indices", "42", "0 to 41"),
    ),
    "shape of indices": (
        lambda: fc.max_pool2d_backward(X, X, 1, indices=np.zeros(3, np.int64)), ValueError, ("indices has shape (3,)",),
    ),
    # out
    "out of another shape": (lambda: fc.conv2d(X, W, out=X), ValueError, ("out has shape", "(2, 8, 4, 5)")),
    "out of another layout": (
        lambda: fc.conv2d(X, W, out=np.ones((2, 4, 5, 8), "f4")), ValueError, ("out has shape (2, 4, 5, 8)", "(2, 8,"),
    ),
    "out of another type": (lambda: fc.conv2d(X, W, out=Y.astype("f8")), TypeError, ("out has dtype float64",)),
    "out a list": (lambda: fc.conv2d(X, W, out=[]), TypeError, ("out is a list", "NumPy array")),
    "out read-only": (lambda: fc.conv2d(X, W, out=READ_ONLY), ValueError, ("out is read-only", "writeable")),
    "out over x": (
        lambda: fc.max_pool2d(MEMORY[:336].reshape(X.shape), 1, out=MEMORY[4:340].reshape(X.shape)),
        ValueError, ("out overlaps an input",),
    ),
    "out over w": (
        lambda: fc.conv1d(np.ones((1, 4, 9), "f4"), MEMORY[:32].reshape(4, 4, 2), out=MEMORY[16:48].reshape(1, 4, 8)),
        ValueError, ("out overlaps an input",),
    ),
    "out over itself": (
        lambda: fc.conv2d(X, W, out=np.lib.stride_tricks.as_strided(MEMORY, Y.shape, (0, 4, 16, 64))),
        ValueError, ("out has strides", "overlap"),
    ),
    "out over itself by strides": (
        lambda: fc.conv1d(
            np.ones((1, 1, 9), "f4"), np.ones((3, 1, 1), "f4"),
            out=np.lib.stride_tricks.as_strided(MEMORY, (1, 3, 9), (108, 4, 8)),
        ),
        ValueError, ("out has strides", "overlap"),
    ),
    "out of a product over b": (lambda: fc.matmul(C.T, C, out=C[:6, :6]), ValueError, ("out",)),
    "out of pooling": (lambda: fc.avg_pool2d(X, 2, out=X), ValueError, ("out has shape", "(2, 4, 3, 3)")),
    # Sizes
    "x over 2^31": (
        lambda: fc.conv2d(HUGE, W[:1, :1, :1, :1]), ValueError, ("x of shape", "2500000000 elements", "2147483647"),
    ),
    "result over 2^31": (
        lambda: fc.conv2d(HUGE[..., :25_000], np.ones((8, 1, 1, 1), "f4")), ValueError, ("the result", "2147483647"),
    ),
    "pooling over 2^31": (lambda: fc.max_pool2d(HUGE, 2), ValueError, ("x of shape", "2147483647")),
    "product over 2^31": (
        lambda: fc.matmul(HUGE[0, 0, :, :1], HUGE[0, 0, :1]), ValueError, ("the result", "(50000, 50000)"),
    ),
    "gemm over 2^31": (lambda: fc.gemm(HUGE[0, 0, :, :1], HUGE[0, 0, :1]), ValueError, ("the result", "2147483647")),
    "padded over 2^31": (
        lambda: fc.conv2d(X[:1, :1], W[:1, :1], padding=50_000), ValueError, ("the result", "2147483647"),
    ),
    # Plans
    "plan, x_shape": (lambda: fc.plan_conv2d(4, W), TypeError, ("x_shape=4", "tuple")),
    "plan, rank": (lambda: fc.plan_conv2d((6, 7), W), ValueError, ("has shape (6, 7)", "4 dimensions")),
    "plan, channels": (lambda: fc.plan_conv2d((2, 3, 6, 7), W), ValueError, ("3 channels", "takes 4")),
    "plan, stride": (lambda: fc.plan_conv2d(X.shape, W, stride=0), ValueError, ("stride=0",)),
    "plan, w": (lambda: fc.plan_conv2d(X.shape, W.astype(int)), TypeError, ("w has dtype int64",)),
    "planned x": (lambda: fc.plan_conv2d(X.shape, W)(X[:1]), ValueError, ("x has shape (1, 4, 6, 7)", "(2, 4, 6, 7)")),
    "planned type": (lambda: fc.plan_conv2d(X.shape, W)(X.astype("f8")), TypeError, ("x has dtype float64", "float32")),
    "planned out": (lambda: fc.plan_conv2d(X.shape, W)(X, out=X), ValueError, ("out has shape", "(2, 8, 4, 5)")),
    "residual not planned": (lambda: fc.plan_conv2d(X.shape, W)(X, Y), ValueError, ("residual", "residual=False")),
    "residual planned": (
        lambda: fc.plan_conv2d(X.shape, W, residual=True)(X), ValueError, ("residual", "residual=True"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_argument_the_value_and_what_is_allowed(name: str) -> None:
    function, error, fragments = REFUSED[name]
    with pytest.raises(error) as caught:
        function()
    assert type(caught.value) is error
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_refused_before_any_work() -> None:
    out = testing.nan_filled(Y.shape, "float32")
    ran = []
    for name in ("b of rank 2", "stride 0", "mixed residual"):
        with pytest.raises((TypeError, ValueError)):
            ran += fc.explain(REFUSED[name][0])
    with pytest.raises(ValueError, match="residual"):
        fc.conv2d(X, W, residual=X, out=out)
    assert np.isnan(out).all()
    assert not ran


# ------------------------------------------------------------------------------------------------- empty problems


def test_an_empty_batch_gives_an_empty_result(target: Target) -> None:
    none = X[:0]
    with testing.on(target):
        assert fc.conv2d(none, W, B, activation="relu").shape == (0, 8, 4, 5)
        assert fc.conv_transpose2d(none, WT).shape == (0, 8, 8, 9)
        dx, dw, db, _ = fc.conv2d_backward(Y[:0], none, W, B)
        assert dx.shape == none.shape
        testing.assert_exact(dw, np.zeros_like(W))
        testing.assert_exact(db, np.zeros_like(B))
        assert fc.max_pool2d(none, 2, return_indices=True)[1].shape == (0, 4, 3, 3)
        assert fc.avg_pool2d_backward(none[..., :3, :3], none, 2).shape == none.shape
        assert fc.matmul(A[:0], C).shape == (0, 7)
        testing.assert_exact(fc.matmul_backward(np.ones((0, 7), "f4"), A[:0], C)[1], np.zeros_like(C))
        assert fc.plan_conv2d(none.shape, W)(none).shape == (0, 8, 4, 5)


def test_no_channels(target: Target) -> None:
    with testing.on(target):
        y = fc.conv2d(X[:, :0], W[:, :0], B, activation=("clip", 0, 0.5))
        testing.assert_exact(y, np.full((2, 8, 4, 5), 0.5, np.float32))
        assert fc.conv2d(X, W[:0]).shape == (2, 0, 4, 5)
        testing.assert_exact(fc.conv2d_backward_input(Y[:, :0], W[:0], X.shape), np.zeros_like(X))
        testing.assert_exact(fc.conv_transpose2d(X[:, :0], WT[:0], B), np.ones((2, 8, 8, 9), np.float32))
        assert fc.max_pool2d(X[:, :0], 2).shape == (2, 0, 3, 3)


def test_nothing_but_padding(target: Target) -> None:
    with testing.on(target):
        y = fc.conv2d(X[..., :0], W, B, padding=2)
        testing.assert_exact(y, np.ones((2, 8, 8, 2), np.float32))
        testing.assert_exact(fc.conv2d_backward_weight(X[..., :0], y, W.shape, padding=2), np.zeros_like(W))


def test_a_sum_of_nothing_is_the_bias(target: Target) -> None:
    with testing.on(target):
        y = fc.matmul(A[:, :0], C[:0], C[0] * 3, "relu")
        testing.assert_exact(y, np.full((5, 7), 3, np.float32))
        testing.assert_exact(fc.gemm(A[:, :0], C[:0], C[:1], beta=2), np.full((5, 7), 2, np.float32))


# ------------------------------------------------------------------------------------------------- accepted input


def test_numpy_integers_lists_and_subclasses_are_accepted() -> None:
    expected = fc.conv2d(X, W, stride=2, padding=1)
    testing.assert_exact(fc.conv2d(X, W, stride=np.int64(2), padding=[1, 1], dilation=np.array([1, 1])), expected)
    testing.assert_exact(fc.conv2d(X, W, None, (2, 2), [[1, 1], (1, 1)], groups=np.uint8(1)), expected)
    testing.assert_exact(fc.conv2d(np.ma.array(X).view(np.ndarray), W, stride=2, padding=1), expected)
    mapped = X.view(np.recarray)
    result = fc.conv2d(mapped, W, stride=2, padding=1)
    assert type(result) is np.ndarray
    testing.assert_exact(result, expected)


def test_out_may_lie_between_the_elements_of_an_input(pooling_target: Target) -> None:
    memory = np.zeros((2, 4, 6, 14), np.float32)
    memory[..., ::2] = X
    with testing.on(pooling_target):
        y = fc.max_pool2d(memory[..., ::2], 1, out=memory[..., 1::2])
    testing.assert_exact(y, X)


def test_results_begin_at_a_cache_line() -> None:
    x, w = fc.empty((2, 3, 40, 41)), fc.empty((8, 3, 3, 3))
    x[...], w[...] = 1, 1
    y = fc.conv2d(x, w)
    arrays = {
        "empty": x,
        "forward": y,
        "plan": fc.plan_conv2d(x.shape, w)(x),
        "gradient of x": fc.conv2d_backward_input(y, w, x.shape),
        "pooling": fc.max_pool2d(x, 2, 1),
        "gradient of pooling": fc.max_pool2d_backward(fc.max_pool2d(x, 2, 1), x, 2, 1),
        "product": fc.matmul(np.ones((70, 80), np.float32), np.ones((80, 90), np.float32)),
        "gemm": fc.gemm(np.ones((70, 80), np.float32), np.ones((80, 90), np.float32)),
    }
    assert {name: a.ctypes.data % 64 for name, a in arrays.items()} == dict.fromkeys(arrays, 0)
    assert all(a.flags.c_contiguous and a.flags.writeable for a in arrays.values())


@pytest.mark.parametrize("shape", [(), 7, (0, 5), (3, 4), [64, 64, 3]])
def test_empty_is_what_numpy_makes(shape: Any) -> None:
    for kind in ("float32", np.float64):
        ours, theirs = fc.empty(shape, kind), np.empty(shape, kind)
        assert (ours.shape, ours.dtype, ours.strides) == (theirs.shape, theirs.dtype, theirs.strides)


def test_inputs_are_left_as_they_are(target: Target) -> None:
    arrays = [a.copy() for a in (X, W, B, Y, A, C)]
    for a in arrays:
        a.flags.writeable = False
    x, w, b, y, a, c = arrays
    with testing.on(target):
        fc.conv2d(x, w, b, residual=y, activation="relu")
        fc.conv2d_backward(y, x, w, b, residual=y, activation="relu")
        fc.matmul_backward(fc.matmul(a, c), a, c)
    for array, before in zip(arrays, (X, W, B, Y, A, C), strict=True):
        testing.assert_exact(array, before)


def test_pooling_leaves_its_inputs_as_they_are(pooling_target: Target) -> None:
    x = X.copy()
    x.flags.writeable = False
    with testing.on(pooling_target):
        y, indices = fc.max_pool2d(x, 2, return_indices=True)
        y.flags.writeable = indices.flags.writeable = False
        fc.max_pool2d_backward(y, x, 2, indices=indices)
        fc.avg_pool2d_backward(fc.avg_pool2d(x, 2), x, 2)
    testing.assert_exact(x, X)


_WITHOUT_MEMORY = """
import resource, sys
import numpy as np
import fastconv as fc
from fastconv import testing
backend, isa = sys.argv[1:]


def leave(room):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, resource.RLIM_INFINITY))


big = np.broadcast_to(np.float32(1), (1, 1, 20_000, 20_000))
x, w = np.ones((4, 64, 56, 56), np.float32), np.ones((64, 64, 3, 3), np.float32)
with testing.on(testing.Target(backend, isa or None)), fc.threads(1):
    y = fc.conv2d(x, w, padding=1)
    leave(1 << 24)
    for call in (lambda: fc.max_pool2d(big, 1), lambda: fc.conv2d(big, w[:1, :1])):
        try:
            call()
        except MemoryError:
            print("refused")
    leave(1 << 17)
    try:
        fc.conv2d(x, w, padding=1, out=y)
        print("ran", round(float(y[0, 0, 5, 5])))
    except MemoryError:
        print("ran 576")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on memory is Linux's")
def test_too_little_memory_is_a_memory_error(target: Target) -> None:
    arguments = [sys.executable, "-c", _WITHOUT_MEMORY, target.backend, target.isa or ""]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n") == ["refused", "refused", "ran 576", ""], done.stderr
