"""Images of another size: rules against exact fractions, backends against the reference, gradients as adjoints."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from itertools import product
from typing import Any

import layouts
import numpy as np
import pytest

import fastconv as fc
from fastconv import testing
from fastconv.spec import ROUNDINGS, TRANSFORMATIONS, resize_spec
from fastconv.testing import Target

#: Sizes of images before and after, whose weights are sums of few powers of two: of every rank, of one pixel, smaller
#: and larger ones, longer than a block of a row, and such that few pixels are read.
_DYADIC = [
    ((2, 3, 7), (14,)), ((1, 1, 300), (600,)), ((3, 2, 1), (40,)), ((2, 5, 3, 5), (6, 10)), ((1, 17, 6, 12), (3, 3)),
    ((2, 3, 4, 1), (4, 7)), ((1, 2, 2, 700), (4, 350)), ((2, 33, 5, 2), (20, 4)), ((1, 3, 2, 3, 4), (4, 6, 2)),
    ((2, 2, 3, 1, 5), (3, 4, 20)), ((1, 2, 8, 1600), (1, 25)),
]  # fmt: skip

_MODES = [("nearest", "half_pixel"), ("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "asymmetric"),
          ("cubic", "asymmetric")]  # fmt: skip


def _place(transformation: str, o: int, size: int, out: int, scale: Fraction) -> Fraction:
    """Where position o of the result lies in x: ONNX's formulas, word by word."""
    half = Fraction(1, 2)
    match transformation:
        case "half_pixel":
            return (o + half) / scale - half
        case "pytorch_half_pixel":
            return (o + half) / scale - half if out > 1 else Fraction(0)
        case "align_corners":
            return Fraction(o * (size - 1), out - 1) if out > 1 else Fraction(0)
        case "asymmetric":
            return o / scale
        case "half_pixel_symmetric":
            adjustment, center = out / (scale * size), Fraction(size, 2)
            return center * (1 - adjustment) + (o + half) / scale - half
    raise AssertionError(transformation)


def _nearest(rounding: str, place: Fraction) -> int:
    low, part = math.floor(place), place - math.floor(place)
    match rounding:
        case "floor":
            return low
        case "ceil":
            return math.ceil(place)
        case "round_prefer_floor":
            return low + (part > Fraction(1, 2))
    return low + (part >= Fraction(1, 2))


def _weights(mode: str, rounding: str, place: Fraction) -> dict[int, Fraction]:
    """Of positions, which may lie beyond the image."""
    if mode == "nearest":
        return {_nearest(rounding, place): Fraction(1)}
    low, t = math.floor(place), place - math.floor(place)
    if mode == "linear":
        return {low: 1 - t, low + 1: t}
    a = Fraction(-3, 4)

    def near(d: Fraction) -> Fraction:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1

    def far(d: Fraction) -> Fraction:
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a

    return {low - 1: far(t + 1), low: near(t), low + 1: near(1 - t), low + 2: far(2 - t)}


def _matrix(spec: Any, dim: int, turned: bool = False) -> np.ndarray:
    """A table as a matrix (targets, sources)."""
    first, index, weight = spec.table(dim)
    shape = (spec.in_size[dim], spec.out_size[dim]) if turned else (spec.out_size[dim], spec.in_size[dim])
    matrix = np.zeros(shape)
    np.add.at(matrix, (np.repeat(np.arange(shape[0]), np.diff(first)), index), weight)
    return matrix


def _spec(
    direction: str, size: int, out: Any, scale: Any, mode: str, transformation: str, rounding: str, *more: bool
) -> Any:
    rest = (mode, transformation, rounding, True, "NCHW", -0.75, *more)
    return resize_spec(direction, (1, 1, size), "float64", 1, out, scale, ("s", "t"), *rest)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_rules_are_those_of_exact_fractions(mode: str, transformation: str) -> None:
    sizes = [(size, out, None) for size, out in product((1, 2, 3, 7, 41), (1, 2, 3, 5, 14, 82))]
    scales = [(size, None, scale) for size, scale in product((1, 2, 5, 10), (1.0, 2.0, 2.5, 1.75, 3.2, 1.1))]
    scales += [(10, None, 0.5), (9, None, 0.375), (20, None, 0.3), (11, None, 0.9)]
    for (size, out, scale), rounding in product(sizes + scales, ROUNDINGS if mode == "nearest" else ["floor"]):
        spec = _spec("fwd", size, out, scale, mode, transformation, rounding)
        exact = Fraction(spec.out_size[0], size) if scale is None else Fraction(str(scale))
        assert spec.out_size[0] == (out or math.floor(size * exact))
        expected = np.zeros((spec.out_size[0], size))
        for o in range(spec.out_size[0]):
            place = _place(transformation, o, size, spec.out_size[0], exact)
            for i, weight in _weights(mode, rounding, place).items():
                expected[o, min(max(i, 0), size - 1)] += float(weight)
        what = f"{size} {out} {scale} {rounding}"
        np.testing.assert_allclose(_matrix(spec, 0), expected, atol=1e-13, err_msg=what)
        turned = _spec("bwd", size, out, scale, mode, transformation, rounding)
        np.testing.assert_array_equal(_matrix(turned, 0, True), _matrix(spec, 0).T, err_msg=what)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_the_nearest_are_those_of_torch(mode: str) -> None:
    """In float32, step by step; where the size stays or is doubled, nearest takes no look at the scale."""
    sizes = [(size, out, None) for size, out in product((1, 2, 3, 7, 41, 59, 100), (1, 3, 29, 82, 118, 129))]
    sizes += [(size, None, scale) for size, scale in product((2, 9, 20, 59), (2.3, 1.1, 0.99, 2.2, 0.7))]
    unlike = 0
    for size, out, scale in sizes:
        x = np.arange(float(size)).reshape(1, 1, size)
        with fc.use_backend("reference"):
            y = fc.interpolate(x, out, scale, mode)
            dx = fc.interpolate_backward(np.ones_like(y), x, out, scale, mode)
        length = y.shape[-1]
        step = np.float32(1 / scale) if scale else np.float32(size) / np.float32(length)
        expected = []
        for o in range(length):
            place = np.float32(o) * step if mode == "nearest" else np.float32((o + 0.5) * float(step))
            place = o if length == size and mode == "nearest" else place
            place = o // 2 if length == 2 * size and mode == "nearest" else place
            expected.append(min(math.floor(place), size - 1))
            shift = 0 if mode == "nearest" else Fraction(1, 2)
            exact = (o + shift) / Fraction(str(scale)) if scale else (o + shift) * Fraction(size, length)
            unlike += expected[-1] != min(math.floor(exact), size - 1)
        assert y[0, 0].tolist() == expected, (size, out, scale)
        assert dx[0, 0].tolist() == np.bincount(expected, minlength=size).tolist()
    assert unlike  # such as 2 to 82


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize(("antialias", "exclude_outside"), [(True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_weights_that_reach_further_or_end_at_the_border(
    mode: str, antialias: bool, exclude_outside: bool, transformation: str
) -> None:
    """Those of ONNX's operator: filters stretched where images get smaller, and sums of 1."""
    sizes = [(size, out, None) for size, out in product((1, 2, 3, 7, 41), (1, 2, 3, 5, 14, 82))]
    for size, out, scale in [*sizes, (10, None, 0.5), (9, None, 0.375), (5, None, 2.5)]:
        spec = _spec("fwd", size, out, scale, mode, transformation, "floor", antialias, exclude_outside)
        out = spec.out_size[0]
        exact = Fraction(out, size) if scale is None else Fraction(str(scale))
        width = max(Fraction(1), 1 / exact) if antialias else Fraction(1)
        expected = np.zeros((out, size))
        for o in range(out):
            place, reach = _place(transformation, o, size, out, exact), 2 * math.ceil(width)
            weights = {}
            for i in range(math.floor(place) - reach, math.floor(place) + reach + 2):
                # Of positions around 0, those of a result there.
                far = (i - place) / width
                weights[i] = _weights(mode, "floor", -far + math.ceil(far)).get(math.ceil(far), Fraction(0))
            if exclude_outside:
                weights = {i: weight for i, weight in weights.items() if 0 <= i < size}
            for i, weight in weights.items():
                expected[o, min(max(i, 0), size - 1)] += float(weight / sum(weights.values()))
        np.testing.assert_allclose(_matrix(spec, 0), expected, atol=1e-13, err_msg=f"{size} {out} {scale}")


def test_ties_of_nearest_exact_go_up(target: Target, dtype: str) -> None:
    with testing.on(target):
        y = fc.interpolate(np.arange(4, dtype=dtype).reshape(1, 1, 4), 2, mode="nearest-exact")
    testing.assert_exact(y, np.array([[[1, 3]]], dtype))


def test_numbers_of_the_operator_s_own_examples(target: Target, dtype: str) -> None:
    square, sixteen = np.array([[[[1, 2], [3, 4]]]], dtype), np.arange(1, 17).reshape(1, 1, 4, 4).astype(dtype)
    with testing.on(target):
        y = testing.proven(target, fc.resize, square, scales=2, mode="linear")
        aligned = fc.resize(square, scales=2, mode="linear", coordinate_transformation_mode="align_corners")
        cubic = fc.resize(sixteen, scales=2, mode="cubic")
        smaller = fc.resize(sixteen, scales=0.8, mode="cubic")
        near = fc.resize(square, (7, 8))
        ceiled = fc.resize(sixteen, (8, 8), nearest_mode="ceil", coordinate_transformation_mode="half_pixel")
    testing.assert_exact(
        y[0, 0], np.array([[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]])
    )
    np.testing.assert_allclose(aligned[0, 0, 1], [5 / 3, 2, 7 / 3, 8 / 3], rtol=1e-6)
    first = [0.47265625, 0.76953125, 1.24609375, 1.875, 2.28125, 2.91015625, 3.38671875, 3.68359375]
    np.testing.assert_allclose(cubic[0, 0, 0], first, rtol=1e-6)
    np.testing.assert_allclose(smaller[0, 0, 0], [1.47119141, 2.78125, 4.08251953], rtol=1e-6)
    assert near[0, 0].tolist() == [[1] * 4 + [2] * 4] * 4 + [[3] * 4 + [4] * 4] * 3
    assert ceiled[0, 0, 0].tolist() == [1, 2, 2, 3, 3, 4, 4, 4]


def _whole(seed: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return testing.integers(np.random.default_rng(seed), shape, dtype)


def _arguments(mode: tuple[str, str], last: bool, sizes: tuple[int, ...]) -> dict[str, Any]:
    name = layouts.name(last, len(sizes))
    return {"sizes": sizes, "mode": mode[0], "coordinate_transformation_mode": mode[1], "layout": name}


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("mode", _MODES, ids="-".join)
@pytest.mark.parametrize(("shape", "sizes"), _DYADIC, ids=str)
def test_sums_of_whole_numbers_are_exact(
    target: Target, dtype: str, shape: Any, sizes: Any, mode: tuple[str, str], last: bool
) -> None:
    kw = _arguments(mode, last, sizes)
    x = layouts.to(_whole(1, shape, dtype), last)
    with fc.use_backend("reference"):
        expected = fc.resize(x, **kw)
        dy = _whole(2, expected.shape, dtype)
        gradient = fc.resize_backward(dy, x, **kw)
    assert testing.adjoint_gap(expected, dy, (x, gradient)) < 1e-3
    out, dx = testing.nan_filled(expected.shape, dtype), testing.nan_filled(x.shape, dtype)
    with testing.on(target):
        assert testing.proven(target, fc.resize, x, **kw, out=out) is out
        assert testing.proven(target, fc.resize_backward, dy, x, **kw, out=dx) is dx
    close = 64 * np.finfo(dtype).eps if mode[0] == "cubic" else 0
    testing.assert_close(out, expected, close * 10)
    testing.assert_close(dx, gradient, close * 200)


@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
@pytest.mark.parametrize("mode", [*_MODES, ("linear", "align_corners")], ids="-".join)
def test_real_numbers(target: Target, dtype: str, mode: tuple[str, str], wide: bool) -> None:
    rng = np.random.default_rng(3)
    for shape, sizes, last in (
        ((2, 19, 13, 21), (29, 17), False), ((2, 19, 13, 21), (7, 45), True), ((1, 3, 6, 5, 7), (5, 9, 11), True),
        ((3, 5, 601), (77,), False), ((2, 3, 14, 40), (29, 81), True), ((1, 5, 9, 33), (4, 100), True),
        ((1, 1, 2, 600, 2), (3, 1100, 3), False), ((2, 40, 7, 6), (15, 11), True),
    ):  # fmt: skip
        kw = {**_arguments(mode, last, sizes), "antialias": wide, "exclude_outside": wide}
        x = layouts.to(rng.standard_normal(shape), last)
        with fc.use_backend("reference"):
            expected = fc.resize(x.astype(dtype).astype("float64"), **kw)
            size = fc.resize(np.abs(x), **kw)
            dy = rng.standard_normal(expected.shape)
            gradient = fc.resize_backward(dy.astype(dtype).astype("float64"), x, **kw)
            dsize = fc.resize_backward(np.abs(dy), x, **kw)
        x, dy = x.astype(dtype), dy.astype(dtype)
        with testing.on(target):
            y, dx = fc.resize(x, **kw), fc.resize_backward(dy, x, **kw)
        # (Of cubic weights some are negative.)
        more = 4 if mode[0] == "cubic" else 0
        testing.assert_close(y, expected, testing.error_bound(np.abs(size) + more, 48 if wide else 12, dtype))
        testing.assert_close(dx, gradient, testing.error_bound(np.abs(dsize) + 4 * more, 48, dtype))


@pytest.mark.parametrize("order", list(testing.MEMORY_ORDERS), ids=str)
def test_arrays_may_lie_as_they_like(target: Target, dtype: str, order: str) -> None:
    lie = testing.MEMORY_ORDERS[order]
    for shape, last in (((2, 3, 4, 9), False), ((2, 5, 300, 3), True), ((1, 18, 1, 5), False)):
        x = _whole(4, shape, dtype)
        kw = {"sizes": (3, 11), "mode": "linear", "layout": layouts.name(last, 2)}
        with testing.on(target):
            y = fc.resize(x, **kw)
            dy = _whole(5, y.shape, dtype)
            dx = fc.resize_backward(dy, x, **kw)
            out, gradient = lie(testing.nan_filled(y.shape, dtype)), lie(testing.nan_filled(x.shape, dtype))
            testing.proven(target, fc.resize, lie(x), **kw, out=out)
            testing.proven(target, fc.resize_backward, lie(dy), lie(x), **kw, out=gradient)
        testing.assert_exact(out, y)
        testing.assert_exact(gradient, dx)


def test_channels_are_cut_where_they_are_many(target: Target) -> None:
    x = _whole(11, (1, 2, 60, 2003), "float32")
    kw = {"sizes": (4, 120), "mode": "linear", "layout": "NHWC"}
    with testing.on(target):
        y = testing.proven(target, fc.resize, x, **kw)
        near = fc.resize(x, (4, 120), layout="NHWC")
    testing.assert_exact(y[:, 0, ::2], (x[:, 0, [0, *range(59)]] + 3 * x[:, 0]) / 4)
    testing.assert_exact(near, x.repeat(2, 1).repeat(2, 2))


def test_one_row_of_half_the_weight(target: Target, dtype: str) -> None:
    dy, x = np.ones((1, 1, 1, 2), dtype), np.zeros((1, 2, 1, 2), dtype)
    with testing.on(target):
        dx = testing.proven(target, fc.resize_backward, dy, x, 1, mode="linear", layout="NHWC")
    testing.assert_exact(dx, np.full((1, 2, 1, 2), 0.5, dtype))


def test_a_part_of_an_array_is_written(target: Target, dtype: str) -> None:
    x, whole = _whole(12, (2, 7, 3, 9), dtype), testing.nan_filled((2, 7, 5, 13), dtype)
    with testing.on(target):
        y = fc.resize(x, (4, 11), mode="linear")
        testing.proven(target, fc.resize, x, (4, 11), mode="linear", out=whole[:, :, :4, :11])
    testing.assert_exact(whole[:, :, :4, :11], y)


def test_gradients_whose_rows_lie_at_uneven_places(target: Target, dtype: str) -> None:
    x, dy = np.zeros((2, 145, 1), dtype), _whole(13, (2, 145, 13), dtype)
    out = testing.nan_filled((145, 2, 1), dtype).transpose(1, 0, 2)
    with testing.on(target):
        testing.proven(target, fc.resize_backward, dy, x, 13, out=out)
    testing.assert_exact(out[..., 0], dy.sum(-1))


def test_a_stretched_image_is_read_where_it_is(target: Target, dtype: str) -> None:
    x = np.broadcast_to(_whole(6, (2, 1, 5, 1), dtype), (2, 4, 5, 6))
    with testing.on(target):
        y = testing.proven(target, fc.resize, x, (9, 4), mode="linear")
        testing.assert_exact(y, fc.resize(x.copy(), (9, 4), mode="linear"))


def test_nothing_is_read_or_written_beside_the_arrays(target: Target, dtype: str) -> None:
    for shape, sizes, last in (
        ((1, 1, 1, 1), (3, 5), False), ((1, 3, 5, 7), (10, 14), False), ((2, 5, 3, 9), (2, 31), True),
        ((1, 17, 2, 3), (4, 1), True), ((3, 6, 1, 33), (1, 5), False),
    ):  # fmt: skip
        x = layouts.to(_whole(7, shape, dtype), last)
        kw = {"sizes": sizes, "mode": "linear", "layout": layouts.name(last, 2)}
        with fc.use_backend("reference"):
            expected = fc.resize(x, **kw)
        for side in ("start", "end"):
            with testing.on(target):
                out = testing.guarded(testing.nan_filled(expected.shape, dtype), side)
                fc.resize(testing.guarded(x, side), **kw, out=out)
            testing.assert_close(out, expected, 1e-5)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_bits_do_not_depend_on_threads_and_batches(target: Target, last: bool) -> None:
    x = layouts.to(np.random.default_rng(8).standard_normal((3, 21, 37, 41)).astype("float32"), last)
    kw = {"scale_factor": (2.3, 1.7), "mode": "bilinear", "layout": layouts.name(last, 2)}
    with testing.on(target):
        with fc.threads(1):
            y = fc.interpolate(x, **kw)
            dx = fc.interpolate_backward(y, x, **kw)
        with fc.threads(3):
            testing.assert_exact(fc.interpolate(x, **kw), y)
            testing.assert_exact(fc.interpolate_backward(y, x, **kw), dx)
        testing.assert_exact(fc.interpolate(x[2:], **kw), y[2:])


def test_infinities_stay_where_they_have_weight(target: Target, dtype: str) -> None:
    x = np.array([1, np.inf, 2, 3, np.nan], dtype).reshape(1, 1, 5)
    inf, nan = np.inf, np.nan
    with testing.on(target):
        y = testing.proven(target, fc.interpolate, x, 9, mode="linear", align_corners=True)
        same = fc.interpolate(x, 5, mode="linear")
        near = fc.interpolate(x, scale_factor=2)
        long = np.arange(200, dtype=dtype)
        long[::3] = inf
        twice = testing.proven(target, fc.interpolate, long.reshape(1, 1, -1), 399, mode="linear", align_corners=True)
    testing.assert_exact(twice[0, 0, ::2], long)
    testing.assert_exact(twice[0, 0, 1::2], (long[1:] + long[:-1]) / 2)
    testing.assert_exact(y[0, 0], np.array([1, inf, inf, inf, 2, 2.5, 3, nan, nan], dtype))
    testing.assert_exact(same, x)
    testing.assert_exact(near[0, 0], np.repeat(x[0, 0], 2))


def test_long_sums_keep_their_digits(target: Target) -> None:
    x = np.zeros((2, 3, 1), "float32")
    dy = np.random.default_rng(9).random((2, 3, 60_000), "float32") + 1
    with testing.on(target):
        dx = testing.proven(target, fc.interpolate_backward, dy, x, 60_000, mode="linear")
    np.testing.assert_allclose(dx[..., 0], dy.sum(-1, dtype="float64"), rtol=1e-6)


def test_the_library_refuses_sums_of_too_many(free_choice: None) -> None:
    targets = [t for t in testing.targets() if t.backend == "c"]
    for target in targets:
        with testing.on(target), pytest.raises(NotImplementedError, match="over 65536 terms"):
            fc.interpolate_backward(np.ones((1, 1, 70_000)), np.ones((1, 1, 1)), 70_000)
    dx = fc.interpolate_backward(np.ones((1, 1, 70_000)), np.ones((1, 1, 1)), 70_000)
    assert dx.tolist() == [[[70_000]]]


def test_long_rows_are_not_kept(target: Target) -> None:
    x = _whole(10, (1, 2, 30_001), "float32")
    with testing.on(target):
        for _ in range(2):
            y = testing.proven(target, fc.interpolate, x, scale_factor=2)
            testing.assert_exact(y, np.repeat(x, 2, -1))


def test_images_that_are_not_there(target: Target) -> None:
    x = np.ones((0, 3, 4, 5), "float32")
    with testing.on(target):
        assert fc.interpolate(x, (8, 9), mode="bilinear").shape == (0, 3, 8, 9)
        assert fc.resize_backward(np.ones((0, 3, 2, 2), "float32"), x, 2).shape == x.shape
        assert fc.interpolate(np.ones((2, 5, 0)), 4, layout="NLC").shape == (2, 4, 0)


def test_scales_and_sizes_that_they_make() -> None:
    x = np.arange(10.0).reshape(1, 1, 10)
    assert fc.interpolate(x, scale_factor=1.75).shape == (1, 1, 17)
    assert fc.interpolate(x[..., None], scale_factor=(0.35, 3.0)).shape == (1, 1, 3, 3)
    by_scale = fc.interpolate(x, scale_factor=0.35, mode="linear")
    by_size = fc.interpolate(x, scale_factor=0.35, mode="linear", recompute_scale_factor=True)
    testing.assert_exact(by_size, fc.interpolate(x, 3, mode="linear"))
    assert by_scale[0, 0, 0] == pytest.approx(0.5 / 0.35 - 0.5)
    assert by_size[0, 0, 0] == pytest.approx(0.5 * 10 / 3 - 0.5)


def test_arguments_that_fit_no_rule_are_named() -> None:
    x = np.ones((2, 3, 4, 5), "float32")
    for call, words in [
        (lambda: fc.interpolate(x), ("size=None and scale_factor=None", "one of them")),
        (lambda: fc.interpolate(x, 3, 2.0), ("size=3 and scale_factor=2.0", "one of them")),
        (lambda: fc.interpolate(x, (3, 3, 3)), ("size=(3, 3, 3)", "2 of them")),
        (lambda: fc.interpolate(x, 0), ("size=0", ">= 1")),
        (lambda: fc.interpolate(x, scale_factor=0.1), ("scale_factor=0.1", "(4, 5)", "from 1 to")),
        (lambda: fc.interpolate(x, scale_factor=-1), ("scale_factor=-1", "above 0")),
        (lambda: fc.interpolate(x, scale_factor=(1.0,)), ("scale_factor=(1.0,)", "2 of them")),
        (lambda: fc.interpolate(x, 3, mode="linear"), ("mode='linear'", "'bilinear', 'bicubic'")),
        (lambda: fc.interpolate(x, 3, mode="area"), ("mode='area'", "nearest-exact")),
        (lambda: fc.interpolate(x, 3, align_corners=False), ("align_corners=False", "None")),
        (lambda: fc.interpolate(x, 3, recompute_scale_factor=True), ("recompute_scale_factor=True", "None or False")),
        (lambda: fc.interpolate(x, 3, antialias=True), ("antialias=True", "'bilinear' or 'bicubic'", "'nearest'")),
        (lambda: fc.interpolate(x, 3, None, "bicubic", True, None, True), ("antialias=True", "align_corners=True")),
        (lambda: fc.interpolate(x[0, 0], 3), ("x has shape (4, 5)", "3 to 5 dimensions")),
        (lambda: fc.interpolate(x[:, :, :0], 3), ("x has the spatial size (0, 5)", ">= 1")),
        (lambda: fc.interpolate(x, 50_000), ("the result", "at most 2147483647")),
        (lambda: fc.resize(x, 3, mode="bilinear"), ("mode='bilinear'", "nearest, linear, cubic")),
        (lambda: fc.resize(x, 3, nearest_mode="up"), ("nearest_mode='up'", "round_prefer_floor")),
        (lambda: fc.resize(x, 3, mode="cubic", cubic_coeff_a=3), ("cubic_coeff_a=3", "from -2 to 2")),
        (lambda: fc.resize(x, scales=float("inf")), ("scales=inf", "above 0")),
        (lambda: fc.resize_backward(x, x, 3), ("dy has shape (2, 3, 4, 5)", "(2, 3, 3, 3)")),
        (lambda: fc.resize(x, (4, 5), out=x), ("out", "overlaps")),
    ]:
        with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
            call()
    for call, words in [
        (lambda: fc.interpolate(x, scale_factor=True), ("scale_factor=True", "a number")),
        (lambda: fc.interpolate(x, scale_factor="2"), ("scale_factor='2'", "a number")),
        (lambda: fc.interpolate(x, 2.0), ("size=2.0", "int")),
        (lambda: fc.resize(x, 2, exclude_outside=2), ("exclude_outside=2", "True or False")),
    ]:
        with pytest.raises(TypeError, match=".*".join(map(re.escape, words))):
            call()
