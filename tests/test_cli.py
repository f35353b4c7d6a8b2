"""The command line: versions, what this machine offers, wrong arguments."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastconv
from fastconv import machine, settings
from fastconv.__main__ import main
from fastconv.backends import backend, backends


def test_info_says_what_there_is(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert f"fastconv   {fastconv.__version__}" in text
    assert f"numpy      {np.__version__}" in text
    assert machine.cpu_model() in text
    for name, reason in backends().items():
        assert f"{name:<10} {'usable' if reason is None else f'not usable: {reason}'}" in text


def test_info_loads_no_other_command():
    program = "from fastconv.__main__ import main; import sys; main(['info']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert "fastconv.info" in loaded
    assert not [name for name in loaded if name.startswith(("fastconv.bench.", "fastconv.demo"))]


def test_info_as_json(capsys):
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["backends"] == backends()
    assert found["versions"]["fastconv"] == fastconv.__version__
    assert found["threads"] >= 1
    assert found["problems"] == []
    if found["backends"]["c"] is None:
        assert found["isas"][found["isa"]] is None


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FASTCONV_BACKEND", "abacus", "FASTCONV_BACKEND='abacus': allowed is c, numba"),
        ("FASTCONV_ISA", "mmx", "isa='mmx': allowed is"),
    ],
)
def test_info_shows_what_the_environment_forces_in_vain(variable, value, message, monkeypatch, capsys):
    monkeypatch.setattr(settings, "_of_environment", settings._of_environment.__wrapped__)
    monkeypatch.setenv(variable, value)
    # Without the C backend nothing asks for an instruction set.
    wrong = variable == "FASTCONV_BACKEND" or backends()["c"] is None
    assert main(["info"]) == (1 if wrong else 0)
    assert (message in capsys.readouterr().out) == wrong


def test_info_shows_a_wrong_number_of_threads():
    done = subprocess.run(
        [sys.executable, "-m", "fastconv", "info"],
        capture_output=True,
        text=True,
        env=os.environ | {"FASTCONV_NUM_THREADS": "many"},
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "FASTCONV_NUM_THREADS='many': allowed is an int" in done.stdout


def test_info_without_the_c_backend(monkeypatch, capsys):
    monkeypatch.setattr(backend("c"), "available", lambda: "no compiler", raising=False)
    monkeypatch.setattr(settings, "_of_environment", settings.Settings)
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "c          not usable: no compiler" in text
    assert "instruction sets" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: command"),
        (["fly"], "'fly'"),
        (["demo", "--epochs", "0"], "0: allowed are integers >= 1"),
        (["demo", "--seed", "-1"], "-1: allowed are integers >= 0"),
        (["demo", "--seed", "one"], "invalid integer value: 'one'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "fastconv", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fastconv {fastconv.__version__}\n"
