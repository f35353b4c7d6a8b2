"""Dropout: the same elements everywhere, which are those that the generator says, and as many as were asked for."""

from __future__ import annotations

import re
from typing import Any

import layouts
import numpy as np
import pytest

import fastconv as fc
from fastconv import testing
from fastconv.backends.reference.map import philox
from fastconv.testing import Target


def _word(number: int, seed: int, offset: int) -> int:
    """Random number ``number``, by Philox4x32-10 as its authors write it down."""
    low = 2**32 - 1
    c, k = [number // 4, 0, offset & low, offset >> 32], [seed & low, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & low, (a >> 32) ^ c[3] ^ k[1], a & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return c[number % 4]


def _mask(shape: tuple[int, ...], p: float, seed: int, offset: int = 0) -> np.ndarray:
    """Which elements are kept."""
    words = [_word(i, seed, offset) for i in range(int(np.prod(shape)))]
    return np.array([word >= p * 2**32 for word in words]).reshape(shape)


def _x(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 9, shape).astype(dtype)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, (2**32 - 1,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)  # fmt: skip
def test_the_generator_gives_its_authors_numbers(counter: list[int], key: tuple[int, int], words: list[int]) -> None:
    found = philox([np.array([c, 0], np.uint64) for c in counter], key)
    assert [int(word[0]) for word in found] == words


@pytest.mark.parametrize("seed", [0, 2**32 + 5, 2**63 - 1])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 67), (2, 3, 5, 7), (4, 0)], ids=str)
def test_elements_are_those_that_the_generator_says(
    target: Target, dtype: str, shape: tuple[int, ...], seed: int
) -> None:
    x, offset = _x(shape, dtype), seed // 3
    expected = np.where(_mask(shape, 0.25, seed, offset), x / 0.75, 0)
    out = testing.nan_filled(shape, dtype)
    with testing.on(target):
        y = testing.proven(target, fc.dropout, x, 0.25, seed=seed, offset=offset) if x.size else x
        assert fc.dropout(x, 0.25, seed=seed, offset=offset, out=out) is out
        dx = fc.dropout_backward(x, testing.nan_filled(shape, dtype), 0.25, seed=seed, offset=offset)
    testing.assert_close(y, expected, 4 * np.finfo(dtype).eps * np.abs(expected))
    testing.assert_exact(out, y)
    testing.assert_exact(dx, y)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_whole_channels(target: Target, dtype: str, last: bool) -> None:
    for size in ((5,), (3, 4), (2, 3, 4), ()):
        x = layouts.to(_x((3, 19, *size), dtype), last)
        name = layouts.name(last, len(size)) if size else "NCHW"
        keep = _mask((3, 19), 0.5, 9, 4).reshape(3, 19, *(1,) * len(size))
        with testing.on(target):
            y = testing.proven(target, fc.feature_dropout, x, 0.5, seed=9, offset=4, layout=name)
            dx = fc.feature_dropout_backward(x, x, 0.5, seed=9, offset=4, layout=name)
        testing.assert_exact(y, np.where(np.moveaxis(keep, 1, -1) if last else keep, 2 * x, 0).astype(dtype))
        testing.assert_exact(dx, y)


@pytest.mark.parametrize("order", list(testing.MEMORY_ORDERS), ids=str)
def test_elements_do_not_depend_on_where_they_lie(target: Target, order: str) -> None:
    x, lie = _x((5, 3, 11, 70), "float32"), testing.MEMORY_ORDERS[order]
    out = lie(testing.nan_filled(x.shape, "float32"))
    with testing.on(target):
        y, features = fc.dropout(x, 0.3, seed=5), fc.feature_dropout(x, 0.3, seed=5)
        testing.assert_exact(testing.proven(target, fc.dropout, lie(x), 0.3, seed=5, out=out), y)
        testing.assert_exact(fc.dropout(x, 0.3, seed=5, out=out), y)
        testing.assert_exact(fc.dropout(lie(x), 0.3, seed=5), y)
        testing.assert_exact(fc.feature_dropout(lie(x), 0.3, seed=5, out=out), features)
        stretched = fc.dropout(np.broadcast_to(x[:1], x.shape), 0.3, seed=5)
    testing.assert_exact(stretched == 0, y == 0)


def test_elements_do_not_depend_on_threads(target: Target) -> None:
    x = np.ones((3, 70_001), "float32")
    with testing.on(target):
        with fc.threads(1):
            y = fc.dropout(x, 0.1, seed=3, offset=2**40)
        with fc.threads(3):
            testing.assert_exact(testing.proven(target, fc.dropout, x, 0.1, seed=3, offset=2**40), y)
    dropped, total = (y == 0).sum(), x.size
    assert abs(dropped / total - 0.1) < 5 * (0.1 * 0.9 / total) ** 0.5
    with fc.use_backend("reference"):
        testing.assert_exact(y, fc.dropout(x, 0.1, seed=3, offset=2**40))


def test_nothing_is_read_or_written_beside_the_arrays(target: Target, dtype: str) -> None:
    for n in (1, 63, 65, 259):
        for side in ("start", "end"):
            x, out = testing.guarded(_x((3, n), dtype), side), testing.guarded(testing.nan_filled((3, n), dtype), side)
            with testing.on(target):
                fc.dropout(x, 0.5, seed=1, out=out)
            assert np.isfinite(out).all()


def test_other_seeds_and_offsets_drop_others() -> None:
    x = np.ones(4000)
    masks = [fc.dropout(x, seed=s, offset=o) != 0 for s, o in ((0, 0), (1, 0), (0, 1), (2**32, 0), (0, 2**32))]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert 1700 < (one != other).sum() < 2300


def test_none_and_all(target: Target, dtype: str) -> None:
    x = np.array([1, np.inf, np.nan, -0.0], dtype)
    with testing.on(target):
        testing.assert_exact(testing.proven(target, fc.dropout, x, 1, seed=1), np.zeros(4, dtype))
        for kept in (fc.dropout(x, 0, seed=1), fc.dropout(x, 0.5, False, seed=1)):
            testing.assert_exact(kept, x)
            assert not np.shares_memory(kept, x)
        every = fc.dropout(np.array([np.inf, np.nan] * 50, dtype), 0.5, seed=1)
    keep = _mask((100,), 0.5, 1)
    testing.assert_exact(every, np.where(keep, [np.inf, np.nan] * 50, 0).astype(dtype))


def test_arguments_that_do_not_fit_are_named() -> None:
    x = np.ones((2, 3), "float32")
    calls: list[tuple[Any, type[Exception], tuple[str, ...]]] = [
        (lambda: fc.dropout(x, 1.5, seed=0), ValueError, ("p=1.5", "0 to 1")),
        (lambda: fc.dropout(x, float("nan"), seed=0), ValueError, ("p=nan", "0 to 1")),
        (lambda: fc.dropout(x, seed=-1), ValueError, ("seed=-1", "from 0 to")),
        (lambda: fc.dropout(x, seed=0.5), TypeError, ("seed=0.5", "int")),
        (lambda: fc.dropout(x, seed=0, offset=2**63), ValueError, ("offset=9223372036854775808", "from 0 to")),
        (lambda: fc.dropout(x), TypeError, ("seed",)),
        (lambda: fc.dropout_backward(x[:1], x, seed=0), ValueError, ("dy has shape (1, 3)", "(2, 3)")),
        (lambda: fc.feature_dropout(x[0], seed=0), ValueError, ("x has shape (3,)", "2 dimensions")),
        (lambda: fc.feature_dropout(x, seed=0, layout="CHW"), ValueError, ("layout='CHW'", "NHWC")),
        (lambda: fc.dropout(x, seed=0, out=x), ValueError, ("out", "overlaps")),
    ]
    for call, kind, words in calls:
        with pytest.raises(kind, match=".*".join(map(re.escape, words))):
            call()
