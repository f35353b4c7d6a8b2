"""What every test may ask for: ``target``, each backend on each instruction set that this machine can run.

``pooling_target``: those that do not refuse pooling. ``dtype``: both.

Of a test with several parameters not all combinations run, but every value of each with every value of each other.
``pytest --every`` runs them all.
"""

from __future__ import annotations

import ctypes
import os
import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from cases.pool import A_POOLING

import fastconv
from fastconv import settings, testing

# Processes that tests start find these modules and the fastconv under test, not one in the current directory.
os.environ["PYTHONSAFEPATH"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), str(Path(fastconv.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
).rstrip(os.pathsep)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", testing.targets(), ids=str)
    if "pooling_target" in metafunc.fixturenames:
        metafunc.parametrize("pooling_target", testing.targets(A_POOLING), ids=str)
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", ["float32", "float64"])


@pytest.fixture
def free_choice() -> Iterator[None]:
    """The backends are asked in their order, also where the environment forces one."""
    with settings.changed(backend=None):
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every", action="store_true", help="every combination of a test's parameters, not pairs alone")


def _pairwise(items: list[pytest.Item], seed: str) -> set[pytest.Item]:
    """Some of one test's items, in which every pair of values of two parameters is that there is in all of them; on the
    C backend every pair of the other parameters, too."""
    values = {item: sorted((name, id(value)) for name, value in item.callspec.params.items()) for item in items}
    pairs = {item: set(combinations(values[item], 2)) for item in items}
    for item in items:
        if any(isinstance(value, testing.Target) and value.backend == "c" for value in item.callspec.params.values()):
            pairs[item] |= {("c", *pair) for pair in pairs[item]}
    order, kept, seen = sorted(items, key=lambda item: item.nodeid), set(), set()
    random.Random(seed).shuffle(order)
    # Those first that have most that is new.
    for least in range(max(map(len, pairs.values())), 0, -1):
        for item in order:
            if len(pairs[item] - seen) >= least:
                kept.add(item)
                seen |= pairs[item]
    return kept


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("every"):
        return
    tests = defaultdict(list)
    for item in items:
        if len(getattr(getattr(item, "callspec", None), "params", ())) > 2:
            tests[item.nodeid.partition("[")[0]].append(item)
    left_out = {item for name, all_of_it in tests.items() for item in set(all_of_it) - _pairwise(all_of_it, name)}
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What a file's tests keep for each other is forgotten after the last, and free memory goes back to the system: two
    thirds of the peak."""
    if nextitem is None or nextitem.module is not item.module:
        for kept in vars(item.module).values():
            if hasattr(kept, "cache_clear") and kept.__module__ == item.module.__name__:
                kept.cache_clear()
    if nextitem is None or getattr(nextitem, "originalname", None) != getattr(item, "originalname", None):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU C library's
        if trim is not None:
            trim(0)


def pytest_report_header() -> str:
    return "fastconv runs here on: " + ", ".join(map(str, testing.targets()))
