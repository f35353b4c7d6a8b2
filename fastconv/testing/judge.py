"""Runs a problem under its settings and by the reference, and says what differs."""

from __future__ import annotations

import inspect
import pickle
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Any

import numpy as np

import fastconv as fc

from .. import dispatch
from ..spec import ACTIVATIONS
from . import reductions, resampling, updates
from .arrays import Array, Laid
from .draws import Alias, Problem
from .elementwise import BROADCAST, DROPOUTS, UNARY
from .helpers import adjoint_gap

__all__ = ["Verdict", "verdict"]

#: Smooth functions are computed to within a few roundings; the others, of whole numbers, exactly.
_SMOOTH = tuple(name for name in ACTIVATIONS if name not in ("identity", "relu", "leaky_relu", "clip"))

#: Processor seconds that any call may take, and those for each multiply-add or element besides: many times what it
#: takes unoptimized and under a sanitizer.
_SECONDS, _PER_STEP = 1.0, 1e-6


@dataclass(frozen=True)
class Verdict:
    """``kind`` is "" where all is well, "refused" where the forced backend does not compute this; else what differs."""

    kind: str = ""
    text: str = ""
    ran: str = ""

    @property
    def failed(self) -> bool:
        return self.kind not in ("", "refused")


class _Differs(Exception):
    """Raised with the kind and the text of a verdict."""


# ---------------------------------------------------------------------------------------------------- one run


@dataclass
class _Run:
    """What came of a call: its results or its error."""

    results: tuple[Any, ...] = ()
    error: BaseException | None = None
    seconds: float = 0.0
    kernels: tuple[str, ...] = ()
    given: dict[str, Any] | None = None
    laid: dict[str, Laid] | None = None


def _values(problem: Problem, make: Callable[[Array], Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The arguments of the call and of its plan's, with arrays made."""
    made: dict[str, Any] = {}
    parts: list[dict[str, Any] | None] = []
    for part in (problem.arguments, problem.then):
        if part is None:
            parts.append(None)
            continue
        values = {k: _made(v, make) for k, v in part.items()}
        made |= values
        parts.append({k: made[v.of] if isinstance(v, Alias) else v for k, v in values.items()})
    return parts[0] or {}, parts[1]


def _made(value: Any, make: Callable[[Array], Any]) -> Any:
    """What stands for an array, or for a sequence of some, as such."""
    if isinstance(value, tuple) and any(isinstance(part, Array) for part in value):
        return tuple(make(part) for part in value)
    return make(value) if isinstance(value, Array) else value


def _called(
    problem: Problem,
    first: dict[str, Any],
    then: dict[str, Any] | None,
    pickled: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> _Run:
    run, began = _Run(), clock()
    results: list[Any] = []

    def call() -> None:
        made = getattr(fc, problem.function)(**first)
        if then is not None:
            made = pickle.loads(pickle.dumps(made)) if pickled else made
            made = made(**then)
        results.append(made)

    with dispatch.recorded() as record:
        try:
            call()
        except Exception as error:
            run.error = error
    run.seconds = clock() - began
    run.kernels = tuple(f"{c.kernel.backend} {c.kernel.isa} {c.ran}" for c in record)
    if results and problem.function in updates.CHANGED:
        run.results = tuple(np.array(first[name]) for name in updates.changed(problem))
    elif results:
        run.results = results[0] if isinstance(results[0], tuple) else (results[0],)
    return run


def _written(problem: Problem, array: Array) -> bool:
    """Whether the call writes it."""
    return array.values == "empty" or any(array is problem.arguments[name] for name in updates.changed(problem))


def _expected(problem: Problem, change: Callable[[Array, np.ndarray], np.ndarray] | None = None) -> _Run:
    """By the reference, of contiguous arrays; of real numbers in float64: code that all backends share rounds, too."""
    arrays = problem.arrays().values()
    wide = problem.invalid is None and problem.values in ("real", "positive")
    wide = wide and {a.dtype for a in arrays} == {"float32"} and all(a.lie.kind != "list" for a in arrays)

    def make(a: Array) -> Any:
        if wide and a.values == "empty":
            return np.full(a.shape, np.nan)
        as_it_lies = (_written(problem, a) and not wide) or a.lie.kind in ("masked", "list")
        if as_it_lies or a.dtype not in ("float32", "float64"):
            return a.make().array
        plain = a.plain().astype(np.float64) if wide else a.plain()
        return plain if change is None else change(a, plain)

    first, then = _values(problem, make)
    with fc.use_backend("reference"), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        run = _called(problem, first, then)
    if wide:
        run.results = tuple(r.astype(np.float32) if getattr(r, "dtype", None) == np.float64 else r for r in run.results)
    # An out of another class, as a matrix, has methods of its own.
    run.results = tuple(np.asarray(r) if isinstance(r, np.ndarray) else r for r in run.results)
    return run


@contextmanager
def _under(settings: dict[str, Any]) -> Iterator[None]:
    """A context of ``fastconv``'s settings."""
    with ExitStack() as stack:
        stack.enter_context(fc.autotune(False))
        for name, value in settings.items():
            if name != "adjoint":
                stack.enter_context(getattr(fc, name)(value))
        yield


def _actual(
    problem: Problem,
    settings: dict[str, Any],
    pickled: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> _Run:
    """Under the settings, with arrays that lie as the recipes say; what lies around them is looked at."""
    laid: dict[int, Laid] = {}

    def make(a: Array) -> Any:
        made = a.make()
        made.remember()
        laid[len(laid)] = made
        outs.append(_written(problem, a))
        return made.array

    outs: list[bool] = []
    first, then = _values(problem, make)
    expected_warnings = problem.values in ("special", "spike") or problem.invalid is not None
    with _under(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore" if expected_warnings else "error")
        run = _called(problem, first, then, pickled, clock)
    out = {**first, **(then or {})}.get("out")
    if run.error is None and out is not None and run.results[0] is not out:
        raise _Differs("out", "another array than out was returned")
    if run.error is None:
        run.results = tuple(np.array(r) if isinstance(r, np.ndarray) else r for r in run.results)
    for made, is_out in zip(laid.values(), outs, strict=True):
        if is_out and run.error is None:
            if not made.nothing_around():
                raise _Differs("outside", f"something was written around an array of shape {made.view.shape}")
        elif not made.unchanged():
            if is_out and isinstance(run.error, ValueError) and re.match(".*indices|x runs from", str(run.error)):
                continue  # documented: found out while out is written
            what = "out was written though the call raised" if is_out else "an input, or what lies around it, changed"
            raise _Differs("changed", f"{what} (shape {made.view.shape})")
    return run


# -------------------------------------------------------------------------------------------------- comparisons


def _named(problem: Problem, error: BaseException) -> bool:
    """Whether the message names an argument."""
    names = [
        *inspect.signature(getattr(fc, problem.function)).parameters,
        *(problem.then or {}),
        "the result",
        "w",
        "x",
    ]
    return any(re.search(rf"\b{re.escape(name)}\b", str(error)) for name in names)


def _compare_errors(problem: Problem, expected: _Run, actual: _Run) -> Verdict | None:
    """A verdict if either raised."""
    forced = {"use_backend", "use_algorithm"} & set(problem.settings)
    if isinstance(actual.error, NotImplementedError) and forced:
        return Verdict("refused", str(actual.error))
    if problem.invalid and expected.error is None and actual.error is None:
        return Verdict("accepted", f"{problem.invalid}, and no error was raised")
    for run, who in ((actual, "it"), (expected, "the reference")):
        if run.error is None:
            continue
        said = f"{type(run.error).__name__}: {run.error}"
        if not isinstance(run.error, (TypeError, ValueError)):
            right = "" if expected.error else f"; right: {_shown(expected.results)}"
            return Verdict(f"error {type(run.error).__name__}", f"{who} raised {said}{right}")
        if not _named(problem, run.error):
            return Verdict("unclear error", f"{who} raised {said}, which names no argument")
    if expected.error is None and actual.error is None:
        return None
    if type(expected.error) is not type(actual.error):
        said = [
            f"{type(r.error).__name__}: {r.error}" if r.error else f"returned {_shown(r.results)}"
            for r in (actual, expected)
        ]
        return Verdict("error", f"{said[0]}; the reference: {said[1]}")
    return Verdict()


def _shown(results: tuple[Any, ...]) -> str:
    shown = []
    for r in results:
        if isinstance(r, np.ndarray) and r.size <= 24:
            shown.append(f"{r.tolist()}")
        else:
            shown.append(f"{r.dtype} {r.shape}" if isinstance(r, np.ndarray) else repr(r))
    return ", ".join(shown)


def _difference(problem: Problem, expected: _Run, actual: _Run) -> None:
    """Raises _Differs if the results differ by more than is promised."""
    if problem.function == "empty":
        pairs = [(a.shape, a.dtype, e.shape, e.dtype) for a, e in zip(actual.results, expected.results, strict=True)]
        if any(p[:2] != p[2:] for p in pairs):
            raise _Differs("values", f"{pairs}")
        return
    if len(actual.results) != len(expected.results):
        raise _Differs("values", f"{len(actual.results)} results, right: {len(expected.results)}")
    for number, (a, e) in enumerate(zip(actual.results, expected.results, strict=True)):
        if e is None or a is None:
            if (a is None) != (e is None):
                raise _Differs("values", f"result {number} is {a}, right: {e}")
            continue
        if a.shape != e.shape or a.dtype != e.dtype:
            raise _Differs("shape", f"{a.dtype} {a.shape}, right: {e.dtype} {e.shape}")
        if np.array_equal(a, e):
            continue
        wrong = ~((a == e) | (np.isnan(a) & np.isnan(e)))
        if wrong.any():
            _difference_of(problem, expected, actual, number, a, e, wrong)


def _winograd(run: _Run) -> bool:
    return any("winograd" in kernel for kernel in run.kernels)


def _difference_of(
    problem: Problem, expected: _Run, actual: _Run, number: int, a: np.ndarray, e: np.ndarray, wrong: np.ndarray
) -> None:
    values, winograd = problem.values, _winograd(actual)
    name = problem.arguments.get("activation")
    name = name[0] if isinstance(name, (tuple, list)) and name else name
    rounded = values in ("real", "positive", "spike") or winograd or name in _SMOOTH
    rounded = rounded or (name == "leaky_relu" and problem.arguments["activation"] == name)
    rounded = rounded or "avg" in problem.function or problem.arguments.get("divisor_override") is not None
    if "max_pool" in problem.function and "backward" not in problem.function:
        rounded = False
    if _elementwise(problem.function):
        rounded = True
    if re.match(reductions.NAMES, problem.function):
        rounded |= reductions.rounded(problem)
    if re.match(resampling.NAMES, problem.function):
        rounded |= resampling.mode_of(problem) != "nearest"
    rounded |= problem.function in updates.CHANGED
    if a.dtype.kind != "f":
        rounded = False
    if "_backward" in problem.function and name is not None and (winograd or values in ("real", "positive", "spike")):
        return  # a value on the other side of a kink tells nothing
    if rounded:
        key, results = (number, winograd), expected.results
        with np.errstate(all="ignore"):
            magnitude = _once(problem, key, lambda: _magnitude(problem, number, winograd, results))
            # What is off in an exponent is as far off, relatively, in the result.
            scale = np.maximum(np.abs(e.astype(np.float64)), 1) if name == "exp" else 1.0
            bound = scale * _bound(problem, a, magnitude, winograd)
            far = ~(np.abs(a.astype(np.float64) - e) <= bound) & wrong
            # What is divided by 0 is infinite or NaN, as a rounding of the dividend has it.
            far &= np.isfinite(a) | np.isfinite(e) | np.isfinite(bound)
            wrong = far & ~(np.isnan(a) & np.isnan(e)) & ~(np.isinf(a) & (a == e))
            if winograd and values not in ("special", "spike") and not wrong.any():
                error = np.linalg.norm((a.astype(np.float64) - e).ravel())
                error /= np.linalg.norm(np.maximum(magnitude, 1).ravel())
                # (Of what is chosen; who asks for an algorithm may have few channels, whose roundings do not cancel.)
                if not error < (1e-5 if "use_algorithm" in problem.settings else 5e-6):
                    raise _Differs("precision", f"an L2 error of {error:.2g} by {', '.join(actual.kernels)}")
    if wrong.any():
        first = tuple(int(i[0]) for i in np.nonzero(wrong))
        whole = f"{_shown((a,))}, right: {_shown((e,))}" if a.size <= 24 else (
            f"the first at {first}: {a[first]!r}, right: {e[first]!r}")  # fmt: skip
        result = f" of result {number}" if len(actual.results) > 1 else ""
        raise _Differs("values", f"{wrong.sum()} of {wrong.size} values{result} are wrong: {whole}")


def _elementwise(function: str) -> str:
    """What kind of one it is, if any."""
    stem = function.removesuffix("_backward")
    return "unary" if stem in UNARY else "broadcast" if stem in (*BROADCAST, *DROPOUTS, "prelu") else ""


def _largest(problem: Problem) -> float:
    """The largest product of the operands, divided where they are."""
    product = 1.0
    for name, array in problem.arrays().items():
        if array.values != "empty" and prod(array.shape):
            values = np.abs(array.plain().astype(np.float64))
            values = values[np.isfinite(values) & (values > 0)]
            product *= max(1, values.max(initial=1))
            if name == "b" and problem.function.startswith("divide"):
                product *= max(1, 1 / values.min(initial=1)) ** 2
    return product


def _magnitude(problem: Problem, number: int, winograd: bool, expected: tuple[np.ndarray, ...]) -> Any:
    """Of each element of a result the sum of the absolute values of what is added up.

    Winograd's algorithms multiply all of a window by all of a filter: where values lie far apart, as if every weight
    was the largest.
    """
    if _elementwise(problem.function) == "unary":
        return np.abs(_first(problem, "x"))
    if _elementwise(problem.function):
        return _largest(problem)
    if re.match(reductions.NAMES, problem.function):
        return reductions.magnitude(problem, expected[number])
    if re.match(resampling.NAMES, problem.function) and resampling.mode_of(problem) == "cubic":
        return np.full(expected[number].shape, resampling.magnitude(problem))
    if problem.function in updates.CHANGED:
        return updates.magnitude(problem, number, expected)
    arguments = {k: v for k, v in problem.arguments.items() if k != "activation"}
    for name in ("alpha", "beta", "divisor_override"):
        if isinstance(arguments.get(name), (int, float)):
            arguments[name] = abs(arguments[name])
    linear, scale = replace(problem, arguments=arguments), 1
    if winograd and problem.values == "spike":
        scale = max(a.bound for a in problem.arrays().values())
        even = [{k: replace(v, values="ones") if isinstance(v, Array) and v.values == "whole" else v
                 for k, v in part.items()} for part in (arguments, problem.then or {})]  # fmt: skip
        linear = replace(problem, arguments=even[0], then=None if problem.then is None else even[1])
    # Of a maximum's gradient only dy is added up; where, the signs of x decide.
    where = problem.arguments["x"] if "max_pool" in problem.function and "dy" in problem.arguments else None

    def size(a: Array, values: np.ndarray) -> np.ndarray:
        return values if a is where else np.asarray(np.abs(values))

    return scale * _expected(linear, size).results[number].astype(np.float64)


def _bound(problem: Problem, a: np.ndarray, magnitude: np.ndarray, winograd: bool) -> Any:
    """How far results may be off, by the length of the sums and the size of what is added."""
    eps = float(np.finfo(a.dtype).eps)
    length = problem.length
    if _elementwise(problem.function) == "unary":
        if problem.function.endswith("_backward"):
            magnitude = np.abs(_first(problem, "dy").astype(np.float64)) * np.maximum(magnitude, 1)
        return 16 * eps * np.maximum(np.maximum(magnitude, 1), np.abs(a.astype(np.float64)))
    if _elementwise(problem.function):
        return 8 * eps * (length * magnitude + np.abs(a.astype(np.float64)))
    if problem.function in updates.CHANGED:
        return 16 * eps * magnitude
    if problem.function == "conv_backward_bias" and a.dtype == np.float32:
        return 2 * eps * magnitude  # added in float64, and rounded once
    if winograd:
        if problem.values == "spike":
            return 1e-4 * magnitude
        # They are right in the mean over a tile.
        return 5e-5 * max(float(magnitude.max(initial=0, where=np.isfinite(magnitude))), 1)
    repeated = any(array.lie.lap is not None or 0 in (array.lie.steps or ()) for array in problem.arrays().values())
    if problem.values == "positive" and not repeated:
        # Roundings cancel, unless it is the same number over and over; longer ones are added in blocks.
        length = sqrt(min(length, 4096))
    return (length + 16) * eps * 1.2 * magnitude + 8 * eps * np.maximum(np.abs(magnitude), 1)


def _first(problem: Problem, name: str) -> np.ndarray:
    return problem.arguments[name].plain()


def _same_again(problem: Problem, actual: _Run) -> None:
    """The same call once more, with another number of threads and a copy of its plan, gives the same bits."""
    threads = 1 if problem.settings.get("threads", 1) > 1 else 2
    once_more = _actual(problem, {**problem.settings, "threads": threads}, pickled=True)
    if once_more.error is not None:
        raise _Differs("again", f"with {threads} threads, called again: {once_more.error!r}")
    if problem.function == "empty":
        return
    for a, b in zip(actual.results, once_more.results, strict=True):
        if a is not None and a.tobytes() != b.tobytes():
            where = ~((a == b) | (np.isnan(a) & np.isnan(b)))
            if not where.any():  # NaN of another sign, or zero
                continue
            first = tuple(int(i[0]) for i in np.nonzero(where))
            text = f"{where.sum()} of {where.size} values, the first at {first}: {b[first]!r} after {a[first]!r}"
            raise _Differs("again", f"called again with {threads} threads it gives other bits: {text}")


def _adjoint(problem: Problem, actual: _Run) -> None:
    """<f(x), dy> is <x, dx> for what is linear in x, on whole numbers that are summed exactly."""
    name = problem.function
    exact = problem.values in ("ones", "count", "whole") and not _winograd(actual) and "avg" not in name
    linear = re.match(r"conv|sum_pool|global_sum|matmul|linear", name) and name.endswith("_backward")
    linear = linear or (re.match(resampling.NAMES, name) and "dy" in problem.arguments)
    exact = exact and (not re.match(resampling.NAMES, name) or resampling.mode_of(problem) == "nearest")
    if not (exact and linear) or any(problem.arguments.get(k) is not None for k in ("activation", "b", "bias")):
        return
    arguments = {k: v for k, v in problem.arguments.items() if k not in ("dy", "residual", "out")}
    forward = replace(problem, function=name.removesuffix("_backward"), arguments=arguments)
    y = _actual(forward, problem.settings)
    if y.error is not None or _winograd(y):
        return
    operands = ["a", "b"] if name.startswith("matmul") else ["x", "w"]
    pairs = [(_first(problem, k), d) for k, d in zip(operands, actual.results, strict=False) if k in arguments]
    gap = adjoint_gap(y.results[0], _first(problem, "dy"), *pairs)
    if gap:
        raise _Differs("adjoint", f"<f(x), dy> and <x, dx> differ by {gap}")


def _allowed(problem: Problem, run: _Run) -> float:
    """Processor seconds, in proportion to what there is to do."""
    sizes = [prod(a.shape) for a in problem.arrays().values()]
    results = max((r.size for r in run.results if isinstance(r, np.ndarray)), default=1)
    return _SECONDS + _PER_STEP * (sum(sizes) + results * problem.length)


# ------------------------------------------------------------------------------------------------------- verdict

#: What was computed of the last call, which the next problem mostly is again.
_remembered: tuple[Any, dict[Any, Any]] = (None, {})


def _once(problem: Problem, what: Any, compute: Callable[[], Any]) -> Any:
    """``compute()``, kept for problems that are the same call."""
    global _remembered
    key = (problem.function, repr(problem.arguments), repr(problem.then))
    if _remembered[0] != key:
        _remembered = key, {}
    kept = _remembered[1]
    if what not in kept:
        kept[what] = compute()
    return kept[what]


def verdict(problem: Problem) -> Verdict:
    """What comes of the problem here: runs it by the reference, and twice under its settings."""
    expected = _once(problem, "expected", lambda: _expected(problem))
    kernels = ""
    try:
        actual = _actual(problem, problem.settings)
        kernels = ", ".join(actual.kernels)
        if (found := _compare_errors(problem, expected, actual)) is not None:
            return replace(found, ran=kernels)
        _difference(problem, expected, actual)
        _same_again(problem, actual)
        if problem.settings.get("adjoint"):
            _adjoint(problem, actual)
        if actual.seconds > (limit := _allowed(problem, actual)):
            # Once more by the processor's clock, with nothing remembered but what has been compiled.
            dispatch.forget()
            seconds = _actual(problem, problem.settings, clock=time.process_time).seconds
            if seconds > limit:
                text = f"{seconds:.1f} s of processor time, the reference {expected.seconds:.1f} s"
                return Verdict("slow", text, kernels)
    except _Differs as difference:
        return Verdict(*difference.args, kernels)
    return Verdict("", "", kernels)
