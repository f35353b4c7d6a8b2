"""``fastconv bench``: what it selects, measures, writes, compares, draws and refuses. Nothing here asserts a speed."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv.__main__ import main
from fastconv.bench import cli, clock, goals, layers, maps, measure, report, suite
from fastconv.bench.layers import Problem
from fastconv.bench.peers import ours

ROOT = Path(__file__).parent.parent

#: Layers so small that a run takes no time.
QUICK = ["--network", "mobilenet_v2", "--layers", "b1[57]_*", "--class", "depthwise", "--n", "1", "--seconds", "0.01"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A whole run, with a peer that every installation has, and pictures."""
    directory = tmp_path_factory.mktemp("bench")
    written = directory / "result.json"
    directions = ["--direction", "fwd,bwd_input,bwd_weight"]
    files = ["--output", str(written), "--plots", str(directory / "plots")]
    code = main(["bench", *QUICK, "--class", "1x1,depthwise", *directions, "--peers", "numpy", *files])
    assert code == 0
    return written


def _error(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


# --------------------------------------------------------------------------------------------------- the layers


def test_networks_have_the_operations_that_are_known_of_them():
    # 10^9 multiply-adds of the convolutions for one image of 224x224.
    known = {
        "alexnet_torchvision": 0.6556,
        "vgg16": 15.3466,
        "resnet50_v1_5": 4.0871,
        "mobilenet_v1": 0.5677,
        "mobilenet_v2": 0.2995,
        "efficientnet_b0": 0.3845,
    }
    for network, expected in known.items():
        total = sum(layer.count * layer.operations(1) for layer in layers.select("conv", [network]))
        assert total / 2e9 == pytest.approx(expected, abs=5e-5), network


def test_every_layer_has_a_class_and_a_result():
    for op in layers.OPS:
        for layer in layers.table(op):
            assert layer.kind
            assert layer.operations(2) >= layer.operations(1) > 0
            assert all(min(shape) > 0 for shape in layer.arrays(1).values()), layer
    kinds = {layer.kind for layer in layers.table("conv")}
    assert kinds >= {"1x1", "3x3s1", "3x3s2", "5x5s1", "7x7s1", "stem", "depthwise", "grouped", "dilated", "1-D", "3-D"}


def test_shapes_are_those_that_fastconv_computes():
    (layer,) = layers.select("conv", ["resnext_101"], "conv24")
    arrays = Problem(layer, 2).operands()
    assert arrays["x"].shape == (2, 4096, 7, 7)
    assert arrays["w"].shape == (4096, 128, 3, 3)
    for name in ("conv1", "fc6"):
        for found in (layer for layer in layers.table("conv") if layer.layer == name):
            x, w = np.ones((1, found.ic, *found.size), np.float32), np.ones(found.w_shape, np.float32)
            plan = fastconv.plan_conv2d(x.shape, w, None, found.stride, found.padding, found.dilation, found.groups)
            assert plan.y_shape == Problem(found, 1).operands()["dy"].shape


@pytest.mark.parametrize("behind", [0, 16])
def test_operands_begin_as_far_behind_a_cache_line_as_is_asked_for(dtype, behind):
    (layer,) = layers.select("conv", ["resnext_101"], "conv24")
    arrays = Problem(layer, 1, dtype=dtype, behind=behind).operands()
    assert {array.ctypes.data % 64 for array in arrays.values()} == {behind}
    np.testing.assert_array_equal(arrays["x"], Problem(layer, 1, dtype=dtype).operands()["x"])


def test_rows_of_a_product_grow_with_the_batch_only_in_networks():
    (linear,) = layers.select("gemm", ["vgg16"], "fc6")
    (square,) = layers.select("gemm", ["squares"], "256")
    assert linear.arrays(8)["x"] == (8, 25088)
    assert square.arrays(8)["x"] == (256, 256)
    assert Problem(square, 8).operations == 2 * 256**3


@pytest.mark.parametrize("op", layers.OPS)
def test_a_selection_that_does_not_exist_is_named(op):
    with pytest.raises(ValueError, match=f"network 'lenet': allowed for {op} is .*"):
        layers.select(op, ["lenet"])
    with pytest.raises(ValueError, match=f"class '4x4': allowed for {op} is "):
        layers.select(op, kinds=["4x4"])
    with pytest.raises(ValueError, match=r"layers 'no\*': no layer"):
        layers.select(op, layers="no*")


# ---------------------------------------------------------------------------------------------------- the run


def test_a_run_writes_what_was_measured(result):
    found = json.loads(result.read_text())
    assert found["format"] == 1
    assert {"python", "numpy", "fastconv"} <= set(found["versions"])
    assert found["machine"]["cpus"] >= 1
    assert (found["ours"], found["missing"]) == (["fastconv"], {})
    names = {(row["layer"], row["direction"]) for row in found["rows"]}
    assert len(names) == len(found["rows"]) == 3 * len(layers.select("conv", ["mobilenet_v2"], "b1[57]_*"))
    for row in found["rows"]:
        ours = row["contenders"]["fastconv"]
        assert ours["how"] in ("NCHW", "NHWC")
        assert ours["seconds"] > 0
        assert ours["rounds"] >= measure.FEWEST_ROUNDS
        assert ours["warm_up"] > 0
        assert row["wrong"] == {}
        # NumPy takes part where it can, and says why where it cannot.
        takes_part = row["direction"] == "fwd" and row["class"] == "1x1"
        assert ("numpy" in row["contenders"]) == takes_part == ("numpy" not in row["refused"])
        if takes_part:
            assert row["contenders"]["numpy"]["ratio"] > 0
        if fastconv.backends()["c"] is None:
            assert ours["of_peak"] > 0
        if row["clock"] == "cycles":
            assert ours["cycles"] > 0
            assert found["ghz"] > 0


class _Scripted:
    """A worker whose peaks are given: each call takes a second while they are at their best, else ten."""

    label, ours, has_cycles = "fastconv", True, False

    def __init__(self, peaks):
        self._peaks, self._now = iter(peaks), 1.0

    def ask(self, method, *arguments):
        if method == "prepare":
            return {"NCHW": {"about": ("", None), "sample": ((1,), np.zeros(1))}}
        if method == "peak":
            self._now = next(self._peaks, self._now)
            return 32.0 * self._now, 1, 1.0
        return (1.0, 1.0) if self._now == 1 else (10.0, 10.0)


@pytest.mark.parametrize(
    ("peaks", "clock", "quiet", "seconds"),
    [
        ([1.0], "cycles", True, 1.0),
        # The rounds before and after which the peak is lower are repeated.
        ([1.0, 1.0, 0.6, 1.0, 1.0, 0.6, 1.0], "cycles", True, 1.0),
        # Where nothing else comes, what there is counts in the end.
        ([1.0, 0.6], "cycles", False, 10.0),
        # By the clock on the wall all count.
        ([1.0, 0.6], "wall", True, 10.0),
    ],
)
def test_disturbed_rounds_are_repeated(peaks, clock, quiet, seconds):
    layer = layers.select("conv", ["mobilenet_v2"], "b15_expand")[0]
    row = measure.measure(Problem(layer, 1), [_Scripted(peaks)], measure.Settings(), clock, {})
    assert row["quiet"] == quiet
    assert row["contenders"]["fastconv"]["rounds"] == measure.FEWEST_ROUNDS
    assert row["contenders"]["fastconv"]["seconds"] == seconds


def test_disturbed_problems_are_measured_again(monkeypatch):
    problems = [Problem(layer, 1) for layer in layers.select("conv", ["mobilenet_v2"])[:2]]
    quiet = iter([True, False, False, True])

    def measured(problem, *_):
        return {"network": "", "layer": problem.layer.layer, "direction": "", "quiet": next(quiet)}

    monkeypatch.setattr(measure, "start", lambda *_: ([_Scripted([1.0])], {}))
    monkeypatch.setattr(_Scripted, "versions", {}, raising=False)
    monkeypatch.setattr(_Scripted, "close", lambda _: None, raising=False)
    monkeypatch.setattr(measure, "measure", measured)
    contender = measure.Contender("fastconv", measure.OURS)
    found = measure.measure_all(problems, [contender], measure.Settings(clock="wall"))
    assert [row["layer"] for row in found["rows"]] == [problem.layer.layer for problem in problems]
    assert all(row["quiet"] for row in found["rows"])
    assert next(quiet, None) is None


def test_pictures_are_drawn(result):
    files = sorted((result.parent / "plots").iterdir())
    assert [file.name for file in files] == ["conv-ratio.png", "conv-speed.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_a_result_can_be_shown_again(result, capsys):
    assert main(["bench", "--report", str(result), "--markdown"]) == 0
    text = capsys.readouterr().out
    assert f"- machine: {json.loads(result.read_text())['machine']['cpu']}" in text
    assert "| b17_project | 960->320 1x1 @7x7 | fwd | 1 |" in text
    assert re.search(r"^\| all \| fwd \| 3 \| \d+\.\d\d \|$", text, re.MULTILINE)
    assert main(["bench", "--report", str(result)]) == 0
    assert "960->320 1x1 @7x7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("op", "network", "name", "extra"),
    [
        ("gemm", "squares", "256", ["--backend", "reference"]),
        ("pool", "mobilenet_v2", "avgpool", ["--direction", "fwd,bwd_input"]),
        ("pool", "googlenet_v1", "inception_5b", ["--direction", "fwd,bwd_input", "--dtype", "float64"]),
        ("pool", "sums", "sum7@56", ["--layout", "NHWC"]),
        ("conv", "conv1d", "conv1d_17", ["--clock", "wall", "--threads", "1,2", "--weights", "changing"]),
        ("conv", "conv1d", "conv1d_gemm_1", ["--precision", "strict,default"]),
    ],
)
def test_other_operators_and_settings_agree_with_numpy(op, network, name, extra, tmp_path):
    written = tmp_path / "result.json"
    select = ["--op", op, "--network", network, "--layers", name, "--n", "2", "--seconds", "0.01"]
    assert main(["bench", *select, *extra, "--peers", "numpy", "--output", str(written)]) == 0
    found = json.loads(written.read_text())
    forward = [row for row in found["rows"] if row["direction"] == "fwd"]
    assert forward
    for row in forward:
        assert set(row["contenders"]) == {*found["ours"], "numpy"}, row["refused"]
        assert row["threads"] == 1 or row["clock"] == "wall"


def test_several_backends_and_instruction_sets_are_contenders_of_their_own(tmp_path):
    written = tmp_path / "result.json"
    arguments = ["--backend", "c,reference", "--isa", "scalar", "--peers", "none", "--output", str(written)]
    assert main(["bench", *QUICK, *arguments]) == 0
    found = json.loads(written.read_text())
    assert found["ours"] == ["fastconv:c/scalar", "fastconv:reference"]
    for row in found["rows"]:
        assert row["contenders"]["fastconv:c/scalar"]["note"].endswith("scalar")
        assert row["contenders"]["fastconv:reference"]["ratio"] > 0


def test_algorithms_are_contenders_where_they_can_compute_the_layer(tmp_path):
    written = tmp_path / "result.json"
    arguments = ["--network", "conv1d", "--layers", "conv1d_1[78]", "--peers", "none", "--output", str(written)]
    names = ["implicit_gemm_pixels", "winograd_4x4_3x3"]
    assert main(["bench", "--seconds", "0.05", "--algorithm", ",".join(names), *arguments]) == 0
    found = json.loads(written.read_text())
    pixels, winograd = (f"fastconv {name}" for name in names)
    assert found["ours"] == ["fastconv", pixels, winograd]
    for row in found["rows"]:
        assert row["contenders"][pixels]["note"].startswith("implicit_gemm_pixels")
        assert winograd not in row["contenders"]
        assert "not 3x3" in row["refused"][winograd]


def test_a_peer_that_is_not_installed_is_named_and_left_out(monkeypatch, tmp_path, capsys):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('there is no onnxruntime here')")
    (tmp_path / "onnx.py").write_text("raise ImportError('there is no onnx here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert main(["bench", *QUICK, "--peers", "onnxruntime"]) == 0
    assert "left out: onnxruntime: not installed: there is no onnx" in capsys.readouterr().out


STRANGERS = {
    "liar": "return {'wrong': Variant(lambda: np.zeros((1, 960, 7, 7), problem.dtype))}",
    "mortal": "os._exit(3) if problem.n == 1 else None; return {'fine': Variant(lambda: np.ones(1))}",
    "short_lived": "return {'deadly': Variant(lambda calls=[]: (calls.append(1), len(calls) > 2 and os._exit(3))[0])}",
}


@pytest.fixture
def strangers(monkeypatch, tmp_path):
    """Contenders that are up to no good, by name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, body in STRANGERS.items():
        (tmp_path / f"{name}.py").write_text(
            "import os\nimport numpy as np\nfrom fastconv.bench.peers import Variant\n"
            "class Peer:\n    def __init__(self, threads):\n        self.versions = {}\n"
            f"    def prepare(self, problem):\n        {body}\n"
        )
    return {name: measure.Contender(name, name) for name in STRANGERS}


def _rows(problems, stranger):
    contenders = [measure.Contender("fastconv", measure.OURS), stranger]
    return measure.measure_all(problems, contenders, measure.Settings(seconds=0.01))["rows"]


def test_a_contender_that_computes_something_else_is_found_out(strangers):
    (layer,) = layers.select("conv", ["mobilenet_v2"], "b15_dw")
    (row,) = _rows([Problem(layer, 1)], strangers["liar"])
    assert row["wrong"].keys() == {"liar wrong"}
    verdict = {"rows": [row], "ours": ["fastconv"]}
    assert cli._verdict(verdict) == 1


def test_a_contender_that_dies_is_named_and_may_try_the_next_layer(strangers):
    (layer,) = layers.select("conv", ["mobilenet_v2"], "b15_dw")
    for name in ("mortal", "short_lived"):
        first, second = _rows([Problem(layer, 1), Problem(layer, 2)], strangers[name])
        assert first["refused"] == {name: "its process died: exit code 3"}
        assert list(first["contenders"]) == ["fastconv"]
        assert (name in second["contenders"]) == (name == "mortal")


def test_differences_are_relative_and_shapes_count():
    one = ((2, 2), np.array([1.0, -1.0]))
    assert measure._difference(one, one) == 0
    assert measure._difference(((2, 2), np.array([1.0, -0.5])), one) == 0.5
    assert measure._difference(((4,), one[1]), one) == float("inf")
    assert not measure._difference(((2, 2), np.array([np.nan, 0])), one) <= 1


def test_cycles_are_counted_or_refused():
    reader = clock.Clock()
    before = reader.read()
    sum(range(200_000))
    after = reader.read()
    assert after[1] > before[1]
    assert (after[0] > before[0]) == reader.has_cycles


# ------------------------------------------------------------------------------------------------- comparisons


def _changed(path, factor, directory):
    found = json.loads(path.read_text())
    for row in found["rows"]:
        for figures in row["contenders"].values():
            figures["seconds"] *= factor
            figures["cycles"] *= factor
    changed = directory / "changed.json"
    changed.write_text(json.dumps(found))
    return changed


def test_a_comparison_shows_each_layer_and_the_mean(result, tmp_path, capsys):
    changed = _changed(result, 0.5, tmp_path)
    assert main(["bench", "--compare", str(result), str(changed), "--markdown"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert len(lines) == len(json.loads(result.read_text())["rows"]) + 1
    assert all(line.endswith("| 2.00 |") for line in lines)
    assert lines[-1].startswith("| geometric mean |")


def test_results_without_a_common_layer_are_not_compared(result, tmp_path, capsys):
    found = json.loads(result.read_text())
    for row in found["rows"]:
        row["n"] = 77
    other = tmp_path / "other.json"
    other.write_text(json.dumps(found))
    assert main(["bench", "--compare", str(result), str(other)]) == 2
    assert "the two results share no layer" in capsys.readouterr().err


def _measured(layer, direction="fwd", n=8, ratios=(2.0,), **changed):
    peers = {f"peer{i}": {"ratio": ratio} for i, ratio in enumerate(ratios)}
    row = {"op": layer.op, "network": layer.network, "layer": layer.layer, "direction": direction, "n": n}
    row |= {"dtype": "float32", "threads": 1, "precision": "default", "contenders": {"fastconv": {}, **peers}}
    return row | changed


def test_goals_are_medians_over_classes_of_the_best_peer():
    (square,) = layers.select("gemm", ["squares"], "256")
    (wide,) = layers.select("conv", ["vgg16"], "conv2_2")
    (late,) = layers.select("conv", ["vgg16"], "conv5_1..3")
    strided, point = (layers.select("conv", ["resnet50_v1_5"], kinds=[kind])[0] for kind in ("3x3s2", "1x1"))
    first = {"ours": ["fastconv"], "rows": [_measured(point, ratios=(3.0, 1.0)), _measured(point, ratios=(0.8,))]}
    rows = [_measured(wide, ratios=(2.5,)), _measured(late, ratios=(2.4,)), _measured(wide, n=1, ratios=(1.14,))]
    rows += [_measured(point, ratios=(1.2,)), _measured(point, "bwd_input", ratios=(1.1,)), _measured(square)]
    rows += [_measured(strided, "bwd_weight"), _measured(wide, dtype="float64"), _measured(wide, ratios=())]
    rows += [_measured(wide, threads=2, ratios=(0.1,)), _measured(wide, precision="strict", ratios=(0.1,))]
    table = goals.reached([first, {"ours": ["fastconv"], "rows": rows}])
    assert table.rows == [
        ["matrix products", "fwd", "1", "2.00", "1.00", "yes", "0"],
        ["float64, all of these", "fwd", "1", "2.00", "2.00", "yes", "0"],
        ["3x3, stride 1, 64 to 512 channels, outputs of 28 and more, N >= 8", "fwd", "1", "2.50", "2.50", "yes", "0"],
        ["the same at 14 and 7", "fwd", "1", "2.40", "1.80", "yes", "0"],
        ["3x3, stride 1, N = 1", "fwd", "1", "1.14", "1.15", "no", "0"],
        ["1x1", "fwd", "3", "1.00", "1.05", "no", "1"],
        ["1x1", "bwd_input", "1", "1.10", "1.10", "yes", "0"],
        ["3x3 of stride 2, 5x5, 7x7, 11x11, stems", "bwd_weight", "1", "2.00", "1.20", "yes", "0"],
    ]
    on_two = goals.reached([{"ours": ["fastconv"], "rows": rows}], [2])
    assert [row[3] for row in on_two.rows] == ["0.10"]


def test_goals_are_shown_of_several_results(result, capsys):
    assert main(["bench", "--goals", str(result), str(result), "--markdown"]) == 0
    found = json.loads(result.read_text())
    compared = sum("numpy" in row["contenders"] for row in found["rows"])
    assert f"| 1x1 | fwd | {2 * compared} |" in capsys.readouterr().out


def test_goals_want_a_peer(result, tmp_path, capsys):
    found = json.loads(result.read_text())
    for row in found["rows"]:
        row["contenders"] = {"fastconv": row["contenders"]["fastconv"]}
    alone = tmp_path / "alone.json"
    alone.write_text(json.dumps(found))
    assert main(["bench", "--goals", str(alone)]) == 2
    assert "compare no layer" in capsys.readouterr().err


def test_the_geometric_mean():
    assert report.geometric_mean([0.5, 2.0]) == pytest.approx(1)
    assert report.geometric_mean([3.0]) == pytest.approx(3)


def test_markdown_keeps_its_columns():
    lines = report.as_markdown(report.Table("t", ["a", "b"], [["x|y", "1"]])).splitlines()
    assert lines[2:] == ["| a | b |", "| --- | ---: |", "| x\\|y | 1 |"]


# ------------------------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "fft"], "'fft'"),
        (["--n", "0"], "'0': allowed are integers >= 1"),
        (["--n", "8,many"], "'8,many': allowed are integers >= 1"),
        (["--threads", "-1"], "allowed are integers >= 1"),
        (["--seconds", "0"], "'0': allowed is a number > 0"),
        (["--seconds", "soon"], "'soon': allowed is a number > 0"),
        (["--direction", "fwd,sideways"], "'sideways': allowed is fwd, bwd_input, bwd_weight"),
        (["--dtype", "int8"], "'int8': allowed is float32, float64"),
        (["--backend", "abacus"], "'abacus': allowed is c, numba"),
        (["--peers", "matlab"], "'matlab': allowed is torch, onnxruntime"),
        (["--layout", "CHWN"], "'CHWN': allowed is NCHW, NHWC"),
        (["--clock", "sun"], "'sun'"),
        (["--list", "--compare", "a", "b"], "not allowed with argument"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    assert message in _error(arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "lenet"], "network 'lenet': allowed for conv is"),
        (["--class", "4x4"], "class '4x4': allowed for conv is"),
        (["--layers", "zzz"], "layers 'zzz': no layer"),
        (["--op", "gemm", "--direction", "bwd_input"], "direction bwd_input: allowed for gemm is fwd"),
        (["--output", "no/such/directory/file.json"], "there is no directory"),
        (["--report", "no-such-file.json"], "no-such-file.json"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 0}'])
def test_files_that_are_no_results_are_refused(text, tmp_path, capsys):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    assert main(["bench", "--report", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_a_backend_that_cannot_run_is_named(capsys):
    assert main(["bench", *QUICK, "--isa", "mmx", "--peers", "none"]) == 2
    assert "fastconv/mmx cannot run here" in capsys.readouterr().err


def test_layers_can_be_listed(capsys):
    assert main(["bench", "--list", "--network", "vgg16", "--markdown"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("**9 layers**")
    assert "| vgg16 | conv1_1 | stem | 3->64 3x3 @224x224 | 1 |" in text


# ------------------------------------------------------------------------------------- what belongs together


def test_every_family_of_operators_has_a_benchmark():
    cases = runpy.run_path(str(ROOT / "benchmarks" / "test_kernels.py"))["CASES"]
    measured = {re.sub(r"[123]d", "", case.function) for case in cases}
    stems = (
        "conv",
        "plan_conv",
        "max_",
        "avg_",
        "sum_pool",
        "global_",
        "adaptive_",
        "matmul",
        "gemm",
        "linear",
        "activate",
        "silu",
        "multiply",
        "interpolate",
        "softmax",
        "batch_norm",
        "concat",
        "split",
        "pad",
        "pixel_",
        "channel_",
        "to_layout",
        "cast",
    )
    operators = {re.sub(r"[123]d", "", name) for name in fastconv.__all__ if name.startswith(stems)}
    assert operators - measured == set()
    assert {case.function for case in cases} >= {f"conv{n}d{tail}" for n in (1, 2, 3) for tail in ("", "_backward")}


def test_every_benchmark_of_an_operator_runs():
    for case in runpy.run_path(str(ROOT / "benchmarks" / "test_kernels.py"))["CASES"]:
        assert case.make(**Problem(case.layer, 1).operands())() is not None, case


def test_every_function_between_convolutions_runs():
    peer, seen = ours.Peer(1), set()
    for name, entry in maps.ENTRIES.items():
        (variant,) = peer.prepare(Problem(maps.Map("cached", name, (8, 64, 2, 4)), 8)).values()
        assert np.isfinite(np.asarray(variant.array(variant.run()), np.float64)).all(), name
        assert entry.family == "resizing" or entry.moved >= len(entry.operands.replace("s", "").split())
        seen.add(entry.family)
    assert seen == {
        "activations",
        "slopes",
        "broadcasts",
        "reductions",
        "norms",
        "softmax",
        "losses",
        "updates",
        "copies",
        "resizing",
    }


def test_functions_beside_copies_and_fused_activations():
    """What moves as many bytes is no result, and no peer either; activations are compared with the first."""
    settings = measure.Settings(seconds=0.01, clock="wall")
    copied = measure.measure_all(
        [Problem(maps.Map("memory", name, (2, 4, 16, 16)), 2) for name in ("silu", "softmax_backward")],
        [suite._OURS, suite._COPY], settings,
    )  # fmt: skip
    activated = [suite.Contender(n, "fastconv.bench.peers.fused", {"activation": n}) for n in ("relu", "silu")]
    fused = measure.measure_all([Problem(maps.Fused(16, (8, 8)), 2)], activated, settings)
    rows = copied["rows"] + fused["rows"]
    assert [row["operations"] for row in rows] == [2 * 8192, 3 * 8192, 2 * 2 * 16 * 16 * 64]
    assert all(row["wrong"] == row["refused"] == {} for row in rows)
    assert all(row["contenders"][label]["ratio"] > 0 for row, label in zip(rows, ("copy", "copy", "silu"), strict=True))
    tables = report.tables({"rows": rows, "ours": ["fastconv"], "ghz": None})
    assert [table.title.split()[0].strip(":") for table in tables] == ["map", "map", "fused"]
    assert tables[0].header[-1] == "to copy"
    assert tables[2].header[-2:] == ["relu, ms", "silu"]
    assert report.best_ratio(rows[0], ["fastconv"]) is None


def _figures(seconds, ratio=None):
    figures = {"how": "NCHW", "note": "direct", "seconds": seconds, "cycles": seconds * 1e9, "of_peak": 0.5}
    return figures | ({} if ratio is None else {"ratio": ratio})


def _row(layer, contenders, threads=1, cores="idle", dtype="float32"):
    settings = {"direction": "fwd", "n": 8, "dtype": dtype, "threads": threads, "cores": cores}
    other = {"weights": "changing", "precision": "default", "clock": "wall", "operations": 1e6, "class": "3x3s1"}
    about = {"op": "conv", "network": "net", "layer": layer, "shape": "1->1", "wrong": {}, "refused": {}}
    return about | settings | other | {"contenders": contenders}


def _tables(rows):
    found = report.tables({"rows": rows, "ours": ["fastconv"], "ghz": None})
    return {table.title.partition(":")[2].strip().split(":")[0]: table for table in found}


def test_layers_that_are_behind_are_listed_worst_first():
    ratios = {"a": (0.89, 1.5), "b": (0.91, 0.95), "c": (1.2, 0.5)}
    rows = [
        _row(name, {"fastconv": _figures(1), "torch": _figures(1, t), "jax": _figures(1, j)})
        for name, (t, j) in ratios.items()
    ]
    table = _tables(rows)["2 of 3 below 0.9 of the best peer"]
    assert [line[0] for line in table.rows] == ["net c", "net a"]
    assert [line[-3:-1] for line in table.rows] == [["0.50", "jax NCHW"], ["0.89", "torch NCHW"]]
    assert not any("below" in title for title in _tables(rows[1:2]))


def test_what_threads_and_a_busy_core_do_is_shown():
    times = {(1, "idle"): (0.004, 0.008), (2, "idle"): (0.002, 0.005), (2, "one busy"): (0.003, 0.05)}
    rows = [
        _row("a", {"fastconv": _figures(ours), "torch": _figures(theirs, theirs / ours)}, *how)
        for how, (ours, theirs) in times.items()
    ]
    table = _tables(rows)["threads"]
    assert [line[3:] for line in table.rows] == [
        ["fastconv", "4.000", "2.000", "2.00", "3.000", "1.50"],
        ["torch", "8.000", "5.000", "1.60", "50.000", "10.00"],
    ]
    assert "threads" not in _tables(rows[:1])


def test_a_neighbour_computes_until_it_is_no_longer_wanted(monkeypatch):
    started = []
    launch = subprocess.Popen
    monkeypatch.setattr(measure.subprocess, "Popen", lambda *a, **kw: started.append(launch(*a, **kw)) or started[-1])
    with measure.neighbour():
        assert started[0].poll() is None
    assert started[0].returncode is not None


def test_layers_beside_a_busy_core(tmp_path):
    written = tmp_path / "result.json"
    assert main(["bench", *QUICK, "--busy", "--peers", "none", "--output", str(written)]) == 0
    rows = json.loads(written.read_text())["rows"]
    assert [(row["cores"], row["clock"]) for row in rows][-1] == ("one busy", "wall")
    assert {row["cores"] for row in rows} == {"idle", "one busy"}


def test_the_suites_count_their_steps(monkeypatch):
    for steps, run in suite.SUITES.values():
        told = []
        monkeypatch.setattr(suite, "_import_ratio", lambda: 1.0)
        monkeypatch.setattr(suite, "measure_all", partial(_pretended, told))
        found = run(0.1, "wall", told.append)
        assert len(told) == steps
        assert all(claim["measured"] > 0 for claim in found["claims"])


def _pretended(told, problems, contenders, settings, progress):
    """What ``measure_all`` returns, without measuring."""
    rows = []
    for problem in problems:
        progress(problem.layer.layer)
        figures = {c.label: _figures(0.01 / settings.threads, 1.0) for c in contenders}
        rows.append(measure._description(problem) | {"clock": "wall", "contenders": figures})
    return {"rows": rows, "versions": {}, "missing": {}}


def test_the_command_line_imports_no_peer():
    program = 'import sys, fastconv.__main__ as m; m._parser(["bench"]); print(*sys.modules)'
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    modules = set(done.stdout.split())
    assert not modules & {"torch", "onnxruntime", "openvino", "ncnn", "jax", "matplotlib", "numba", "rich"}
