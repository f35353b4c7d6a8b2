"""Programs of the C backend do what the calls of their kernels do, one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import dispatch
from fastconv.backends import backends
from fastconv.spec import GemmSpec, MapSpec, ReduceSpec, Types, conv_spec, pool_spec

if reason := backends()["c"]:
    pytest.skip(f"the c backend cannot run here: {reason}", allow_module_level=True)

from fastconv.backends.c.program import Place, Program


class Chain:
    """A convolution, a pooling, a convolution by packed weights with bias and residual, and a product."""

    def __init__(self, dtype: str, layout: str) -> None:
        rng = np.random.default_rng(3)

        def numbers(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape).astype(dtype)

        image = (2, 3, 32, 32) if layout == "NCHW" else (2, 32, 32, 3)
        first = conv_spec("fwd", image, (24, 3, 3, 3), dtype, padding=1, layout=layout)
        pool = pool_spec("max", "fwd", first.y_shape, dtype, 2, 2, layout=layout)
        second = conv_spec(
            "fwd", pool.y_shape, (24, 24, 3, 3), dtype, padding=1, layout=layout, bias=True, residual=True, packed=True
        )
        product = GemmSpec(Types.of(dtype), 1, 2, 10, 24 * 16 * 16, bias=True)
        with fc.use_backend("c"):
            self.kernels = [dispatch.choose(spec).kernel for spec in (first, pool, second, product)]
        self.shapes = [first.y_shape, pool.y_shape, second.y_shape, (2, 10)]
        self.dtype = dtype
        self.x = numbers(*image)
        self.w1, self.w2, self.w3 = numbers(24, 3, 3, 3), numbers(24, 24, 3, 3), numbers(24 * 16 * 16, 10)
        self.b2, self.b3 = numbers(24), numbers(10)
        self.packed = self.kernels[2].pack(self.w2)

    def by_calls(self) -> list[np.ndarray]:
        y1, y2, y3, y4 = (np.full(shape, np.nan, self.dtype) for shape in self.shapes)
        conv, pool, second, product = self.kernels
        conv(self.x, self.w1, None, None, y1)
        pool(y1, y2, None)
        second(y2, self.packed, self.b2, y2, y3)
        product(y3.reshape(2, -1), self.w3, self.b3, None, y4)
        return [y1, y2, y3, y4]

    def steps(self, *places: Place) -> list[tuple[Any, list[Any]]]:
        x, y1, y2, y3, y4 = places
        conv, pool, second, product = self.kernels
        return [
            (conv, [x, self.w1, None, None, y1]),
            (pool, [y1, y2, None]),
            (second, [y2, self.packed, self.b2, y2, y3]),
            (product, [y3, self.w3, self.b3, None, y4]),
        ]


@pytest.mark.parametrize("nthreads", [1, 2])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_program_is_its_calls_one_after_another(dtype: str, layout: str, nthreads: int) -> None:
    chain = Chain(dtype, layout)
    with fc.threads(nthreads):
        expected = chain.by_calls()
        buffers = [chain.x, *(np.full(shape, np.nan, dtype) for shape in chain.shapes)]
        Program(5, chain.steps(*map(Place, range(5))))(*buffers)
    for got, want in zip(buffers[1:], expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_arrays_may_share_a_buffer() -> None:
    """What is not needed any more makes room: y2 behind y1, y3 where y1 was, all at offsets in one buffer of bytes."""
    chain = Chain("float32", "NCHW")
    y1, y2, y3, y4 = expected = chain.by_calls()
    begin, behind = 64, 64 + y1.nbytes
    memory, out = np.full(behind + y2.nbytes + 64, 0xAB, np.uint8), np.full(4 * y4.size + 4, 0xAB, np.uint8)
    places = Place(0), Place(1, begin), Place(1, behind), Place(1, begin), Place(2, 4)
    program = Program(3, chain.steps(*places))
    for _ in range(2):  # the second time all is there already
        program(chain.x, memory, out)
        np.testing.assert_array_equal(out[4:].view(np.float32).reshape(y4.shape), expected[-1])
    np.testing.assert_array_equal(memory[begin:][: y3.nbytes].view(np.float32), y3.ravel())
    np.testing.assert_array_equal(memory[behind:-64].view(np.float32), y2.ravel())
    assert (memory[:64] == 0xAB).all()
    assert (memory[-64:] == 0xAB).all()
    assert (out[:4] == 0xAB).all()


def chosen(spec: Any) -> Any:
    with fc.use_backend("c"):
        return dispatch.choose(spec).kernel


@pytest.mark.parametrize("nthreads", [1, 2])
def test_norms_softmax_and_broadcasts_are_steps_too(dtype: str, nthreads: int) -> None:
    """A batch norm in training, its result times a scale of each image and channel, means of planes, and a softmax."""
    rng = np.random.default_rng(4)
    shape, channels, scales, means = (3, 17, 5, 7), (1, 17, 1, 1), (3, 17, 1, 1), (3, 17)
    x, w, b, s = (rng.standard_normal(size).astype(dtype) for size in (shape, channels, channels, scales))
    normalize, multiply = (
        chosen(spec)
        for spec in (
            ReduceSpec("normalize", Types.of(dtype), shape, (0, 2, 3), 1e-5),
            MapSpec("multiply", Types.of(dtype), shape),
        )
    )
    mean, softmax, place = (
        chosen(spec)
        for spec in (
            ReduceSpec("sum", Types.of(dtype), shape, (2, 3), 35.0),
            ReduceSpec("softmax", Types.of(dtype), means, (1,)),
            ReduceSpec("max", Types.of(dtype), means, (1,)),
        )
    )
    sizes = [shape, channels, channels, shape, means, means]
    buffers = [x, s, *(np.full(size, np.nan, dtype) for size in sizes), np.full(3, -1, np.int64)]
    _, _, y, of, rstd, scaled, pooled, p, where = map(Place, range(9))
    none = [None] * 5
    program = Program(
        9,
        [
            (normalize, [Place(0), None, None, None, w, b, y, of, rstd, None]),
            (multiply, [y, Place(1, shape=scales), scaled]),
            (mean, [scaled, *none, None, pooled, None, None]),
            (softmax, [pooled, *none, p, None, None, None]),
            (place, [p, *none, None, None, where, None]),
        ],
    )
    with fc.threads(nthreads):
        program(*buffers)
        expected = fc.batch_norm(x, None, None, w.ravel(), b.ravel(), True, return_statistics=True)
        of_planes = fc.mean(fc.multiply(expected[0], s), (2, 3))
    for got, want in zip(buffers[2:5], expected, strict=True):
        np.testing.assert_array_equal(got, want.reshape(got.shape))
    np.testing.assert_array_equal(buffers[5], fc.multiply(expected[0], s))
    np.testing.assert_array_equal(buffers[6], of_planes)
    np.testing.assert_array_equal(buffers[7], fc.softmax(of_planes, 1))
    np.testing.assert_array_equal(buffers[8], fc.argmax(of_planes, 1))


def test_scratch_is_what_the_largest_step_takes() -> None:
    chain = Chain("float64", "NHWC")
    steps = chain.steps(*map(Place, range(5)))
    with fc.threads(2):
        largest = max(kernel.workspace_bytes for kernel in chain.kernels)
    assert Program(5, steps).workspace_bytes(2) == Program(5, steps[::-1]).workspace_bytes(2) == largest
    assert Program(0, []).workspace_bytes(2) == 0


def test_wrong_programs() -> None:
    chain = Chain("float32", "NCHW")
    for wrong in (Place(5), Place(-1)):
        with pytest.raises(ValueError, match="allowed are buffers from 0 to 4"):
            Program(5, chain.steps(*map(Place, range(4)), wrong))
    multiply = chosen(MapSpec("multiply", Types.of("float32"), (3, 5)))
    for shape in ((5,), (3, 2), (1, 3, 5)):
        with pytest.raises(ValueError, match=r"allowed is \(3, 5\), with size 1"):
            Program(3, [(multiply, [Place(0), Place(1, shape=shape), Place(2)])])
    with pytest.raises(ValueError, match=r"is shorter|is longer"):
        Program(5, [(chain.kernels[1], [Place(0), Place(1)])])
    program = Program(5, chain.steps(*map(Place, range(5))))
    with pytest.raises(ValueError, match="4 buffers: this program has 5"):
        program(*[chain.x] * 4)
    y = [np.full(shape, np.nan, np.float32) for shape in chain.shapes]
    with pytest.raises(ValueError, match="contiguous"):
        program(chain.x, y[0].T, *y[1:])
    missing = [
        (chain.kernels[0], [Place(0), chain.w1, None, None, Place(1)]),
        (chain.kernels[1], [Place(1), None, None]),
    ]
    with pytest.raises(ValueError, match="the C library refused"):
        Program(2, missing)(chain.x, y[0])
    assert np.isnan(y[0]).all(), "no step runs where one of them cannot"
