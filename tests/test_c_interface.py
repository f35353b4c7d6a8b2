"""What the C interface promises to callers who are not fastconv: a status for whatever is asked, never a crash.

tests/fuzz_driver.c asks at random; here is what it found, and what each check is there for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv.backends import backends

if reason := backends()["c"]:
    pytest.skip(f"the c backend cannot run here: {reason}", allow_module_level=True)

from fastconv._c import ffi, lib

from fastconv.backends.c.library import _ACTIVATION_NUMBERS
from fastconv.spec import ACTIVATIONS

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def test_version():
    assert lib.fc_version() == lib.FC_VERSION


@pytest.mark.parametrize("number", [-1, INT_MIN, INT_MAX, 99999])
def test_numbers_of_nothing_have_no_name_but_a_reason(number):
    assert lib.fc_isa_name(number) == ffi.NULL
    assert ffi.string(lib.fc_isa_reason(number)) == b"there is no such instruction set"
    assert lib.fc_fma_peak(number, lib.FC_F32, 1, ffi.NULL) == -1


def test_every_activation_has_the_number_of_the_header():
    assert sorted(_ACTIVATION_NUMBERS.values()) == list(range(lib.FC_ACT_NONE, lib.FC_ACT_SOFTSIGN + 1))
    assert list(_ACTIVATION_NUMBERS) == list(ACTIVATIONS)


@pytest.mark.parametrize("nthreads", [INT_MIN, -1, 0, INT_MAX])
def test_any_number_of_threads_and_pieces(nthreads):
    for npieces in (INT64_MIN, -(2**31), -1, 0, 3):
        assert lib.fc_selftest_threads(nthreads, npieces, 1, 1, ffi.NULL, ffi.NULL, ffi.NULL) == 0
    assert lib.fc_worker_count() < 256


# ------------------------------------------------------------------------------------------------------- products


def gemm(m: int = 2, n: int = 3, k: int = 4, batch: int = 1, **changes: Any) -> Any:
    """A description of float64 C-contiguous matrices, with these changes."""
    d = ffi.new("fc_gemm_desc *")
    d.dtype, d.isa, d.alpha = lib.FC_F64, lib.fc_isa_count() - 1, 1
    d.batch, d.m, d.n, d.k = batch, m, n, k
    d.a_stride, d.b_stride = [m * k, k, 1], [k * n, n, 1]
    d.c_stride = d.out_stride = [m * n, n, 1]
    for name, value in changes.items():
        setattr(d, name, value)
    return d


def run(d: Any, a: Any, b: Any, out: Any, c: Any = None, nthreads: int = 1) -> int:
    """The status of a run on these arrays, which start where their first element is."""

    def at(array: Any) -> Any:
        return ffi.NULL if array is None else ffi.cast("void *", array.ctypes.data)

    workspace = np.empty(max(64, lib.fc_gemm_workspace(d, nthreads)), np.uint8)
    return lib.fc_gemm_run(d, at(a), at(b), ffi.NULL, at(c), at(out), at(workspace), nthreads)


BAD = [
    *[{name: value} for name in ("batch", "m", "n") for value in (INT64_MIN, -1, 0, 2**31, 2**32 + 1, INT64_MAX)],
    *[{"k": value} for value in (INT64_MIN, -1, 2**31, INT64_MAX)],
    *[{name: value} for name in ("dtype", "isa", "kind") for value in (INT_MIN, -1, 99, INT_MAX)],
    *[
        {name: [0, stride, 1]}
        for name in ("a_stride", "b_stride", "out_stride")
        for stride in (INT64_MIN, 2**62, INT64_MAX)
    ],
    {"out_stride": [0, 0, 1]},
    {"out_stride": [0, 1, 0]},
    {"batch": 2**16, "m": 2**16},
]


@pytest.mark.parametrize("changes", BAD, ids=str)
def test_what_is_no_product_is_a_status(changes):
    d, array = gemm(), np.zeros(64)
    for name, value in changes.items():
        setattr(d.act if name == "kind" else d, name, value)
    assert lib.fc_gemm_workspace(d, 1) == -1
    assert lib.fc_gemm_threads(d, 4) == 1
    assert run(d, array, array, array) == lib.FC_ERROR_ARGUMENT
    assert not array.any()


def test_a_product_of_nothing_is_a_status():
    array, null = np.ones(64), ffi.NULL
    here = ffi.cast("void *", array.ctypes.data)
    assert lib.fc_gemm_workspace(null, 1) == -1
    assert lib.fc_gemm_run(null, here, here, null, null, here, here, 1) == lib.FC_ERROR_ARGUMENT
    for missing in range(4):
        a, b, out, workspace = (null if i == missing else here for i in range(4))
        assert lib.fc_gemm_run(gemm(), a, b, null, null, out, workspace, 1) == lib.FC_ERROR_ARGUMENT
    assert (array == 1).all()


def test_strides_of_c_matter_only_where_there_is_c():
    d, array, out = gemm(c_stride=[INT64_MIN, INT64_MAX, 2**62]), np.ones(64), np.empty((2, 3))
    assert run(d, array, array, out) == lib.FC_OK
    assert (out == 4).all()
    assert run(d, array, array, out, array) == lib.FC_ERROR_ARGUMENT


@pytest.mark.parametrize("stride", [INT64_MIN, -1, 0, 2**62, INT64_MAX])
def test_a_stride_that_nobody_steps_by_may_be_anything(stride):
    d = gemm(1, 1, 1, a_stride=[stride] * 3, b_stride=[stride] * 3, c_stride=[stride] * 3, out_stride=[stride] * 3)
    d.beta = 2
    out = np.full(1, np.nan)
    assert run(d, np.full(1, 3.0), np.full(1, 5.0), out, np.full(1, 7.0)) == lib.FC_OK
    assert out[0] == 29


def test_an_empty_reduction_reads_neither_operand():
    d, out = gemm(2, 3, 0, beta=2, a_stride=[0, 2**40, 1]), np.full((2, 3), np.nan)
    c = np.arange(6.0)
    assert run(d, None, None, out, c) == lib.FC_OK
    np.testing.assert_array_equal(out.ravel(), 2 * c)


@pytest.mark.parametrize("nthreads", [INT_MIN, 0, INT_MAX])
def test_scratch_is_for_the_threads_that_can_be_used(nthreads):
    d = gemm(100, 100, 100)
    assert lib.fc_gemm_workspace(d, nthreads) == lib.fc_gemm_workspace(d, 256 if nthreads > 0 else 1)
    assert lib.fc_gemm_threads(d, nthreads) == (256 if nthreads > 0 else 1)


@pytest.mark.parametrize("shape", [(3, 40, 7), (40, 3, 7), (30, 31, 7)], ids=str)
def test_operands_that_run_backwards_or_repeat(shape):
    m, n, k = shape
    a, b, c = np.arange(float(2 * m * k)).reshape(2, m, k), np.arange(float(k * n)).reshape(k, n), np.arange(float(n))
    for x, y, z in (
        (a[:, ::-1], b[::-1], np.broadcast_to(c, (2, m, n))),
        (a[::-1, :, ::-1], b[:, ::-1], np.broadcast_to(c[::-1], (2, m, n))),
        (np.broadcast_to(a[:1, :, :1], (2, m, k)), np.broadcast_to(b[:1], (k, n)), a[:, :, :1] + np.zeros(n)),
    ):
        y = np.broadcast_to(y, (2, k, n))
        out = np.full((2, m, n), np.nan)[:, ::-1]
        d = gemm(m, n, k, 2, beta=1)
        for name, array in (("a", x), ("b", y), ("c", z), ("out", out)):
            setattr(d, f"{name}_stride", [s // 8 for s in array.strides])
        assert run(d, x, y, out, z) == lib.FC_OK
        np.testing.assert_array_equal(out, x @ y + z)


# --------------------------------------------------------------------------------------- convolutions and poolings


@pytest.fixture
def conv():
    """A plan of a 2x2 convolution of one 3x3 image, float64, with bias and residual, and arrays of ones for it."""
    d = ffi.new("fc_conv_desc *")
    d.dtype, d.isa, d.has_bias, d.has_add = lib.FC_F64, lib.fc_isa_count() - 1, 1, 1
    d.n = d.groups = d.icg = d.ocg = 1
    d.x_size = [1, 3, 3]
    d.y_size = d.ker = [1, 2, 2]
    d.stride = d.dil = [1, 1, 1]
    d.x_stride, d.y_stride, d.w_stride = (
        [INT64_MAX, INT64_MIN, 2**62, 3, 1],
        [4, 4, 4, 2, 1],
        [2**62, -(2**62), INT64_MIN, 2, 1],
    )
    d.add_stride = [4, 4, 4, 2, 1]
    plan = ffi.new("fc_conv_plan **")
    assert lib.fc_conv_plan_create(d, plan) == lib.FC_OK
    return ffi.gc(plan[0], lib.fc_conv_plan_destroy)


def test_a_convolution_without_one_of_its_arrays_is_a_status(conv):
    array, result = np.ones(16), np.full(4, np.nan)
    workspace = np.empty(lib.fc_conv_plan_workspace(conv, INT_MAX, 0), np.uint8)
    x, y, scratch = (ffi.cast("void *", a.ctypes.data) for a in (array, result, workspace))
    arrays = [x, x, ffi.NULL, x, x, y, scratch]
    for missing in (0, 1, 3, 4, 5, 6):
        given = [ffi.NULL if i == missing else a for i, a in enumerate(arrays)]
        assert lib.fc_conv_run(conv, *given, 1) == lib.FC_ERROR_ARGUMENT
    if lib.fc_conv_plan_packed_bytes(conv):
        assert lib.fc_conv_pack(conv, ffi.NULL, scratch, 1) == lib.FC_ERROR_ARGUMENT
        assert lib.fc_conv_pack(conv, x, ffi.NULL, 1) == lib.FC_ERROR_ARGUMENT
    assert np.isnan(result).all()
    assert lib.fc_conv_run(conv, *arrays, INT_MAX) == lib.FC_OK
    assert (result == 6).all()


def test_no_description_is_a_status():
    plan, pool_plan = ffi.new("fc_conv_plan **"), ffi.new("fc_pool_plan **")
    assert lib.fc_conv_plan_create(ffi.NULL, plan) == lib.FC_ERROR_ARGUMENT
    assert plan[0] == ffi.NULL
    assert lib.fc_conv_algorithm_refusal(ffi.NULL, 0) != ffi.NULL
    assert lib.fc_pool_plan_create(ffi.NULL, pool_plan) == lib.FC_ERROR_ARGUMENT
    lib.fc_conv_plan_destroy(ffi.NULL)
    lib.fc_pool_plan_destroy(ffi.NULL)


@pytest.mark.parametrize("number", [-1, INT_MIN, INT_MAX, 99999])
def test_numbers_of_no_algorithm(number):
    assert lib.fc_conv_algorithm_name(number) == ffi.NULL
    assert ffi.string(lib.fc_conv_algorithm_refusal(ffi.NULL, number)) == b"there is no such algorithm"


def test_threads_of_a_plan_are_those_that_can_be_used(conv):
    most, one = (lib.fc_conv_plan_workspace(conv, n, 0) for n in (256, 1))
    assert lib.fc_conv_plan_workspace(conv, INT_MAX, 0) == most
    assert lib.fc_conv_plan_workspace(conv, INT_MIN, 0) == one
    assert lib.fc_conv_plan_threads(conv, INT_MIN) == 1


def test_strides_of_a_pooling():
    """Those that nobody steps by may be anything; others are a status, as is a missing workspace."""
    d, plan = ffi.new("fc_pool_desc *"), ffi.new("fc_pool_plan **")
    d.kind, d.dtype, d.isa = lib.FC_MAX, lib.FC_F64, lib.fc_isa_count() - 1
    d.n = d.c = 1
    d.x_size = [1, 1, 4]
    d.y_size = d.ker = d.stride = [1, 1, 2]
    d.dil = [1, 1, 1]
    assert lib.fc_pool_plan_create(d, plan) == lib.FC_OK
    plan = ffi.gc(plan[0], lib.fc_pool_plan_destroy)
    x, y, s = np.arange(4.0), np.full(2, np.nan), ffi.new("fc_pool_strides *")
    s.x, s.y = [INT64_MIN, 2**62, INT64_MAX, -(2**61), 1], [INT64_MIN, INT64_MAX, 2**62, 2**50, 1]
    s.dx, s.indices = [INT64_MIN] * 5, [INT64_MAX] * 5
    scratch = np.empty(lib.fc_pool_plan_workspace(plan, s, INT_MAX), np.uint8)
    of_x, of_y, of_scratch = (ffi.cast("void *", a.ctypes.data) for a in (x, y, scratch))
    assert lib.fc_pool_plan_threads(plan, INT_MIN) == 1
    assert lib.fc_pool_run(plan, s, of_x, of_y, ffi.NULL, ffi.NULL, ffi.NULL, 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_pool_run(plan, s, of_x, of_y, ffi.NULL, ffi.NULL, of_scratch, INT_MAX) == lib.FC_OK
    assert y.tolist() == [1, 3]
    for strides in (s.x, s.y):
        strides[4] = INT64_MAX
        assert lib.fc_pool_plan_workspace(plan, s, 1) == -1
        assert lib.fc_pool_run(plan, s, of_x, of_y, ffi.NULL, ffi.NULL, of_scratch, 1) == lib.FC_ERROR_ARGUMENT
        strides[4] = 1


def test_descriptions_of_a_reduction():
    """What is none is a status: arrays that miss or are too many, strides of results along what is reduced."""
    plan = ffi.new("fc_reduce_plan **")

    def described(**changes):
        d = ffi.new("fc_reduce_desc *")
        d.kind, d.dtype, d.isa, d.rank, d.reduced = lib.FC_SUM_OVER, lib.FC_F64, lib.fc_isa_count() - 1, 2, 2
        d.present, d.p0 = 0x081, 1
        d.size[0:2] = [2, 3]
        d.stride[0][0:2], d.stride[7][0:2] = [3, 1], [1, 0]
        d.stride[3][0:2] = [INT64_MAX, INT64_MIN]  # of an array that is not there
        for name, value in changes.items():
            setattr(d, name, value)
        return d

    assert lib.fc_reduce_plan_create(ffi.NULL, plan) == lib.FC_ERROR_ARGUMENT
    bad_result, bad_operand = described(), described()
    bad_result.stride[7][1] = 1
    bad_operand.stride[0][0] = INT64_MIN
    wrong = [described(kind=12), described(kind=-1), described(rank=9), described(rank=-1), described(reduced=4)]
    wrong += [described(present=p) for p in (0x080, 0x001, 0x083, 0x181, INT_MIN)]
    wrong += [described(dtype=2), described(isa=99), described(size=[2, 0, 1, 1, 1, 1, 1, 1]), bad_result, bad_operand]
    for d in wrong:
        plan[0] = ffi.cast("fc_reduce_plan *", 8)
        assert lib.fc_reduce_plan_create(d, plan) == lib.FC_ERROR_ARGUMENT
        assert plan[0] == ffi.NULL
    lib.fc_reduce_plan_destroy(ffi.NULL)
    assert lib.fc_reduce_plan_workspace(ffi.NULL, 1) == -1
    assert lib.fc_reduce_plan_create(described(), plan) == lib.FC_OK
    made = ffi.gc(plan[0], lib.fc_reduce_plan_destroy)
    x, y = np.arange(6.0), np.full(2, np.nan)
    scratch = np.empty(lib.fc_reduce_plan_workspace(made, INT_MAX), np.uint8)
    of_x, of_y, of_scratch = (ffi.cast("void *", a.ctypes.data) for a in (x, y, scratch))
    arrays = ffi.new("void *[10]")
    assert lib.fc_reduce_plan_threads(made, INT_MIN) == 1
    for missing in ((ffi.NULL, of_y), (of_x, ffi.NULL)):
        arrays[0], arrays[7] = missing
        assert lib.fc_reduce_run(made, arrays, of_scratch, 1) == lib.FC_ERROR_ARGUMENT
    arrays[0], arrays[7] = of_x, of_y
    assert lib.fc_reduce_run(made, arrays, ffi.NULL, 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_reduce_run(made, ffi.NULL, of_scratch, 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_reduce_run(made, arrays, of_scratch, INT_MAX) == lib.FC_OK
    assert y.tolist() == [3, 12]
