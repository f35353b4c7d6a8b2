"""What ``import fastconv`` brings along, and what it exports."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

import fastconv
from fastconv.testing import elementwise

#: Every module of the package that the import alone may load.
LOADED = {
    "fastconv",
    "fastconv._threads",
    "fastconv._version",
    "fastconv.arguments",
    "fastconv.arrays",
    "fastconv.backends",
    "fastconv.backends.base",
    "fastconv.dispatch",
    "fastconv.machine",
    "fastconv.memo",
    "fastconv.ops",
    "fastconv.ops.activation",
    "fastconv.ops.batch_norm",
    "fastconv.ops.conv",
    "fastconv.ops.copy",
    "fastconv.ops.dropout",
    "fastconv.ops.elementwise",
    "fastconv.ops.gemm",
    "fastconv.ops.cross_entropy",
    "fastconv.ops.loss",
    "fastconv.ops.layer_norm",
    "fastconv.ops.norm",
    "fastconv.ops.normalize",
    "fastconv.ops.optim",
    "fastconv.ops.pad",
    "fastconv.ops.plan",
    "fastconv.ops.pool",
    "fastconv.ops.reduce",
    "fastconv.ops.resize",
    "fastconv.ops.shuffle",
    "fastconv.ops.softmax",
    "fastconv.ops.ranks",
    "fastconv.settings",
    "fastconv.spec",
    "fastconv.spec.activation",
    "fastconv.spec.common",
    "fastconv.spec.conv",
    "fastconv.spec.copy",
    "fastconv.spec.gemm",
    "fastconv.spec.loss",
    "fastconv.spec.map",
    "fastconv.spec.pool",
    "fastconv.spec.reduce",
    "fastconv.spec.resize",
    "fastconv.spec.types",
    "fastconv.spec.update",
    "fastconv.tuning",
}


def _modules_after(program: str) -> set[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FASTCONV") or k == "FASTCONV_CACHE"}
    source = f"{program}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_import_loads_no_backend_and_no_optional_package() -> None:
    added = _modules_after("import fastconv") - _modules_after("import numpy")
    assert {name for name in added if name.split(".")[0] == "fastconv"} == LOADED
    outside = {name.split(".")[0] for name in added} - {"fastconv"}
    assert outside <= set(sys.stdlib_module_names), outside


def test_a_call_loads_no_more_than_its_backend() -> None:
    call = "import numpy as np, fastconv\nx = np.ones((1, 1, 4, 4))\nwith fastconv.use_backend('reference'):\n"
    added = _modules_after(call + "    fastconv.conv2d(x, x)") - LOADED
    ours = {name for name in added if name.startswith("fastconv")}
    assert all(name.startswith("fastconv.backends.reference") for name in ours), ours
    assert "numba" not in added


def test_layers_and_helpers_come_with_their_first_use() -> None:
    assert "fastconv.testing" in _modules_after("import fastconv; fastconv.testing.targets")
    assert "fastconv.nn" in _modules_after("import fastconv; fastconv.nn")


def test_every_public_name_is_there_and_documented() -> None:
    for name in fastconv.__all__:
        assert getattr(fastconv, name).__doc__, name
    assert set(fastconv.__all__) <= set(dir(fastconv))
    with pytest.raises(AttributeError, match="no_such_name"):
        fastconv.no_such_name  # noqa: B018


def test_a_public_function_is_no_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(fastconv.__path__)}
    # (The package of the backends bears the name of the function that lists them.)
    assert {n for n in modules & set(fastconv.__all__) if callable(getattr(fastconv, n))} == {"backends"}


def test_every_operator_has_its_gradient() -> None:
    operators = {n for n in fastconv.__all__ if n.startswith(("conv", "max_", "avg_", "sum_", "global_", "adaptive_"))}
    operators |= {
        "matmul",
        "gemm",
        "linear",
        "interpolate",
        "resize",
        "dropout",
        "feature_dropout",
        *elementwise.UNARY,
        *elementwise.BROADCAST,
        "prelu",
    }
    forward = {n for n in operators if "_backward" not in n}
    assert forward >= {f"{stem}{n}d" for n in (1, 2, 3) for stem in ("conv", "conv_transpose", "max_pool", "sum_pool")}
    for name in forward:
        assert hasattr(fastconv, f"{name}_backward"), name


def test_names_of_functions_are_those_they_are_found_under() -> None:
    for name in fastconv.__all__:
        value = getattr(fastconv, name)
        if callable(value):
            assert value.__name__ == name


def test_the_example_of_the_package() -> None:
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((2, 3, 9, 9), (4, 3, 3, 3), (4,)))
    y = fastconv.conv2d(x, w, b, stride=2, padding="same", activation="relu")
    assert y.shape == (2, 4, 5, 5)
    assert fastconv.conv2d_backward_input(y, w, x.shape, stride=2, padding="same").shape == x.shape
    assert "conv" in str(fastconv.explain(fastconv.conv2d, x, w)).lower()
