"""Who computes a call: the search, forcing, explaining, and plans."""

from __future__ import annotations

import contextvars
import copy
import dataclasses
import os
import pickle
import subprocess
import sys
import threading
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import dispatch, settings, testing, tuning
from fastconv.backends import ORDER, backend
from fastconv.backends.base import isa_of
from fastconv.bench import layers
from fastconv.spec import GemmSpec, MapSpec, ReduceSpec, Types, conv_spec, pool_spec
from fastconv.testing import Target

RNG = np.random.default_rng(20)
X = testing.integers(RNG, (2, 4, 6, 7), "float32")
W = testing.integers(RNG, (8, 4, 3, 3), "float32")
B = testing.integers(RNG, (8,), "float32")


def _run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FASTCONV") or k == "FASTCONV_CACHE"}
    return subprocess.run(
        [sys.executable, "-c", "import numpy as np, fastconv as fc\nx = np.ones((1, 1, 4, 4))\n" + program],
        capture_output=True,
        text=True,
        env={**clean, **environment},
        check=False,
    )


_WHO = "kernel = fc.explain(fc.conv2d, x, x)[0].kernel; print(kernel.backend, kernel.isa)"


def _absent() -> list[str]:
    return [name for name, reason in fc.backends().items() if reason is not None]


# ---------------------------------------------------------------------------------------------- search and force


def test_backends_are_listed_in_search_order_with_reasons() -> None:
    listed = fc.backends()
    assert tuple(listed) == ORDER
    assert listed["reference"] is None
    assert all(reason is None or (isinstance(reason, str) and reason) for reason in listed.values())


def test_the_first_that_can_is_chosen_and_the_others_say_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_of_environment", settings.Settings)
    (choice,) = fc.explain(fc.conv2d, X, W)
    chosen = choice.kernel.backend
    before = ORDER[: ORDER.index(chosen)]
    assert [name for name, _ in choice.refusals] == list(before)
    assert all(reason for _, reason in choice.refusals)
    text = str(fc.explain(fc.conv2d, X, W))
    for part in (chosen, choice.kernel.algorithm, choice.kernel.isa, *(reason for _, reason in choice.refusals)):
        assert part in text


class _Picky:
    """A backend that computes products of one size, and only those."""

    name = "c"

    def available(self) -> None:
        return None

    def refuse(self, spec: object, settings: object) -> str | None:
        return None if isinstance(spec, GemmSpec) and spec.m == 5 else "only products of 5 rows"

    def compile(self, spec: object, settings: settings.Settings) -> object:
        kernel = backend("reference").compile(spec, settings)
        kernel.backend = self.name
        return kernel


def test_what_cannot_be_loaded_is_refused_with_the_reason() -> None:
    done = _run("""
import sys
import numpy  # which looks for other modules


class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "fastconv._c":
            raise ImportError("undefined symbol: fc_conv_run", name=name)
        if name == "numba.core":
            raise ImportError("Numba needs NumPy 2.3 or less")


sys.meta_path.insert(0, Broken())
print(*fc.explain(fc.conv2d, x, x)[0].refusals, sep="\\n")
try:
    fc.use_backend("c").__enter__()
except RuntimeError as error:
    print(error)
""")
    lines = done.stdout.splitlines()
    assert "('c', 'the extension fastconv._c cannot be loaded: undefined symbol: fc_conv_run')" in lines, done.stderr
    assert lines[-1] == "backend='c' cannot run here: the extension fastconv._c cannot be loaded: " + (
        "undefined symbol: fc_conv_run"
    )
    if "numba" not in _absent():
        assert "('numba', 'the package numba cannot be loaded: Numba needs NumPy 2.3 or less')" in lines


def test_a_refusal_hands_the_call_on_and_is_an_error_when_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_of_environment", settings.Settings)
    monkeypatch.setattr(dispatch, "backend", lambda name: _Picky() if name == "c" else backend(name))
    dispatch.forget()
    try:
        (taken,) = fc.explain(fc.matmul, np.ones((5, 3)), np.ones((3, 2)))
        (handed_on,) = fc.explain(fc.matmul, np.ones((4, 3)), np.ones((3, 2)))
        assert taken.kernel.backend == "c"
        assert handed_on.kernel.backend != "c"
        assert handed_on.refusals[0] == ("c", "only products of 5 rows")
        with fc.use_backend("c"), pytest.raises(NotImplementedError, match=r"'c'.*only products of 5 rows"):
            fc.matmul(np.ones((4, 3)), np.ones((3, 2)))
    finally:
        dispatch.forget()


def test_forced_means_forced(target: Target) -> None:
    with testing.on(target):
        (choice,) = fc.explain(fc.conv2d, X, W)
    assert choice.kernel.backend == target.backend
    assert target.isa in (None, choice.kernel.isa)
    assert choice.refusals == ()


def test_a_target_that_did_not_run_is_noticed() -> None:
    with fc.use_backend("reference"), pytest.raises(AssertionError, match="was asked for"):
        testing.proven(Target("c", "avx2"), fc.conv2d, X, W)
    with pytest.raises(AssertionError, match="no kernel ran"):
        testing.proven(Target("reference"), np.sum, X)


def test_use_backend_nests_and_ends() -> None:
    outside = fc.explain(fc.conv2d, X, W)[0].kernel.backend
    for name in testing.backends_here():
        with fc.use_backend("reference"):
            with fc.use_backend(name):
                assert fc.explain(fc.conv2d, X, W)[0].kernel.backend == name
            assert fc.explain(fc.conv2d, X, W)[0].kernel.backend == "reference"
    with pytest.raises(RuntimeError, match="inside"), fc.use_backend("reference"):
        raise RuntimeError("inside")
    assert fc.explain(fc.conv2d, X, W)[0].kernel.backend == outside


def test_use_backend_is_of_its_thread() -> None:
    outside = fc.explain(fc.conv2d, X, W)[0].kernel.backend
    seen: list[str] = []

    def look() -> None:
        seen.append(fc.explain(fc.conv2d, X, W)[0].kernel.backend)

    with fc.use_backend("reference"):
        for run in (look, partial(contextvars.copy_context().run, look)):
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
    assert seen == [outside, "reference"]


def test_unknown_backends_isas_and_precisions() -> None:
    for context, name in ((fc.use_backend, "backend"), (fc.precision, "precision")):
        with pytest.raises(ValueError, match=f"{name}='quick'"), context("quick"):
            pass
    if "c" in testing.backends_here():
        with pytest.raises(ValueError, match=r"isa='mmx': allowed is .*scalar"), fc.use_isa("mmx"):
            pass


@pytest.mark.parametrize("name", _absent())
def test_an_absent_backend_cannot_be_forced(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"backend='{name}' cannot run here: .+"), fc.use_backend(name):
        pass
    done = _run("fc.conv2d(x, x)", FASTCONV_BACKEND=name)
    assert done.returncode == 1
    assert f"RuntimeError: backend='{name}' cannot run here" in done.stderr


def test_an_isa_that_this_cpu_lacks_cannot_be_forced() -> None:
    if "c" not in testing.backends_here():
        assert testing.isas_here("reference") == []
        return
    isas = backend("c").isas()
    assert "scalar" in isas
    for name, reason in isas.items():
        done = _run(_WHO, FASTCONV_ISA=name, FASTCONV_BACKEND="c")
        if reason is None:
            assert done.stdout == f"c {name}\n", done.stderr
        else:
            assert f"RuntimeError: isa='{name}' cannot run here: {reason}" in done.stderr
            with pytest.raises(RuntimeError, match=f"isa='{name}' cannot run here"), fc.use_isa(name):
                pass
    assert "isa='mmx'" in _run(_WHO, FASTCONV_ISA="mmx", FASTCONV_BACKEND="c").stderr


def test_kernels_get_the_best_isa_of_a_cpu_or_the_forced_one_if_it_is_there() -> None:
    isas = {"avx512": "the CPU has none", "avx2": None, "scalar": None}
    assert [isa_of(isas, forced) for forced in (None, "avx2", "scalar")] == ["avx2", "avx2", "scalar"]
    with pytest.raises(RuntimeError, match="isa='avx512' cannot run here: the CPU has none"):
        isa_of(isas, "avx512")


def test_the_environment_forces_a_backend() -> None:
    for name in testing.backends_here():
        assert _run(_WHO, FASTCONV_BACKEND=name).stdout.split()[0] == name
    assert _run(_WHO, FASTCONV_BACKEND="").returncode == 0
    done = _run(_WHO, FASTCONV_BACKEND="fortran")
    assert "ValueError: FASTCONV_BACKEND='fortran': allowed is c, numba, cuda, reference" in done.stderr


def test_a_context_goes_before_the_environment() -> None:
    program = f"with fc.use_backend('reference'):\n    {_WHO}"
    for name in testing.backends_here():
        assert _run(program, FASTCONV_BACKEND=name).stdout == "reference numpy\n"


def test_precision_is_a_setting_of_the_search() -> None:
    for level in settings.PRECISIONS:
        with fc.precision(level):
            assert fc.explain(fc.conv2d, X, W)[0].settings.precision == level


def test_explain_takes_every_argument_and_sees_every_kernel() -> None:
    kernels = fc.explain(fc.conv2d_backward, np.ones((2, 8, 6, 7), "f4"), X, W, padding=1)
    assert [choice.spec.direction for choice in kernels] == ["bwd_input", "bwd_weight"]
    assert fc.explain(np.add, 1, 2) == []


# --------------------------------------------------------------------------------------------------------- plans


def test_a_plan_computes_what_the_function_does(target: Target, dtype: str) -> None:
    rng = np.random.default_rng(21)
    for ndim in (1, 2, 3):
        size = (9, 7, 8)[:ndim]
        x = testing.integers(rng, (2, 6, *size), dtype)
        w, b = testing.integers(rng, (9, 3, *(3,) * ndim), dtype), testing.integers(rng, (9,), dtype)
        kw = {"padding": "same", "stride": 2, "groups": 1, "activation": "relu"}
        x = x[:, :3]
        with testing.on(target), fc.precision("strict"):
            expected = getattr(fc, f"conv{ndim}d")(x, w, b, **kw)
            plan = getattr(fc, f"plan_conv{ndim}d")(x.shape, w, b, **kw)
            residual = testing.integers(rng, expected.shape, dtype)
            with_residual = getattr(fc, f"plan_conv{ndim}d")(x.shape, w, b, **kw, residual=True)
            after = getattr(fc, f"conv{ndim}d")(x, w, b, **kw, residual=residual)
        assert plan.backend == target.backend
        assert target.isa in (None, plan.isa)
        testing.assert_exact(plan(x), expected)
        out = testing.nan_filled(expected.shape, dtype)
        assert plan(x, out=out) is out
        testing.assert_exact(out, expected)
        testing.assert_exact(plan(x[::-1])[::-1], expected)
        testing.assert_exact(with_residual(x, residual), after)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_plan_takes_layouts_groups_and_no_batch(target: Target, layout: str) -> None:
    x = X if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(X, 1, -1))
    w = W[:, :2].copy()
    with testing.on(target), fc.precision("strict"):
        expected = fc.conv2d(x, w, groups=2, padding=1, layout=layout)
        testing.assert_exact(fc.plan_conv2d(x.shape, w, groups=2, padding=1, layout=layout)(x), expected)
        single = fc.plan_conv2d(x.shape[1:], w, groups=2, padding=1, layout=layout)
        testing.assert_exact(single(x[0]), expected[0])


def test_a_plan_says_what_it_is(target: Target) -> None:
    with testing.on(target):
        plan = fc.plan_conv2d(X.shape, W)
    assert plan.algorithm
    assert plan.workspace_bytes >= 0
    for part in (plan.backend, plan.algorithm, plan.isa):
        assert part in plan.explain()
        assert part in repr(plan)


def test_a_plan_keeps_its_weights(target: Target) -> None:
    w, b = W.copy(), B.copy()
    with testing.on(target):
        plan = fc.plan_conv2d(X.shape, w, b)
    expected = plan(X)
    w.fill(0)
    b.fill(0)
    testing.assert_exact(plan(X), expected)


def test_a_plan_is_called_by_several_threads(target: Target) -> None:
    with testing.on(target):
        plan = fc.plan_conv2d(X.shape, W, padding=1)
    inputs = [X * k for k in range(4)]
    expected = [plan(x) for x in inputs]
    results: list[list[np.ndarray]] = [[] for _ in inputs]

    def work(k: int) -> None:
        results[k] = [plan(inputs[k]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, want in zip(results, expected, strict=True):
        assert len(got) == 20
        for y in got:
            testing.assert_exact(y, want)


def test_a_plan_is_copied_and_pickled(target: Target) -> None:
    with testing.on(target):
        plan = fc.plan_conv2d(X[0].shape, W, B, padding=1, activation=("clip", -3, 40), residual=True)
    residual = np.ones((8, 6, 7), np.float32)
    expected = plan(X[0], residual)
    for again in (copy.copy(plan), copy.deepcopy({"plan": plan})["plan"], pickle.loads(pickle.dumps(plan))):
        testing.assert_exact(again(X[0], residual), expected)
        assert repr(again) == repr(plan)
        assert (again.x_shape, again.y_shape, again.spec) == (plan.x_shape, plan.y_shape, plan.spec)
    # Where another kernel is asked for, the plan still has its own.
    with fc.use_backend("reference"):
        assert pickle.loads(pickle.dumps(plan)).backend == target.backend


def test_what_packed_weights_are_for_goes_with_them() -> None:
    if fc.backends()["c"] is not None:
        pytest.skip("only the C library packs into bytes")
    with fc.use_backend("c"), fc.use_algorithm("implicit_gemm_pixels"):
        plans = [fc.plan_conv2d(X.shape, W, padding=pad) for pad in (0, 1)]
    kernel, packed = plans[0]._choice.kernel, plans[0]._w
    again, out = pickle.loads(pickle.dumps(packed)), np.empty(plans[0].y_shape, np.float32)
    kernel(X, again, None, None, out)
    testing.assert_exact(out, plans[0](X))
    with pytest.raises(ValueError, match=r"w is packed for .*\(1, 1\).*: allowed are weights that this kernel packed"):
        kernel(X, plans[1]._w, None, None, out)


_LOADS = """
import pickle, sys
import numpy as np
from fastconv.spec import conv_spec

plans, x, wanted = pickle.load(open(sys.argv[1], "rb"))
for plan, y in zip(plans, wanted):
    assert plan.spec in {plan.spec: 0} and plan.spec == y.pop("spec") and np.array_equal(plan(x), y["bits"])
    fresh = conv_spec("fwd", x.shape, (8, 4, 3, 3), "float32", bias=True, packed=True)
    assert hash(plan.spec) == hash(fresh) and plan.spec == fresh
    print(plan)
"""


def test_plans_and_specs_go_to_another_process(tmp_path: Path) -> None:
    """Hashes of strings differ between processes; what was packed in one of them is packed anew in the other."""
    plans = []
    for target in testing.targets():
        with testing.on(target):
            plans.append(fc.plan_conv2d(X.shape, W, B))
    hashes = [hash(plan.spec) for plan in plans]
    (tmp_path / "plans").write_bytes(pickle.dumps((plans, X, [{"spec": p.spec, "bits": p(X)} for p in plans])))
    command = [sys.executable, "-c", _LOADS, str(tmp_path / "plans")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    assert done.stdout.splitlines() == list(map(repr, plans)), done.stderr
    assert len(set(hashes)) == 1


def test_a_pickled_spec_holds_its_fields_alone() -> None:
    for made in (
        conv_spec("fwd", X.shape, W.shape, "float32"),
        pool_spec("max", "fwd", X.shape, "float32", 2, 2),
        GemmSpec(Types.of("float32"), 1, 2, 3, 4),
        GemmSpec(Types("float16", "float32", "float64", "float32"), 1, 2, 3, 4),
    ):
        assert hash(made) == hash(pickle.loads(pickle.dumps(made)))
        assert made.empty is False
        for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
            assert set(vars(again)) == {field.name for field in dataclasses.fields(made)}
            assert again == made


#: Problems whose numbers are of several types.
_MIXED = {
    "stored in half": Types("float16", "float16", "float32", "float16"),
    "results kept": Types("float16", "float16", "float32", "float32"),
    "summed in double": Types("float32", "float32", "float64", "float32"),
    "other weights": Types("float32", "float16", "float32", "float64"),
}


def _problems(types: Types) -> list[tuple[Any, list[Any], tuple[str, ...]]]:
    """Specs, a call's arrays in float64, and the dtypes of these."""
    x, w, y = X.astype("float64"), W.astype("float64"), testing.integers(RNG, (2, 8, 4, 5), "float64")
    b, a, c = B.astype("float64"), x[0, 0], x[0, 1].T
    product = GemmSpec(types, 1, 6, 6, 7, bias=True, use_c=True, beta=2.0)
    row, square = testing.integers(RNG, (6,), "float64"), testing.integers(RNG, (6, 6), "float64")
    t = types
    return [
        (conv_spec("fwd", x.shape, w.shape, types, bias=True, residual=True), [x, w, b, y], (t.x, t.w, t.y, t.y, t.y)),
        (conv_spec("bwd_input", x.shape, w.shape, types), [y, w, None, None], (t.y, t.w, "", "", t.x)),
        (conv_spec("bwd_weight", x.shape, w.shape, types), [x, y, None, None], (t.x, t.y, "", "", t.w)),
        (product, [a, c, row, square], (t.x, t.w, t.y, t.y, t.y)),
    ]


@pytest.mark.parametrize("types", _MIXED.values(), ids=_MIXED)
def test_types_that_differ_have_the_reference_and_others_say_what_they_have(types: Types) -> None:
    for (spec, arrays, dtypes), (exact, _, _) in zip(_problems(types), _problems(Types.of("float64")), strict=True):
        choice = dispatch.choose(spec)
        assert (choice.kernel.backend, choice.spec.types) == ("reference", types)
        reasons = dict(choice.refusals)
        for name in ("c", "numba"):
            if fc.backends()[name] is None:
                assert reasons[name] == f"it computes float32 and float64, not {types}"
                refused = pytest.raises(
                    NotImplementedError, match=f"backend='{name}' does not compute this: it computes"
                )
                with fc.use_backend(name), refused:
                    dispatch.choose(spec)
        assert repr(types) in str(choice)
        shape = getattr(spec, "result_shape", (6, 6))
        out, expected = np.full(shape, np.nan, dtypes[-1]), np.full(shape, np.nan)
        choice.kernel(*(a if a is None else a.astype(d) for a, d in zip(arrays, dtypes, strict=False)), out)
        with fc.use_backend("reference"):
            dispatch.choose(exact).kernel(*arrays, expected)
        np.testing.assert_array_equal(out, expected)


def test_sums_are_as_wide_as_the_types_say() -> None:
    """What float16 holds, summed so that float16 would lose it; and what is too large for the result."""
    x = np.array([[[2048, 1, 1, 1, 1]]], "float16")
    w = np.ones_like(x)
    for name, expected in (("float32", 2052), ("float16", 2052)):
        spec = conv_spec("fwd", x.shape, w.shape, Types("float16", "float16", "float32", name))
        out = np.full(spec.result_shape, np.nan, name)
        dispatch.choose(spec).kernel(x, w, None, None, out)
        assert out.item() == expected
        dispatch.choose(spec).kernel(x, w * 32, None, None, out)
        assert out.item() == (65664 if name == "float32" else np.inf)


_UNKNOWN = [
    Types.of("bfloat16"),
    Types("uint8", "int8", "int32", "float32"),
    Types("float32", "float32", "int32", "float32"),
]


@pytest.mark.parametrize("types", _UNKNOWN, ids=str)
def test_types_that_no_backend_has_are_refused_with_the_words_of_each(types: Types) -> None:
    given = GemmSpec(types, 1, 2, 3, 4), conv_spec("fwd", X.shape, W.shape, types), MapSpec("add", types, (3,))
    for spec in (*given, ReduceSpec("sum", types, (3, 4), (1,)), pool_spec("avg", "fwd", X.shape, types, 2, 2)):
        with pytest.raises(NotImplementedError) as refused:
            dispatch.choose(spec)
        has = "float16, float32, float64 and mixtures of them"
        assert f"reference: it computes {has}, not {types}" in str(refused.value)


@pytest.mark.usefixtures("free_choice")
def test_tuning_leaves_types_that_differ_to_the_reference() -> None:
    spec = conv_spec("bwd_weight", X.shape, W.shape, _MIXED["results kept"])
    with fc.autotune():
        assert dispatch.choose(spec).kernel.backend == "reference"
    first, second, out = tuning._operands(spec)
    assert [(a.dtype, a.shape) for a in (first, second, out)] == [
        ("float16", spec.x_shape), ("float32", spec.y_shape), ("float16", spec.w_shape),
    ]  # fmt: skip


def test_explain_says_what_ran_for_arrays_that_are_not_contiguous() -> None:
    x, w = np.ones((1, 47, 16), np.float32), np.ones((16, 16, 2), np.float32)
    out = np.empty((1, 16, 48), np.float32).transpose(0, 2, 1)
    with fc.use_backend("c"):
        (dense,), (turned,) = (
            fc.explain(fc.conv_transpose1d, x, w, layout="NLC", out=o) for o in (None, out)
        )  # fmt: skip
    assert dense.ran == dense.kernel.algorithm == turned.kernel.algorithm == "implicit_gemm_rows"
    assert turned.ran.startswith("winograd_line")
    assert f"arrays that lie in memory as these do: {turned.ran}" in str(turned)
    assert "in memory" not in str(dense)


def test_explain_says_that_long_kernels_have_no_fourier_transform() -> None:
    x, w = np.ones((1, 1, 3000), np.float32), np.ones((1, 1, 2000), np.float32)
    with fc.use_backend("c"):
        assert "by Fourier transforms, of which there are none" in str(fc.explain(fc.conv1d, x, w))
        assert "Fourier" not in str(fc.explain(fc.conv1d, x, w[:, :, :100]))


def _family(algorithm: str) -> str:
    """Without what one backend alone distinguishes: how many points, which operand stays in cache, what is a row."""
    for family in ("winograd_line", "depthwise", "direct", "implicit_gemm"):
        if algorithm.startswith(family):
            return family
    return algorithm.removesuffix("_filters")


#: (``c``'s choice, Numba's): why they differ.
_ELSEWHERE = {
    ("direct_lines", "implicit_gemm"): "Numba reads no runs of channels where they are",
    ("winograd_line", "winograd_2x2_5x5"): "Numba's lines have no rows: 5x5",
    ("winograd_line", "implicit_gemm"): "Numba's lines have no rows: 7x7",
    ("winograd_4x4_3x3", "implicit_gemm"): "groups of few channels: Numba transforms each group by itself",
}


def test_c_and_numba_choose_the_same_family_for_the_layers_of_networks() -> None:
    if fc.backends()["c"] is not None or fc.backends()["numba"] is not None:
        pytest.skip("there is one compiled backend")
    differ = set()
    layouts = {1: ("NCL", "NLC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
    calls = [("fwd", False), ("fwd", True), ("bwd_input", False), ("bwd_weight", False)]
    for layer, n, last, (direction, packed) in product(layers.table("conv"), (1, 8), (False, True), calls):
        x_shape = (n, *layer.size, layer.ic) if last else (n, layer.ic, *layer.size)
        pads = tuple((p, p) for p in layer.padding)
        windows = (layer.stride, pads, layer.dilation, layer.groups, layouts[len(layer.size)][last])
        spec = conv_spec(direction, x_shape, layer.w_shape, "float32", *windows, packed=packed)
        by_c, by_numba = (backend(name).compile(spec, settings.Settings()).algorithm for name in ("c", "numba"))
        if _family(by_c) == _family(by_numba):
            continue
        why = (by_c if by_c == "direct_lines" else _family(by_c), _family(by_numba))
        assert why in _ELSEWHERE, f"{layer}, {spec}: {by_c} on c, {by_numba} on numba"
        differ.add(why)
    assert differ == {*_ELSEWHERE}
