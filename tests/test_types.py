"""What type checkers, ``inspect`` and ``help`` know about the public functions."""

from __future__ import annotations

import inspect
import json
import os
import pydoc
import runpy
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.ops import conv, plan, pool

PROGRAM = Path(__file__).parent / "typed_program.py"
FUNCTIONS = {name: getattr(fc, name) for name in fc.__all__ if inspect.isfunction(getattr(fc, name))}


def test_the_program_runs() -> None:
    runpy.run_path(str(PROGRAM), run_name="__main__")


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_it_passes_and_its_mistakes_are_seen(checker: str, tmp_path: Path) -> None:
    """``type: ignore`` comments that hide nothing are errors for both."""
    pytest.importorskip(checker)
    shutil.copy(PROGRAM, tmp_path)
    # Where it is installed, they find the package by themselves, and mypy refuses to be told.
    root = Path(fc.__file__).parents[1]
    told = [] if root.name == "site-packages" else [str(root)]
    config = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": True, "extraPaths": told}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    options = {
        "mypy": ["--strict", "--follow-imports=silent", "--cache-dir=cache", PROGRAM.name],
        "pyright": ["--pythonpath", sys.executable, PROGRAM.name],
    }
    done = subprocess.run(
        [sys.executable, "-m", checker, *options[checker]],
        env={**os.environ, "MYPYPATH": ":".join(told), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(fc.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_are_whole(name: str) -> None:
    """Save ``explain``, of functions that take anything."""
    signature = inspect.signature(FUNCTIONS[name])
    variable = {p for p in signature.parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    assert not variable or name == "explain"
    hints = typing.get_type_hints(FUNCTIONS[name])
    assert hints.keys() == signature.parameters.keys() | {"return"}
    assert "ndim" not in signature.parameters


def _operators() -> dict[str, Callable[..., Any]]:
    """Those with a function for each number of dimensions, by the name of the function for two."""
    named = {}
    for module in (conv, plan, pool):
        for name, operator in inspect.getmembers(module, inspect.isfunction):
            if next(iter(inspect.signature(operator).parameters), "") == "ndim" and name in operator.__qualname__:
                stem, backward, which = name.partition("_backward")
                named[f"{stem}2d{backward}{which}"] = operator
    return {name: operator for name, operator in named.items() if name in FUNCTIONS}


OPERATORS = _operators()


def test_every_function_of_a_rank_has_its_operator() -> None:
    assert OPERATORS.keys() == {name for name in FUNCTIONS if "2d" in name}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_help_and_inspect_show_the_operators_own_signature(name: str, ndim: int) -> None:
    operator, function = OPERATORS[name], FUNCTIONS[name.replace("2d", f"{ndim}d")]
    _, *parameters = inspect.signature(operator).parameters.values()
    signature = inspect.signature(function)
    assert list(signature.parameters.values()) == parameters
    assert signature.return_annotation == inspect.signature(operator).return_annotation
    page = pydoc.plain(pydoc.render_doc(function))
    assert f"{function.__name__}{signature}" in page
    assert f"{ndim}d" in page or f"{ndim}-D" in page
    assert not set("{}") & set(function.__doc__)
    # Debuggers and editors find the definition.
    assert inspect.getsource(function) == inspect.getsource(operator)
    with pytest.raises(TypeError, match=rf"^{function.__name__}\(\) missing"):
        function()


def test_an_operator_is_called_with_its_rank() -> None:
    x = np.ones((1, 1, 5, 5, 5), np.float32)
    assert fc.conv3d(x, x[..., :2, :3, :4]).shape == (1, 1, 4, 3, 2)
    assert fc.conv1d(x[0, 0], x[0, 0, :1, :, :2].repeat(5, 0), out=None).shape == (5, 5, 4)
