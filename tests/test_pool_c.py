"""What pooling on the C backend refuses, and that it says so."""

from __future__ import annotations

from typing import Any

import pytest

from fastconv.backends import backend, backends
from fastconv.settings import Settings
from fastconv.spec import adaptive_pool_spec

reason = backends()["c"]
pytestmark = pytest.mark.skipif(reason is not None, reason=f"the c backend cannot run here: {reason}")


@pytest.mark.parametrize(
    ("size", "located", "refused"), [(2**24, True, False), (2**24 + 1, True, True), (2**24 + 1, False, False)]
)
def test_planes_too_large_to_locate_maxima_in(size: int, located: bool, refused: bool) -> None:
    spec = adaptive_pool_spec("max", "fwd", (1, 1, size), "float32", 1, 1, layout="NCL", indices=located)
    answer = backend("c").refuse(spec, Settings())
    assert (answer is not None) == refused
    assert not refused or "16777216 positions" in answer


def _created(**changes: Any) -> int:
    """What the planner answers to a pooling of 4 x 5 images by 2 x 2 with these fields changed."""
    from fastconv._c import ffi, lib

    fields = {
        "kind": lib.FC_MAX, "direction": lib.FC_FWD, "types": [lib.FC_F32] * 4, "isa": lib.fc_isa_count() - 1,
        "n": 1, "c": 2, "x_size": [1, 4, 5], "y_size": [1, 3, 2], "ker": [1, 2, 2], "stride": [1, 1, 2], "pad": [0] * 3,
        "pad_end": [0] * 3,
        "dil": [1] * 3, "x_stride": [40, 20, 20, 5, 1], "y_stride": [12, 6, 6, 2, 1], "dx_stride": [40, 20, 20, 5, 1],
        "indices_stride": [12, 6, 6, 2, 1],
    }  # fmt: skip
    plan = ffi.new("fc_plan **")
    status = lib.fc_plan_pool(ffi.new("fc_pool_desc *", fields | changes), plan)
    lib.fc_plan_destroy(plan[0])
    return status


def test_a_right_descriptor_is_taken() -> None:
    assert _created() == _created(kind=1, divisor=2.0) == _created(kind=2, direction=1) == _created(indices=1) == 0
    assert _created(adaptive=1, y_size=[3, 3, 9], ker=[0] * 3, stride=[0] * 3) == 0
    assert _created(ker=[1, 2, 2**31 - 1], pad=[0, 0, 2**30], stride=[1, 1, 2**31 - 1], y_size=[1, 3, 1]) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 3}, {"kind": -1}, {"direction": 2}, {"direction": -1}, {"types": [0, 0, 0, 7]}, {"isa": -1},
        {"isa": 99}, {"kind": 2, "indices": 1}, {"n": 0}, {"n": -1}, {"n": 2**31}, {"c": 2**62}, {"x_size": [1, 0, 5]},
        {"x_size": [2**20] * 3}, {"y_size": [1, 3, 0]}, {"y_size": [1, 5, 2]}, {"y_size": [1, 3, 4]},
        {"y_size": [2**21] * 3}, {"ker": [1, 2, 0]},
        {"ker": [1, 2, 2**31]}, {"stride": [1, 1, 0]}, {"stride": [1, 1, -1]}, {"stride": [1, 2**63 - 1, 1]},
        {"pad": [0, -1, 0]}, {"pad": [0, 2, 0]}, {"pad": [0, 0, 2**31]}, {"pad_end": [0, 0, -1]}, {"dil": [1, 1, 0]},
        {"dil": [1, 1, 2**32]}, {"kind": 1, "dil": [1, 1, 2]}, {"adaptive": 1, "dil": [1, 1, 2]},
        {"divisor": float("nan")}, {"divisor": float("inf")}, {"divisor": 1e-300},
        {"x_size": [1, 1, 2**24 + 1], "indices": 1},
    ],
    ids=str,
)  # fmt: skip
def test_the_planner_refuses_wrong_descriptors(changes: dict[str, Any]) -> None:
    from fastconv._c import lib

    assert _created(**changes) == lib.FC_ERROR_ARGUMENT
