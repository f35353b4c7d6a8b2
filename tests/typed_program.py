"""A program as users write them. ``mypy --strict`` and pyright pass on it, and know what each call gives.

``tests/test_types.py`` has it checked, and runs it.
"""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import fastconv as fc
from fastconv import models, nn

Array = npt.NDArray[Any]


def convolutions(x: npt.NDArray[np.float32], w: npt.NDArray[np.float32]) -> None:
    y = fc.conv2d(x, w, None, 2, "same", activation=("leaky_relu", 0.1))
    assert_type(y, Array)
    assert_type(fc.conv2d(x, w, stride=[1, 1], padding=((0, 1), (1, 0)), dilation=1, groups=1, layout="NCHW"), Array)
    assert_type(fc.conv1d(x[:, 0], np.ones((2, 8, 3), np.float32), out=None), Array)
    assert_type(fc.conv2d_backward_input(y, w, x.shape, 2, "same"), Array)
    assert_type(fc.conv2d_backward_weight(x, y, w.shape, 2, "same"), Array)
    dx, dw, db, dresidual = fc.conv2d_backward(y, x, w, None, 2, "same")
    assert_type(dx, Array)
    assert_type(dw, Array)
    assert_type(db, Array | None)
    assert_type(dresidual, Array | None)
    assert_type(fc.conv_transpose2d(y, w, stride=2, output_padding=1), Array)
    assert_type(fc.conv_backward_bias(y), Array)
    assert_type(fc.activate(y, "gelu"), Array)
    assert_type(fc.silu_backward(fc.silu(y, out=np.empty_like(y)), y), Array)
    assert_type(fc.multiply_backward(fc.multiply(y, y), y, y), tuple[Array, Array])
    assert_type(fc.dropout_backward(fc.dropout(y, 0.1, seed=1), y, 0.1, seed=1, offset=0), Array)
    assert_type(fc.feature_dropout(y, seed=1, layout="NCHW"), Array)
    parts = fc.split(fc.concat([y, y], dim=1), [1, 1], 1)
    assert_type(parts, tuple[Array, ...])
    assert_type(fc.concat_backward(fc.concat(parts, 1), parts, 1), tuple[Array, ...])
    assert_type(fc.split_backward(parts, fc.concat(parts, 1), 1, 1), Array)
    padded = fc.pad(y, (1, 1), "reflect", layout="NHWC")
    assert_type(padded, Array)
    assert_type(fc.pad_backward(padded, y, [1, 1], "reflect", layout="NHWC"), Array)
    assert_type(fc.pixel_shuffle(fc.channel_shuffle(y, 1), 1, out=None), Array)
    assert_type(fc.cast(fc.to_layout(y, "NCHW", "NHWC"), np.float64), Array)
    with fc.use_backend("reference"), fc.threads(1), fc.precision("strict"):
        assert_type(str(fc.explain(fc.conv2d, x, w)), str)


def plans(x: npt.NDArray[np.float32], w: npt.NDArray[np.float32]) -> None:
    plan = fc.plan_conv2d(x.shape, w, padding=1, activation="relu")
    assert_type(plan, fc.Plan)
    y = plan(x)
    assert_type(y, Array)
    assert_type(plan(x, out=y), Array)
    assert_type(plan.algorithm, str)
    assert_type(plan.y_shape, tuple[int, ...])
    assert_type(plan.workspace_bytes, int)


def pooling(x: npt.NDArray[np.float32]) -> None:
    assert_type(fc.max_pool2d(x, 2), Array)
    y, indices = fc.max_pool2d(x, 2, return_indices=True)
    assert_type(y, Array)
    assert_type(indices, Array)
    assert_type(fc.max_pool2d_backward(y, x, 2, indices=indices), Array)
    assert_type(fc.avg_pool2d(x, (2, 2), 1, "same", count_include_pad=False), Array)
    assert_type(fc.sum_pool1d(x[0], 2), Array)
    assert_type(fc.global_avg_pool2d(x, layout="NHWC"), Array)
    assert_type(fc.adaptive_max_pool2d(x, (None, 1)), Array)
    assert_type(fc.adaptive_max_pool2d(x, 1, True), tuple[Array, Array])


def resizing(x: npt.NDArray[np.float32]) -> None:
    y = fc.interpolate(x, scale_factor=(2, 1.5), mode="bilinear", align_corners=True)
    assert_type(y, Array)
    assert_type(fc.interpolate_backward(y, x, None, (2, 1.5), "bilinear", True), Array)
    assert_type(fc.resize(x, [3, 3], mode="cubic", nearest_mode="floor", layout="NCHW"), Array)
    assert_type(fc.resize_backward(fc.resize(x, 3), x, 3), Array)


def products(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> None:
    assert_type(fc.matmul(a, b, activation="silu"), Array)
    assert_type(fc.gemm(a, b, None, 0.5, trans_b=True), Array)
    assert_type(fc.linear(a, b), Array)
    assert_type(fc.matmul_backward(a @ b, a, b), tuple[Array, Array, Array | None])
    assert_type(fc.empty((2, 3), "float64"), Array)


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        self.convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
        self.relu = nn.ReLU()

    def forward(self, x: Array) -> Array:
        y = self.relu(nn.add(x, self.convs[1](self.relu(self.convs[0](x)))))
        assert_type(y, Array)
        return y


def networks(x: npt.NDArray[np.float32], t: npt.NDArray[np.int64]) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), Residual(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3))
    assert_type(net(x), Array)
    history = nn.fit(net, x, t, optimizer=nn.Adam(lr=1e-3), epochs=1, batch_size=4, progress=False)
    assert_type(history, nn.History)
    assert_type(history.loss, list[float])
    assert_type(nn.predict(net, x), Array)
    assert_type(nn.evaluate(net, x, t), dict[str, float])
    assert_type(net.parameters(), dict[str, nn.Parameter])
    assert_type(net.state_dict(), dict[str, Array])
    assert_type(fc.nn.cross_entropy(nn.predict(net, x), t), tuple[float, Array])
    assert_type(models.lenet5(), nn.Sequential)


def mistakes(x: npt.NDArray[np.float32], w: npt.NDArray[np.float32]) -> None:
    """Never called. That each is one is seen by the comment, which would be an error if it hid none."""
    fc.conv2d(x, w, strides=2)  # type: ignore[call-arg]
    fc.conv2d(x, "w")  # type: ignore[arg-type]
    fc.conv2d(x, w, padding=0.5)  # type: ignore[arg-type]
    fc.conv2d(x, w, activation=2)  # type: ignore[arg-type]
    fc.conv3d_backward_weight(x, w)  # type: ignore[call-arg]
    fc.plan_conv2d(x.shape, w)(x, oout=x)  # type: ignore[call-arg]
    fc.max_pool2d(x, 2, return_indices="yes")  # type: ignore[call-overload]
    fc.matmul(x, w).sums()  # type: ignore[attr-defined]
    nn.Linear(3, 4)(x).sums()  # type: ignore[attr-defined]


def main() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((8, 1, 8, 8), np.float32), np.ones((1, 1, 3, 3), np.float32)
    convolutions(x, w)
    plans(x, w)
    pooling(x)
    resizing(x)
    products(np.ones((3, 3)), np.ones((3, 3)))
    networks(x, rng.integers(0, 3, 8))


if __name__ == "__main__":
    main()
