"""What pooling on the C backend refuses, and that it says so."""

from __future__ import annotations

import pytest

from fastconv import dispatch
from fastconv.spec import adaptive_pool_spec

reason = dispatch.backends()["c"]
pytestmark = pytest.mark.skipif(reason is not None, reason=f"the c backend cannot run here: {reason}")


@pytest.mark.parametrize(
    ("size", "located", "refused"), [(2**24, True, False), (2**24 + 1, True, True), (2**24 + 1, False, False)]
)
def test_planes_too_large_to_locate_maxima_in(size: int, located: bool, refused: bool) -> None:
    spec = adaptive_pool_spec("max", "fwd", (1, 1, size), "float32", 1, 1, layout="NCL", indices=located)
    answer = dispatch.backend("c").refuse(spec)
    assert (answer is not None) == refused
    assert not refused or "16777216 positions" in answer
