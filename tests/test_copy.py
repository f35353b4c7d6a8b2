"""Copies: concat, split, pad, pixel and channel shuffles, layouts, casts; held against NumPy, and their gradients."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import testing
from fastconv.spec import PAD_MODES
from fastconv.testing import Target

#: numpy.pad's words.
_WORDS = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}

#: Shapes, the axes' order in the copy: squares with and without a rest, few rows, few columns, runs that stay.
_TURNED = [
    ((8, 8), (1, 0)), ((16, 48), (1, 0)), ((33, 17), (1, 0)), ((2, 3, 50), (0, 2, 1)), ((2, 50, 4), (0, 2, 1)),
    ((3, 2, 35), (2, 1, 0)), ((5, 6, 7, 9), (0, 2, 3, 1)), ((2, 7, 3, 4, 5), (4, 2, 0, 3, 1)),
    ((70, 1, 600), (2, 1, 0)),
    ((3, 5, 2, 2), (0, 2, 1, 3)), ((4, 9), (0, 1)), ((), ()), ((2, 3, 2, 3, 2, 3, 2, 9), (7, 0, 6, 1, 5, 2, 4, 3)),
]  # fmt: skip

#: Of a shape the pads of some axes, from the last one on.
_PADS = [
    ((4, 5, 9), (1, 2)), ((2, 3, 6, 7), (1, 1, 2, 2)), ((2, 3, 6, 7), (0, 3, 5, 0, 1, 1)),
    ((2, 6, 5, 4), (-1, 2, 3, -2)),
    ((3, 4), (-2, -1, -1, 0)), ((5,), (4, 4)), ((2, 3, 4, 5, 6), (2, 2, 1, 1, 3, 3)), ((7, 2, 40), (17, 3)), ((3,), ()),
]  # fmt: skip


def _whole(seed: int, *shapes: tuple[int, ...], dtype: Any = "float32") -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [testing.integers(rng, shape, dtype, 99) for shape in shapes]


def _padded(x: np.ndarray, pad: tuple[int, ...], mode: str, value: float = 0) -> np.ndarray:
    """By numpy.pad, of pairs from the last axis on; what is cropped comes off before, or, of a mirror, after."""
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    more = [(max(b, 0), max(a, 0)) for b, a in pairs]
    crop = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, pairs, strict=True))
    if mode == "circular":
        return np.pad(x[crop], more, "wrap")
    values = {"constant_values": value} if mode == "constant" else {}
    y = np.pad(x, more, _WORDS[mode], **values) if x.ndim else x
    return y[tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(y.shape, pairs, strict=True))]


def _letters(order: tuple[int, ...]) -> tuple[str, str]:
    letters = "ABCDEFGHI"[: len(order)]
    return letters, "".join(letters[axis] for axis in order)


# ------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize(("shape", "order"), _TURNED, ids=str)
def test_layouts(target: Target, dtype: str, shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    (x,) = _whole(1, shape, dtype=dtype)
    expected = x.transpose(order).copy()
    with testing.on(target):
        y = testing.proven(target, fc.to_layout, x, *_letters(order))
        testing.assert_exact(y, expected)
        assert y.flags.c_contiguous
        testing.assert_exact(fc.to_layout_backward(y, x, *_letters(order)), x)


@pytest.mark.parametrize("lie", list(testing.MEMORY_ORDERS), ids=str)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 1, 0)], ids=str)
def test_arrays_may_lie_as_they_like(target: Target, dtype: str, order: tuple[int, ...], lie: str) -> None:
    (x,) = _whole(2, (3, 9, 4, 19), dtype=dtype)
    expected = x.transpose(order)
    out = testing.MEMORY_ORDERS[lie](testing.nan_filled(expected.shape, dtype))
    with testing.on(target):
        for given in (x, testing.MEMORY_ORDERS[lie](x)):
            out.fill(np.nan)
            assert fc.to_layout(given, *_letters(order), out=out) is out
            testing.assert_exact(out, expected)
            testing.assert_exact(fc.to_layout(given, *_letters(order)), expected)
        same = np.broadcast_to(x[:, :1], x.shape)
        testing.assert_exact(fc.to_layout(same, *_letters(order)), same.transpose(order))
        laps = np.lib.stride_tricks.sliding_window_view(x.reshape(-1)[:40], 9)
        testing.assert_exact(fc.to_layout(laps, "AB", "BA"), laps.T)
        unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(x.shape)
        unaligned[...] = x
        unaligned.flags.writeable = False
        testing.assert_exact(fc.to_layout(unaligned, *_letters(order)), expected)


@pytest.mark.parametrize(
    "shape", [(3, 64, 1700), (3, 1700, 64), (2, 513, 400), (180_000, 3), (3, 180_000), (5, 130_001)]
)
def test_large_arrays_on_several_threads(target: Target, dtype: str, shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    letters = _letters((*range(len(shape) - 2), len(shape) - 1, len(shape) - 2))
    with testing.on(target), fc.threads(3):
        testing.assert_exact(fc.to_layout(x, *letters), x.swapaxes(-1, -2))
        testing.assert_exact(fc.to_layout(x[::-1, ..., ::-1], *letters), x[::-1, ..., ::-1].swapaxes(-1, -2))
        testing.assert_exact(fc.pad(x, (1, 3, 2, 0), value=-1), _padded(x, (1, 3, 2, 0), "constant", -1))


def test_turned_rows_go_past_the_caches(target: Target, dtype: str) -> None:
    """From 8 MB on, from 1 MB on where rows lie 4 KB apart; those that begin at no line do not."""
    line = 64 // np.dtype(dtype).itemsize
    for shape in ((1120, 1900), (2, 17 * line + 3, 3850), (1024, 17 * line)):
        x = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
        letters = _letters((*range(len(shape) - 2), len(shape) - 1, len(shape) - 2))
        whole = fc.empty(x.size + line, dtype)
        with testing.on(target):
            for begin in (0, 1):
                out = whole[begin:][: x.size].reshape(*shape[:-2], shape[-1], shape[-2])
                out.fill(np.nan)
                testing.assert_exact(fc.to_layout(x, *letters, out=out), x.swapaxes(-1, -2))


@pytest.mark.parametrize("step", [-1, 2, -2, 3, -3])
def test_steps_of_rows(target: Target, dtype: str, step: int) -> None:
    for columns in (1, 2, 5, 33, 130):
        (x,) = _whole(3, (4, columns), dtype=dtype)
        with testing.on(target):
            testing.assert_exact(fc.to_layout(x[:, ::step], "AB", "AB"), x[:, ::step])


def test_what_no_cache_holds_is_copied_past_them() -> None:
    """From 64 MB on; the rows begin anywhere."""
    x = np.arange(2 * 8_500_003, dtype="float32").reshape(2, -1)
    for target in testing.targets():
        if target.backend == "c":
            with testing.on(target):
                y = fc.concat((x[:, 5:], x[:, 1000:1600], x[:, :7]), 1)
            assert np.array_equal(y, np.concatenate((x[:, 5:], x[:, 1000:1600], x[:, :7]), 1)), target


def test_nothing_is_read_or_written_beside_the_arrays(target: Target, dtype: str) -> None:
    for n in (1, 3, 8, 15, 17, 31, 515):
        for side in ("start", "end"):
            x = testing.guarded(_whole(3, (2, n, 9), dtype=dtype)[0], side)
            for order in ((0, 1, 2), (0, 2, 1), (2, 1, 0)):
                out = testing.guarded(testing.nan_filled(x.transpose(order).shape, dtype), side)
                with testing.on(target):
                    fc.to_layout(x, *_letters(order), out=out)
                testing.assert_exact(out, x.transpose(order))
            for mode in PAD_MODES:
                out = testing.guarded(testing.nan_filled((2, n, 12), dtype), side)
                with testing.on(target):
                    fc.pad(x, (2, 1), mode, out=out)
                    testing.assert_exact(out, _padded(x, (2, 1), mode))
                    fc.pad_backward(out, x, (2, 1), mode, out=testing.guarded(testing.nan_filled(x.shape, dtype), side))


@pytest.mark.usefixtures("free_choice")
def test_more_axes_than_the_library_knows() -> None:
    (x,) = _whole(13, (9, 2, 3, 2, 3, 2, 3, 2, 2))
    order = (8, 0, 6, 1, 5, 2, 4, 3, 7)
    testing.assert_exact(fc.to_layout(x, *_letters(order)), x.transpose(order))


# ------------------------------------------------------------------------------------------------- concat, split


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_arrays_are_joined_and_taken_apart(target: Target, dtype: str, dim: int) -> None:
    shapes = [(2, 3, 5), (2, 3, 5), (2, 3, 5), (2, 3, 5)]
    shapes = [tuple(k + 2 * k * (i == dim % 3) for i, k in enumerate(s)) if n == 1 else s for n, s in enumerate(shapes)]
    shapes[2] = tuple(0 if i == dim % 3 else k for i, k in enumerate(shapes[2]))
    arrays = _whole(4, *shapes, dtype=dtype)
    arrays[3] = arrays[3][::-1]
    expected = np.concatenate(arrays, dim)
    out = testing.nan_filled(expected.shape, dtype)
    sizes = [shape[dim] for shape in shapes]
    with testing.on(target):
        testing.assert_exact(testing.proven(target, fc.concat, arrays, dim), expected)
        assert fc.concat(tuple(arrays), dim, out=out) is out
        testing.assert_exact(out, expected)
        parts = fc.split(expected, sizes, dim)
        gradients = fc.concat_backward(expected, arrays, dim)
        testing.assert_exact(fc.split_backward(arrays, expected, sizes, dim), expected)
        halves = fc.split(expected, 2, dim)
    for array, part, gradient in zip(arrays, parts, gradients, strict=True):
        testing.assert_exact(part, array)
        testing.assert_exact(gradient, array)
        assert not np.shares_memory(part, expected)
    size = expected.shape[dim]
    assert [h.shape[dim] for h in halves] == [min(2, size - i) for i in range(0, size, 2)]
    testing.assert_exact(np.concatenate(halves, dim), expected)


# ----------------------------------------------------------------------------------------------------------- pad


@pytest.mark.parametrize(("shape", "pad"), _PADS, ids=str)
@pytest.mark.parametrize("mode", PAD_MODES)
def test_padding_is_that_of_numpy(target: Target, dtype: str, mode: str, shape: tuple[int, ...], pad: Any) -> None:
    (x,) = _whole(5, shape, dtype=dtype)
    value = {"value": 7} if mode == "constant" else {}
    expected = _padded(x, pad, mode, 7)
    (dy,) = _whole(6, expected.shape, dtype=dtype)
    with testing.on(target):
        y = testing.proven(target, fc.pad, x, pad, mode, **value)
        testing.assert_exact(y, expected)
        out = np.asfortranarray(testing.nan_filled(expected.shape, dtype))
        testing.assert_exact(fc.pad(x[::-1], pad, mode, **value, out=out), _padded(x[::-1], pad, mode, 7))
        dx = testing.proven(target, fc.pad_backward, dy, x, pad, mode, **value)
        out = np.asfortranarray(testing.nan_filled(shape, dtype))
        testing.assert_exact(fc.pad_backward(np.asfortranarray(dy), x, pad, mode, **value, out=out), dx)
    zeros = expected if mode != "constant" else _padded(x, pad, mode)
    assert testing.adjoint_gap(zeros, dy, (x, dx)) == 0


@pytest.mark.parametrize("mode", PAD_MODES)
def test_padding_of_channels_last(target: Target, dtype: str, mode: str) -> None:
    for shape, pad in (((2, 6, 7, 3), (2, 1, 3, 0)), ((6, 9, 1), (1, 2)), ((2, 4, 5, 6, 2), (1, 1, 2, 2, 3, 3))):
        x, first = _whole(7, shape, dtype=dtype)[0], (0, len(shape) - 1, *range(1, len(shape) - 1))
        last = np.argsort(first)
        with testing.on(target):
            y = testing.proven(target, fc.pad, x, pad, mode, layout="NHWC")
            apart, out = (np.concatenate((a, a), -1)[..., : shape[-1]] for a in (x, y))
            testing.assert_exact(fc.pad(apart, pad, mode, layout="NHWC", out=out), y)
            dx = testing.proven(target, fc.pad_backward, y, x, pad, mode, layout="NHWC")
            expected = fc.pad_backward(y.transpose(first), x.transpose(first), pad, mode)
        testing.assert_exact(y, _padded(x.transpose(first), pad, mode).transpose(last))
        testing.assert_exact(dx, expected.transpose(last))


def test_gradients_of_padding_are_added_in_double_precision(target: Target) -> None:
    """One place receives 1e8 and then 81 times 1: each alone is too little for float32 to see."""
    dy = np.ones((1, 1, 10, 10), "float32")
    dy[0, 0, 0, 0] = 1e8
    with testing.on(target):
        dx = fc.pad_backward(dy, np.zeros((1, 1, 2, 2), "float32"), (8, 0, 8, 0), "replicate")
    assert dx[0, 0, 0, 0] == np.float32(1e8 + 80)
    testing.assert_exact(dx[0, 0, 1], np.array([9, 1], "float32"))


def test_bits_do_not_depend_on_threads_and_places(target: Target, dtype: str) -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((3, 20, 31, 33)).astype(dtype)
    y = rng.standard_normal((3, 20, 49, 47)).astype(dtype)
    with testing.on(target):
        with fc.threads(1):
            alone = fc.pad_backward(y, x, (7, 7, 9, 9), "reflect")
        with fc.threads(3):
            testing.assert_exact(fc.pad_backward(y, x, (7, 7, 9, 9), "reflect"), alone)
        last = fc.to_layout(y, "NCHW", "NHWC").transpose(0, 3, 1, 2)
        testing.assert_exact(fc.pad_backward(last, x, (7, 7, 9, 9), "reflect"), alone)
        turned = np.empty(x.shape[::-1], dtype).T
        testing.assert_exact(fc.pad_backward(y, x, (7, 7, 9, 9), "reflect", out=turned), alone)


# ------------------------------------------------------------------------------------------------------- shuffles


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("layout", ["NCL", "NLC", "NCHW", "NHWC", "NCDHW", "NDHWC"])
def test_channels_become_pixels_and_back(target: Target, dtype: str, layout: str, factor: int) -> None:
    last, size = layout.endswith("C"), (7, 3, 2)[: len(layout) - 2]
    d = len(size)
    channels = 2 * factor**d
    (x,) = _whole(9, (3, *size, channels) if last else (3, channels, *size), dtype=dtype)
    large = tuple(n * factor for n in size)
    expected = np.empty((3, *large, 2) if last else (3, 2, *large), dtype)
    given, made = (np.moveaxis(a, -1, 1) if last else a for a in (x, expected))
    for c in range(channels):
        of, rest, step = c // factor**d, c % factor**d, []
        for _ in range(d):
            step.insert(0, slice(rest % factor, None, factor))
            rest //= factor
        made[(slice(None), of, *step)] = given[:, c]
    with testing.on(target):
        y = testing.proven(target, fc.pixel_shuffle, x, factor, layout=layout)
        testing.assert_exact(y, expected)
        testing.assert_exact(testing.proven(target, fc.pixel_unshuffle, y, factor, layout=layout), x)
        testing.assert_exact(fc.pixel_shuffle(x[1], factor, layout=layout), expected[1])
        testing.assert_exact(fc.pixel_shuffle_backward(y, x, factor, layout=layout), x)
        testing.assert_exact(fc.pixel_unshuffle_backward(x, y, factor, layout=layout), y)
        out = np.asfortranarray(testing.nan_filled(x.shape, dtype))
        testing.assert_exact(fc.pixel_unshuffle(np.asfortranarray(y), factor, layout=layout, out=out), x)


@pytest.mark.parametrize(("channels", "groups"), [(12, 1), (12, 2), (12, 3), (12, 12), (58, 2), (40, 5)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_channels_are_shuffled(target: Target, dtype: str, layout: str, channels: int, groups: int) -> None:
    axis = 3 if layout == "NHWC" else 1
    (x,) = _whole(10, (2, 5, 7, channels) if axis == 3 else (2, channels, 5, 7), dtype=dtype)
    order = [g * (channels // groups) + k for k in range(channels // groups) for g in range(groups)]
    with testing.on(target):
        y = testing.proven(target, fc.channel_shuffle, x, groups, layout=layout)
        testing.assert_exact(y, x.take(order, axis))
        testing.assert_exact(fc.channel_shuffle_backward(y, x, groups, layout=layout), x)
        testing.assert_exact(fc.channel_shuffle(x[::-1, ..., ::2], 1, layout=layout), x[::-1, ..., ::2])


# ---------------------------------------------------------------------------------------------------------- dtypes


def test_casts(target: Target) -> None:
    x = np.array([[1, -2.5, np.inf, np.nan, 1 + 2.0**-24, 1 + 3 * 2.0**-24, 3.5e38, -1e300, 1e-60]] * 40)[::-1]
    with np.errstate(over="ignore"):
        narrow = x.astype("float32")
    with testing.on(target):
        testing.assert_exact(testing.proven(target, fc.cast, x, "float32"), narrow)
        testing.assert_exact(testing.proven(target, fc.cast, narrow, np.float64), narrow.astype("float64"))
        out = np.asfortranarray(testing.nan_filled(x.shape, "float32"))
        testing.assert_exact(testing.proven(target, fc.cast, x[:, ::-1], np.float32, out=out), narrow[:, ::-1])
        planes = np.arange(4.0 * 7 * 9).reshape(4, 7, 9)[:, ::2, ::2]
        testing.assert_exact(fc.cast(planes, "float32"), planes.astype("float32"))
        dx = fc.cast_backward(narrow, x, "float32")
        assert dx.dtype == np.float64
        testing.assert_exact(dx, narrow.astype("float64"))
        assert fc.cast(x, "float64") is not x


def test_casts_of_halves_and_integers() -> None:
    x = np.array([1.5, 65504, 1e5, -7])
    with np.errstate(over="ignore"):
        half = x.astype("float16")
    testing.assert_exact(fc.cast(x, "float16"), half)
    testing.assert_exact(fc.cast(half, "float32"), half.astype("float32"))
    testing.assert_exact(fc.cast(np.arange(256, dtype="uint8"), "float32"), np.arange(256, dtype="float32"))
    assert fc.cast_backward(half.astype("float32"), half, "float32").dtype == np.float16


@pytest.mark.parametrize("kind", ["int8", "uint16", "int32", "uint64", "int64"])
def test_integers_are_copied(kind: str) -> None:
    limits = np.iinfo(kind)
    x = np.random.default_rng(11).integers(limits.min, limits.max, (3, 4, 20, 18), kind, endpoint=True)
    for backend in ("c", "reference"):
        if fc.backends()[backend] is None and (backend == "reference" or x.itemsize >= 4):
            with fc.use_backend(backend):
                assert np.array_equal(fc.to_layout(x, "NCHW", "NHWC"), x.transpose(0, 2, 3, 1))
                assert np.array_equal(fc.concat((x, x[:, :1]), 1), np.concatenate((x, x[:, :1]), 1))
                assert np.array_equal(fc.pixel_shuffle(x, 2)[:, 0, ::2, 1::2], x[:, 1])
                expected = np.pad(x, [(0, 0)] * 3 + [(1, 1)], constant_values=limits.max)
                assert np.array_equal(fc.pad(x, (1, 1), value=limits.max), expected)


def test_every_bit_comes_through(target: Target, dtype: str) -> None:
    bits = np.random.default_rng(12).integers(0, 256, (40, 24, 8), np.uint8)
    bits[::3, :, -4:] = 0xFF  # NaN with a payload
    bits[1::3, :, 1:] = 0  # denormal numbers
    x = bits.view(dtype)[..., 0].copy()
    with testing.on(target):
        for y, expected in (
            (fc.to_layout(x, "AB", "BA"), x.T), (fc.pad(x, (3, 3), "circular"), np.pad(x, [(0, 0), (3, 3)], "wrap")),
            (fc.concat((x, x)), np.concatenate((x, x))), (fc.pad_backward(x, x[:, 2:], (2, 0)), x[:, 2:]),
            (fc.pad(x[:, :1], (0, 1), value=-0.0), np.stack([x[:, 0], np.full(40, -0.0, dtype)], 1)),
        ):  # fmt: skip
            assert y.tobytes() == np.ascontiguousarray(expected).tobytes()


def test_empty_arrays(target: Target, dtype: str) -> None:
    x = np.ones((2, 0, 3), dtype)
    with testing.on(target):
        assert fc.to_layout(x, "NCL", "LCN").shape == (3, 0, 2)
        assert fc.concat((x, x), 1).shape == (2, 0, 3)
        assert [part.shape for part in fc.split(x, 2)] == [(2, 0, 3)]
        assert [part.shape for part in fc.split(x, 2, 1)] == [(2, 0, 3)]
        testing.assert_exact(fc.pad(x, (0, 0, 2, 1), value=3), np.full((2, 3, 3), 3, dtype))
        assert fc.pad_backward(np.ones((2, 3, 3), dtype), x, (0, 0, 2, 1)).shape == x.shape
        assert fc.pad(x[:, :, :2], (1, 0), "reflect").shape == (2, 0, 3)
        nothing = fc.pad(np.ones((2, 3), dtype), (-1, -2), "replicate")
        assert nothing.shape == (2, 0)
        testing.assert_exact(fc.pad_backward(nothing, np.ones((2, 3), dtype), (-1, -2), "replicate"), np.zeros((2, 3)))
        assert fc.pixel_shuffle(np.ones((0, 8, 2, 2), dtype), 2).shape == (0, 2, 4, 4)
        assert fc.channel_shuffle(x, 2).shape == x.shape
        assert fc.cast(x, "float32").shape == x.shape


def test_arguments_that_do_not_fit_are_named() -> None:
    x = np.ones((2, 4, 5), "float32")
    for call, words in [
        (lambda: fc.pad(x, (5, 0), "reflect"), ("pad=(5, 0), mode='reflect'", "axis 2", "less than its size, 5")),
        (lambda: fc.pad(x, (0, 6), "circular"), ("pad=(0, 6), mode='circular'", "its size, 5, at most")),
        (lambda: fc.pad(x, (-2, 4), "circular"), ("pad=(-2, 4)", "its size, 3, at most")),
        (lambda: fc.pad(x[:, :, :0], (1, 1), "replicate"), ("pad=(1, 1)", "an axis with elements")),
        (lambda: fc.pad(x, (-3, -3)), ("pad=(-3, -3)", "a size of at least 0")),
        (lambda: fc.pad(x, (-6, 4), "replicate"), ("pad=(-6, 4)", "crop 5")),
        (lambda: fc.pad(x, (1, 1, 1)), ("pad=(1, 1, 1)", "a pair of ints")),
        (lambda: fc.pad(x, (1,) * 6, layout="NLC"), ("pad=(1, 1, 1, 1, 1, 1)", "up to 2 axes")),
        (lambda: fc.pad(x, (1, 1), "edge"), ("mode='edge'", "constant, reflect, replicate, circular")),
        (lambda: fc.pad(x, (1, 1), "reflect", 0), ("value=0", "None")),
        (lambda: fc.pad(x.astype("int8"), (1, 1), value=200), ("value=200", "-128 to 127")),
        (lambda: fc.pad(x, (2**30, 2**30)), ("the result", "2147483647")),
        (lambda: fc.pad_backward(x, x, (1, 1)), ("dy has shape (2, 4, 5)", "(2, 4, 7)")),
        (lambda: fc.concat(()), ("arrays=()", "at least one")),
        (lambda: fc.concat((x, x[:, :3])), ("arrays[1] has shape (2, 3, 5)", "axis 0 alone")),
        (lambda: fc.concat((x, x), 3), ("dim=3", "-3 to 2")),
        (lambda: fc.concat((x, x), out=np.concatenate((x, x))[:, :, :4]), ("out has shape (4, 4, 4)", "(4, 4, 5)")),
        (lambda: fc.split(x, 0), ("split_size_or_sections=0", "at least 1")),
        (lambda: fc.split(x, (1, 2), 1), ("split_size_or_sections=(1, 2)", "add up to 4")),
        (lambda: fc.split_backward((x, x), x, 1), ("dy has shapes", "(1, 4, 5)")),
        (lambda: fc.to_layout(x, "NCHW", "NHWC"), ("source='NCHW'", "a letter for each axis")),
        (lambda: fc.to_layout(x, "NCL", "NLL"), ("destination='NLL'", "the letters of source='NCL'")),
        (lambda: fc.pixel_shuffle(x, 3, layout="NCL"), ("upscale_factor=3", "4 channels", "upscale_factor^1")),
        (lambda: fc.pixel_unshuffle(x, 2, layout="NCL"), ("downscale_factor=2", "(5,)", "multiples")),
        (lambda: fc.pixel_shuffle(x, 2, layout="CHW"), ("layout='CHW'", "'NCHW'")),
        (lambda: fc.pixel_shuffle(x[0], 2), ("x has shape (4, 5)", "4 axes, NCHW, or 3")),
        (lambda: fc.channel_shuffle(x, 3), ("groups=3", "4 channels", "divisor")),
        (lambda: fc.to_layout(x, "NCL", "NCL", out=x), ("out overlaps",)),
        (lambda: fc.cast_backward(x, x, "float32", out=x), ("out overlaps",)),
    ]:
        with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
            call()
    with pytest.raises(TypeError, match=r"arrays\[1\] has dtype float64: allowed is float32"):
        fc.concat((x, x.astype("float64")))
    with pytest.raises(TypeError, match="dtype is int32: allowed is float16 or float32 or float64"):
        fc.cast(x, "int32")
    with pytest.raises(TypeError, match="x has dtype int64"):
        fc.pad_backward(np.ones((2, 4, 7), int), np.ones((2, 4, 5), int), (1, 1))
