"""Bad input: each gets its documented result, or an error that names the argument, the value and what is allowed."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import _threads, testing
from fastconv.arguments import shown
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
    "empty of no type": (lambda: fc.empty(3, None), TypeError, ("dtype is None", "float32 or float64")),
    "empty of an unknown type": (lambda: fc.empty(3, "f3"), TypeError, ("dtype is 'f3'", "float32 or float64")),
    "empty of 2^31": (lambda: fc.empty((2, 2**30)), ValueError, ("shape", "2147483648 elements", "2147483647")),
    "empty, but for a size of 2^64": (lambda: fc.empty((0, 2**64)), ValueError, ("shape", "2147483647")),
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
    "activation of integers": (
        lambda: fc.activate(np.array([-4, -1, 0, 1, 2, 4]), "sigmoid"), TypeError, ("x has dtype int64", "float32"),
    ),
    "activation of a list": (lambda: fc.activate([1.0], "tanh"), TypeError, ("x is a list", "NumPy array")),
    "gradient of an activation of integers": (
        lambda: fc.activate_backward(X.astype(int), X, "silu"), TypeError, ("dy has dtype int64", "float32"),
    ),
    "gradient of an activation of a number": (
        lambda: fc.activate_backward(X, 1.0, "relu"), TypeError, ("x is a float", "NumPy array"),
    ),
    "gradient of an activation of another shape": (
        lambda: fc.activate_backward(X[:1], X, "relu"), ValueError, ("dy has shape (1, 4, 6, 7)", "(2, 4, 6, 7)"),
    ),
    "masked": (lambda: fc.conv2d(np.ma.array(X, mask=X > 0), W), TypeError, ("x is a masked array", "filled()")),
    "masked, but nothing": (lambda: fc.matmul(A, np.ma.array(C)), TypeError, ("b is a masked array", "without a mask")),
    "masked out": (lambda: fc.conv2d(X, W, out=np.ma.array(Y)), TypeError, ("out is a masked array", "without a mask")),
    "arithmetic of its own": (
        lambda: fc.conv2d(X.view(Measured), W), TypeError, ("x is a Measured", "arithmetic of its own", "NumPy array"),
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
    "alpha beyond float32": (lambda: fc.gemm(A, C, alpha=1e39), ValueError, ("alpha=1e+39", "float32 can hold")),
    "beta of a gradient": (lambda: fc.gemm_backward(A @ C, A, C, beta="2"), TypeError, ("beta='2'", "number")),
    "trans_a of gemm": (lambda: fc.gemm(A, C, trans_a="no"), TypeError, ("trans_a='no'", "True or False")),
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
    "layout a list": (lambda: fc.conv2d(X, W, layout=["NCHW"]), ValueError, ("layout=['NCHW']", "'NHWC'")),
    "a stride that is true": (lambda: fc.conv2d(X, W, None, True), TypeError, ("stride=True", "ints")),
    "a stride of 64 bits": (lambda: fc.conv2d(X, W, stride=2**63), ValueError, ("stride=9223372036854775808", "2^63")),
    "layout of another rank": (lambda: fc.max_pool2d(X, 2, layout="NDHWC"), ValueError, ("layout='NDHWC'",)),
    "activation": (lambda: fc.conv2d(X, W, activation="rule"), ValueError, ("activation='rule'", "relu")),
    "activation parameters": (lambda: fc.matmul(A, C, None, ("relu", 1)), ValueError, ("activation=('relu', 1)",)),
    "activation of NaN": (
        lambda: fc.conv2d(X, W, activation=("clip", 0, np.nan)), ValueError, ("activation=('clip', 0, nan)", "NaN"),
    ),
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
    "out that is x": (lambda: fc.max_pool2d(X, 1, out=X), ValueError, ("out overlaps an input",)),
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
    "out over itself, backwards": (
        lambda: fc.conv1d(
            np.ones((1, 1, 9), "f4"), np.ones((3, 1, 1), "f4"),
            out=np.lib.stride_tricks.as_strided(MEMORY[100:], (1, 3, 9), (108, -4, 8)),
        ),
        ValueError, ("out has strides (108, -4, 8)", "overlap"),
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
    result = fc.conv2d(X.view(np.recarray), W, stride=2, padding=1)
    assert type(result) is np.ndarray
    testing.assert_exact(result, expected)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrices_and_mapped_files_are_their_elements(tmp_path: Path) -> None:
    """What ``*`` means for a matrix must not get into a product of elements."""
    matrix = np.matrix(A)
    assert type(fc.activate(matrix[:5, :5], "silu")) is np.ndarray
    testing.assert_exact(fc.activate(matrix[:5, :5], "silu"), fc.activate(A[:5, :5], "silu"))
    testing.assert_exact(fc.matmul(matrix, C), A @ C)
    mapped = np.memmap(tmp_path / "y", np.float32, "w+", shape=(5, 7))
    assert fc.matmul(A, C, out=mapped) is mapped
    testing.assert_exact(np.array(mapped), A @ C)
    row = np.matrix(np.zeros((8, 5), np.float32))
    assert fc.conv1d(X[0, 0], np.ones((8, 6, 3), np.float32), out=row) is row
    assert (row == 18).all()
    x, y, dx = (
        np.ones((4, 8), np.float32),
        np.matrix(np.zeros((4, 7), np.float32)),
        np.matrix(np.zeros((4, 8), np.float32)),
    )
    assert fc.max_pool1d(x, 2, 1, out=y) is y
    assert fc.max_pool1d(x, 2, 1, return_indices=True, out=y)[0] is y
    assert fc.avg_pool1d_backward(y, x, 2, 1, out=dx) is dx
    assert (y == 1).all()
    assert dx.sum() == 28


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


# ------------------------------------------------------------------------ every argument of every public function

#: What each parameter takes, by its name: a new function is covered here without a line, a new name says what it is.
KINDS = {
    "array": "a b bias c dy exp_avg exp_avg_sq grad grad_avg indices momentum_buffer out param pos_weight residual "
    "running_mean running_var s square_avg t target w weight x y",
    "ints": "dilation dim groups ignore_index kernel_size n nbytes normalized_shape num_groups offset output_padding "
    "output_size padding seed size sizes split_size_or_sections step stride upscale_factor downscale_factor",
    "shape": "input_shape pad shape weight_shape x_shape",
    "flag": "align_corners antialias ceil_mode count_include_pad exclude_outside keepdim log_target measure on "
    "recompute_scale_factor residual return_indices return_statistics training trans_a trans_b "
    "use_input_stats nesterov",
    "number": "alpha beta correction cubic_coeff_a delta divisor_override eps k label_smoothing max_val min_val "
    "momentum negative_slope p scale_factor scales threshold value lr weight_decay",
    "pair": "betas",
    "word": "approximate coordinate_transformation_mode destination layout level mode name nearest_mode reduction "
    "source",
    "arrays": "arrays",
    "statistics": "statistics",
    "activation": "activation",
    "dtype": "dtype",
    "function": "function",
}

#: What a message may call an argument besides its name.
ALSO = {"input_shape": "x", "weight_shape": "w", "x_shape": "x", "level": "precision", "name": "backend isa algorithm"}
ALSO |= {"arrays": r"arrays\[\d\]", "dy": r"dy\[\d\]"}


class Measured(np.ndarray):
    """As arrays with units are: what its elements mean is not in them alone."""

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("an array with arithmetic of its own was computed with")


_ENDLESS: list[Any] = []
_ENDLESS.append(_ENDLESS)

#: Of no kind of argument, save those that are named.
WRONG: list[tuple[Any, str]] = [
    ("seven", "function"), ("", ""), (b"7", ""), (object(), ""), (dict, "function"), ({}, ""), ({1: 2}, ""), ({1}, ""),
    ([], "shape"), ((), "shape"), (iter([1, 2]), ""), (_ENDLESS, ""), ([[[1]]], ""), ([1, "x"], ""),
    (np.array(["x"]), ""), (1.5, "number"), (float("nan"), "number"), (float("inf"), "number"), (1j, ""),
    (np.float32(1), "number dtype"), (np.array(1.5), "number dtype"), (True, "flag"), (np.True_, "flag"),
    (lambda: 0, "function"), (slice(1), ""), (np.datetime64(1, "s"), ""), (range(1), "shape ints"),
]  # fmt: skip

#: Integers of every size, and beyond.
INTEGERS = [-(2**63), -1, 0, 2**31, 2**32, 2**63, 2**64, 10**30, 10**5000, np.uint64(2**64 - 1), np.int64(-1)]


def _wrong_arrays(a: np.ndarray) -> list[Any]:
    """What is no array for a function that takes ``a``."""
    dtypes = ["float16", "int64", "uint8", "bool", "complex64", ">f4", "object", "str", "longdouble", "f4,f4"]
    other = "float64" if a.dtype == "float32" else "float32"
    wrong = [a.astype(name) for name in (*dtypes, other) if np.dtype(name) not in (a.dtype, "float64")]
    wrong += [a.astype(other), a.tolist(), np.ma.array(a), np.ma.array(a, mask=a > 0), a.view(Measured)]
    wrong += [np.ones((1,) * 33, a.dtype), np.ones((1,) * 40, a.dtype)] if _AXES > 32 else []
    return [*wrong, a[..., None, None, None], np.array(1, a.dtype), a.reshape(-1)[:0], memoryview(a.reshape(-1))]


_AXES = 64 if int(np.__version__.split(".")[0]) >= 2 else 32


def _functions() -> dict[str, Callable[..., Any]]:
    functions = {name: getattr(fc, name) for name in fc.__all__}
    functions = {n: f for n, f in functions.items() if callable(f) and not isinstance(f, type)}
    return functions | {"Plan.__call__": fc.plan_conv2d(X.shape, W, residual=True).__call__}


FUNCTIONS = _functions()


def _right(name: str) -> dict[str, Any]:
    """Arguments that the function takes."""
    ndim = next((int(c) for c in name if c.isdigit()), 2)
    names = inspect.signature(FUNCTIONS[name]).parameters
    x, w = np.ones((2, 4, *(6,) * ndim), "f4"), np.ones((8, 4, *(3,) * ndim), "f4")
    values: dict[str, Any] = {
        "x": x, "w": w, "b": B, "x_shape": x.shape, "input_shape": x.shape, "weight_shape": w.shape, "kernel_size": 2,
        "output_size": 2, "n": 1, "nbytes": 2**20, "level": "strict", "shape": (2, 3), "name": "reference", "on": True,
        "seed": 7,
        "activation": "relu", "function": dict, "layout": "NCHW", "arrays": (x, x), "split_size_or_sections": 4,
        "upscale_factor": 2, "downscale_factor": 2, "groups": 1, "source": "NCHW", "destination": "NHWC", "pad": (1, 2),
        "dtype": "float32",
        "residual": np.ones((2, 8, *(4,) * ndim), "f4"),
    }  # fmt: skip
    if "transpose" in name:
        values |= {"w": w.swapaxes(0, 1).copy()}
    if name == "Plan.__call__":
        values |= {"x": X, "residual": Y, "out": Y.copy()}
    if name.startswith(("matmul", "gemm", "linear")):
        values |= {"a": A, "b": C, "bias": C[0], "c": A @ C, "x": A}
    if name.startswith("linear"):
        values |= {"w": C.T.copy(), "b": C[0]}
    if {*names} & {"s", "weight", "a"} and not name.startswith(("matmul", "gemm")):
        values |= {"a": x, "b": x[:, :, :1, :1], "s": x[0, :, :1, :1], "t": x[0, :, :1, :1], "weight": x[0, :, 0, 0]}
    values |= {"alpha": 0.5, "approximate": "none"} if name.startswith(("elu", "celu", "gelu")) else {}
    if name.startswith("plan_"):
        values |= {"residual": True}
    if "softmax" in name:
        values |= {"dim": 1}
    if name.startswith(("interpolate", "resize")):
        values |= {"size": 3, "sizes": 3, "mode": "bilinear" if name.startswith("interpolate") else "linear"}
    if "_norm" in name or "cross_entropy" in name or "loss" in name or name.startswith("kl_div"):
        c = np.ones(6 if name.startswith(("layer", "rms")) else 4, "f4")
        classes = name.startswith(("cross", "nll"))
        values |= {"weight": c[:, None, None] if name.startswith("binary") else c, "bias": c, "running_mean": c * 0}
        values |= {"running_var": c, "normalized_shape": 6, "num_groups": 2, "size": 3, "pos_weight": c[:, None, None]}
        values |= {"target": np.ones((2, 6, 6), int) if classes else x * np.float32(0.5)}
    if name.endswith("_step"):
        remembered = ("param", "grad", "momentum_buffer", "exp_avg", "exp_avg_sq", "square_avg", "grad_avg")
        values |= {k: np.full((3, 4), 0.5 + i, "f4") for i, k in enumerate(remembered)} | {"step": 2, "alpha": 0.9}
    if name in ("use_algorithm", "use_isa"):
        values |= {"name": "direct" if name == "use_algorithm" else next(iter(testing.isas_here("c")), "none")}
    if "dy" in names:
        forward = FUNCTIONS[name.split("_backward")[0] if name != "conv_backward_bias" else "conv2d"]
        known = {k: v for k, v in values.items() if k in inspect.signature(forward).parameters and k != "residual"}
        with fc.use_backend("reference"):
            y = forward(**known)
            values["dy"] = tuple(map(np.ones_like, y)) if isinstance(y, tuple) else np.ones_like(y)
    defaults = {k: p.default for k, p in names.items() if p.default is not p.empty}
    needed = [
        k for k, p in names.items() if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    return {k: values[k] for k in needed} | {k: values.get(k, v) for k, v in defaults.items()}


def _call(name: str, arguments: dict[str, Any]) -> Any:
    if name.endswith("_step"):  # which changes its arrays
        arguments = {k: v.copy() if type(v) is np.ndarray else v for k, v in arguments.items()}
    with fc.use_backend("reference") if name != "use_isa" else nullcontext():
        result = FUNCTIONS[name](**arguments)
        if hasattr(result, "__enter__"):
            with result:
                return None
    return result


def _kind(name: str, parameter: str) -> str:
    if parameter == "dy" and name.startswith("split"):
        return "arrays"
    if parameter == "residual":
        return "flag" if name.startswith("plan_") else "array"
    kinds = [kind for kind, names in KINDS.items() if parameter in names.split()]
    assert len(kinds) == 1, f"{parameter} of {name}: which of {', '.join(KINDS)} is it?"
    return kinds[0]


@pytest.fixture
def settings_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the functions set for the whole process is as before afterwards."""
    monkeypatch.setattr(_threads, "_of_process", None)
    monkeypatch.setenv("FASTCONV_CACHE", "off")
    usable = fc.backends()["c"] is None
    before = usable and fc.get_flush_denormals()
    yield
    if usable:
        fc.set_flush_denormals(before)


def _names(message: str, *parameters: str) -> bool:
    """Whether the message says what one of these, or the result, is: words such as "a" and "on" are English, too."""
    words = {word for p in parameters for word in (p, *ALSO.get(p, "").split())} | {"the result"}
    return any(re.search(rf"\b{word}(=| has | is | of | \(|: )", message) for word in words)


def _keeps_dtype(result: Any, dtype: np.dtype) -> bool:
    return (result[0] if isinstance(result, tuple) else result).dtype == dtype


@pytest.mark.parametrize("name", [n for n, f in FUNCTIONS.items() if inspect.signature(f).parameters])
def test_whatever_an_argument_is_it_is_taken_or_refused_by_name(name: str, settings_kept: None) -> None:
    if name == "set_flush_denormals" and fc.backends()["c"] is not None:
        pytest.skip("without the C library it sets nothing")
    right = _right(name)
    _call(name, right)
    arrays = sum(isinstance(value, np.ndarray) for value in right.values())
    problems = []
    for parameter, fine in right.items():
        kind = _kind(name, parameter)
        optional = inspect.signature(FUNCTIONS[name]).parameters[parameter].default is None
        # The value, whether it may be taken, and whether another argument may be what does not fit it.
        trials = [(v, kind in kinds.split(), kind in kinds.split() or isinstance(v, np.ndarray)) for v, kinds in WRONG]
        trials += [(None, optional or parameter in ("activation", "nbytes"), False)]
        if kind == "array":
            fine = X if fine is None else fine
            trials += [(value, False, True) for value in _wrong_arrays(fine)]
        else:
            taken = kind in ("ints", "shape", "number", "flag")
            trials += [(value, taken, taken) for value in INTEGERS]
        for value, taken, fits in trials:
            try:
                result = _call(name, right | {parameter: value})
            except Exception as error:
                text = str(error)
                named = _names(text, *(right if fits else [parameter]))
                if type(error) not in (TypeError, ValueError) or not named or len(text) > 1000:
                    problems.append(f"{parameter}={_quoted(value)}: {type(error).__name__}, {text[:200]}")
            else:
                # Algorithms are looked for where a convolution is called.
                taken |= name == "use_algorithm" and isinstance(value, str)
                # Classes are ints of any size.
                taken |= parameter == "target" and getattr(value, "dtype", np.dtype("f4")).kind in "iu"
                any_dtype = arrays == 1 or name.startswith("cast")
                if kind == "array" and type(value) is np.ndarray and (any_dtype or value.dtype == fine.dtype):
                    # Another shape, or of the only array another dtype, may be taken: not converted.
                    taken = name.startswith(("arg", "cast")) or _keeps_dtype(result, value.dtype)
                if not taken:
                    problems.append(f"{parameter}={_quoted(value)} was taken")
    assert not problems, "\n".join(problems)


def _quoted(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{type(value).__name__} {value.dtype} {value.shape}>"
    return shown(value)
