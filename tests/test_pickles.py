"""Functions, specs, layers and used optimizers in another process, where hashes of strings are others.

Plans: ``test_dispatch.py``. Training that goes on there: ``test_nn_module.py``.
"""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import nn, spec, testing

_CHILD = """
import pickle, sys
import test_pickles
name, given = pickle.load(sys.stdin.buffer)
pickle.dump(getattr(test_pickles, name)(given), sys.stdout.buffer)
"""


def _there(function: Any, given: Any) -> Any:
    """``function(given)``, computed in another process."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=pickle.dumps((function.__name__, given)),
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


def names_of(functions: list[Any]) -> list[str]:
    return [next(name for name in fc.__all__ if getattr(fc, name) is function) for function in functions]


def test_functions_are_the_same_there() -> None:
    names = [name for name in fc.__all__ if inspect.isfunction(getattr(fc, name))]
    assert "conv2d" in names
    assert _there(names_of, [getattr(fc, name) for name in names]) == names


def made_anew(specs: list[Any]) -> list[bool]:
    fresh = [eval(repr(made), vars(spec)) for made in specs]
    return [a == b and hash(a) == hash(b) and a in {b} for a, b in zip(specs, fresh, strict=True)]


def test_specs_are_found_there() -> None:
    act = spec.activation_of(("leaky_relu", 0.5))
    specs = [
        spec.conv_spec("fwd", (2, 4, 6, 7), (8, 4, 3, 3), "float32", padding="same", bias=True, activation=act),
        spec.conv_transpose_spec((2, 4, 6, 7), (4, 8, 3, 3), "float64", stride=2),
        spec.pool_spec("max", "bwd", (2, 4, 6, 7), "float32", 2, 3, padding=1, indices=True),
        spec.adaptive_pool_spec("avg", "fwd", (2, 4, 6, 7), "float32", 2, (None, 3)),
        spec.GemmSpec(spec.Types.of("float32"), 1, 5, 6, 7, activation=act),
        spec.GemmSpec(spec.Types("float16", "float16", "float32", "float64"), 1, 5, 6, 7),
        spec.MapSpec("add", spec.Types.of("float64"), (3, 4)),
        spec.ReduceSpec("sum", spec.Types("float16", "float32", "float32", "float16"), (3, 4), (1,)),
        spec.CopySpec(spec.Types.of("float64"), (5, 6), (1, 0), (0, -2), "reflect"),
    ]
    for made in specs:
        hash(made)  # which is kept
        assert made.empty is False
    assert made_anew(specs) == [True] * len(specs)
    assert _there(made_anew, specs) == [True] * len(specs)


#: What layers are made with, by the names of what they must be given.
_ARGUMENTS = {
    "in_channels": 2, "out_channels": 4, "num_features": 2, "in_features": 8, "out_features": 3, "kernel_size": 2,
}  # fmt: skip


def _layer(kind: type[nn.Module]) -> tuple[nn.Module, np.ndarray]:
    """A layer of a kind, and what it can be called with."""
    parameters = inspect.signature(kind).parameters
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    given = {name: _ARGUMENTS[name] for name in needed} | ({"rng": 0} if "rng" in parameters else {})
    ndim = next((int(c) for c in kind.__name__ if c.isdigit()), 1)
    shape = (3, 8) if kind is nn.Linear else (3, 2, *[8] * ndim)
    return kind(**given), np.random.default_rng(0).standard_normal(shape, np.float32)


def called(layers: list[tuple[nn.Module, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """Of each layer in training mode: result, gradient of the input, state afterwards."""
    results = []
    for layer, x in layers:
        y = layer(x)
        results.append((y, layer.backward(np.ones_like(y)), layer.state_dict()))
    return results


def test_layers_compute_the_same_there() -> None:
    kinds = [kind for kind in map(nn.__dict__.get, nn.__all__) if inspect.isclass(kind) and issubclass(kind, nn.Module)]
    layers = [_layer(kind) for kind in kinds if kind not in (nn.Module, nn.Sequential)]
    assert {"Conv3d", "Dropout", "BatchNorm"} <= {type(layer).__name__ for layer, _ in layers}
    there, copied = _there(called, layers), called(copy.deepcopy(layers))
    for layer, a, b, c in zip(layers, called(layers), there, copied, strict=True):
        for other in (b, c):
            for left, right in zip(a[:2], other[:2], strict=True):
                np.testing.assert_array_equal(left, right, err_msg=str(layer))
            assert a[2].keys() == other[2].keys()
            for name, value in a[2].items():
                np.testing.assert_array_equal(value, other[2][name], err_msg=f"{layer}: {name}")


def stepped(pairs: list[tuple[nn.Module, nn.Optimizer]]) -> list[np.ndarray]:
    """The weights after one step more."""
    weights = []
    for layer, optimizer in pairs:
        y = layer(np.linspace(-1, 2, 12, dtype=np.float32).reshape(4, 3))
        layer.backward(y - 1)
        optimizer.step()
        weights.append(layer.weight.value.copy())
    return weights


def test_used_optimizers_go_on_there() -> None:
    kinds = [kind for kind in vars(nn).values() if inspect.isclass(kind) and issubclass(kind, nn.Optimizer)]
    pairs = []
    for kind in kinds:
        if kind is not nn.Optimizer:
            layer = nn.Linear(3, 2, rng=0)
            extra = {"momentum": 0.9} if "momentum" in inspect.signature(kind).parameters else {}
            pairs.append((layer, kind(layer.parameters(), lr=0.1, **extra)))
    assert len(pairs) >= 4
    first = stepped(pairs)
    there, copied = _there(stepped, pairs), stepped(copy.deepcopy(pairs))
    for before, a, b, c in zip(first, stepped(pairs), there, copied, strict=True):
        assert not np.array_equal(before, a)
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_what_packed_weights_are_for_is_found_there() -> None:
    """On every backend, without the batch dimension and with everything fused."""
    for target in testing.targets():
        with testing.on(target):
            plan = fc.plan_conv1d((2, 9), np.ones((4, 2, 3), np.float32), np.ones(4, np.float32), activation="gelu")
        x = np.linspace(-1, 1, 18, dtype=np.float32).reshape(2, 9)
        backend, y = _there(planned, (plan, x))
        assert backend == target.backend
        np.testing.assert_array_equal(y, plan(x))


def planned(given: tuple[fc.Plan, np.ndarray]) -> tuple[str, np.ndarray]:
    plan, x = given
    return plan.backend, plan(x)
