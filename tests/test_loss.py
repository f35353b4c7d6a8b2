"""Losses beside their formulas, number by number, and their gradients by differences."""

from __future__ import annotations

from functools import partial
from math import exp, log
from typing import Any

import numpy as np
import pytest
from differences import derivative

import fastconv as fc
from fastconv import testing
from fastconv.testing import Target

_RNG = np.random.default_rng(1)
_X, _T = _RNG.standard_normal((4, 5)) * 2, _RNG.standard_normal((4, 5)) * 2
_P, _Q = _RNG.random((4, 5)), _RNG.random((4, 5))
_W = _RNG.random(5)

#: name -> x, target, other arguments, the loss of one element.
_ELEMENTWISE: dict[str, tuple[str, np.ndarray, np.ndarray, dict[str, Any], Any]] = {
    "mse": ("mse_loss", _X, _T, {}, lambda x, t, i: (x - t) ** 2),
    "l1": ("l1_loss", _X, _T, {}, lambda x, t, i: abs(x - t)),
    "huber": (
        "huber_loss", _X, _T, {"delta": 1.5},
        lambda x, t, i: (x - t) ** 2 / 2 if abs(x - t) <= 1.5 else 1.5 * (abs(x - t) - 0.75),
    ),
    "smooth_l1": (
        "smooth_l1_loss", _X, _T, {"beta": 0.5},
        lambda x, t, i: (x - t) ** 2 if abs(x - t) < 0.5 else abs(x - t) - 0.25,
    ),
    "smooth_l1 of 0": ("smooth_l1_loss", _X, _T, {"beta": 0}, lambda x, t, i: abs(x - t)),
    "binary": ("binary_cross_entropy", _P, _Q, {}, lambda x, t, i: -t * log(x) - (1 - t) * log(1 - x)),
    "binary, weighted": (
        "binary_cross_entropy", _P, _Q, {"weight": _W}, lambda x, t, i: _W[i] * (-t * log(x) - (1 - t) * log(1 - x)),
    ),
    "logits": (
        "binary_cross_entropy_with_logits", _X, _Q, {},
        lambda x, t, i: t * log(1 + exp(-x)) + (1 - t) * log(1 + exp(x)),
    ),
    "logits, weighted": (
        "binary_cross_entropy_with_logits", _X, _Q, {"weight": _W[None], "pos_weight": _W + 1},
        lambda x, t, i: _W[i] * ((_W[i] + 1) * t * log(1 + exp(-x)) + (1 - t) * log(1 + exp(x))),
    ),
    "kl": ("kl_div", np.log(_P), _Q, {}, lambda x, t, i: t * (log(t) - x)),
    "kl of logarithms": ("kl_div", np.log(_P), np.log(_Q), {"log_target": True}, lambda x, t, i: exp(t) * (t - x)),
}  # fmt: skip


@pytest.mark.parametrize("case", _ELEMENTWISE)
def test_of_elements(target: Target, case: str) -> None:
    name, x, t, options, formula = _ELEMENTWISE[case]
    each = np.array([[formula(x[i, j], t[i, j], j) for j in range(5)] for i in range(4)])
    made = {"none": each, "mean": each.mean(), "sum": each.sum(), "batchmean": each.sum() / 4}
    if name != "kl_div":
        del made["batchmean"]
        with pytest.raises(ValueError, match="reduction='batchmean'"):
            getattr(fc, name)(x, t, reduction="batchmean")
    for reduction, expected in made.items():
        with testing.on(target):
            loss = getattr(fc, name)(x, t, reduction=reduction, **options)
            assert type(loss) is np.ndarray
            testing.assert_close(loss, np.asarray(expected), 1e-12)
            narrow = {k: v.astype("f4") if isinstance(v, np.ndarray) else v for k, v in options.items()}
            single = getattr(fc, name)(x.astype("f4"), t.astype("f4"), reduction=reduction, **narrow)
            assert single.dtype == np.float32
            testing.assert_close(single, np.asarray(expected), 3e-6 * np.maximum(np.abs(expected), 1))
            dy = np.asarray(np.random.default_rng(2).standard_normal(loss.shape))
            dx = getattr(fc, f"{name}_backward")(dy, x, t, reduction=reduction, **options)
            wanted = derivative(partial(getattr(fc, name), target=t, reduction=reduction, **options), x, dy)
            testing.assert_close(dx, wanted, 1e-6 * np.maximum(np.abs(wanted), 1))


def test_ends_of_the_range() -> None:
    x = np.array([-1e4, -50, 0, 50, 1e4], "f4")
    zeros, ones = np.zeros(5, "f4"), np.ones(5, "f4")
    loss = fc.binary_cross_entropy_with_logits(x, zeros, reduction="none")
    testing.assert_close(loss, np.array([0, 0, np.log(2), 50, 1e4]), 1e-6)
    dx = fc.binary_cross_entropy_with_logits_backward(ones, x, zeros, reduction="none")
    testing.assert_close(dx, np.array([0, 0, 0.5, 1, 1]), 1e-6)
    testing.assert_exact(fc.binary_cross_entropy(np.array([0, 1], "f4"), np.array([1, 0], "f4"), reduction="none"),
                         np.array([100, 100], "f4"))  # fmt: skip
    testing.assert_exact(fc.kl_div(zeros, zeros, "none"), zeros)
    testing.assert_exact(fc.smooth_l1_loss_backward(ones, zeros, zeros, "none", 0), zeros)


#: Of whole numbers and halves every one of these is exact.
_DISTANCES: dict[str, tuple[str, dict[str, Any]]] = {
    "mse": ("mse_loss", {}),
    "l1": ("l1_loss", {}),
    "smooth_l1": ("smooth_l1_loss", {"beta": 2.0}),
    "smooth_l1 of 0": ("smooth_l1_loss", {"beta": 0.0}),
    "huber": ("huber_loss", {"delta": 3.0}),
}


def _both(name: str, *arrays: Any, target: Target, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the reference makes of a call, and what the target does."""
    with fc.use_backend("reference"):
        expected = getattr(fc, name)(*arrays, **options)
    with testing.on(target):
        return expected, getattr(fc, name)(*arrays, **options)


@pytest.mark.parametrize("shape", [(), (1,), (37,), (5, 1, 33), (2, 3, 4, 5), (3, 1301), (70_001,)], ids=str)
@pytest.mark.parametrize("case", _DISTANCES)
def test_whole_numbers_exactly(target: Target, dtype: str, case: str, shape: tuple[int, ...]) -> None:
    (name, options), rng = _DISTANCES[case], np.random.default_rng(4)
    x, t, dy = (rng.integers(-9, 10, shape).astype(dtype) for _ in range(3))
    for reduction in ("none", "sum", "mean"):
        testing.assert_exact(*_both(name, x, t, target=target, reduction=reduction, **options)[::-1])
        given = dy if reduction == "none" else np.full((), 3, dtype)
        pair = _both(f"{name}_backward", given, x, t, target=target, reduction=reduction, **options)
        testing.assert_exact(*pair[::-1])


@pytest.mark.parametrize("order", testing.MEMORY_ORDERS)
@pytest.mark.parametrize("case", ["mse", "logits, weighted"])
def test_any_strides(target: Target, dtype: str, case: str, order: str) -> None:
    """Each array with strides of its own; factors along any axes."""
    rng, turned, shape = np.random.default_rng(5), testing.MEMORY_ORDERS[order], (3, 70, 11)
    name = _ELEMENTWISE[case][0]
    x, t, dy = (rng.integers(-4, 5, shape).astype(dtype) for _ in range(3))
    sizes = [(3, 1, 11), (70, 1)] if "weighted" in case else []
    for laid in (lambda i: turned, lambda i: turned if i % 2 else np.copy):
        factors = [turned(rng.integers(1, 4, size).astype(dtype)) for size in sizes]
        options = dict(zip(("weight", "pos_weight"), factors, strict=False))
        arrays = [laid(i)(a) for i, a in enumerate((x, t, dy))]
        for reduction in ("none", "sum"):
            expected, loss = _both(name, *arrays[:2], target=target, reduction=reduction, **options)
            bound = 1e-6 if dtype == "float32" else 1e-14
            testing.assert_close(loss, expected, bound * np.maximum(np.abs(expected), 8))
            given = arrays[2] if reduction == "none" else np.full((), 2, dtype)
            backward = f"{name}_backward"
            expected, dx = _both(backward, given, *arrays[:2], target=target, reduction=reduction, **options)
            testing.assert_close(dx, expected, bound * np.maximum(np.abs(expected), 8))


@pytest.mark.parametrize("case", [case for case in _ELEMENTWISE if "weighted" not in case])
def test_nothing_outside_is_read_or_written(target: Target, dtype: str, case: str) -> None:
    name, x, t, options, _ = _ELEMENTWISE[case]
    memory = {key: np.full(37 + 128, np.nan, dtype) for key in ("dy", "x", "target", "out")}
    dy, x, t, out = (m[64:101] for m in memory.values())
    dy[:], x[:], t[:] = 1, np.resize(_ELEMENTWISE[case][1], 37), np.resize(_ELEMENTWISE[case][2], 37)
    with testing.on(target):
        assert np.isfinite(getattr(fc, name)(x, t, **options))
        assert getattr(fc, f"{name}_backward")(dy, x, t, reduction="none", out=out, **options) is out
    assert np.isfinite(out).all()
    for m in memory.values():
        assert np.isnan(np.delete(m, np.s_[64:101])).all()


def test_the_same_bits_for_any_number_of_threads(target: Target) -> None:
    rng = np.random.default_rng(6)
    x, t = (rng.random((3, 70_001), "f4") for _ in range(2))
    results = set()
    for threads in (1, 2, 5):
        with testing.on(target), fc.threads(threads):
            made = [fc.huber_loss(x, t), fc.kl_div(x.T, t.T, "sum"), fc.binary_cross_entropy(x, t, reduction="none")]
            made += [fc.smooth_l1_loss_backward(made[0], x, t, beta=0.25)]
        results.add(b"".join(a.tobytes() for a in made))
    assert len(results) == 1


def test_a_sum_of_a_million_loses_nothing(target: Target) -> None:
    x, zeros = np.full(1_000_003, 0.1, "f4"), np.zeros(1_000_003, "f4")
    with testing.on(target):
        testing.assert_close(fc.l1_loss(x, zeros, "sum"), np.asarray(1_000_003 * float(x[0])), 1e-7 * 1e5)
        testing.assert_exact(fc.l1_loss(x, zeros), x[0])


def test_small_probabilities_keep_their_digits(target: Target, dtype: str) -> None:
    x = np.array([1e-7, 1e-9, 3e-20, 0.25, 0.3, 0.9, 1.0], dtype)
    for t in (np.zeros_like(x), np.ones_like(x)):
        expected, loss = _both("binary_cross_entropy", x, t, target=target, reduction="none")
        testing.assert_close(loss, expected, 3 * np.finfo(dtype).eps * np.abs(expected))


def test_what_is_not_finite(target: Target, dtype: str) -> None:
    """A NaN stays one, an infinity counts for itself; in a sum, too."""
    ends = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, -3], dtype)
    x, t = (a.reshape(-1) for a in np.meshgrid(ends, ends))
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div"):
        expected, loss = _both(name, x, t, target=target, reduction="none")
        np.testing.assert_allclose(loss, expected, 4 * np.finfo(dtype).eps)
        expected, dx = _both(f"{name}_backward", np.ones_like(x), x, t, target=target, reduction="none")
        np.testing.assert_allclose(dx, expected, 4 * np.finfo(dtype).eps)
        with testing.on(target):
            assert np.isnan(getattr(fc, name)(x, t))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.25, 1.25])
def test_probabilities_beyond_0_to_1(target: Target, dtype: str, wrong: float) -> None:
    one = np.ones((), dtype)
    for place in (0, 36, 70_000):
        x = np.full(70_001, 0.5, dtype)
        x[place] = wrong
        for call in (
            lambda x: fc.binary_cross_entropy(x, np.zeros_like(x)),
            lambda x: fc.binary_cross_entropy_backward(one, x, np.zeros_like(x)),
        ):
            with testing.on(target), pytest.raises(ValueError, match=r"x runs from .*: allowed is 0 to 1"):
                call(x)


# ---------------------------------------------------------------------------------------------------- of classes


def _entropy(
    x: np.ndarray, t: np.ndarray, weight: np.ndarray | None, ignored: int, smoothing: float, softmax: bool
) -> tuple[np.ndarray, float]:
    """The loss of each position, and what a mean divides by."""
    classes, losses, count = x.shape[1], np.zeros((x.shape[0], *x.shape[2:])), 0.0
    w = np.ones(classes) if weight is None else weight
    for place in np.ndindex(losses.shape):
        row = x[(place[0], slice(None), *place[1:])]
        logs = row - log(sum(exp(v) for v in row)) if softmax else row
        if t.ndim == x.ndim:
            shares = t[(place[0], slice(None), *place[1:])]
            count += 1
        elif t[place] == ignored:
            continue
        else:
            shares = np.eye(classes)[t[place]]
            count += w[t[place]]
        shares = (1 - smoothing) * shares + smoothing / classes
        if t.ndim != x.ndim:
            # Of a class's number its weight stands before its own logarithm, not before the shares of others.
            losses[place] = -sum(w * shares * logs)
        else:
            losses[place] = -sum(w * shares * logs)
    return losses, count


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("kind", ["numbers", "ignored", "probabilities", "logarithms"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [(), (3,), (2, 3)], ids=str)
def test_of_classes(
    target: Target, size: tuple[int, ...], weighted: bool, smoothing: float, kind: str, reduction: str
) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, 5, *size)) * 2
    weight, ignored = rng.random(5) if weighted else None, 2 if kind == "ignored" else -100
    t = rng.integers(0, 5, (4, *size))
    name, options = "cross_entropy", {"label_smoothing": smoothing}
    if kind == "probabilities":
        t = np.moveaxis(rng.dirichlet(np.ones(5), (4, *size)), -1, 1).copy()
    if kind == "logarithms":
        name, options, smoothing = "nll_loss", {}, 0.0
    each, count = _entropy(x, t, weight, ignored, smoothing, kind != "logarithms")
    expected = {"none": each, "mean": each.sum() / count, "sum": each.sum()}[reduction]
    options |= {"weight": weight, "ignore_index": ignored, "reduction": reduction}
    with testing.on(target):
        loss = getattr(fc, name)(x, t, **options)
        testing.assert_close(loss, np.asarray(expected), 1e-12)
        dy = np.asarray(rng.standard_normal(loss.shape))
        dx = getattr(fc, f"{name}_backward")(dy, x, t, **options)
        testing.assert_close(dx, derivative(lambda x: getattr(fc, name)(x, t, **options), x, dy), 1e-7)
        if weight is None:
            single = getattr(fc, name)(x.astype("f4"), t, **options)
            testing.assert_close(single, np.asarray(expected), 2e-6 * np.maximum(np.abs(expected), 1))


def test_a_confident_prediction_keeps_its_digits(target: Target, dtype: str) -> None:
    x, t = np.array([[1000, 984, 900, 984], [-1e30, 0, -12, 1]], dtype), np.array([0, 1])
    with testing.on(target):
        loss = fc.cross_entropy(x, t, reduction="none")
        dx = fc.cross_entropy_backward(np.ones((), dtype), x, t, reduction="sum")
    shares = np.exp([-16.0, -12, 1])
    expected = np.log1p([2 * shares[0], shares[1] + shares[2]])
    testing.assert_close(loss, expected, 8 * np.finfo(dtype).eps * expected + 1e-15)
    first = [-2 * shares[0], shares[0], np.exp(-100), shares[0]] / (1 + 2 * shares[0])
    second = [0, -shares[1] - shares[2], shares[1], shares[2]] / (1 + shares[1] + shares[2])
    testing.assert_close(dx, np.array([first, second]), 16 * np.finfo(dtype).eps * np.abs([first, second]) + 1e-15)


@pytest.mark.parametrize("classes", [40, 700, 5000])
def test_confident_predictions_of_many_classes(target: Target, dtype: str, classes: int) -> None:
    """A float32 that has the largest's one in it would lose the others' sum."""
    x = np.full((3, classes, 2), 0, dtype)
    x[:, 7] = 15
    t = np.full((3, 2), 7)
    with testing.on(target):
        across, along = (
            fc.cross_entropy(a, t.reshape(a.shape[0], *a.shape[2:]), reduction="none")
            for a in (x, np.ascontiguousarray(x.transpose(0, 2, 1)).reshape(6, classes))
        )
    expected = np.log1p((classes - 1) * np.exp(-15.0))
    for loss in (across, along):
        testing.assert_close(loss, np.full(loss.shape, expected), 8 * np.finfo(dtype).eps * expected + 1e-12)


@pytest.mark.parametrize("order", testing.MEMORY_ORDERS)
def test_classes_of_any_strides(target: Target, dtype: str, order: str) -> None:
    rng, turned = np.random.default_rng(7), testing.MEMORY_ORDERS[order]
    for shape in ((3, 70, 11), (5, 1301), (40, 3, 6, 6)):
        x, t = turned(rng.standard_normal(shape).astype(dtype)), rng.integers(0, shape[1], (shape[0], *shape[2:]))
        dy = turned(rng.standard_normal(t.shape).astype(dtype))
        bound = 2e-6 if dtype == "float32" else 1e-14
        expected, loss = _both("cross_entropy", x, t, target=target, reduction="none")
        testing.assert_close(loss, expected, bound * np.maximum(np.abs(expected), 1))
        expected, dx = _both("cross_entropy_backward", dy, x, t, target=target, reduction="none")
        testing.assert_close(dx, expected, bound)


def test_one_position_without_a_batch(target: Target) -> None:
    x = np.array([1.0, 2.0, 0.5])
    with testing.on(target):
        for t in (np.array(1), np.array([0.0, 1.0, 0.0])):
            testing.assert_close(fc.cross_entropy(x, t), fc.cross_entropy(x[None], t[None]).astype("f8"), 1e-15)
            dx = fc.cross_entropy_backward(np.array(2.0), x, t)
            testing.assert_close(dx, fc.cross_entropy_backward(np.array(2.0), x[None], t[None])[0], 1e-15)


def test_no_classes(target: Target) -> None:
    x = np.ones((2, 0), "f4")
    with testing.on(target):
        assert fc.cross_entropy(x, x, label_smoothing=0.25) == 0
        assert fc.cross_entropy(x[:0], np.ones(0, int), label_smoothing=0.25, reduction="none").shape == (0,)


def test_where_nothing_counts(target: Target) -> None:
    x, t = np.ones((2, 3), "f4"), np.full(2, -100)
    with testing.on(target):
        assert np.isnan(fc.cross_entropy(x, t))
        assert fc.cross_entropy(x, t, reduction="sum") == 0
        testing.assert_exact(fc.nll_loss(x, t, reduction="none"), np.zeros(2, "f4"))
        testing.assert_exact(fc.cross_entropy_backward(np.ones((), "f4"), x, t, reduction="sum"), np.zeros_like(x))
        assert np.isnan(fc.mse_loss(x[:0], x[:0]))


def test_a_class_that_cannot_be_adds_nothing(target: Target) -> None:
    x, t = np.array([[0.0, -np.inf]], "f4"), np.array([[1.0, 0.0]], "f4")
    with testing.on(target):
        assert fc.cross_entropy(x, t) == 0


def test_what_is_refused() -> None:
    x, t, p = np.ones((2, 3), "f4"), np.array([0, 2]), np.ones((2, 3), "f4")
    one = np.ones((), "f4")
    for call, error, text in (
        (lambda: fc.cross_entropy(x, t + 1), ValueError, "target runs from 1 to 3: allowed is 0 to 2"),
        (lambda: fc.cross_entropy(x, t.astype(bool)), TypeError, "target is of bool"),
        (lambda: fc.cross_entropy(x, [0, 2]), TypeError, "target is of list"),
        (lambda: fc.cross_entropy(x, t[:1]), ValueError, r"target has shape \(1,\)"),
        (lambda: fc.cross_entropy(x, p, ignore_index=1), ValueError, "ignore_index=1"),
        (lambda: fc.cross_entropy(x, t, p[0, :2]), ValueError, r"weight has shape \(2,\)"),
        (lambda: fc.cross_entropy(x, t, label_smoothing=1.5), ValueError, "label_smoothing=1.5"),
        (lambda: fc.cross_entropy(x, t, reduction="max"), ValueError, "reduction='max'"),
        (lambda: fc.cross_entropy(one, t), ValueError, r"x has shape \(\)"),
        (lambda: fc.cross_entropy_backward(x, x, t), ValueError, r"dy has shape \(2, 3\): allowed is \(\)"),
        (lambda: fc.nll_loss(x, p), ValueError, "target has shape"),
        (lambda: fc.nll_loss_backward(one, x, t, reduction="none"), ValueError, "dy has shape"),
        (lambda: fc.mse_loss(x, p[:1]), ValueError, "target has shape"),
        (lambda: fc.mse_loss(x, p.astype("f8")), TypeError, "target has dtype float64"),
        (lambda: fc.huber_loss(x, p, delta=0), ValueError, "delta=0"),
        (lambda: fc.smooth_l1_loss(x, p, beta=-1), ValueError, "beta=-1"),
        (lambda: fc.binary_cross_entropy(x + 1, p), ValueError, "x runs from 2.0 to 2.0"),
        (lambda: fc.binary_cross_entropy(x, p, p[:, :2]), ValueError, "weight has shape"),
        (lambda: fc.kl_div(x, p, log_target=3), TypeError, "log_target=3"),
    ):
        with pytest.raises(error, match=text):
            call()
