"""What a backend is tested with, and ``fastconv check``, which draws calls at random and compares backends.

``helpers``: who can run here, exact data, computed tolerances, arrays with watched surroundings.
``arrays``: arrays as recipes: what is in them and how they lie in memory.
``drawing``: calls of every public function, drawn from the whole space of arguments.
``judge``: runs a problem on its backend and on the reference, and says what differs.
``check``: many problems, each in a process that may end; a failure is shrunk and printed as a line of Python.

>>> for problem in problems(seed=1, count=1000):
...     print(problem, verdict(problem).kind)
"""

from __future__ import annotations

from .arrays import Array, drawn, laid
from .drawing import FUNCTIONS, problem, problems
from .draws import Problem
from .helpers import (
    MEMORY_ORDERS,
    Target,
    adjoint_gap,
    assert_close,
    assert_exact,
    backends_here,
    error_bound,
    guarded,
    integers,
    isas_here,
    nan_filled,
    on,
    proven,
    ran,
    relative_l2,
    surrounded,
    targets,
)
from .judge import Verdict, verdict

__all__ = [
    "FUNCTIONS",
    "MEMORY_ORDERS",
    "Array",
    "Problem",
    "Target",
    "Verdict",
    "adjoint_gap",
    "assert_close",
    "assert_exact",
    "backends_here",
    "drawn",
    "error_bound",
    "guarded",
    "integers",
    "isas_here",
    "laid",
    "nan_filled",
    "on",
    "problem",
    "problems",
    "proven",
    "ran",
    "relative_l2",
    "surrounded",
    "targets",
    "verdict",
]
