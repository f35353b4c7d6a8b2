"""Losses against their formulas, gradients against finite differences."""

import math

import numpy as np
import pytest
from networks import numerical

from fastconv import nn


@pytest.mark.parametrize(
    ("loss", "targets"),
    [(nn.cross_entropy, np.array([2, 0, 3])), (nn.mse, np.random.default_rng(1).standard_normal((3, 4)))],
)
def test_loss_gradients_are_those_of_finite_differences(loss, targets):
    y = np.random.default_rng(0).standard_normal((3, 4))
    _, gradient = loss(y, targets)
    np.testing.assert_allclose(gradient, numerical(lambda: loss(y, targets)[0], y), rtol=1e-7, atol=1e-9)


def test_loss_values():
    loss, gradient = nn.cross_entropy(np.log([[1.0, 3.0], [1.0, 1.0]]), np.array([1, 0]))
    assert loss == pytest.approx((np.log(4 / 3) + np.log(2)) / 2, rel=1e-14)
    np.testing.assert_allclose(gradient, [[0.125, -0.125], [-0.25, 0.25]], rtol=1e-14)
    loss, gradient = nn.mse(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]]))
    assert loss == 2.5
    np.testing.assert_array_equal(gradient, [[1, -2]])


def _cross_entropy(logits, targets, weight=None, ignore_index=-100, label_smoothing=0.0):
    """The formula of the documentation of torch, one position after the other."""
    n, classes, *size = logits.shape
    targets = targets.astype(np.float64) if targets.dtype.kind == "f" else targets
    weight = np.ones(classes) if weight is None else weight
    loss, divisor = 0.0, 0.0
    for i in np.ndindex(n, *size):
        z = logits[i[0], :, *i[1:]]
        logs = z - math.log(sum(math.exp(v) for v in z))
        if targets.dtype.kind == "f":
            probabilities, count = targets[i[0], :, *i[1:]], 1.0
        elif targets[i] == ignore_index:
            continue
        else:
            probabilities, count = np.arange(classes) == targets[i], weight[targets[i]]
        for c in range(classes):
            loss -= weight[c] * ((1 - label_smoothing) * probabilities[c] + label_smoothing / classes) * logs[c]
        divisor += count
    return loss / divisor


_CLASSES = np.array([[[1, -100, 0], [2, 2, -100]], [[0, 1, 1], [-100, 2, 0]]])


_SHARES = np.random.default_rng(3).dirichlet([1, 1, 1], (2, 2, 3)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("smoothing", [0, 0.25, 1])
@pytest.mark.parametrize("weight", [None, np.array([0.5, 3, 0])], ids=["", "weight"])
@pytest.mark.parametrize(
    ("targets", "ignore_index"),
    [
        (_CLASSES, -100),
        (np.where(_CLASSES < 0, 1, _CLASSES), 1),
        (np.where(_CLASSES < 0, 255, _CLASSES).astype(np.uint8), 255),
        (np.abs(_CLASSES % 3).astype(np.uint8), -100),
        (_CLASSES[:, 0], -100),
        (np.array([1, 0]), -100),
        (_SHARES, -100),
        (_SHARES[..., 0, 0], -1),
        (_SHARES.astype(np.float32), -100),
    ],
    ids=["image", "in range", "uint8", "all", "n c l", "n c", "shares", "n c shares", "float32 shares"],
)
def test_cross_entropy_is_that_of_torch(targets, ignore_index, weight, smoothing):
    rng = np.random.default_rng(2)
    size = targets.shape[1:] if targets.dtype.kind != "f" else targets.shape[2:]
    logits = 3 * rng.standard_normal((2, 3, *size))
    options = {"weight": weight, "ignore_index": ignore_index, "label_smoothing": smoothing}
    loss, gradient = nn.cross_entropy(logits, targets, **options)
    assert loss == pytest.approx(_cross_entropy(logits, targets, **options), rel=1e-12)
    expected = numerical(lambda: nn.cross_entropy(logits, targets, **options)[0], logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-9)
    single = nn.cross_entropy(
        logits.astype("f"), targets, **(options | {"weight": None if weight is None else weight.astype("f")})
    )
    assert single[0] == pytest.approx(loss, rel=1e-6)
    assert single[1].dtype == np.float32


def test_cross_entropy_of_a_class_that_cannot_be():
    loss, gradient = nn.cross_entropy(np.array([[0, 0, -np.inf]]), np.array([[0.25, 0.75, 0]]))
    assert loss == pytest.approx(np.log(2))
    np.testing.assert_allclose(gradient, [[0.25, -0.25, 0]])


def test_cross_entropy_neither_overflows_nor_vanishes():
    with np.errstate(all="raise", under="ignore"):
        loss, gradient = nn.cross_entropy(np.float32([[1e30, 0], [-500, 500]]), np.array([0, 0]))
    assert loss == 500
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, [[0, 0], [-0.5, 0.5]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.array([0.0, 1.0])), TypeError, "dtype float64"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.array([0, 3])), ValueError, "0 to 3: allowed is 0 to 2"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.array([-1, 0])), ValueError, "-1 to 0"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.array([0])), ValueError, r"shape \(1,\)"),
        (lambda: nn.cross_entropy(np.ones((0, 3)), np.array([], int)), ValueError, "not empty"),
        (lambda: nn.cross_entropy([[1.0, 2]], np.array([0])), TypeError, "logits is a list"),
        (lambda: nn.cross_entropy(np.ones((2, 3), int), np.array([0, 1])), TypeError, "logits has dtype int64"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.ones((2, 3), int)), TypeError, "dtype int64: allowed is"),
        (lambda: nn.cross_entropy(np.ones((1, 2)), np.full((1, 2), 0.5), ignore_index=0), ValueError, "ignore_index=0"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.full((2, 3), 1.5)), ValueError, "1.5: allowed are prob"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.full((2, 3), np.nan)), ValueError, "allowed are probabilities"),
        (lambda: nn.cross_entropy(np.ones((2, 3, 4)), np.zeros((2, 5), int)), ValueError, r"allowed is \(2, 4\)"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.full(2, -100)), ValueError, "no target counts"),
        (lambda: nn.cross_entropy(np.ones((1, 3)), np.zeros(1, int), ignore_index=0), ValueError, "ignore_index=0"),
        (
            lambda: nn.cross_entropy(np.ones((1, 2)), np.zeros(1, int), weight=np.ones(3)),
            ValueError,
            "weight has shape",
        ),
        (lambda: nn.cross_entropy(np.ones((1, 2)), np.zeros(1, int), weight=[1.0, 1]), TypeError, "weight is a list"),
        (lambda: nn.cross_entropy(np.ones((1, 2)), np.zeros(1, int), weight=-np.ones(2)), ValueError, "negative"),
        (lambda: nn.cross_entropy(np.ones((1, 2)), np.zeros(1, int), label_smoothing=2), ValueError, "smoothing=2"),
        (lambda: nn.cross_entropy(np.ones((1, 2)), np.ma.zeros(1, int)), TypeError, "targets is a masked array"),
        (lambda: nn.mse(np.ones((2, 1)), np.ma.ones((2, 1))), TypeError, "targets is a masked array"),
        (lambda: nn.mse([1.0], [1.0]), TypeError, "y is a list"),
        (lambda: nn.mse(np.ones(1), np.ones(1) * 1j), TypeError, "targets has dtype complex128"),
        (lambda: nn.mse(np.ones((2, 1)), np.ones(2)), ValueError, r"targets \(2,\)"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
