"""Gradients of every layer, and of networks of all kinds, against finite differences in float64."""

import copy

import numpy as np
import pytest
from networks import Net, distinct, numerical

from fastconv import nn

D = {"dtype": np.float64, "rng": 5}


def frozen_batch_norm():
    layer = nn.BatchNorm(3, dtype=np.float64)
    layer.running_mean[:], layer.running_var[:] = [1, -2, 0.5], [0.5, 2, 4]
    return nn.Sequential(layer.eval())


def frozen_parts():
    """Its first and third layers with parameters are frozen, the statistics of the second alone."""
    c = {"dtype": np.float64}
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, **D), nn.BatchNorm(2, **c), nn.Tanh(), nn.Conv2d(2, 2, 1, **D), nn.BatchNorm(2, **c),
        nn.Flatten(), nn.Linear(8, 2, **D),
    )  # fmt: skip
    net[0].requires_grad_(False)
    net[1].eval().running_mean += 1
    net[3].requires_grad_(False)
    net[4].requires_grad_(False).eval().running_var += 1
    return net


def tied():
    first, second = nn.Linear(4, 4, **D), nn.Linear(4, 4, dtype=np.float64, rng=6)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second)


def residual(net, x):
    return nn.add(x, net.layers[1](net.layers[0](x)), x)


def dense(net, x):
    a = net.branches["a"](x)
    b = net.branches["b"](nn.concatenate([x, a]))
    return nn.concatenate((b, x, a), -2)


class Pyramid(nn.Module):
    """Of any layout: two branches, joined along the channels."""

    def __init__(self):
        self.stem = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, **D), nn.BatchNorm(2, dtype=np.float64))
        self.branches = {"max": nn.MaxPool2d(2), "mean": nn.AvgPool2d(2)}
        self.head = [nn.Softmax(), nn.Flatten(), nn.Linear(16, 2, **D)]

    def forward(self, x):
        x = self.stem(x)
        x = nn.concatenate([branch(x) for branch in self.branches.values()], self.channel_axis)
        for layer in self.head:
            x = layer(x)
        return x


LAYERS = {
    "conv1d": (nn.Conv1d(2, 3, 3, stride=2, padding="causal", **D), (2, 2, 7)),
    "conv1d channels last": (nn.Conv1d(2, 3, 2, padding="same", layout="NLC", **D), (2, 5, 2)),
    "conv2d": (nn.Conv2d(2, 4, 3, stride=(1, 2), padding=1, **D), (2, 2, 4, 5)),
    "conv2d groups, dilation, no bias": (nn.Conv2d(4, 2, 2, dilation=2, groups=2, bias=False, **D), (2, 4, 4, 5)),
    "conv2d channels last": (nn.Conv2d(3, 2, 3, padding="same", layout="NHWC", **D), (2, 4, 3, 3)),
    "conv3d": (nn.Conv3d(1, 2, 2, padding=((0, 1), (1, 0), (0, 0)), **D), (1, 1, 3, 2, 3)),
    "max_pool1d": (nn.MaxPool1d(3, stride=2, padding=1), (2, 2, 7)),
    "max_pool2d": (nn.MaxPool2d(2, padding="same"), (2, 2, 5, 4)),
    "max_pool2d overlapping, dilated": (nn.MaxPool2d(2, stride=1, dilation=2), (1, 2, 4, 5)),
    "max_pool2d channels last": (nn.MaxPool2d(2, ceil_mode=True, layout="NHWC"), (1, 3, 4, 2)),
    "max_pool3d": (nn.MaxPool3d(2), (1, 2, 2, 4, 3)),
    "avg_pool1d": (nn.AvgPool1d(2), (2, 2, 5)),
    "avg_pool2d": (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), (1, 2, 5, 4)),
    "avg_pool2d divisor": (nn.AvgPool2d(2, divisor_override=3), (1, 2, 4, 4)),
    "avg_pool3d": (nn.AvgPool3d(2, stride=1), (1, 1, 2, 3, 3)),
    "sum_pool1d": (nn.SumPool1d(2, stride=1), (1, 2, 4)),
    "sum_pool2d": (nn.SumPool2d(2), (1, 2, 4, 5)),
    "sum_pool3d": (nn.SumPool3d((1, 2, 2)), (1, 2, 2, 2, 4)),
    "relu": (nn.ReLU(), (3, 5)),
    "leaky_relu": (nn.LeakyReLU(0.1), (3, 5)),
    "sigmoid": (nn.Sigmoid(), (3, 5)),
    "tanh": (nn.Tanh(), (3, 5)),
    "softmax": (nn.Softmax(), (2, 3, 4)),
    "softmax channels last": (nn.Softmax(layout="NHWC"), (2, 3, 4)),
    "softmax along an axis": (nn.Softmax(axis=0), (2, 3, 4)),
    "flatten": (nn.Flatten(), (2, 3, 2)),
    "flatten channels last": (nn.Flatten(layout="NHWC"), (2, 3, 2, 4)),
    "linear": (nn.Linear(4, 3, **D), (5, 4)),
    "linear, no bias": (nn.Linear(4, 3, bias=False, init="glorot", **D), (5, 4)),
    "batch_norm": (nn.BatchNorm(3, dtype=np.float64), (6, 3)),
    "batch_norm images": (nn.BatchNorm(2, dtype=np.float64), (3, 2, 2, 3)),
    "batch_norm channels last": (nn.BatchNorm(3, layout="NHWC", dtype=np.float64), (2, 2, 2, 3)),
    "batch_norm NLC": (nn.BatchNorm(3, layout="NLC", dtype=np.float64), (2, 4, 3)),
    "batch_norm frozen": (frozen_batch_norm(), (4, 3)),
    "batch_norm not affine": (nn.BatchNorm(2, affine=False, dtype=np.float64), (2, 2, 4)),
    "sequential": (
        nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1, **D),
            nn.BatchNorm(2, dtype=np.float64),
            nn.Tanh(),
            nn.Sequential(nn.MaxPool2d(2), nn.Flatten()),
            nn.Linear(8, 2, **D),
        ),
        (3, 1, 4, 4),
    ),
    "a layer twice": (nn.Sequential(*[nn.Linear(3, 3, **D), nn.Tanh()] * 2), (4, 3)),
    "a parameter in two layers": (tied(), (3, 4)),
    "residual": (Net(residual, layers=[nn.Conv1d(2, 2, 3, padding=1, **D), nn.Sigmoid()]), (2, 2, 4)),
    "channels first": (Pyramid(), (3, 2, 4, 4)),
    "channels last": (Pyramid().to_layout("NHWC"), (3, 4, 4, 2)),
    "frozen parts": (frozen_parts(), (3, 1, 4, 4)),
    "dense": (Net(dense, branches={"a": nn.Conv1d(2, 3, 1, **D), "b": nn.Conv1d(5, 1, 1, **D)}), (2, 2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_finite_differences(name):
    layer, shape = LAYERS[name]
    layer = copy.deepcopy(layer)
    rng = np.random.default_rng(1)
    for parameter in layer.parameters().values():
        parameter.value += 0.1 * rng.standard_normal(parameter.value.shape)
    x = distinct(shape)
    dy = rng.standard_normal(layer(x).shape)

    def loss():
        return float((layer(x) * dy).sum())

    loss()
    dx = layer.backward(dy)
    assert dx.shape == x.shape
    np.testing.assert_allclose(dx, numerical(loss, x), rtol=1e-6, atol=1e-7)
    gradients = {key: parameter.grad for key, parameter in layer.parameters().items()}
    learned = {key: parameter for key, parameter in layer.parameters().items() if parameter.requires_grad}
    assert {key for key, gradient in gradients.items() if gradient is not None} == set(learned)
    for key, parameter in learned.items():
        np.testing.assert_allclose(gradients[key], numerical(loss, parameter.value), rtol=1e-6, atol=1e-7)
    # Without the gradient of the input, those of the parameters are the same bits.
    layer.zero_grad()
    loss()
    assert layer.backward(dy, need_dx=False) is None
    for key, parameter in learned.items():
        np.testing.assert_array_equal(parameter.grad, gradients[key])
