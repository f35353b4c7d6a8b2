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
    assert sorted(_ACTIVATION_NUMBERS.values()) == sorted(
        getattr(lib, name) for name in dir(lib) if name.startswith("FC_ACT_")
    )
    assert list(_ACTIVATION_NUMBERS) == list(ACTIVATIONS)


@pytest.mark.parametrize("nthreads", [INT_MIN, -1, 0, INT_MAX])
def test_any_number_of_threads_and_pieces(nthreads):
    for npieces in (INT64_MIN, -(2**31), -1, 0, 3):
        assert lib.fc_selftest_threads(nthreads, npieces, 1, 1, ffi.NULL, ffi.NULL, ffi.NULL) == 0
    assert lib.fc_worker_count() < 256


# ------------------------------------------------------------------------------------------------------- products


def pointer(array: Any) -> Any:
    """To the first element; NULL for None."""
    return ffi.NULL if array is None else ffi.cast("void *", array.ctypes.data)


def slots(**arrays: Any) -> Any:
    """The addresses of a call, by the names of the slots."""
    table = ffi.new("void *[]", lib.FC_SLOTS)
    for name, array in arrays.items():
        table[getattr(lib, f"FC_{name.upper()}")] = pointer(array)
    return table


def planned(make: Any, description: Any) -> tuple[int, Any]:
    """The status of a plan, and the plan (NULL if there is none)."""
    plan = ffi.new("fc_plan **", ffi.cast("fc_plan *", 1))
    status = make(description, plan)
    assert (status == lib.FC_OK) == (plan[0] != ffi.NULL)
    return status, ffi.gc(plan[0], lib.fc_plan_destroy) if plan[0] else ffi.NULL


def gemm(m: int = 2, n: int = 3, k: int = 4, batch: int = 1, **changes: Any) -> Any:
    """A description of float64 C-contiguous matrices, with these changes."""
    d = ffi.new("fc_gemm_desc *")
    d.types, d.isa, d.alpha = [lib.FC_F64] * 4, lib.fc_isa_count() - 1, 1
    d.batch, d.m, d.n, d.k = batch, m, n, k
    d.a_stride, d.b_stride = [m * k, k, 1], [k * n, n, 1]
    d.c_stride = d.out_stride = [m * n, n, 1]
    for name, value in changes.items():
        setattr(d, name, value)
    return d


def run(d: Any, a: Any, b: Any, out: Any, c: Any = None, nthreads: int = 1) -> int:
    """The status of a plan, or of its run on these arrays, which start where their first element is."""
    d.has_c = c is not None
    status, plan = planned(lib.fc_plan_gemm, d)
    if status:
        return status
    workspace = np.empty(lib.fc_plan_workspace(plan, nthreads, 0), np.uint8)
    return lib.fc_run(plan, slots(a=a, b=b, c=c, out=out), pointer(workspace), nthreads)


BAD = [
    *[{name: value} for name in ("batch", "m", "n") for value in (INT64_MIN, -1, 0, 2**31, 2**32 + 1, INT64_MAX)],
    *[{"k": value} for value in (INT64_MIN, -1, 2**31, INT64_MAX)],
    *[{name: value} for name in ("isa", "kind") for value in (INT_MIN, -1, 99, INT_MAX)],
    *[{"types": {name: value}} for name in ("x", "w", "acc", "y") for value in (INT_MIN, -1, 7, INT_MAX)],
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
    assert run(d, array, array, array) == lib.FC_ERROR_ARGUMENT
    assert not array.any()


def test_a_product_without_one_of_its_arrays_is_a_status():
    array = np.ones(64)
    _, plan = planned(lib.fc_plan_gemm, gemm(has_bias=1, has_c=1))
    names = ("a", "b", "bias", "c", "out")
    for missing in names:
        table = slots(**{name: array for name in names if name != missing})
        assert lib.fc_run(plan, table, pointer(array), 1) == lib.FC_ERROR_ARGUMENT
    table = slots(**dict.fromkeys(names, array))
    assert lib.fc_run(plan, table, ffi.NULL, 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_run(plan, ffi.NULL, pointer(array), 1) == lib.FC_ERROR_ARGUMENT
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
    _, plan = planned(lib.fc_plan_gemm, gemm(100, 100, 100))
    used = 256 if nthreads > 0 else 1
    assert lib.fc_plan_workspace(plan, nthreads, 0) == lib.fc_plan_workspace(plan, used, 0)
    assert lib.fc_plan_threads(plan, nthreads, 0) == used


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
    """A 2x2 convolution of one 3x3 image, float64, with bias and residual."""
    d = ffi.new("fc_conv_desc *")
    d.types, d.isa, d.has_bias, d.has_add = [lib.FC_F64] * 4, lib.fc_isa_count() - 1, 1, 1
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
    return d


def test_a_step_that_leads_from_a_single_result_takes_no_room(conv):
    conv.y_size, conv.ker, conv.stride, conv.groups = [1, 1, 1], [1, 3, 3], [1, 2**29 - 1, 3], 12
    conv.has_bias = conv.has_add = 0
    conv.x_stride, conv.y_stride = [108, 9, 9, 3, 1], [12, 1, 1, 1, 1]
    conv.w_stride = [9, 9, 9, 3, 1]
    status, plan = planned(lib.fc_plan_conv, conv)
    assert status == lib.FC_OK
    assert lib.fc_plan_workspace(plan, 1, 0) < 2**20


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_positions_of_the_padded_source_are_numbers_of_32_bits(conv, axis, sign):
    """The image, its padding, and where steps and taps lead are together at most 2^31 - 1; one more is a status."""
    conv.stride[axis], conv.dil[axis] = 1000, 3000
    image_steps_and_taps = 3 + 1000 + 3000
    conv.pad[axis] = sign * (INT_MAX - image_steps_and_taps + 1)
    assert planned(lib.fc_plan_conv, conv)[0] == lib.FC_ERROR_ARGUMENT
    conv.pad[axis] -= sign
    status, plan = planned(lib.fc_plan_conv, conv)
    assert status == lib.FC_OK
    one, y = np.ones(16), np.full(4, np.nan)
    scratch = np.empty(lib.fc_plan_workspace(plan, 1, 0), np.uint8)
    assert lib.fc_run(plan, slots(x=one, w=one, bias=one, add=one, y=y), pointer(scratch), 1) == lib.FC_OK
    assert (y == 2).all(), "all of it lies in the padding"


def test_a_convolution_without_one_of_its_arrays_is_a_status(conv):
    _, plan = planned(lib.fc_plan_conv, conv)
    array, result = np.ones(16), np.full(4, np.nan)
    scratch = np.empty(lib.fc_plan_workspace(plan, INT_MAX, 0), np.uint8)
    arrays = {"x": array, "w": array, "bias": array, "add": array, "y": result}
    for missing in arrays:
        table = slots(**{name: a for name, a in arrays.items() if name != missing})
        assert lib.fc_run(plan, table, pointer(scratch), 1) == lib.FC_ERROR_ARGUMENT
    if lib.fc_plan_packed_bytes(plan):
        assert lib.fc_plan_pack(plan, ffi.NULL, pointer(scratch), 1) == lib.FC_ERROR_ARGUMENT
        assert lib.fc_plan_pack(plan, pointer(array), ffi.NULL, 1) == lib.FC_ERROR_ARGUMENT
    assert np.isnan(result).all()
    assert lib.fc_run(plan, slots(**arrays), pointer(scratch), INT_MAX) == lib.FC_OK
    assert (result == 6).all()


def test_packed_weights_are_enough_for_the_plan_that_packs_them(conv):
    """And for no other."""
    conv.icg = conv.ocg = 8
    conv.x_stride, conv.y_stride, conv.w_stride = [0, 9, 0, 3, 1], [0, 4, 0, 2, 1], [32, 4, 0, 2, 1]
    conv.has_bias = conv.has_add = 0
    x, w, y = np.arange(72.0), np.arange(256.0), np.full(32, np.nan)
    kinds = set()
    for algorithm in range(lib.fc_conv_algorithm_count()):
        conv.algorithm = algorithm + 1
        status, plan = planned(lib.fc_plan_conv, conv)
        if status == lib.FC_ERROR_REFUSED:
            continue
        packed = np.empty(max(4096, lib.fc_plan_packed_bytes(plan)), np.uint8)
        scratch = [np.empty(lib.fc_plan_workspace(plan, 1, k), np.uint8) for k in (0, 1)]
        kinds.add(packs := lib.fc_plan_packed_bytes(plan) > 0)
        assert lib.fc_plan_pack(plan, pointer(w), pointer(packed), 1) == lib.FC_OK
        by_packed = lib.fc_run(plan, slots(x=x, packed=packed, y=y), pointer(scratch[1]), 1)
        assert by_packed == (lib.FC_OK if packs else lib.FC_ERROR_ARGUMENT)
        got = y.copy()
        assert lib.fc_run(plan, slots(x=x, w=w, y=y), pointer(scratch[0]), 1) == lib.FC_OK
        assert not packs or (got == y).all()
    assert kinds == {False, True}


@pytest.mark.parametrize("make", ["fc_plan_conv", "fc_plan_gemm", "fc_plan_pool"])
def test_no_description_is_a_status(make):
    assert planned(getattr(lib, make), ffi.NULL)[0] == lib.FC_ERROR_ARGUMENT
    assert getattr(lib, make)(ffi.NULL, ffi.NULL) == lib.FC_ERROR_ARGUMENT


def test_no_plan_is_a_status():
    null, array = ffi.NULL, pointer(np.ones(16))
    lib.fc_plan_destroy(null)
    assert lib.fc_plan_algorithm(null) == null
    assert lib.fc_plan_workspace(null, 1, 0) == -1
    assert lib.fc_plan_threads(null, 7, 0) == 1
    assert lib.fc_plan_packed_bytes(null) == 0
    assert lib.fc_plan_pack(null, array, array, 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_run(null, slots(), array, 1) == lib.FC_ERROR_ARGUMENT


def _algorithm(name: bytes) -> int:
    """The number of the first of this name."""
    return next(i for i in range(lib.fc_conv_algorithm_count()) if ffi.string(lib.fc_conv_algorithm_name(i)) == name)


_TYPES = {name: getattr(lib, f"FC_{name}") for name in ("F32", "F64", "F16", "BF16", "I8", "U8", "I32")}


@pytest.mark.parametrize("operator", ["conv", "gemm", "pool", "map", "reduce", "resize"])
def test_types_without_kernels_are_a_status_of_their_own(operator):
    make, d = getattr(lib, f"fc_plan_{operator}"), ffi.new(f"fc_{operator}_desc *")
    d.isa = lib.fc_isa_count() - 1
    alike = [[number] * 4 for name, number in _TYPES.items() if name not in ("F32", "F64")]
    unlike = [[first] * i + [second] + [first] * (3 - i) for first in (0, 1) for second in range(7) for i in range(4)]
    for types in [*alike, *(types for types in unlike if len(set(types)) > 1)]:
        d.types = types
        assert planned(make, d) == (lib.FC_ERROR_UNSUPPORTED, ffi.NULL), types
        d.types.w = len(_TYPES)
        assert planned(make, d) == (lib.FC_ERROR_ARGUMENT, ffi.NULL)
    for types in ([lib.FC_F32] * 4, [lib.FC_F64] * 4):  # of which there are kernels, but not for no sizes
        d.types = types
        assert operator in ("map", "reduce") or planned(make, d)[0] == lib.FC_ERROR_ARGUMENT


def test_a_convolution_of_types_without_kernels_says_so(conv):
    conv.types.acc = lib.FC_F32
    text = ffi.new("char[]", 99)
    assert lib.fc_conv_explain(conv, text, len(text)) == lib.FC_ERROR_UNSUPPORTED
    for number in range(lib.fc_conv_algorithm_count()):
        reason = ffi.string(lib.fc_conv_algorithm_refusal(conv, number))
        assert reason == b"there are no kernels for these types"


def test_direct_copies_no_more_padding_than_is_in_proportion(conv):
    """A kernel of many taps along a depth of 1: another algorithm takes it."""
    conv.has_bias = conv.has_add = 0
    conv.n, conv.icg, conv.direction = 3, 2, lib.FC_BWD_INPUT
    conv.x_size, conv.y_size, conv.ker = [1, 10, 16385], [1, 2, 2], [16385, 3, 3]
    conv.stride, conv.pad, conv.dil = [1, 1, 4], [0, -1, 1], [1, 3, 4]
    conv.x_stride, conv.y_stride = [327700, 163850, 163850, 16385, 1], [4, 4, 4, 2, 1]
    conv.w_stride = [294930, 147465, 9, 3, 1]
    status, plan = planned(lib.fc_plan_conv, conv)
    assert status == lib.FC_OK
    assert lib.fc_plan_workspace(plan, 1, 0) < 64 * 8 * (327700 + 294930)
    direct = _algorithm(b"direct")
    assert ffi.string(lib.fc_conv_algorithm_refusal(conv, direct)) == b"its taps reach over too much padding"
    conv.algorithm = direct + 1
    assert planned(lib.fc_plan_conv, conv) == (lib.FC_ERROR_REFUSED, ffi.NULL)


@pytest.mark.parametrize("direction", [lib.FC_FWD, lib.FC_BWD_INPUT])
def test_winograd_lines_refuse_rows_that_lie_far_apart(conv, direction):
    """A piece holds all lines between them."""
    conv.direction, conv.types, conv.has_bias, conv.has_add = direction, [lib.FC_F32] * 4, 0, 0
    conv.icg = conv.ocg = 64
    conv.ker, conv.x_size, conv.y_size = [1, 5, 5], [1, 12, 64], [1, 12, 64]
    conv.x_stride = conv.y_stride = [49152, 768, 768, 64, 1]
    conv.w_stride = [1600, 25, 25, 5, 1]
    for dilation in (16, 17, 1000):
        conv.dil, conv.pad = [1, dilation, 1], [0, 2 * dilation, 2]
        reason = lib.fc_conv_algorithm_refusal(conv, _algorithm(b"winograd_line_8"))
        if dilation == 16:
            assert reason == ffi.NULL
        else:
            assert ffi.string(reason) == b"the rows of the kernel lie too far apart"
        status, plan = planned(lib.fc_plan_conv, conv)
        assert status == lib.FC_OK
        assert lib.fc_plan_workspace(plan, 1, 1) < 2**25


def test_why_an_algorithm_was_chosen(conv):
    """As much of it as there is room for, and nothing behind that."""
    text = ffi.new("char[]", 4096)
    assert lib.fc_conv_explain(conv, text, len(text)) == lib.FC_OK
    lines = ffi.string(text).decode().splitlines()
    _, plan = planned(lib.fc_plan_conv, conv)
    assert lines[-1] == ffi.string(lib.fc_plan_algorithm(plan)).decode()
    assert all(": refused, " in line for line in lines[:-1])
    for size in (1, 2, 30):
        ffi.memmove(text, b"?" * 64, 64)
        assert lib.fc_conv_explain(conv, text, size) == lib.FC_OK
        assert ffi.string(text).decode() == "\n".join(lines)[: size - 1]
        assert ffi.buffer(text, 64)[size:] == b"?" * (64 - size)
    for where, size in ((ffi.NULL, 10), (text, 0), (text, -1)):
        assert lib.fc_conv_explain(conv, where, size) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_conv_explain(ffi.NULL, text, 10) == lib.FC_ERROR_ARGUMENT


@pytest.mark.parametrize("packed", [False, True])
def test_threads_of_a_plan_keep_to_its_limit(conv, packed):
    """As many as their scratch has room for, at least one."""
    conv.icg = conv.ocg = 16
    conv.x_size, conv.y_size = [1, 301, 301], [1, 300, 300]
    conv.x_stride, conv.y_stride, conv.w_stride = [0, 301**2, 0, 301, 1], [0, 300**2, 0, 300, 1], [64, 4, 0, 2, 1]
    conv.add_stride, conv.packed = conv.y_stride, packed
    _, free = planned(lib.fc_plan_conv, conv)
    sizes = [lib.fc_plan_workspace(free, n, packed) for n in range(1, 6)]
    assert sizes == sorted(set(sizes)), "scratch for each thread"
    for limit, threads in ((sizes[4], 5), (sizes[2], 3), (sizes[2] - 1, 2), (sizes[0], 1)):
        conv.limit = limit
        _, plan = planned(lib.fc_plan_conv, conv)
        assert ffi.string(lib.fc_plan_algorithm(plan)) == ffi.string(lib.fc_plan_algorithm(free))
        assert lib.fc_plan_threads(plan, 5, packed) == threads
    assert lib.fc_plan_threads(free, 5, packed) == 5


def test_threads_of_a_plan_are_those_that_can_be_used(conv):
    _, plan = planned(lib.fc_plan_conv, conv)
    most, one = (lib.fc_plan_workspace(plan, n, 0) for n in (256, 1))
    assert lib.fc_plan_workspace(plan, INT_MAX, 0) == most
    assert lib.fc_plan_workspace(plan, INT_MIN, 0) == one
    assert lib.fc_plan_threads(plan, INT_MIN, 0) == 1


def test_strides_of_a_pooling():
    """Those that nobody steps by may be anything; others are a status, as is a missing workspace."""
    d = ffi.new("fc_pool_desc *")
    d.kind, d.types, d.isa = lib.FC_MAX, [lib.FC_F64] * 4, lib.fc_isa_count() - 1
    d.n = d.c = 1
    d.x_size = [1, 1, 4]
    d.y_size = d.ker = d.stride = [1, 1, 2]
    d.dil = [1, 1, 1]
    d.x_stride, d.y_stride = [INT64_MIN, 2**62, INT64_MAX, -(2**61), 1], [INT64_MIN, INT64_MAX, 2**62, 2**50, 1]
    d.dx_stride, d.indices_stride = [INT64_MIN] * 5, [INT64_MAX] * 5
    status, plan = planned(lib.fc_plan_pool, d)
    assert status == lib.FC_OK
    x, y = np.arange(4.0), np.full(2, np.nan)
    scratch = np.empty(lib.fc_plan_workspace(plan, INT_MAX, 0), np.uint8)
    assert lib.fc_plan_threads(plan, INT_MIN, 0) == 1
    assert lib.fc_run(plan, slots(x=x, y=y), ffi.NULL, 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_run(plan, slots(y=y, dx=x), pointer(scratch), 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_run(plan, slots(x=x, y=y), pointer(scratch), INT_MAX) == lib.FC_OK
    assert y.tolist() == [1, 3]
    for name in ("x_stride", "y_stride"):
        getattr(d, name)[4] = INT64_MAX
        assert planned(lib.fc_plan_pool, d)[0] == lib.FC_ERROR_ARGUMENT
        getattr(d, name)[4] = 1
    d.y_stride[4] = 0
    assert planned(lib.fc_plan_pool, d)[0] == lib.FC_ERROR_ARGUMENT


def test_descriptions_of_a_reduction():
    """What is none is a status: arrays that miss or are too many, strides of results along what is reduced."""

    def described(**changes):
        d = ffi.new("fc_reduce_desc *")
        d.kind, d.types, d.isa, d.rank, d.reduced = lib.FC_SUM_OVER, [lib.FC_F64] * 4, lib.fc_isa_count() - 1, 2, 2
        d.present, d.p0 = 0x101, 1
        d.size[0:2] = [2, 3]
        d.stride[0][0:2], d.stride[8][0:2] = [3, 1], [1, 0]
        d.stride[3][0:2] = [INT64_MAX, INT64_MIN]  # of an array that is not there
        for name, value in changes.items():
            setattr(d, name, value)
        return d

    bad_result, bad_operand = described(), described()
    bad_result.stride[8][1] = 1
    bad_operand.stride[0][0] = INT64_MIN
    wrong = [ffi.NULL, described(kind=12), described(kind=-1), described(rank=9), described(rank=-1)]
    wrong += [described(present=p) for p in (0x100, 0x001, 0x103, 0x301, INT_MIN)]
    wrong += [described(reduced=4), described(types=[lib.FC_I32 + 1] * 4), described(isa=99), bad_result, bad_operand]
    wrong += [described(size=[2, 0, 1, 1, 1, 1, 1, 1])]
    for d in wrong:
        assert planned(lib.fc_plan_reduce, d) == (lib.FC_ERROR_ARGUMENT, ffi.NULL)
    status, plan = planned(lib.fc_plan_reduce, described())
    assert status == lib.FC_OK
    x, y = np.arange(6.0), np.full(2, np.nan)
    scratch = np.empty(lib.fc_plan_workspace(plan, INT_MAX, 0), np.uint8)
    arrays = slots(x=x)
    assert lib.fc_run(plan, arrays, pointer(scratch), 1) == lib.FC_ERROR_ARGUMENT
    arrays[8] = pointer(y)
    assert lib.fc_run(plan, arrays, ffi.NULL, 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_run(plan, arrays, pointer(scratch), INT_MAX) == lib.FC_OK
    assert y.tolist() == [3, 12]


def test_descriptions_of_a_loss():
    """What is none is a status: factors that a loss has not, a gradient that is summed, a result that stands still."""

    def described(**changes):
        d = ffi.new("fc_loss_desc *")
        d.types, d.isa, d.rank = [lib.FC_F64] * 4, lib.fc_isa_count() - 1, 1
        d.kind, d.p0, d.divisor, d.size[0] = lib.FC_LOSS_HUBER, 1, 2, 3
        for array in (0, 1, 4):
            d.stride[array][0] = 1
        d.stride[2][0] = d.stride[3][0] = d.stride[5][0] = INT64_MAX  # of arrays that are not there
        for name, value in changes.items():
            setattr(d, name, value)
        return d

    still, far = described(), described(factors=1)
    still.stride[4][0] = 0
    wrong = [ffi.NULL, described(kind=9), described(kind=-1), described(direction=2), described(rank=9), still, far]
    wrong += [described(kind=8, factors=2), described(kind=8, direction=1)]
    wrong += [described(factors=f) for f in (2, 3, 4, -1, INT_MIN)] + [described(kind=5, factors=4)]
    wrong += [described(reduced=r) for r in (2, -1)] + [described(direction=1, reduced=1)]
    wrong += [described(p0=p) for p in (0, -1, float("nan"))] + [described(kind=2, p0=-1)]
    for d in wrong:
        assert planned(lib.fc_plan_loss, d) == (lib.FC_ERROR_ARGUMENT, ffi.NULL)
    of_number = described(direction=1)
    of_number.stride[4][0], of_number.stride[5][0] = 0, 1
    status, plan = planned(lib.fc_plan_loss, of_number)
    assert status == lib.FC_OK
    x, t, dy, dx = np.array([1.0, 2, 5]), np.array([0.5, 4, 5]), np.full(1, 4.0), np.zeros(3)
    arrays = slots(x=x)
    arrays[lib.FC_TARGET], arrays[lib.FC_Y] = pointer(t), pointer(dy)
    assert lib.fc_run(plan, arrays, ffi.NULL, 1) == lib.FC_ERROR_ARGUMENT
    arrays[lib.FC_DX] = pointer(dx)
    assert lib.fc_run(plan, arrays, ffi.NULL, INT_MAX) == lib.FC_OK
    assert dx.tolist() == [2, -4, 0]
    reduced = described(reduced=1)
    reduced.stride[4][0] = INT64_MAX
    status, plan = planned(lib.fc_plan_loss, reduced)
    assert status == lib.FC_OK
    assert lib.fc_run(plan, arrays, ffi.NULL, 1) == lib.FC_ERROR_ARGUMENT
    scratch = np.empty(lib.fc_plan_workspace(plan, INT_MAX, 0), np.uint8)
    assert lib.fc_run(plan, arrays, pointer(scratch), INT_MAX) == lib.FC_OK
    assert dy.tolist() == [(0.125 + 1.5) / 2]


def test_descriptions_of_an_update():
    """What is none is a status: memory that a rule lacks or has too much of, a parameter that stands still."""

    def described(**changes):
        d = ffi.new("fc_update_desc *")
        d.types, d.isa, d.rank = [lib.FC_F64] * 4, lib.fc_isa_count() - 1, 1
        d.rule, d.remembered = lib.FC_UPDATE_ADAM, 3
        d.size[0] = 3
        for array in range(4):
            d.stride[array][0] = 1
        d.stride[4][0] = INT64_MAX  # of an array that is not there
        for name, value in changes.items():
            setattr(d, name, value)
        return d

    still, far = described(), described()
    still.stride[0][0], far.stride[3][0] = 0, INT64_MAX
    wrong = [ffi.NULL, described(rule=3), described(rule=-1), described(nesterov=1), described(rank=9), still, far]
    wrong += [described(remembered=r) for r in (0, 1, 2, 7, INT_MIN)] + [described(rule=0, remembered=2)]
    wrong += [described(rule=2, remembered=2), described(rule=0, remembered=0, nesterov=1)]
    for d in wrong:
        assert planned(lib.fc_plan_update, d) == (lib.FC_ERROR_ARGUMENT, ffi.NULL)
    gradient_stands_still = described()
    gradient_stands_still.stride[1][0] = 0
    status, plan = planned(lib.fc_plan_update, gradient_stands_still)
    assert status == lib.FC_OK
    w, g, m, s = np.full(3, 5.0), np.full(1, 4.0), np.zeros(3), np.zeros(3)
    numbers = np.array([0.5, 0, 1, 0.5, 0.25, 0, 1, 0])
    arrays = slots(x=g)
    arrays[lib.FC_OUT], arrays[lib.FC_FIRST], arrays[lib.FC_SECOND] = pointer(w), pointer(m), pointer(s)
    assert lib.fc_run(plan, arrays, ffi.NULL, 1) == lib.FC_ERROR_ARGUMENT
    arrays[lib.FC_NUMBERS] = pointer(numbers)
    assert lib.fc_run(plan, arrays, ffi.NULL, INT_MAX) == lib.FC_OK
    assert (w.tolist(), m.tolist(), s.tolist(), g.tolist()) == ([4.5] * 3, [2.0] * 3, [4.0] * 3, [4.0])


# ------------------------------------------------------------------------------------------------------- programs


@pytest.fixture
def program():
    """Two products, out = (a b) b, as steps on the buffers a, b, between and out, which are returned, too."""
    _, plan = planned(lib.fc_plan_gemm, gemm(3, 3, 3))
    a, b, between, out = np.arange(9.0), np.arange(9.0)[::-1] + np.zeros(9), np.full(11, np.nan), np.full(9, np.nan)
    steps = ffi.new("fc_step[]", 2)
    for step in steps:
        step.plan = plan
        step.buffer = [-1] * lib.FC_SLOTS
    names = lib.FC_A, lib.FC_B, lib.FC_OUT
    for step, numbers, offsets in ((steps[0], (0, 1, 2), (0, 0, 8)), (steps[1], (2, 1, 3), (8, 0, 0))):
        for slot, number, offset in zip(names, numbers, offsets, strict=True):
            step.buffer[slot], step.offset[slot] = number, offset
    return steps, [a, b, between, out], plan


def run_steps(program: Any, nthreads: int = 1, count: int = 2) -> int:
    steps, arrays, _ = program
    scratch = np.empty(max(64, lib.fc_steps_workspace(steps, count, nthreads)), np.uint8)
    buffers = ffi.new("void *[]", [pointer(a) for a in arrays])
    return lib.fc_run_steps(steps, count, buffers, len(arrays), pointer(scratch), nthreads)


@pytest.mark.parametrize("nthreads", [INT_MIN, 1, 2])
def test_steps_follow_each_other(program, nthreads):
    assert run_steps(program, nthreads) == lib.FC_OK
    a, b, between, out = program[1]
    product = a.reshape(3, 3) @ b.reshape(3, 3)
    np.testing.assert_array_equal(between, [np.nan, *product.ravel(), np.nan])
    np.testing.assert_array_equal(out.reshape(3, 3), product @ b.reshape(3, 3))


@pytest.mark.parametrize("number", [INT_MIN, -2, 4, INT_MAX])
@pytest.mark.parametrize("slot", [0, 1, 2, lib.FC_BIAS, lib.FC_SLOTS - 1])
def test_a_step_that_names_no_buffer_keeps_all_from_running(program, slot, number):
    program[0][1].buffer[slot] = number
    assert run_steps(program) == lib.FC_ERROR_ARGUMENT
    assert np.isnan(program[1][2]).all()


def test_a_step_without_an_array_or_a_plan_keeps_all_from_running(program):
    steps, (*_, between, out), plan = program
    for slot in (lib.FC_A, lib.FC_B, lib.FC_OUT):
        number, steps[1].buffer[slot] = steps[1].buffer[slot], -1
        assert run_steps(program) == lib.FC_ERROR_ARGUMENT
        steps[1].buffer[slot] = number
    steps[1].plan = ffi.NULL
    assert lib.fc_steps_workspace(steps, 2, 1) == -1
    assert run_steps(program) == lib.FC_ERROR_ARGUMENT
    assert np.isnan([*between, *out]).all()
    steps[1].plan = plan
    assert run_steps(program) == lib.FC_OK


def test_programs_of_nothing(program):
    null, scratch = ffi.NULL, pointer(np.empty(4096))
    assert run_steps(program, count=0) == lib.FC_OK
    assert run_steps(program, count=-1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_run_steps(null, 0, null, 0, null, 1) == lib.FC_OK
    assert lib.fc_run_steps(null, 1, null, 0, scratch, 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_run_steps(program[0], 2, null, 4, scratch, 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_run_steps(program[0], 2, null, -1, scratch, 1) == lib.FC_ERROR_ARGUMENT
    buffers = ffi.new("void *[]", [pointer(a) for a in program[1]])
    assert lib.fc_run_steps(program[0], 2, buffers, 4, null, 1) == lib.FC_ERROR_ARGUMENT
    assert lib.fc_steps_workspace(null, 1, 1) == -1
    assert lib.fc_steps_workspace(null, 0, 1) == 0
    assert np.isnan(program[1][2]).all()


# ------------------------------------------------------------------------------------------------------- resizing


def _resizing(x_size: int, first: list[int], index: list[int], y_size: int = 0) -> tuple[int, Any]:
    """The status, and the plan, of one axis along h; weights are 1."""
    d = ffi.new("fc_resize_desc *")
    d.n = d.c = 1
    d.x_size, d.y_size = [1, x_size, 1], [1, y_size or len(first) - 1, 1]
    d.x_stride, d.y_stride = [0, 0, 0, 1, 0], [0, 0, 0, 1, 0]
    kept = ffi.new("int64_t[]", first), ffi.new("int64_t[]", index), ffi.new("double[]", [1.0] * len(index))
    d.types, d.isa = [lib.FC_F32] * 4, lib.fc_isa_count() - 1
    d.first[1], d.index[1], d.weight[1] = kept
    plan = ffi.new("fc_plan **")
    status = lib.fc_plan_resize(d, plan)
    assert (status == lib.FC_OK) == (plan[0] != ffi.NULL)
    return status, ffi.gc(plan[0], lib.fc_plan_destroy)


def test_tables_are_looked_at():
    assert _resizing(3, [0, 1, 2], [0, 2])[0] == lib.FC_OK
    for first, index in (
        ([0, 1, 2], [0, 3]), ([0, 1, 2], [-1, 0]), ([1, 1, 2], [0, 1]), ([0, 2, 1], [0, 1]),
        ([0, 0, INT64_MAX], [0, 1]), ([0, 1, 2], [0, INT64_MIN]),
    ):  # fmt: skip
        assert _resizing(3, first, index)[0] == lib.FC_ERROR_ARGUMENT, (first, index)
    assert _resizing(1, [0, 2**16], [0] * 2**16)[0] == lib.FC_OK
    assert _resizing(1, [0, 2**16 + 1], [0] * (2**16 + 1))[0] == lib.FC_ERROR_REFUSED
    assert lib.fc_plan_resize(ffi.NULL, ffi.new("fc_plan **")) == lib.FC_ERROR_ARGUMENT


def test_an_axis_without_a_table_stays_as_it_is():
    d = ffi.new("fc_resize_desc *")
    d.n = d.c = 1
    d.types, d.isa = [lib.FC_F32] * 4, lib.fc_isa_count() - 1
    d.x_size, d.y_size = [1, 1, 4], [1, 1, 4]
    d.x_stride, d.y_stride = [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]
    plan = ffi.new("fc_plan **")
    assert lib.fc_plan_resize(d, plan) == lib.FC_OK
    plan = ffi.gc(plan[0], lib.fc_plan_destroy)
    x, y = np.arange(4, dtype="f4"), np.full(4, np.nan, "f4")
    scratch = np.empty(lib.fc_plan_workspace(plan, 1, 0), np.uint8)
    assert lib.fc_run(plan, slots(x=x, y=y), pointer(scratch), 1) == lib.FC_OK
    assert np.array_equal(x, y)
    d.y_size = [1, 1, 5]
    assert lib.fc_plan_resize(d, ffi.new("fc_plan **")) == lib.FC_ERROR_ARGUMENT


def test_dropout_has_a_probability_and_numbers_from_0_on():
    def status(p: float, *steps: int) -> int:
        d = ffi.new("fc_map_desc *")
        d.op, d.rank, d.p = lib.FC_MAP_DROPOUT, 2, p
        d.types, d.isa = [lib.FC_F32] * 4, lib.fc_isa_count() - 1
        d.size[0:2], d.out_stride[0:2], d.stride[0][0:2], d.stride[1][0:2] = [2, 3], [3, 1], [3, 1], steps
        plan = ffi.new("fc_plan **")
        found = lib.fc_plan_map(d, plan)
        lib.fc_plan_destroy(plan[0])
        return found

    assert status(0.5, 3, 1) == status(1, 0, 2**29) == lib.FC_OK
    for p in (0, -1, 1.5, float("nan"), float("inf")):
        assert status(p, 3, 1) == lib.FC_ERROR_ARGUMENT, p
    for steps in ((3, -1), (-3, 1), (2**31, 1), (0, 2**30)):
        assert status(0.5, *steps) == lib.FC_ERROR_ARGUMENT, steps
