"""The differential tester: what it draws, and that it finds what is wrong, survives it and makes it small."""

import pickle
import re
from math import prod

import numpy as np
import pytest

import fastconv as fc
from fastconv import testing
from fastconv.__main__ import main
from fastconv.testing import check, drawing, draws, judge
from fastconv.testing.arrays import Array, Lie
from fastconv.testing.worker import Limits, Report, Task, Worker

#: What computes nothing.
_OTHERS = {
    "Plan", "__version__", "autotune", "backends", "explain", "forget_autotuned", "get_flush_denormals",
    "get_num_threads", "models", "nn", "precision", "register_threadpoolctl", "set_flush_denormals", "set_num_threads",
    "testing", "threads", "use_algorithm", "use_backend", "use_isa", "workspace_limit",
}  # fmt: skip

_FIRST = testing.backends_here()[0]


# ------------------------------------------------------------------------------------------------- what is drawn


def test_every_public_function_that_computes_is_drawn():
    assert {*testing.FUNCTIONS} == {*fc.__all__} - _OTHERS
    drawn = {testing.problem(0, number).function for number in range(0, 16000, drawing.VARIANTS)}
    assert drawn == {*testing.FUNCTIONS}


def test_no_array_is_larger_than_may_be_drawn():
    drawn = testing.problems(2, 400, functions=("conv_backward_bias", "matmul", "activate"))
    assert max(prod(a.shape) for p in drawn for a in p.arrays().values()) <= draws.MOST


def test_the_same_number_is_the_same_problem_also_in_another_process():
    for p in testing.problems(3, 200):
        assert pickle.loads(pickle.dumps(p)) == p
    again = testing.problems(3, 200)
    assert [str(p) for p in testing.problems(3, 200)] == [str(p) for p in again]
    assert str(testing.problem(4, 0)) != str(testing.problem(3, 0))


def test_the_choices_of_a_problem_make_it_again():
    settings = drawing.settings_here()
    for p in testing.problems(5, 400):
        assert str(drawing.again(p.choices, testing.FUNCTIONS, settings)) == str(p)


def test_problems_cover_what_kernels_like_and_what_they_do_not():
    drawn = [testing.problem(1, number) for number in range(0, 6000, 2)]
    arrays = [a for p in drawn for a in p.arrays().values()]
    lies = [a.lie for a in arrays]
    assert {a.dtype for a in arrays} >= {"float32", "float64", "int64", "int32"}
    assert {a.values for a in arrays} >= {"whole", "real", "special", "spike", "positive", "index", "near", "empty"}
    assert any(0 in (lie.steps or ()) for lie in lies)
    assert any(min(lie.steps or (1,), default=1) < 0 for lie in lies)
    for name in ("order", "lap", "far", "shift", "place"):
        assert any(getattr(lie, name) != getattr(Lie(), name) for lie in lies), name
    assert any(0 in a.shape for a in arrays)
    assert {p.settings.get("threads") for p in drawn} == {None, 1, 2, 3, 8}
    assert any(p.invalid for p in drawn)
    strides = [s for p in drawn for s in np.ravel(p.arguments.get("stride") or 1).tolist() if isinstance(s, int)]
    assert max(strides) > 2**60
    targets = {(p.settings.get("use_backend"), p.settings.get("use_isa")) for p in drawn}
    assert targets == {(s.get("use_backend"), s.get("use_isa")) for s in drawing.settings_here()}


def test_problems_are_lines_of_python():
    names = {"np": np, "fc": fc, "drawn": testing.drawn, "laid": testing.laid}
    settings, functions = [{"use_backend": "reference"}], ("matmul", "conv2d", "max_pool2d_backward", "plan_conv1d")
    for p in testing.problems(6, 80, functions=functions, settings=settings):
        if p.invalid is None and "extreme" not in p.choices:
            try:
                with np.errstate(all="ignore"):
                    exec(str(p), names)
            except (TypeError, ValueError):
                assert not testing.verdict(p).failed


# -------------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    "lie",
    [
        Lie(),
        Lie(order=(2, 0, 1)),
        Lie(steps=(-1, 3, -2), shift=4),
        Lie(order=(1, 2, 0), steps=(1, -1, 2), shift=1, place="end"),
        Lie(place="start", writeable=False),
        Lie(far=1),
    ],
    ids=str,
)
def test_arrays_lie_as_they_are_told(lie):
    values = testing.drawn("whole", (3, 4, 5), "float32")
    made = Array((3, 4, 5), values="whole", lie=lie).make()
    assert np.array_equal(made.array, values)
    assert np.array_equal(testing.laid(values, **{k: getattr(lie, k) for k in lie.__dataclass_fields__}), values)
    assert made.array.flags.aligned == (lie.shift % 4 == 0 or lie.place == "end")
    made.remember()
    assert made.unchanged()
    if lie.far is None:
        assert [s > 0 for s in made.array.strides] == [s > 0 for s in lie.steps or (1, 1, 1)]
        assert made.nothing_around()
        made.memory[0 if lie.place == "end" else -1] = 1
        assert not made.unchanged()
        assert not lie.writeable or not made.nothing_around()


# --------------------------------------------------------------------------------------------------- what it finds


def _broken(function, calls=120):
    found = check.check(
        2, calls=calls, functions=[function], backends=[_FIRST], prepare="broken_backend", say=str, shrinking=60
    )
    assert sum(found.calls.values()) >= calls // 4
    return found


def test_a_wrong_value_is_found_and_made_small():
    finding = _broken("sum_pool1d")
    (failure,) = finding.failures
    assert failure.verdict.kind == "values"
    x = failure.problem.arguments["x"]
    assert (x.values, x.lie) == ("ones", Lie())
    assert x.shape in ((1, 1, 5), (1, 5), (1, 5, 1), (5, 1))
    assert f"fc.use_backend({_FIRST!r})" in str(failure)
    assert re.search(r"fc.sum_pool1d\(np.ones\(\([1, 5]+\), \"float32\"\), ", str(failure))
    assert sum(finding.calls.values()) == 120
    assert sum(finding.alike.values()) == sum(n for (*_, kind), n in finding.calls.items() if kind == "values") > 1


def test_a_crash_is_survived_named_and_made_small():
    finding = _broken("max_pool1d", 32)
    (failure,) = finding.failures
    assert failure.verdict.kind == "crash"
    assert "Aborted" in failure.verdict.text or "-6" in failure.verdict.text
    assert failure.problem.arguments["x"].shape in ((1, 3, 1), (3, 1), (1, 1, 3), (1, 3))
    assert any(not kind for *_, kind in finding.calls)  # those after it were run


def test_a_changed_input_is_found():
    (failure,) = _broken("avg_pool1d").failures
    assert failure.verdict.kind == "changed"


def test_a_call_without_an_end_is_ended():
    task = Task(("adaptive_avg_pool1d",), tuple(drawing.settings_here([_FIRST])), seed=2, count=4)
    with Worker(Limits(processor=0.3), "broken_backend") as own:
        (number, verdict), *rest = own.run(task)
    assert (number, verdict.kind) == (0, "time")
    assert all(isinstance(event, Report) for event in rest)


def test_an_error_that_names_no_argument_is_found(monkeypatch):
    def unclear(*args, **kwargs):
        raise ValueError("something is wrong")

    p = next(p for p in testing.problems(0, 1000) if p.function == "matmul" and not p.invalid)
    monkeypatch.setattr(fc, "matmul", unclear)
    monkeypatch.setattr(judge, "_named", lambda problem, error: False)
    assert testing.verdict(p).kind == "unclear error"


# ------------------------------------------------------------------------------------------------- command line


def test_the_command_says_what_ran(capsys):
    assert main(["check", "--seed", "1", "--calls", "40", "--function", "matmul", "--backend", _FIRST]) == 0
    text = capsys.readouterr().out
    assert "40 calls in" in text
    assert "no failure" in text
    assert f"by: {_FIRST}" in text


def test_the_command_knows_no_other_functions(capsys):
    assert main(["check", "--function", "sort"]) == 2
    assert "sort" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "-1"], "'-1': allowed is a number > 0"),
        (["--calls", "0"], "0: allowed are integers >= 1"),
        (["--jobs", "0"], "0: allowed are integers >= 1"),
        (["--failures", "0"], "0: allowed are integers >= 1"),
        (["--problem", "1"], "'1': allowed is SEED:NUMBER"),
    ],
)
def test_the_command_refuses_what_would_check_nothing(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["check", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_knows_no_other_backends(monkeypatch, capsys):
    assert main(["check", "--calls", "1", "--backend", "fortran"]) == 2
    assert "fortran" in capsys.readouterr().err
    monkeypatch.setattr(drawing, "backends_here", lambda: ["reference"])
    assert main(["check", "--calls", "1", "--backend", _FIRST]) == (0 if _FIRST == "reference" else 2)


def test_sums_that_all_backends_share_are_judged(monkeypatch):
    """Added in float32 one after the other, they are beyond what is promised from some hundred on."""
    dy = Array((1, 4000, 3), values="positive")
    problem = draws.Problem("conv_backward_bias", {"dy": dy, "layout": "NLC"})
    assert not judge.verdict(problem).failed
    monkeypatch.setattr("fastconv.ops.conv.sums", lambda x, axes: x.sum(axes))
    assert judge.verdict(problem).kind == "values"
