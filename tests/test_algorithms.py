"""Every algorithm of the compiled backends, by name, at the sizes where those of C cut."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from hashlib import sha256
from importlib import import_module
from itertools import product
from math import prod
from typing import Any

import layouts
import numpy as np
import pytest
from cases.algorithms import (
    ALGORITHMS,
    ALONG,
    BORDERS,
    GROUPS,
    LINES,
    PIXELS,
    ROWS,
    STRIPS,
    TYPICAL,
    WINOGRADS,
    Group,
    OfC,
)
from cases.conv import Conv, conv

import fastconv as fc
from fastconv import dispatch, testing
from fastconv.backends import backend
from fastconv.settings import Settings, settings
from fastconv.spec import conv_spec
from fastconv.testing import Target

C_TARGETS = [t for t in testing.targets() if t.backend == "c"]
on_c = pytest.mark.parametrize("c_target", C_TARGETS, ids=str)
on_compiled = pytest.mark.parametrize("compiled", [t for t in testing.targets() if t.backend != "reference"], ids=str)
in_both_layouts = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
of_every_family = pytest.mark.parametrize("family", TYPICAL)

_DIRECTIONS = {"y": "fwd", "dx": "bwd_input", "dw": "bwd_weight"}

#: Winograd's coefficients are irrational: whole numbers come out close to whole.
_NEARLY_WHOLE = {"float32": 0.05, "float64": 1e-9}


def _functions(ndim: int) -> dict[str, Callable[..., Any]]:
    return {
        "y": getattr(fc, f"conv{ndim}d"),
        "dx": getattr(fc, f"conv{ndim}d_backward_input"),
        "dw": getattr(fc, f"conv{ndim}d_backward_weight"),
    }


def _operands(case: Conv, a: dict[str, np.ndarray]) -> dict[str, tuple[Any, ...]]:
    return {"y": (a["x"], a["w"]), "dx": (a["dy"], a["w"], a["x"].shape), "dw": (a["x"], a["dy"], case.w_shape)}


def _solved(case: Conv, draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of the problem, float64, channels first, and what the reference makes of them."""
    rng, functions = np.random.default_rng(list(case.name.encode())), _functions(case.ndim)
    x, w, b = (draw(rng, s) for s in (case.x_shape, case.w_shape, (case.oc,)))
    with fc.use_backend("reference"):
        y = functions["y"](x, w, **case.arguments)
        a = {"x": x, "w": w, "b": b, "y": y, "dy": draw(rng, y.shape), "residual": draw(rng, y.shape)}
        for what in ("dx", "dw"):
            a[what] = functions[what](*_operands(case, a)[what], **case.arguments)
    return a


@cache
def _whole(case: Conv) -> dict[str, np.ndarray]:
    """float32 holds them, in half the memory."""
    length = max(case.ic, case.oc) * prod(case.kernel) + 2 * case.n * prod(case.size)
    solved = _solved(case, lambda rng, shape: testing.integers(rng, shape, "float64", length))
    return {name: array.astype("float32") for name, array in solved.items()}


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape).astype("float32").astype("float64")


def _rectified(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.maximum(_normal(rng, shape), 0) if len(shape) > 1 else _normal(rng, shape)


def _cast(a: dict[str, np.ndarray], dtype: str, last: bool) -> dict[str, np.ndarray]:
    plain = ("w", "dw", "b")
    return {k: v.astype(dtype) if k in plain else layouts.to(v.astype(dtype), last) for k, v in a.items()}


def _arguments(case: Conv, last: bool) -> dict[str, Any]:
    return {**case.arguments, "layout": layouts.name(last, case.ndim)}


def _named(target: Target, algorithm: str) -> set[str]:
    """What a backend may call an algorithm of C. Numba packs whatever lies in whichever way, all filters beforehand."""
    if target.backend != "numba":
        return {algorithm}
    product = {"implicit_gemm"}
    if isinstance(algorithm, OfC):
        return product
    others = {
        ROWS: product,
        PIXELS: product,
        LINES: product | {"direct"},
        STRIPS: {STRIPS, "direct"},
        ALONG: {STRIPS, "direct"},
    }
    return others.get(algorithm, {algorithm.removesuffix("_filters")})


def _asked_for(target: Target, algorithm: str) -> AbstractContextManager[None]:
    """What pays where is not the question then. Numba's depthwise algorithms refuse what they are slow at."""
    if target.backend == "c":
        return fc.use_algorithm(algorithm)
    named = _named(target, algorithm)
    asked = [name for name in named if name.startswith(("winograd", "implicit_gemm")) or named == {"direct"}]
    return fc.use_algorithm(asked[0]) if asked else nullcontext()


def _ran(target: Target, algorithm: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> np.ndarray:
    result, (choice,) = testing.ran(target, function, *args, **kwargs)
    assert choice.kernel.algorithm in _named(target, algorithm), f"{algorithm} was to run, but this did:\n{choice}"
    return result


def _check(target: Target, case: Conv, dtype: str, last: bool, names: dict[str, tuple[str, str]]) -> None:
    """All three directions of whole-numbered data into arrays of NaN."""
    a, kw = _cast(_whole(case), dtype, last), _arguments(case, last)
    for what, function in _functions(case.ndim).items():
        out, operands = testing.nan_filled(a[what].shape, dtype), _operands(case, a)[what]
        with _asked_for(target, names[what][last]):
            _ran(target, names[what][last], function, *operands, **kw, out=out)
        bound = _NEARLY_WHOLE[dtype] if names[what][last].startswith("winograd") else 0
        testing.assert_close(out, a[what], bound, f"{case}: {what}")


# ---------------------------------------------------------------------------------------------- which algorithm


def _spec(case: Conv, direction: str, dtype: str, last: bool) -> Any:
    shape = layouts.to(np.empty(case.x_shape), last).shape
    return conv_spec(direction, shape, case.w_shape, dtype, **_arguments(case, last))


@on_compiled
def test_every_algorithm_that_a_backend_names_has_cases(compiled: Target, dtype: str) -> None:
    listed: dict[str, set[str]] = {d: set() for d in _DIRECTIONS}
    reached: dict[str, set[str]] = {d: set() for d in _DIRECTIONS}
    with testing.on(compiled):
        for family, case in TYPICAL.items():
            for what, direction in _DIRECTIONS.items():
                for last in (False, True):
                    spec = _spec(case, direction, dtype, last)
                    kernel = dispatch.choose(spec).kernel
                    assert kernel.algorithm in _named(compiled, ALGORITHMS[family][what][last])
                    reached[what].add(kernel.algorithm)
                    listed[what] |= set(backend(compiled.backend).algorithms(spec, settings()))
    assert listed == reached
    assert all(_named(compiled, PIXELS) <= names for names in listed.values())


@in_both_layouts
@of_every_family
@on_c
def test_every_algorithm_computes_what_it_does_not_refuse(
    c_target: Target, dtype: str, family: str, last: bool
) -> None:
    case = TYPICAL[family]
    ran = _check_all_algorithms(c_target, case, dtype, last)
    assert all(ALGORITHMS[family][what][last] in able for what, able in ran.items())


def _check_all_algorithms(target: Target, case: Conv, dtype: str, last: bool) -> dict[str, list[str]]:
    """Every one that does not refuse, in all three directions; returns their names."""
    a, kw = _cast(_whole(case), dtype, last), _arguments(case, last)
    ran = {}
    with testing.on(target):
        for what, direction in _DIRECTIONS.items():
            reasons = backend(target.backend).algorithms(_spec(case, direction, dtype, last), settings())
            ran[what] = [name for name, reason in reasons.items() if reason is None]
            for name in ran[what]:
                out = testing.nan_filled(a[what].shape, dtype)
                with fc.use_algorithm(name):
                    _ran(target, name, _functions(case.ndim)[what], *_operands(case, a)[what], **kw, out=out)
                bound = _NEARLY_WHOLE[dtype] if "winograd" in name else 0
                testing.assert_close(out, a[what], bound, f"{name}: {what}")
    return ran


@pytest.mark.parametrize("padding", [(1, 0), (0, 1), (2, 2)], ids=str)
@in_both_layouts
@on_compiled
def test_one_slice_with_padding_before_or_behind(
    compiled: Target, dtype: str, last: bool, padding: tuple[int, int]
) -> None:
    """Of depth 1, kernel and all, and yet no image: a slice of the result may lie in the padding."""
    around = (padding, (1, 1), (1, 1))
    case = conv("a slice", 2, 16, 16, (1, 9, 30), (1, 3, 3), 16, stride=(2, 1, 1), padding=around)
    _check_all_algorithms(compiled, case, dtype, last)


@pytest.mark.parametrize("group", GROUPS, ids=str)
@in_both_layouts
@on_compiled
def test_whole_numbers_at_every_border(compiled: Target, dtype: str, last: bool, group: Group) -> None:
    with testing.on(compiled):
        for case in group.cases:
            _check(compiled, case, dtype, last, ALGORITHMS[group.family])


@pytest.mark.parametrize("group", [g for g in GROUPS if g.family in WINOGRADS], ids=str)
@in_both_layouts
@on_compiled
def test_strict_precision_never_takes_winograd(compiled: Target, dtype: str, last: bool, group: Group) -> None:
    for case in group.cases:
        a, kw = _cast(_whole(case), dtype, last), _arguments(case, last)
        for what, function in _functions(case.ndim).items():
            out = testing.nan_filled(a[what].shape, dtype)
            with testing.on(compiled), fc.precision("strict"):
                (choice,) = testing.ran(compiled, function, *_operands(case, a)[what], **kw, out=out)[1]
            assert not choice.kernel.algorithm.startswith("winograd"), f"{case}: {choice}"
            testing.assert_exact(out, a[what], f"{case}: {what}")


@in_both_layouts
@on_compiled
def test_below_what_pays_winograd_is_not_taken(compiled: Target, dtype: str, last: bool) -> None:
    (small,) = (g for g in GROUPS if g.name == "below what pays for Winograd")
    with testing.on(compiled):
        for case in small.cases:
            for what, direction in _DIRECTIONS.items():
                chosen = dispatch.choose(_spec(case, direction, dtype, last)).kernel.algorithm
                assert chosen in _named(compiled, ALGORITHMS["product"][what][last]), f"{case}: {what}"


_BEYOND = (-(2**63), -(2**31), -1, 0, 2**31, 2**62, 2**63 - 1)

#: field of a C descriptor -> what it is not to hold; of arrays the last element.
_NOT_ALLOWED: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("n", "groups", "icg", "ocg", "x_size", "y_size", "ker", "stride", "dil"), _BEYOND),
    "pad": (-(2**63), -(2**31), 2**31, 2**63 - 1),
    "limit": (-1,),
    **dict.fromkeys(("types", "direction", "isa", "algorithm", "act"), (-(2**31), -1, 99, 2**31 - 1)),
}


@pytest.mark.parametrize("field", _NOT_ALLOWED)
@on_c
def test_the_library_checks_a_description_before_it_computes_with_it(c_target: Target, field: str) -> None:
    c = import_module("fastconv.backends.c.conv")
    plan = c.ffi.new("fc_plan **")
    for direction, value in product(_DIRECTIONS.values(), _NOT_ALLOWED[field]):
        d = c._descriptor(
            conv_spec(direction, (2, 4, 5, 6), (8, 4, 3, 3), "float32", stride=2), Settings(isa=c_target.isa)
        )
        old = getattr(d, field)
        if field in ("act", "types"):
            setattr(old, "kind" if field == "act" else "w", value)
        elif isinstance(old, int):
            setattr(d, field, value)
        else:
            old[2] = value
        assert c.lib.fc_plan_conv(d, plan) == c.lib.FC_ERROR_ARGUMENT, f"{field} {value}"
        assert plan[0] == c.ffi.NULL
        assert c.ffi.string(c.lib.fc_conv_algorithm_refusal(d, 0)) == b"the description is not one"


@on_c
def test_the_library_checks_numbers_that_are_too_large_together(c_target: Target) -> None:
    c = import_module("fastconv.backends.c.conv")
    far, many = {"dil": 2**29, "ker": 5}, {"stride": 2**10, "x_size": 2**10}
    for direction, fields in (("fwd", far), ("bwd_weight", {"stride": 2**30, "y_size": 4}), ("bwd_input", many)):
        d = c._descriptor(
            conv_spec(direction, (2, 4, 5, 6), (8, 4, 3, 3), "float32", stride=2), Settings(isa=c_target.isa)
        )
        for field, value in fields.items():
            getattr(d, field)[1] = getattr(d, field)[2] = value
        assert c.lib.fc_plan_conv(d, c.ffi.new("fc_plan **")) == c.lib.FC_ERROR_ARGUMENT
    d = c._descriptor(conv_spec("fwd", (2, 4, 5, 6), (8, 4, 3, 3), "float32"), Settings(isa=c_target.isa))
    # No memory is so large; or steps into the padding would leave 64 bits.
    for stride, status in ((-(2**63), c.lib.FC_ERROR_ARGUMENT), (2**47, c.lib.FC_ERROR_REFUSED)):
        d.x_stride[4] = stride
        assert c.lib.fc_plan_conv(d, c.ffi.new("fc_plan **")) == status
    for number in (-1, c.lib.fc_conv_algorithm_count(), 99999, -(2**31)):
        assert c.lib.fc_conv_algorithm_name(number) == c.ffi.NULL
        assert c.ffi.string(c.lib.fc_conv_algorithm_refusal(d, number)) == b"there is no such algorithm"


# -------------------------------------------------------------------------------------------------- exactness


_FEW_WINOGRAD = [
    *((family, TYPICAL[family]) for family in WINOGRADS),
    *((g.family, g.cases[k]) for g in GROUPS if g.family in WINOGRADS for k in (0, -2)),
]


@cache
def _real(case: Conv, draw: Callable[..., np.ndarray]) -> dict[str, np.ndarray]:
    """What is drawn is float32, and kept as such."""
    return {k: v if k in ("y", "dx", "dw") else v.astype("float32") for k, v in _solved(case, draw).items()}


@pytest.mark.parametrize("draw", [_normal, _rectified])
@in_both_layouts
@on_compiled
def test_winograd_is_as_exact_as_it_promises(compiled: Target, dtype: str, last: bool, draw: Any) -> None:
    promise = {"float32": 5e-6, "float64": 1e-13}[dtype]
    direct = {"float32": 1e-6, "float64": 1e-14}[dtype]
    for family, case in _FEW_WINOGRAD:
        a, kw = _cast(_real(case, draw), dtype, last), _arguments(case, last)
        expected = _cast(_real(case, draw), "float64", last)
        got = {}
        for what, function in _functions(case.ndim).items():
            operands, name = _operands(case, a)[what], ALGORITHMS[family][what][last]
            with testing.on(compiled), _asked_for(compiled, name):
                got[what] = _ran(compiled, name, function, *operands, **kw)
            assert testing.relative_l2(got[what], expected[what]) < promise, f"{case}: {what}"
        with testing.on(compiled), fc.precision("strict"):
            strict = testing.proven(compiled, _functions(case.ndim)["y"], a["x"], a["w"], **kw)
        assert testing.relative_l2(strict, expected["y"]) < direct, f"{case}: strict"
        scale = np.linalg.norm(np.ravel(expected["y"])) * np.linalg.norm(np.ravel(expected["dy"]))
        gap = testing.adjoint_gap(got["y"], a["dy"], (a["x"], got["dx"]), (a["w"], got["dw"]))
        assert gap < promise * scale, f"{case}: not adjoint"


@in_both_layouts
@of_every_family
@on_compiled
def test_epilogues_of_every_algorithm(compiled: Target, dtype: str, family: str, last: bool) -> None:
    case = TYPICAL[family]
    a, kw = _cast(_whole(case), dtype, last), _arguments(case, last)
    name = ALGORITHMS[family]["y"][last]
    bound = _NEARLY_WHOLE[dtype] if family in WINOGRADS else 0
    activations = (None, "relu", ("leaky_relu", 0.25), ("clip", -20, 30))
    for b, residual, activation in product((None, a["b"]), (None, a["residual"]), activations):
        before = a["y"] if residual is None else a["y"] + residual
        before = before if b is None else before + (b if last else b.reshape(-1, *(1,) * case.ndim))
        out = testing.nan_filled(before.shape, dtype)
        more = {"activation": activation, "residual": residual, "out": out}
        with testing.on(compiled):
            _ran(compiled, name, _functions(case.ndim)["y"], a["x"], a["w"], b, **kw, **more)
        what = f"{activation}, b {b is not None}, residual {residual is not None}"
        testing.assert_close(out, fc.activate(before, activation), bound, what)


def _of_the_other_layout(x: np.ndarray) -> np.ndarray:
    """The same array with memory of the other layout: axis 1 last, or the last axis second."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def _rows_apart(x: np.ndarray) -> np.ndarray:
    """The same array, contiguous along its last axis alone."""
    wide = testing.nan_filled((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
    wide[..., :-3] = x
    return wide[..., :-3]


_ORDERS = {**testing.MEMORY_ORDERS, "of the other layout": _of_the_other_layout}


@pytest.mark.parametrize("order", _ORDERS)
@in_both_layouts
@of_every_family
@on_compiled
def test_any_strides_of_every_array(compiled: Target, dtype: str, family: str, last: bool, order: str) -> None:
    case, change = TYPICAL[family], _ORDERS[order]
    plain, kw = _cast(_whole(case), dtype, last), _arguments(case, last)
    a = {k: v if k == "b" else change(v) for k, v in plain.items()}
    bias = a["b"] if last else a["b"].reshape(-1, *(1,) * case.ndim)
    expected = {**plain, "y": plain["y"] + plain["residual"] + bias}
    # Another algorithm may run where strides are others: only Winograd's results are not whole.
    bounds = dict.fromkeys(ALGORITHMS[family], _NEARLY_WHOLE[dtype] if family in WINOGRADS else 0)
    with testing.on(compiled):
        for what, function in _functions(case.ndim).items():
            operands, more = _operands(case, a)[what], {}
            if what == "y":
                operands, more = (*operands, a["b"]), {"residual": a["residual"]}
            out = change(testing.nan_filled(plain[what].shape, dtype))
            testing.proven(compiled, function, *operands, **kw, **more, out=out)
            testing.assert_close(out, expected[what], bounds[what], what)
        # A plan's weights are packed once, whatever the strides of the arrays that it is called with.
        plan = getattr(fc, f"plan_conv{case.ndim}d")(a["x"].shape, a["w"], a["b"], **kw, residual=True)
        xs, residuals = ([plain[name], a[name]] for name in ("x", "residual"))
        for x, residual, laid in product(xs, residuals, (np.asarray, change)):
            out = laid(testing.nan_filled(plain["y"].shape, dtype))
            plan(x, residual, out=out)
            strides = f"x {x.strides}, residual {residual.strides}, out {out.strides}"
            testing.assert_close(out, expected["y"], bounds["y"], f"plan, {strides}")


@of_every_family
@on_compiled
def test_rows_that_lie_apart_in_one_array_alone(compiled: Target, dtype: str, family: str) -> None:
    case, bound = TYPICAL[family], _NEARLY_WHOLE[dtype] if family in WINOGRADS else 0
    for last in (False, True):
        a, kw = _cast(_whole(case), dtype, last), _arguments(case, last)
        functions = _functions(case.ndim)

        def empty(what: str, a: dict[str, np.ndarray] = a) -> np.ndarray:
            return testing.nan_filled(a[what].shape, dtype)

        y = a["y"] + a["residual"] + (a["b"] if last else a["b"].reshape(-1, *(1,) * case.ndim))
        with testing.on(compiled):
            for x, residual, out in product(*[(np.asarray, _rows_apart)] * 3):
                more = {**kw, "residual": residual(a["residual"]), "out": out(empty("y"))}
                got = functions["y"](x(a["x"]), a["w"], a["b"], **more)
                testing.assert_close(got, y, bound, f"y, {last}, {x}, {residual}, {out}")
            for what in ("dx", "dw"):
                first, *others = _operands(case, a)[what]
                got = functions[what](_rows_apart(first), *others, **kw, out=empty(what))
                testing.assert_close(got, a[what], bound, f"{what}, {last}")
            got = functions["dx"](*_operands(case, a)["dx"], **kw, out=_rows_apart(empty("dx")))
            testing.assert_close(got, a["dx"], bound, f"out of dx, {last}")


def _checked(target: Target, function: Callable[..., Any], *args: Any, what: str = "", **kwargs: Any) -> None:
    """The same result as the reference's, into an array of NaN."""
    with fc.use_backend("reference"):
        expected = function(*args, **kwargs)
    out = testing.nan_filled(expected.shape, expected.dtype)
    with testing.on(target):
        testing.proven(target, function, *args, **kwargs, out=out)
    testing.assert_exact(out, expected, what)


def _far_apart(x: np.ndarray) -> np.ndarray:
    """Memory between the pixels is never touched, and so is none."""
    far = np.zeros((*x.shape[:-1], 5000, x.shape[-1]), x.dtype)[..., 0, :]
    far[...] = x
    return far


#: What a caller may do to an array before the call.
_VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rows backwards": lambda x: x[:, ::-1],
    "pixels backwards": lambda x: x[:, :, ::-1],
    "channels backwards": lambda x: x[..., ::-1],
    "images of the other layout": lambda x: np.ascontiguousarray(np.moveaxis(x, -1, 1)).transpose(0, 2, 3, 1),
    "rows and columns exchanged": lambda x: x.swapaxes(1, 2).copy().swapaxes(1, 2),
    "every third pixel": lambda x: np.repeat(x, 3, axis=2)[:, :, ::3],
    "pixels far apart": _far_apart,
    "one pixel for all": lambda x: np.broadcast_to(x[:1, :1, :1], x.shape),
    "one channel for all": lambda x: np.broadcast_to(x[..., :1], x.shape),
    "windows that overlap": lambda x: np.lib.stride_tricks.as_strided(
        np.ascontiguousarray(x), x.shape, (x.strides[0], x.strides[2], x.strides[2], x.strides[3])
    ),
}


@pytest.mark.parametrize("view", _VIEWS)
@on_c
def test_depthwise_layers_of_any_view(c_target: Target, dtype: str, view: str) -> None:
    rng, change = np.random.default_rng(30), _VIEWS[view]
    x = change(testing.integers(rng, (1, 5, 6, 16), dtype))
    for kernel, kw in ((3, {"padding": 1}), (2, {"padding": 1}), (3, {"padding": 1, "stride": 2}), ((3, 1), {})):
        w = testing.integers(rng, (16, 1, *(kernel if isinstance(kernel, tuple) else (kernel,) * 2)), dtype)
        kw = {**kw, "groups": 16, "layout": "NHWC"}
        _checked(c_target, fc.conv2d, x, w, **kw, what=f"{kernel}, y")
        dy = testing.integers(rng, fc.conv2d(x, w, **kw).shape, dtype)
        _checked(c_target, fc.conv2d_backward_weight, x, change(dy), w.shape, **kw, what=f"{kernel}, dw")
        _checked(c_target, fc.conv2d_backward_input, change(dy), w, x.shape, **kw, what=f"{kernel}, dx")
        with testing.on(c_target):
            plan = fc.plan_conv2d(x.shape, w, **kw)
            testing.assert_exact(plan(x), fc.conv2d(x.copy(), w, **kw), f"{kernel}, plan")


@pytest.mark.parametrize("view", [view for view in _VIEWS if view != "pixels far apart"])
@on_c
def test_products_of_any_view(c_target: Target, dtype: str, view: str) -> None:
    """Layers of 1x1 read their operands where they are, if strides are such that they can."""
    rng, change = np.random.default_rng(31), _VIEWS[view]
    w = testing.integers(rng, (16, 32, 1, 1), dtype)
    for last in (False, True):
        kw = {"layout": layouts.name(last, 2)}
        x, dy = (layouts.to(testing.integers(rng, (2, c, 8, 12), dtype), last) for c in (32, 16))
        if last:
            x, dy = change(x), change(dy)
        else:
            x, dy = (np.moveaxis(change(np.moveaxis(a, 1, -1)), -1, 1) for a in (x, dy))
        _checked(c_target, fc.conv2d, x, w, **kw, what=f"{kw}, y")
        _checked(c_target, fc.conv2d_backward_weight, x, dy, w.shape, **kw, what=f"{kw}, dw")
        _checked(c_target, fc.conv2d_backward_input, dy, w, x.shape, **kw, what=f"{kw}, dx")


def test_strides_of_axes_with_one_position_mean_nothing(target: Target) -> None:
    x = np.arange(48, dtype="float32").reshape(1, 1, 3, 16)
    w = np.ones((16, 1, 1, 3), "float32")
    far = np.lib.stride_tricks.as_strided(x, strides=(2**62, -(2**62), *x.strides[2:]))
    kw = {"groups": 16, "padding": (0, 1), "layout": "NHWC"}
    with testing.on(target):
        testing.assert_exact(testing.proven(target, fc.conv2d, far, w, **kw), fc.conv2d(x, w, **kw))


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("kernel", [(2, 1), (3, 1), (2, 2, 1), (3, 1, 1), (1, 3, 1)], ids=str)
@on_c
def test_gradients_of_depthwise_columns(c_target: Target, dtype: str, last: bool, kernel: tuple[int, ...]) -> None:
    """Of kernels with one tap along W the others run backwards all the same."""
    rng, ndim = np.random.default_rng(32), len(kernel)
    w = testing.integers(rng, (17, 1, *kernel), dtype)
    dy = layouts.to(testing.integers(rng, (1, 17, 2, 3, 4)[: ndim + 2], dtype), last)
    size = tuple(n + k - 1 for n, k in zip((2, 3, 4), kernel, strict=False))
    shape = (1, *size, 17) if last else (1, 17, *size)
    _checked(c_target, _functions(ndim)["dx"], dy, w, shape, groups=17, layout=layouts.name(last, ndim))
    _checked(c_target, getattr(fc, f"conv_transpose{ndim}d"), dy, w, groups=17, layout=layouts.name(last, ndim))


@on_c
def test_the_gradient_of_a_depthwise_column(c_target: Target, dtype: str) -> None:
    w, dy = np.arange(1, 9, dtype=dtype).reshape(4, 1, 2, 1), np.ones((1, 4, 1, 1), dtype)
    expected = np.arange(1, 9, dtype=dtype).reshape(1, 4, 2, 1)
    with testing.on(c_target):
        testing.assert_exact(fc.conv2d_backward_input(dy, w, (1, 4, 2, 1), groups=4), expected)
        dx = fc.conv2d_backward_input(np.moveaxis(dy, 1, -1), w, (1, 2, 1, 4), groups=4, layout="NHWC")
    testing.assert_exact(np.moveaxis(dx, -1, 1), expected)


@in_both_layouts
@pytest.mark.parametrize("kernel", [(3, 3), (1, 5), (1, 1)], ids=str)
@on_compiled
def test_epilogues_of_every_group_block_and_piece(
    compiled: Target, dtype: str, last: bool, kernel: tuple[int, int]
) -> None:
    """More rows than a block has, more channels than a group, more tiles than a thread's: each has its own."""
    case = conv(f"groups and blocks {kernel}", 1, 16, 352, (13, 14), kernel, 2, padding="same")
    a, kw = _cast(_whole(case), dtype, last), _arguments(case, last)
    b, db = a["b"], a["b"][: case.ic]
    bias, input_bias = (v if last else v.reshape(-1, 1, 1) for v in (b, db))
    y, dx = fc.activate(a["y"] + a["residual"] + bias, "relu"), a["dx"] + input_bias
    backwards = {**kw, "padding": (kernel[0] // 2, kernel[1] // 2)}
    for name, reason in backend(compiled.backend).algorithms(_spec(case, "fwd", dtype, last), settings()).items():
        bound = _NEARLY_WHOLE[dtype] if "winograd" in name else 0
        # One thread has many blocks in a piece, three have many pieces.
        for threads in (1, 3) if reason is None else ():
            with testing.on(compiled), fc.use_algorithm(name), fc.threads(threads):
                got = fc.conv2d(a["x"], a["w"], b, **kw, residual=a["residual"], activation="relu")
                plan = fc.plan_conv2d(a["x"].shape, a["w"], b, **kw, residual=True, activation="relu")
                planned = plan(a["x"], a["residual"])
                back = fc.conv_transpose2d(a["dy"], a["w"], db, **backwards)
            testing.assert_close(got, y, bound, f"{name}: y, {threads} threads")
            testing.assert_close(planned, y, bound, f"{name}: y by packed weights, {threads} threads")
            testing.assert_close(back, dx, bound, f"{name}: dx, {threads} threads")


@on_c
def test_depthwise_gradients_of_parts_of_the_images(c_target: Target, dtype: str) -> None:
    rng = np.random.default_rng(33)
    x, dy = (testing.integers(rng, (5, 20, 21, 16), dtype) for _ in range(2))
    _checked(c_target, fc.conv2d_backward_weight, x, dy, (16, 1, 3, 3), padding=1, groups=16, layout="NHWC")


@pytest.mark.parametrize(
    "case",
    [
        conv("512", 2, 512, 512, (9, 5), 3, 512, padding=1),
        conv("768, dilation 2", 1, 768, 768, (11, 9), 3, 768, padding=2, dilation=2),
        conv("1024, pads", 1, 1024, 1024, (3, 4), (5, 2), 1024, padding=((-1, 4), (2, -1))),
        conv("some of 1024", 2, 523, 523, (9, 7), 3, 523, padding=1),
    ],
    ids=str,
)
@on_c
def test_pixels_so_far_apart_that_they_are_copied(c_target: Target, dtype: str, case: Conv) -> None:
    a, kw = _cast(_whole(case), dtype, True), _arguments(case, True)
    for what, function in _functions(2).items():
        first, *others = _operands(case, a)[what]
        wide = testing.nan_filled((*first.shape[:-1], 1024), dtype)[..., : case.ic]
        wide[...] = first
        out, more, expected = testing.nan_filled(a[what].shape, dtype), {}, a[what]
        if what == "y":
            more, expected = {"b": a["b"], "residual": a["residual"]}, a["y"] + a["residual"] + a["b"]
        with testing.on(c_target), _asked_for(c_target, "depthwise_channels"):
            _ran(c_target, "depthwise_channels", function, wide, *others, **kw, **more, out=out)
        testing.assert_exact(out, expected, what)


def _behind_a_cache_line(a: np.ndarray, count: int) -> np.ndarray:
    """A copy that begins so many elements behind one."""
    memory = np.empty(a.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + count * a.itemsize
    copy = memory[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


@pytest.mark.parametrize("channels", [64, 144, 528])
@pytest.mark.parametrize("k", [3, (2, 6)])
@on_c
def test_depthwise_layers_of_arrays_that_begin_behind_a_cache_line(
    c_target: Target, dtype: str, k: Any, channels: int
) -> None:
    case = conv("behind", 2, channels, channels, (15, 14), k, channels, padding=1)
    a, kw = _cast(_whole(case), dtype, True), _arguments(case, True)
    for count in (1, 4, 7):
        for what, function in _functions(2).items():
            first, second, *others = _operands(case, a)[what]
            first = _behind_a_cache_line(first, count)
            if what == "dw":
                second = _behind_a_cache_line(second, count)
            out = _behind_a_cache_line(testing.nan_filled(a[what].shape, dtype), count)
            more, expected = {}, a[what]
            if what == "y":
                more, expected = {"b": a["b"], "residual": a["residual"]}, a["y"] + a["residual"] + a["b"]
            with testing.on(c_target):
                _ran(c_target, "depthwise_channels", function, first, second, *others, **kw, **more, out=out)
                testing.assert_exact(out, expected, f"{what}, {count} behind")
                if what == "y":
                    plan = fc.plan_conv2d(first.shape, second, **kw)
                    testing.assert_exact(plan(first, out=out), a["y"], f"planned, {count} behind")


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@on_c
def test_few_planes_of_a_depthwise_layer_are_cut_into_lines(c_target: Target, dtype: str, threads: int) -> None:
    rng = np.random.default_rng(34)
    x, w = testing.integers(rng, (1, 2, 90, 1000), dtype), testing.integers(rng, (2, 1, 5, 5), dtype)
    for stride in (1, 2):
        with fc.use_backend("reference"):
            expected = fc.conv2d(x, w, stride=stride, padding=2, groups=2)
        with testing.on(c_target), fc.threads(threads), fc.use_algorithm("depthwise_rows"):
            y = _ran(c_target, "depthwise_rows", fc.conv2d, x, w, stride=stride, padding=2, groups=2)
        testing.assert_exact(y, expected)


@pytest.mark.parametrize("size", [(5, 7), (11, 12)], ids=str)
@on_c
def test_few_pixels_read_weights_where_they_are(c_target: Target, dtype: str, size: tuple[int, int]) -> None:
    """And more pixels do not: packed or not, it is the same sum. Pieces of rows, blocks of k, groups, and steps."""
    case = conv(f"few pixels {size}", 1, 2 * 340, 2 * 130, size, 1, 2)
    for last in (False, True):
        a, kw = _cast(_whole(case), dtype, last), _arguments(case, last)
        for threads in (1, 3):
            with testing.on(c_target), fc.use_algorithm("implicit_gemm_pixels"), fc.threads(threads):
                y, dx = fc.conv2d(a["x"], a["w"], **kw), fc.conv2d_backward_input(a["dy"], a["w"], a["x"].shape, **kw)
                planned = fc.plan_conv2d(a["x"].shape, a["w"], **kw)(a["x"])
            testing.assert_exact(y, a["y"])
            testing.assert_exact(dx, a["dx"])
            testing.assert_exact(planned, a["y"])


@on_c
def test_a_kernel_of_more_taps_than_the_transforms_have_room_for(c_target: Target) -> None:
    with testing.on(c_target):
        y = fc.conv2d(np.ones((1, 16, 352, 8), np.float32), np.ones((16, 16, 350, 3), np.float32))
    np.testing.assert_array_equal(y, np.full((1, 16, 3, 6), 16 * 350 * 3, np.float32))


# ---------------------------------------------------------------------------------------------- NaN and infinity


def _spoilt(case: Conv, what: str, at: tuple[int, ...], value: float) -> dict[str, np.ndarray]:
    """The whole numbers of the case, but ``value`` where the second channel of the second image is read.

    (What a kernel makes of a NaN in dy and the padding of x is its own affair.)
    """
    a, spoilt = dict(_whole(case)), "dy" if what == "dx" else "x"
    a[spoilt] = a[spoilt].copy()
    a[spoilt][(1, 1, *at)] = value
    return a


@cache
def _result_of_spoilt(case: Conv, what: str, at: tuple[int, ...], value: float) -> np.ndarray:
    operands = _operands(case, _spoilt(case, what, at, value))[what]
    with fc.use_backend("reference"), np.errstate(invalid="ignore"):
        return _functions(case.ndim)[what](*operands, **case.arguments)


def _with(case: Conv, what: str, at: tuple[int, ...], value: float) -> dict[str, np.ndarray]:
    """Such arrays, and what comes out."""
    return {**_spoilt(case, what, at, value), what: _result_of_spoilt(case, what, at, value)}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@in_both_layouts
@of_every_family
@on_compiled
def test_one_nan_reaches_its_windows_alone(compiled: Target, dtype: str, family: str, last: bool, value: float) -> None:
    case, names = TYPICAL[family], ALGORITHMS["product" if family in WINOGRADS else family]
    for what, function in _functions(case.ndim).items():
        for at in ((0, 0), (5, 9), (-1, -1)):
            at = (1,) * (case.ndim - 2) + at
            a, kw = _cast(_with(case, what, at, value), dtype, last), _arguments(case, last)
            with testing.on(compiled), fc.precision("strict"):
                got = _ran(compiled, names[what][last], function, *_operands(case, a)[what], **kw)
            testing.assert_exact(got, a[what], f"{what}, {at}")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@in_both_layouts
@pytest.mark.parametrize("family", WINOGRADS)
@on_compiled
def test_winograd_keeps_one_nan_to_its_windows(
    compiled: Target, dtype: str, last: bool, family: str, value: float
) -> None:
    case = TYPICAL[family]
    for what, function in _functions(case.ndim).items():
        for at in ((0, 0), (3, 4), (4, 5), (7, 12), (10, 17)):
            problem = _with(case, what, (*(1,) * (case.ndim - 2), *at), value)
            a, kw = _cast(problem, dtype, last), _arguments(case, last)
            with testing.on(compiled):
                got = _ran(compiled, ALGORITHMS[family][what][last], function, *_operands(case, a)[what], **kw)
            finite = np.isfinite(a[what])
            testing.assert_exact(got[~finite], a[what][~finite], f"{what}, {at}: elsewhere")
            testing.assert_close(got[finite], a[what][finite], _NEARLY_WHOLE[dtype], f"{what}, {at}")


# -------------------------------------------------------------------------------------------------- Winograd's reach


#: Of the magnitudes of the products that a result is made of.
_PROMISED = {"float32": 1e-5, "float64": 1e-13}


def _with_sizes(what: str, function: Callable[..., Any], operands: tuple[Any, ...], **arguments: Any) -> dict[str, Any]:
    """The right values, and the sums of the magnitudes of the products that each is made of."""
    with fc.use_backend("reference"):
        sizes = (np.abs(v) if isinstance(v, np.ndarray) else v for v in operands)
        return {what: function(*operands, **arguments), "sizes": function(*sizes, **arguments)}


@cache
def _one_large(case: Conv, what: str, operand: str) -> dict[str, np.ndarray]:
    """Normal numbers, but one of an operand, in a corner of the last channel that not all of its tile see, is far
    beyond the others."""
    a = {k: v.copy() for k, v in _solved(case, _normal).items()}
    a[operand][(-1,) * a[operand].ndim] = 1e10
    return a | _with_sizes(what, _functions(case.ndim)[what], _operands(case, a)[what], **case.arguments)


@pytest.mark.parametrize("family", [name for name in WINOGRADS if "by filters" not in name])
@on_compiled
def test_one_large_value_spoils_no_other_result(compiled: Target, dtype: str, family: str) -> None:
    case = TYPICAL[family]
    for what, operands in {"y": ("x", "w"), "dx": ("w", "dy"), "dw": ("x", "dy")}.items():
        for last, operand in enumerate(operands):
            a, kw = _one_large(case, what, operand), _arguments(case, bool(last))
            own = _operands(case, _cast({k: v for k, v in a.items() if k != "sizes"}, dtype, bool(last)))[what]
            with testing.on(compiled):
                got = _ran(compiled, ALGORITHMS[family][what][last], _functions(case.ndim)[what], *own, **kw)
            got = np.moveaxis(got, -1, 1) if last and what != "dw" else got
            error = np.max(np.abs(got - a[what]) / a["sizes"])
            assert error < _PROMISED[dtype], f"{what}, one large value in {operand}: {error}"


def _reach(name: str) -> tuple[np.ndarray, np.ndarray]:
    """x (1, 16, 8, 8) and w (16, 16, 3, 3) of values that no transform of a tile keeps apart, in float32."""
    x, w = np.ones((1, 16, 8, 8), np.float32), np.ones((16, 16, 3, 3), np.float32)
    match name:
        case "one large pixel":
            x[0, 0, 7, 7] = 1e10
        case "one pixel among zeros":
            x *= 0
            x[0, 0, 3, 3] = 1e10
        case "an edge":
            x[:, :, :4] = 1e-8
        case "an edge inside a tile":
            x[:, :, :3] = 1e-8
        case "a large tap":
            w[0, 0, 0, 0] = 1e10
        case "near the largest number":
            x *= np.float32(1e38)
            w /= 576
        case "near the smallest number":
            x *= np.float32(1e-37)
            w *= 576
        case "large filters":
            x *= np.float32(1e15)
            w *= np.float32(1e19)
    return x, w


@pytest.mark.parametrize(
    "name",
    [
        "one large pixel",
        "one pixel among zeros",
        "an edge",
        "an edge inside a tile",
        "a large tap",
        "near the largest number",
        "near the smallest number",
        "large filters",
    ],
)
@pytest.mark.parametrize("algorithm", ["winograd_4x4_3x3", "winograd_4x4_3x3_filters"])
@pytest.mark.parametrize("compiled", [t for t in testing.targets() if t.backend != "reference"], ids=str)
def test_results_are_right_where_values_lie_far_apart(compiled: Target, algorithm: str, name: str) -> None:
    x, w = _reach(name)
    by_filters = algorithm.endswith("filters")
    if by_filters and compiled.backend != "c":
        algorithm = "winograd_4x4_3x3"
    for function, operands in (
        (fc.conv2d, (x, w)),
        (fc.conv2d_backward_input, (x, w, x.shape)),
        (fc.conv2d_backward_weight, (x, x * 0 + 1, w.shape)),
    ):
        exact = tuple(v.astype(np.float64) if isinstance(v, np.ndarray) else v for v in operands)
        right = _with_sizes("right", function, exact, padding=1)
        if by_filters and function is fc.conv2d_backward_weight:
            continue
        with testing.on(compiled), np.errstate(over="ignore"), fc.use_algorithm(algorithm):
            got = _ran(compiled, algorithm, function, *operands, padding=1)
            expected = right["right"].astype(np.float32)
        finite = np.isfinite(expected)
        testing.assert_exact(got[~finite], expected[~finite], function.__name__)
        gap = np.abs(got[finite] - right["right"][finite])
        assert np.all(gap <= _PROMISED["float32"] * right["sizes"][finite]), f"{function.__name__}: {gap.max()}"
    with testing.on(compiled), np.errstate(over="ignore"), fc.use_algorithm(algorithm):
        plan = fc.plan_conv2d(x.shape, w, padding=1)
        testing.assert_exact(plan(x), fc.conv2d(x, w, padding=1), "plan")


@on_compiled
def test_results_that_are_computed_directly_have_their_epilogue(compiled: Target) -> None:
    x, w = np.ones((1, 16, 16, 20), np.float32), np.ones((24, 16, 3, 3), np.float32)
    x[0, 0, 9, 9] = 1e10
    rng = np.random.default_rng(35)
    b, residual = (1000 * testing.integers(rng, shape, "float32") for shape in ((24,), (1, 24, 16, 20)))
    exact = _with_sizes("right", fc.conv2d, (x.astype(np.float64), w.astype(np.float64)), padding=1)
    for last in (False, True):
        kw = {"padding": 1, "layout": layouts.name(last, 2), "activation": "relu"}
        own = (layouts.to(x, last), w, b)
        with testing.on(compiled):
            y = _ran(compiled, "winograd_4x4_3x3", fc.conv2d, *own, **kw, residual=layouts.to(residual, last))
        expected = np.maximum(exact["right"] + b.reshape(-1, 1, 1) + residual, 0)
        testing.assert_close(y, layouts.to(expected, last), 1e-5 * layouts.to(exact["sizes"] + 6000, last))


@on_c
def test_kernels_of_very_many_rows(c_target: Target, dtype: str) -> None:
    x, w = np.ones((1, 16, 620, 5), dtype), np.ones((16, 16, 600, 3), dtype)
    with testing.on(c_target):
        y = fc.conv2d(x, w)
    assert np.all(y == 16 * 1800)


def _ordinary(name: str) -> np.ndarray:
    rng = np.random.default_rng(6)
    shape = (2, 16, 17, 22)
    match name:
        case "normal":
            return rng.standard_normal(shape)
        case "rectified":
            return np.maximum(rng.standard_normal(shape) - 1, 0)
        case "photograph":
            return rng.integers(0, 256, shape).astype(np.float64)
        case "heavy tails":
            return rng.standard_t(3, shape)
        case "tiny":
            return 1e-12 * rng.standard_normal(shape)
    raise AssertionError(name)


@pytest.mark.parametrize("name", ["normal", "rectified", "photograph", "heavy tails", "tiny"])
@pytest.mark.parametrize("compiled", [t for t in testing.targets() if t.backend != "reference"], ids=str)
def test_ordinary_values_are_left_to_winograd(compiled: Target, name: str) -> None:
    """Seen by the bits, which are others where all is computed directly; the error is that which is promised."""
    x, w = _ordinary(name), np.random.default_rng(7).standard_normal((24, 16, 3, 3))
    dy = _ordinary(name)[:, :, :, ::-1]
    x, w, dy = (v.astype(np.float32) for v in (x, w, np.concatenate([dy, dy[:, :8]], axis=1)))
    for function, operands in (
        (fc.conv2d, (x, w)),
        (fc.conv2d_backward_input, (dy, w, x.shape)),
        (fc.conv2d_backward_weight, (x, dy, w.shape)),
    ):
        direct = "implicit_gemm_pixels" if compiled.backend == "c" else "implicit_gemm"
        with testing.on(compiled):
            got = _ran(compiled, "winograd_4x4_3x3", function, *operands, padding=1)
            with fc.use_algorithm(direct):
                other = function(*operands, padding=1)
        assert np.mean(got == other) < 0.5, function.__name__
        assert testing.relative_l2(got, other.astype(np.float64)) < 5e-6, function.__name__


# ----------------------------------------------------------------------------------------------------- threads


def _three(case: Conv, a: dict[str, np.ndarray], last: bool) -> Iterator[np.ndarray]:
    for what, function in _functions(case.ndim).items():
        yield function(*_operands(case, a)[what], **_arguments(case, last))


def _pools_and_products(dtype: str) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(20)
    x = rng.standard_normal((3, 33, 29, 31)).astype(dtype)
    for last in (False, True):
        own, kw = layouts.to(x, last), {"layout": layouts.name(last, 2)}
        yield from fc.max_pool2d(own, 3, 2, 1, **kw, return_indices=True)
        for kind, arguments in (("max", (3, 3)), ("avg", (2, 2)), ("sum", (9, 4, 4)), ("adaptive_avg", (7,))):
            y = getattr(fc, f"{kind}_pool2d")(own, *arguments, **kw)
            yield y
            yield getattr(fc, f"{kind}_pool2d_backward")(y, own, *arguments, **kw)
        yield fc.global_avg_pool2d(own, **kw)
    for a, b in (((1537, 33), (33, 35)), ((65, 700), (700, 193)), ((3, 1100), (1100, 401)), ((5, 61, 60), (5, 60, 67))):
        yield fc.matmul(rng.standard_normal(a).astype(dtype), rng.standard_normal(b).astype(dtype))


def _same_bits(run: Callable[[], Iterator[np.ndarray]], expected: list[np.ndarray], repeats: int = 1) -> None:
    for n in (1, 2, 3, 8):
        for _ in range(repeats):
            with fc.threads(n):
                for k, (a, b) in enumerate(zip(expected, run(), strict=True)):
                    assert a.tobytes() == b.tobytes(), f"result {k} differs on {n} threads"


@in_both_layouts
@of_every_family
@on_compiled
def test_the_same_bits_on_any_number_of_threads(compiled: Target, dtype: str, family: str, last: bool) -> None:
    case = TYPICAL[family]
    a = _cast(_real(case, _normal), dtype, last)
    with testing.on(compiled):
        with fc.threads(1):
            expected = list(_three(case, a, last))
        _same_bits(lambda: _three(case, a, last), expected)


@on_c
def test_gradients_of_filters_over_long_rows_are_sums_of_sums(c_target: Target) -> None:
    x, dy = np.random.default_rng(35).random((2, 1, 1, 300_000), dtype=np.float32)
    with testing.on(c_target), fc.use_algorithm("direct"):
        dw = fc.conv1d_backward_weight(x, dy, (1, 1, 1))
    expected = np.vdot(x.astype(float), dy)
    testing.assert_close(dw, np.full((1, 1, 1), expected), 2e-6 * expected)


@on_c
def test_the_same_bits_of_a_gradient_over_padded_pixels(c_target: Target, dtype: str) -> None:
    rng = np.random.default_rng(34)
    x, dy = (rng.standard_normal(s).astype(dtype) for s in ((4, 8, 10, 29, 2), (4, 4, 12, 31, 4)))
    with testing.on(c_target), fc.precision("strict"):
        _same_bits(
            lambda: iter([fc.conv3d_backward_weight(x, dy, (4, 8, 1, 1, 1), padding=1, dilation=4)]),
            [fc.conv3d_backward_weight(x, dy, (4, 8, 1, 1, 1), padding=1, dilation=4)],
        )


@in_both_layouts
@pytest.mark.parametrize("family", ["winograd", "winograd stride 2"])
@on_compiled
def test_the_same_bits_where_some_results_are_computed_directly(
    compiled: Target, dtype: str, family: str, last: bool
) -> None:
    case = TYPICAL[family]
    a = _cast(_solved(case, _normal), dtype, last)
    for name in ("x", "dy"):
        a[name][1, 3, 4, 5] = 1e9
        a[name][0, 0, 0, 0] = np.nan
    with testing.on(compiled):
        with fc.threads(1):
            expected = list(_three(case, a, last))
        _same_bits(lambda: _three(case, a, last), expected)


@on_compiled
def test_the_same_bits_of_pools_and_products_on_any_number_of_threads(compiled: Target, dtype: str) -> None:
    with testing.on(compiled):
        with fc.threads(1):
            expected = list(_pools_and_products(dtype))
        _same_bits(lambda: _pools_and_products(dtype), expected)


_OWN_MEMORY = ("winograd", "winograd dilated", "winograd stride 2", "direct", "depthwise")


def _watched(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The scratch memory that the C backend hands out from now on, aligned, and filled with NaN."""
    memories = []
    module = import_module("fastconv.backends.c.kernel")

    def watched(nbytes: int) -> Any:
        memory = np.full(nbytes + 64, 255, np.uint8)
        memories.append(memory[-memory.ctypes.data % 64 :][:nbytes])
        return module.ffi.from_buffer(memories[-1])

    monkeypatch.setattr(module, "scratch", watched)
    return memories


@pytest.mark.parametrize("group", [g for g in GROUPS if g.family in _OWN_MEMORY], ids=str)
@in_both_layouts
@on_c
def test_a_thread_keeps_to_its_own_memory(
    c_target: Target, dtype: str, last: bool, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one thread, nothing is written behind what this thread was given."""
    memories = _watched(monkeypatch)
    with testing.on(c_target), fc.threads(1):
        for case in group.cases:
            for _ in _three(case, _cast(_whole(case), dtype, last), last):
                # The last two lines are there to align the rest, which is aligned here.
                assert (memories.pop()[-128:] == 255).all(), case


@in_both_layouts
@of_every_family
@on_c
def test_scratch_memory_is_written_before_it_is_read(
    c_target: Target, dtype: str, family: str, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, bound = TYPICAL[family], _NEARLY_WHOLE[dtype] if family in WINOGRADS else 0
    a = _cast(_whole(case), dtype, last)
    memories = _watched(monkeypatch)
    with testing.on(c_target):
        for what, result in zip(_DIRECTIONS, _three(case, a, last), strict=True):
            testing.assert_close(result, a[what], bound, what)
    assert memories


@on_c
def test_scratch_memory_of_pools_and_products_is_written_before_it_is_read(
    c_target: Target, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with testing.on(c_target):
        expected = [result.tobytes() for result in _pools_and_products(dtype)]
        memories = _watched(monkeypatch)
        assert [result.tobytes() for result in _pools_and_products(dtype)] == expected
    assert memories


@on_compiled
def test_two_python_threads_at_once(compiled: Target, dtype: str) -> None:
    def work(first: int) -> list[bytes]:
        found = []
        with testing.on(compiled), fc.threads(2):
            for case in list(TYPICAL.values())[:: 1 - 2 * first]:
                a = _cast(_real(case, _normal), dtype, bool(first))
                found += [sha256(r.tobytes()).digest() for r in _three(case, a, bool(first))]
        return found

    expected = [work(i) for i in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(2) as pool:
            for _ in range(4):
                assert list(pool.map(work, range(2))) == expected
    finally:
        sys.setswitchinterval(interval)


# ------------------------------------------------------------------------------------------ products and pools


@pytest.mark.parametrize("side", ["m", "n", "k"])
@on_compiled
def test_matrix_products_at_every_border(compiled: Target, dtype: str, side: str) -> None:
    rng = np.random.default_rng(22)
    for border in (*BORDERS, 1535, 1536, 1537):
        size = {"m": 17, "n": 19, "k": 23, side: border}
        a, b = (testing.integers(rng, s, dtype) for s in ((size["m"], size["k"]), (size["k"], size["n"])))
        out = testing.nan_filled((size["m"], size["n"]), dtype)
        with testing.on(compiled):
            testing.proven(compiled, fc.matmul, a, b, out=out)
        testing.assert_exact(out, (a.astype("float64") @ b).astype(dtype), f"{side} {border}")


#: x and the arguments: every form in which windows are walked, and lengths where rows and channels are cut.
_POOLS = {
    "even columns": ((1, 3, 9, 67), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "even columns, stride 2": ((1, 3, 9, 131), {"kernel_size": (3, 2), "stride": 2}),
    "columns": ((1, 3, 9, 97), {"kernel_size": 3, "stride": 3, "padding": 1}),
    "large windows": ((1, 17, 19, 33), {"kernel_size": 9, "stride": 4, "padding": 4}),
    "3x3 around": ((2, 33, 9, 12), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "5x5 of stride 2 around": ((3, 8, 11, 9), {"kernel_size": 5, "stride": 2, "padding": 2}),
    "few around": ((1, 19, 12, 13), {"kernel_size": 2, "stride": 3, "ceil_mode": True}),
    "dilation": ((1, 9, 11, 35), {"kernel_size": 3, "stride": 1, "dilation": (2, 5), "padding": 1}),
    "long rows": ((1, 1, 2, 4099), {"kernel_size": 2, "stride": 1}),
    "long rows, stride 2": ((1, 1, 3, 8195), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "many channels": ((1, 257, 3, 5), {"kernel_size": 2, "stride": 1}),
    "more channels": ((2, 511, 2, 3), {"kernel_size": 2, "stride": 1}),
    "planes in strips, the last of one channel": ((1, 16, 40, 40), {"kernel_size": 3, "stride": 2, "padding": 1}),
}


@in_both_layouts
@pytest.mark.parametrize("name", _POOLS)
def test_ties_and_nan_of_maxima_at_every_border(pooling_target: Target, dtype: str, last: bool, name: str) -> None:
    shape, arguments = _POOLS[name]
    rng, kw = np.random.default_rng(23), {**arguments, "layout": layouts.name(last, 2)}
    values, chances = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0], [0.02, 0.05, 0.4, 0.2, 0.2, 0.13]
    x = layouts.to(rng.choice(values, shape, p=chances).astype(dtype), last)
    with fc.use_backend("reference"):
        y, indices = fc.max_pool2d(x, **kw, return_indices=True)
        dy = testing.integers(rng, y.shape, dtype)
        dx = fc.max_pool2d_backward(dy, x, **kw)
    with testing.on(pooling_target):
        got, at = testing.proven(pooling_target, fc.max_pool2d, x, **kw, return_indices=True)
        plain = testing.proven(pooling_target, fc.max_pool2d, x, **kw)
        back = testing.proven(pooling_target, fc.max_pool2d_backward, dy, x, **kw)
        given_back = testing.proven(pooling_target, fc.max_pool2d_backward, dy, x, **kw, indices=np.maximum(at, 0))
    testing.assert_exact(got, y, "y")
    testing.assert_exact(plain, y, "y without indices")
    testing.assert_exact(at, indices, "indices")
    testing.assert_exact(back, dx, "dx")
    testing.assert_exact(given_back, dx, "dx of indices")


@in_both_layouts
@pytest.mark.parametrize("name", _POOLS)
@on_c
def test_a_thread_that_pools_keeps_to_its_own_memory(
    c_target: Target, dtype: str, last: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, arguments = _POOLS[name]
    rng, kw = np.random.default_rng(26), {**arguments, "layout": layouts.name(last, 2)}
    averages = {key: value for key, value in kw.items() if key != "dilation"}
    x = layouts.to(testing.integers(rng, shape, dtype), last)
    memories = _watched(monkeypatch)
    with testing.on(c_target), fc.threads(1):
        y, indices = fc.max_pool2d(x, **kw, return_indices=True)
        fc.max_pool2d(x, **kw)
        fc.max_pool2d_backward(y, x, **kw)
        fc.max_pool2d_backward(y, x, **kw, indices=indices)
        fc.avg_pool2d_backward(fc.avg_pool2d(x, **averages), x, **averages)
    assert len(memories) >= 6
    assert all((memory[-64:] == 255).all() for memory in memories)


@pytest.mark.parametrize("c", [16, 17])
def test_a_gradient_of_given_maxima_that_fills_the_caches(pooling_target: Target, dtype: str, c: int) -> None:
    rng, kw = np.random.default_rng(25), {"kernel_size": 3, "stride": 2, "padding": 1, "layout": "NHWC"}
    x = testing.integers(rng, (1, 19, 21, c), dtype)
    with fc.use_backend("reference"):
        y, indices = fc.max_pool2d(x, **kw, return_indices=True)
        dy = testing.integers(rng, y.shape, dtype)
        dx = fc.max_pool2d_backward(dy, x, **kw)
    x, dy, indices, dx = (np.repeat(a, 170, axis=0) for a in (x, dy, indices, dx))
    with testing.on(pooling_target):
        got = testing.proven(pooling_target, fc.max_pool2d_backward, dy, x, **kw, indices=indices)
    testing.assert_exact(got, dx, "dx")


@pytest.mark.parametrize("kind", ["global_max", "adaptive_max"])
@in_both_layouts
def test_ties_and_nan_of_whole_planes(pooling_target: Target, dtype: str, last: bool, kind: str) -> None:
    arguments = (3,) if kind == "adaptive_max" else ()
    function, backward = getattr(fc, f"{kind}_pool2d"), getattr(fc, f"{kind}_pool2d_backward")
    rng, layout = np.random.default_rng(24), layouts.name(last, 2)
    x = rng.choice([np.nan, -np.inf, 0.0, 1.0], (3, 37, 11, 13), p=[0.004, 0.8, 0.1, 0.096]).astype(dtype)
    x[0, 0], x[0, 1], x[0, 2, 5, 7] = -np.inf, np.nan, np.nan
    own = layouts.to(x, last)
    with fc.use_backend("reference"):
        y = function(own, *arguments, layout=layout)
        dy = testing.integers(rng, y.shape, dtype)
        dx = backward(dy, own, *arguments, layout=layout)
    with testing.on(pooling_target):
        testing.assert_exact(testing.proven(pooling_target, function, own, *arguments, layout=layout), y, "y")
        got = testing.proven(pooling_target, backward, dy, own, *arguments, layout=layout)
    testing.assert_exact(got, dx, "dx")
