"""The networks of ``fastconv.models``."""

import numpy as np
import pytest

from fastconv.models import lenet5


@pytest.mark.parametrize(
    ("shape", "flat"),
    [
        ((1, 28, 28), 400), ((1, 32, 32), 400), ((3, 32, 32), 400), ((1, 16, 17), 64), ((1, 15, 16), 192),
        ((1, 8, 8), 64), ((1, 4, 4), 16),
    ],
)  # fmt: skip
def test_lenet_shapes(shape, flat):
    net = lenet5(shape, 7, rng=0)
    rows = net.summary(shape)
    assert (flat,) in [row.output_shape for row in rows]
    assert rows[-1].output_shape == (7,)
    assert net(np.ones((2, *shape), np.float32)).shape == (2, 7)


def test_lenet_has_the_known_number_of_parameters():
    assert lenet5((1, 32, 32), rng=0).summary((1, 32, 32)).parameters == 156 + 2416 + 48120 + 10164 + 850


@pytest.mark.parametrize("shape", [(1, 3, 8), (1, 8), (0, 8, 8)])
def test_lenet_refuses_shapes(shape):
    with pytest.raises(ValueError, match="input_shape"):
        lenet5(shape)
