"""Algorithms asked for by name, found by measuring, and held to a limit of memory. No clock here is true."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import dispatch, machine, testing, tuning
from fastconv.backends import backends
from fastconv.settings import settings
from fastconv.spec import conv_spec

RNG = np.random.default_rng(31)
X = testing.integers(RNG, (2, 32, 16, 20), "float32")
W = testing.integers(RNG, (32, 32, 3, 3), "float32")
WINOGRAD, DIRECT, PIXELS = "winograd_4x4_3x3", "direct", "implicit_gemm_pixels"

on_c = pytest.mark.parametrize("c_target", [t for t in testing.targets() if t.backend == "c"], ids=str)


class Stopwatch:
    """Has ``cost`` for each algorithm's name (1 for others) as what was measured, and notes what it was asked."""

    def __init__(self) -> None:
        self.cost: dict[str, float] = {}
        self.asked: list[list[str]] = []

    def __call__(self, kernels: list[Any], operands: Any) -> list[float]:
        for kernel in kernels:
            first, second, out = operands
            kernel(first, kernel.pack(second) if kernel.spec.packed else second, None, None, out)
        self.asked.append([kernel.algorithm for kernel in kernels])
        return [self.cost.get(kernel.algorithm, 1.0) for kernel in kernels]


def _forget() -> None:
    tuning._winners.clear()
    tuning._file_was_read = False
    dispatch.forget()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stopwatch]:
    watch = Stopwatch()
    if backends()["numba"] is None:
        importlib.import_module("fastconv.backends.numba.core.compile")  # whose code is to stay where it always is
    monkeypatch.setenv("FASTCONV_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "_seconds", watch)
    _forget()
    yield watch
    _forget()


def _chosen(function: Callable[..., Any] = fc.conv2d, *operands: Any, **kw: Any) -> dispatch.Choice:
    operands = operands or (X, W, None, 1, 1)
    return fc.explain(function, *operands, **kw)[-1]


# ------------------------------------------------------------------------------------------------------ measuring


@on_c
def test_the_fastest_is_taken_and_remembered(c_target: testing.Target, watch: Stopwatch) -> None:
    with testing.on(c_target):
        assert _chosen().kernel.algorithm == WINOGRAD
        watch.cost = {PIXELS: 0.5}
        with fc.autotune():
            inside = _chosen()
        after = _chosen()
        with fc.autotune():
            again = _chosen()
        with fc.autotune(False):
            heuristics = _chosen()
    for choice in (inside, after, again):
        assert choice.kernel.algorithm == PIXELS
        assert f"2.00x as fast as the heuristics' choice, {WINOGRAD} of c" in str(choice)
    assert heuristics.kernel.algorithm == WINOGRAD
    assert "autotuned" not in str(heuristics)
    assert len(watch.asked) == 1
    assert {WINOGRAD, PIXELS, DIRECT} <= set(watch.asked[0])


@on_c
def test_a_plan_is_measured_with_packed_weights_and_says_so(c_target: testing.Target, watch: Stopwatch) -> None:
    watch.cost = {DIRECT: 0.25}
    with testing.on(c_target), fc.autotune():
        plan = fc.plan_conv2d(X.shape, W, None, 1, 1)
        assert "packed" in dispatch._search(plan.spec, settings()).spec.__dict__
        assert plan.algorithm == DIRECT
        assert "4.00x" in plan.explain()
        watch.cost = {}
        _chosen()
    assert len(watch.asked) == 2
    expected = _on_reference(fc.conv2d, X, W, None, 1, 1)
    testing.assert_exact(plan(X), expected)


@on_c
def test_epilogues_share_a_measurement_and_directions_do_not(c_target: testing.Target, watch: Stopwatch) -> None:
    dy = np.ones((2, 32, 16, 20), "float32")
    with testing.on(c_target), fc.autotune():
        _chosen()
        _chosen(fc.conv2d, X, W, np.ones(32, "float32"), 1, 1, activation="relu")
        assert len(watch.asked) == 1
        fc.conv2d_backward(dy, X, W, padding=1)
    assert len(watch.asked) == 3


@on_c
def test_a_little_faster_is_not_worth_a_change(c_target: testing.Target, watch: Stopwatch) -> None:
    watch.cost = {PIXELS: 1 - tuning.WORTH / 2}
    with testing.on(c_target), fc.autotune():
        choice = _chosen()
    assert choice.kernel.algorithm == WINOGRAD
    assert "as heuristics do" in str(choice)


@on_c
def test_strict_precision_is_kept(c_target: testing.Target, watch: Stopwatch) -> None:
    watch.cost = {WINOGRAD: 0.1}
    with testing.on(c_target), fc.autotune():
        assert _chosen().kernel.algorithm == WINOGRAD
        with fc.precision("strict"):
            assert _chosen().kernel.algorithm != WINOGRAD
    assert WINOGRAD not in watch.asked[1]


@on_c
def test_the_choice_does_not_depend_on_the_threads(c_target: testing.Target, watch: Stopwatch) -> None:
    watch.cost = {DIRECT: 0.5}
    with testing.on(c_target):
        with fc.autotune(), fc.threads(1):
            _chosen()
        watch.cost = {PIXELS: 0.1}
        for n in (1, 2, 5):
            with fc.autotune(), fc.threads(n):
                assert _chosen().kernel.algorithm == DIRECT
    assert len(watch.asked) == 1


def test_every_backend_takes_part(watch: Stopwatch) -> None:
    with fc.autotune():
        _chosen()
    compiled = [t.backend for t in testing.targets() if t.backend != "reference"]
    least = {"c": 3, "numba": 1, "reference": 0}
    assert sum(len(names) for names in watch.asked) >= sum(least[name] for name in set(compiled))


def test_measuring_is_of_its_thread(watch: Stopwatch) -> None:
    with fc.autotune():
        thread = threading.Thread(target=_chosen)
        thread.start()
        thread.join()
    assert watch.asked == []


class _Kernel:
    """Takes ``cost`` of a false clock's time, the first time more."""

    class spec:
        packed = False

    def __init__(self, clock: list[float], cost: float) -> None:
        self.clock, self.cost, self.calls = clock, cost, 0

    def __call__(self, *arrays: Any) -> None:
        self.clock[0] += self.cost if self.calls else 10 * self.cost
        self.calls += 1


def test_times_are_the_least_of_several_and_the_hopeless_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(tuning, "perf_counter", lambda: clock[0])
    kernels = [_Kernel(clock, cost) for cost in (0.02, 0.25, 0.025)]
    times = tuning._seconds(kernels, (None, None, None))
    np.testing.assert_allclose(times, [0.02, 0.25, 0.025])
    assert [k.calls for k in kernels] == [1 + tuning.LEAST_RUNS, 2, 1 + tuning.LEAST_RUNS]
    quick = [_Kernel(clock, 1e-6) for _ in range(2)]
    tuning._seconds(quick, (None, None, None))
    assert [k.calls for k in quick] == [1 + tuning.MOST_RUNS] * 2


# -------------------------------------------------------------------------------------------------------- the file


def _tables(directory: Path) -> dict[str, Any]:
    return json.loads((directory / f"autotune-{fc.__version__}.json").read_text())


_LATER = """
import os, sys
import numpy as np, fastconv as fc
x, w = np.ones((2, 32, 16, 20), "f4"), np.ones((32, 32, 3, 3), "f4")

def algorithm():
    return fc.explain(fc.conv2d, x, w, None, 1, 1)[0].kernel.algorithm

with fc.use_isa(sys.argv[1]), fc.use_backend("c"):
    with fc.autotune(False):
        algorithm()
    print(algorithm())
    with fc.autotune(measure=False):
        print(algorithm())
    print(algorithm())
    with fc.autotune(False):
        print(algorithm())
    fc.forget_autotuned()
    print(algorithm(), os.listdir(os.environ["FASTCONV_CACHE"]))
"""


@on_c
def test_another_process_knows_where_it_asks(c_target: testing.Target, watch: Stopwatch, tmp_path: Path) -> None:
    watch.cost = {DIRECT: 0.5}
    with testing.on(c_target), fc.autotune():
        _chosen()
    assert list(_tables(tmp_path)) == [tuning._processor()]
    assert [p.name for p in tmp_path.iterdir()] == [f"autotune-{fc.__version__}.json"]
    done = subprocess.run([sys.executable, "-c", _LATER, c_target.isa], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [WINOGRAD, DIRECT, DIRECT, WINOGRAD, WINOGRAD, "[]"]
    assert done.stderr == ""


@on_c
def test_forgotten_in_this_process(c_target: testing.Target, watch: Stopwatch, tmp_path: Path) -> None:
    watch.cost = {DIRECT: 0.5}
    with testing.on(c_target):
        with fc.autotune():
            _chosen()
        assert _chosen().kernel.algorithm == DIRECT
        fc.forget_autotuned()
        assert _chosen().kernel.algorithm == WINOGRAD
        assert list(tmp_path.iterdir()) == []
        with fc.autotune():
            _chosen()
    assert len(watch.asked) == 2
    fc.forget_autotuned()
    fc.forget_autotuned()


@on_c
def test_what_others_wrote_is_kept(c_target: testing.Target, watch: Stopwatch, tmp_path: Path) -> None:
    path = tmp_path / f"autotune-{fc.__version__}.json"
    entry = {"backend": "c", "algorithm": DIRECT, "gain": 2.0, "before": "x", "threads": 1}
    with testing.on(c_target), fc.autotune():
        _chosen()
        path.write_text(json.dumps({"another CPU": {"k": entry}, tuning._processor(): {"l": entry}}))
    tables = _tables(tmp_path)
    assert tables["another CPU"] == {"k": entry}
    assert len(tables[tuning._processor()]) == 2
    assert tables[tuning._processor()]["l"] == entry


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1, 2]", "null", '{"cpu": 3}', '{"cpu": {"k": {"backend": "c"}}}', "\xff\xfe", '{"cpu": {"k": [1]}}',
     '{"cpu": {"k": {"backend": 1, "algorithm": "a", "gain": 1.0, "before": "b", "threads": 1}}}',
     "[" * 100_000, "9" * 10_000],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_damaged_file_is_ignored_and_replaced(watch: Stopwatch, tmp_path: Path, text: str) -> None:
    path = tmp_path / f"autotune-{fc.__version__}.json"
    path.write_bytes(text.encode("latin-1"))
    assert _chosen().tuned == ""
    with pytest.warns(UserWarning, match="is ignored"), fc.autotune():
        assert "autotuned" in _chosen().tuned
    assert list(_tables(tmp_path)) == [tuning._processor()]


@on_c
def test_an_algorithm_that_is_not_there_is_passed_over(
    c_target: testing.Target, watch: Stopwatch, tmp_path: Path
) -> None:
    with testing.on(c_target):
        with fc.autotune():
            _chosen()
        path = tmp_path / f"autotune-{fc.__version__}.json"
        path.write_text(path.read_text().replace(WINOGRAD, "of_the_future"))
        _forget()
        with fc.autotune():
            choice = _chosen()
    assert choice.kernel.algorithm == WINOGRAD
    assert choice.tuned == ""


def test_a_directory_that_cannot_be_written(watch: Stopwatch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTCONV_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="not remembered|is ignored"), fc.autotune():
        _chosen()
    assert "autotuned" in str(_chosen())


def test_no_file(watch: Stopwatch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTCONV_CACHE", "off")
    with fc.autotune():
        _chosen()
    assert "autotuned" in str(_chosen())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "{home}/.cache/fastconv"),
        ("linux", {"XDG_CACHE_HOME": "{home}/xdg"}, "{home}/xdg/fastconv"),
        ("darwin", {"XDG_CACHE_HOME": "{home}/xdg"}, "{home}/Library/Caches/fastconv"),
        ("win32", {}, "{home}/AppData/Local/fastconv"),
        ("win32", {"LOCALAPPDATA": "{home}/local"}, "{home}/local/fastconv"),
        ("linux", {"FASTCONV_CACHE": "{home}/own"}, "{home}/own"),
    ],
)
def test_where_the_file_lies(
    platform: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "FASTCONV_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine.os.path, "expanduser", lambda _: str(tmp_path))
    monkeypatch.setattr(machine.sys, "platform", platform)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    assert tuning._file() == Path(expected.format(home=tmp_path)) / f"autotune-{fc.__version__}.json"


# --------------------------------------------------------------------------------------- by name, and by its memory


def _on_reference(function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
    with fc.use_backend("reference"):
        return function(*args, **kw)


@on_c
def test_an_algorithm_by_name(c_target: testing.Target) -> None:
    expected = _on_reference(fc.conv2d, X, W, None, 1, 1)
    with testing.on(c_target):
        for name in (DIRECT, PIXELS, "implicit_gemm_rows"):
            with fc.use_algorithm(name):
                choice = _chosen()
                assert choice.kernel.algorithm == name
                assert f"{name}: asked for by name" in str(choice)
                testing.assert_exact(fc.conv2d(X, W, None, 1, 1), expected, name)
                testing.assert_exact(fc.plan_conv2d(X.shape, W, None, 1, 1)(X), expected, name)
        with fc.use_algorithm("depthwise_channels"), pytest.raises(NotImplementedError, match="not depthwise"):
            _chosen()
        with fc.use_algorithm("magic"), pytest.raises(NotImplementedError, match=f"{PIXELS} for this, not magic"):
            _chosen()
        with fc.use_algorithm(WINOGRAD), fc.precision("strict"), pytest.raises(NotImplementedError, match="strict"):
            _chosen()
        # Products and empty problems know no algorithms.
        with fc.use_algorithm("magic"):
            assert fc.matmul(np.ones((3, 4)), np.ones((4, 5))).shape == (3, 5)
            assert fc.conv2d(X[:0], W).shape == (0, 32, 14, 18)


@on_c
def test_an_algorithm_by_name_takes_any_strides(c_target: testing.Target) -> None:
    x, w = testing.integers(RNG, (2, 9, 8, 17), "float32"), testing.integers(RNG, (17, 1, 3, 3), "float32")
    kw = {"groups": 17, "layout": "NHWC"}
    expected = _on_reference(fc.conv2d, x, w, **kw)
    with testing.on(c_target), fc.use_algorithm("depthwise_channels"):
        for change in testing.MEMORY_ORDERS.values():
            out = change(testing.nan_filled(expected.shape, "float32"))
            fc.conv2d(change(x), change(w), **kw, out=out)
            testing.assert_exact(out, expected)


@on_c
def test_other_backends_are_searched_for_an_algorithm(c_target: testing.Target) -> None:
    with fc.use_algorithm("one matrix product a tap"):
        choice = _chosen()
    assert choice.kernel.backend == "reference"
    assert "not one matrix product a tap" in choice.refusals[0][1]


@pytest.mark.parametrize(
    ("direction", "packed", "channels", "tiles"),
    [("fwd", False, 12, 4), ("fwd", True, 12, 3), ("bwd_input", False, 12, 4), ("bwd_weight", False, 12, 4)],
)
@on_c
def test_where_heuristics_take_winograd(
    c_target: testing.Target, direction: str, packed: bool, channels: int, tiles: int
) -> None:
    def algorithm(ic: int, oc: int, tiles: int) -> str:
        spec = conv_spec(
            direction, (1, ic, 4, 4 * tiles), (oc, ic, 3, 3), "float32", padding=1, layout="NCHW", packed=packed
        )
        return dispatch.choose(spec).kernel.algorithm

    with testing.on(c_target):
        assert algorithm(channels, channels, tiles) == WINOGRAD
        for ic, oc, t in ((-1, 0, 0), (0, -1, 0), (0, 0, -1)):
            assert algorithm(channels + ic, channels + oc, tiles + t) != WINOGRAD


@on_c
def test_a_limit_refuses_algorithms_and_threads(c_target: testing.Target) -> None:
    expected = _on_reference(fc.conv2d, X, W, None, 1, 1)
    with testing.on(c_target):
        with fc.threads(1):
            needs = {}
            for name in (WINOGRAD, PIXELS):
                with fc.use_algorithm(name):
                    needs[name] = _chosen().kernel.workspace_bytes
        assert needs[PIXELS] < needs[WINOGRAD]
        for n in (1, 2, 8):
            for limit in (needs[PIXELS], needs[WINOGRAD] - 1):
                with fc.threads(n), fc.workspace_limit(limit):
                    choice = _chosen()
                    assert choice.kernel.algorithm == PIXELS
                    assert choice.kernel.workspace_bytes <= limit
                    assert f"the limit is {limit}" in str(choice)
                    testing.assert_exact(fc.conv2d(X, W, None, 1, 1), expected)
            with fc.threads(n), fc.workspace_limit(needs[WINOGRAD]):
                assert _chosen().kernel.algorithm == WINOGRAD
                assert _chosen().kernel.workspace_bytes <= needs[WINOGRAD]
        with fc.threads(8), fc.use_algorithm(PIXELS):
            assert _chosen().kernel.workspace_bytes > needs[PIXELS]
        # What can compute everything goes on to, whatever it takes.
        with fc.workspace_limit(1):
            assert _chosen().kernel.algorithm == PIXELS
            testing.assert_exact(fc.conv2d(X, W, None, 1, 1), expected)
            with fc.use_algorithm(WINOGRAD), pytest.raises(NotImplementedError, match="the limit is 1"):
                _chosen()


@on_c
def test_measuring_keeps_to_the_limit(c_target: testing.Target, watch: Stopwatch) -> None:
    watch.cost = {WINOGRAD: 0.1}
    with testing.on(c_target), fc.autotune():
        with fc.threads(1), fc.use_algorithm(WINOGRAD):
            needs = _chosen().kernel.workspace_bytes
        with fc.workspace_limit(needs - 1):
            assert _chosen().kernel.algorithm != WINOGRAD
        assert _chosen().kernel.algorithm == WINOGRAD
    assert WINOGRAD not in watch.asked[0]


def test_a_limit_is_a_number() -> None:
    for wrong in (0, -1, 2**63):
        with pytest.raises(ValueError, match=f"nbytes={wrong}: allowed is None or an int from 1"):
            fc.workspace_limit(wrong).__enter__()
    for wrong in ("a lot", 1.5, True):
        with pytest.raises(TypeError, match=f"nbytes={wrong!r}: allowed is None or an int from 1"):
            fc.workspace_limit(wrong).__enter__()
