"""Layers one by one: shapes, formulas, options, errors."""

import numpy as np
import pytest
from networks import distinct

import fastconv
from fastconv import nn


def test_sums_of_many_rows_keep_their_digits():
    x = np.full((300_000, 2), 0.1, np.float32)
    exact = 300_000 * float(x[0, 0])
    net = nn.Sequential(nn.Linear(2, 2, rng=0), nn.BatchNorm(2))
    for layer, name in ((net[0], "bias"), (net[1], "bias")):
        layer(x + np.float32([[0, 1]]))
        layer.backward(x, need_dx=False)
        np.testing.assert_allclose(getattr(layer, name).grad, exact, rtol=1e-7)


def test_gradient_of_dropout_is_its_mask():
    x, dy = distinct((4, 6)), distinct((4, 6), 1)
    layer = nn.Dropout(0.25, rng=3)
    y = layer(x)
    np.testing.assert_allclose(layer.backward(dy), np.where(y == 0, 0, dy / 0.75), rtol=1e-15)


def test_every_layer_keeps_the_dtype(dtype):
    c = {"dtype": dtype, "rng": 0}
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, **c), nn.BatchNorm(2, dtype=dtype), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Sigmoid(),
        nn.AvgPool2d(1), nn.SumPool2d(1), nn.Tanh(), nn.Dropout(0.5, rng=0), nn.Flatten(), nn.Linear(8, 3, **c),
        nn.ReLU(), nn.Softmax(),
    )  # fmt: skip
    x = distinct((3, 1, 6, 6)).astype(dtype)
    y = net(x)
    assert y.dtype == dtype
    assert net.backward(y).dtype == dtype
    assert {p.grad.dtype for p in net.parameters().values()} == {np.dtype(dtype)}
    assert net.eval()(x).dtype == dtype


@pytest.mark.parametrize("filter_size", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_shapes_of_strided_filters(filter_size, stride):
    size = (34 - filter_size) // stride + 1
    assert nn.Conv2d(3, 6, filter_size, stride).output_shape((3, 34, 34)) == (6, size, size)


@pytest.mark.parametrize(
    ("layer", "x", "y"),
    [
        (nn.ReLU(), [-2.0, 0, 3], [0, 0, 3]),
        (nn.LeakyReLU(0.25), [-2.0, 0, 3], [-0.5, 0, 3]),
        (nn.Sigmoid(), [-800.0, 0, np.log(3), 800], [0, 0.5, 0.75, 1]),
        (nn.Tanh(), [-800.0, 0, np.log(2), 800], [-1, 0, 0.6, 1]),
        (nn.Softmax(), [1000.0, 1000, 1000 + np.log(2)], [0.25, 0.25, 0.5]),
    ],
)
def test_activation_formulas(layer, x, y):
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(layer(np.array([x])), [y], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(
    ("layer", "y"),
    [
        (nn.MaxPool2d(2), [[6, 8], [14, 16]]),
        (nn.AvgPool2d(2), [[3.5, 5.5], [11.5, 13.5]]),
        (nn.SumPool2d(2), [[14, 22], [46, 54]]),
    ],
)
def test_pooling_table(layer, y):
    x = np.arange(1.0, 17).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(layer(x), [[y]])


def test_batch_norm_statistics():
    layer = nn.BatchNorm(1, dtype=np.float64)
    x = np.array([[1.0], [2.0], [3.0], [6.0]])
    y = layer(x)
    np.testing.assert_allclose(y, (x - 3) / np.sqrt(3.5 + 1e-5), rtol=1e-14)
    # Running values move a tenth of the way, the variance as the unbiased one: 14 / 3.
    np.testing.assert_allclose(layer.running_mean, [0.3], rtol=1e-14)
    np.testing.assert_allclose(layer.running_var, [0.9 + 0.1 * 14 / 3], rtol=1e-14)
    expected = (x - layer.running_mean) / np.sqrt(layer.running_var + 1e-5)
    before = layer.state_dict()
    np.testing.assert_allclose(layer.eval()(x), expected, rtol=1e-14)
    assert all((before[name] == value).all() for name, value in layer.state_dict().items())


def test_batch_norm_in_evaluation_mode_inside_a_network_in_training():
    net = nn.Sequential(nn.BatchNorm(2, dtype=np.float64), nn.Dropout(0.5, rng=0))
    for layer in net:
        layer.eval()
    net[0].running_var[:] = 3
    before = net.state_dict()
    x = np.array([[1.0, 2], [3, 5]])
    assert net.training
    np.testing.assert_allclose(net(x), x / np.sqrt(3 + 1e-5), rtol=1e-14)
    np.testing.assert_allclose(net.backward(x), x / np.sqrt(3 + 1e-5), rtol=1e-14)
    np.testing.assert_allclose(net[0].weight.grad, (x * x).sum(0) / np.sqrt(3 + 1e-5), rtol=1e-14)
    assert all((before[name] == value).all() for name, value in net.state_dict().items())


def test_dropout_keeps_the_mean_and_rests_in_evaluation():
    x = np.ones((100, 100), np.float32)
    layer = nn.Dropout(0.2, rng=0)
    y = layer(x)
    np.testing.assert_array_equal(np.unique(y), np.float32([0, 1.25]))
    assert abs(y.mean() - 1) < 0.03
    assert layer.eval()(x) is x


@pytest.mark.parametrize("init", ["he", "glorot"])
def test_first_weights_follow_the_seed(init):
    a, b, other = (nn.Conv2d(8, 64, 5, init=init, rng=seed).weight.value for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != other).any()
    assert a.dtype == np.float32
    grouped = nn.Conv2d(16, 64, 5, groups=2, init=init, rng=1).weight.value
    for weights, fan_out in ((a, 1600), (grouped, 800)):
        variance = 2 / 200 if init == "he" else 2 / (200 + fan_out)
        assert abs(weights.var() / variance - 1) < 0.05
    rng = np.random.default_rng(1)
    first, second = nn.Linear(3, 3, rng=rng), nn.Linear(3, 3, rng=rng)
    assert (first.weight.value != second.weight.value).any()


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(
    ("layer", "operator", "options"),
    [
        ("MaxPool", "max_pool", {"kernel_size": 2, "stride": 3, "padding": 1, "dilation": 2, "ceil_mode": True}),
        ("AvgPool", "avg_pool", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
        ("AvgPool", "avg_pool", {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
        ("AvgPool", "avg_pool", {"kernel_size": 2, "divisor_override": 3}),
        ("SumPool", "sum_pool", {"kernel_size": 2, "stride": 3, "ceil_mode": True, "layout": "NHWC"}),
    ],
)
def test_options_of_pooling_reach_the_operator(layer, operator, options, ndim):
    x = distinct((2, *(9, 6, 8)[:ndim], 3))
    expected = getattr(fastconv, f"{operator}{ndim}d")(x if "layout" in options else np.moveaxis(x, -1, 1), **options)
    pool = getattr(nn, f"{layer}{ndim}d")(**options)
    np.testing.assert_array_equal(pool(x if "layout" in options else np.moveaxis(x, -1, 1)), expected)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: nn.Conv2d(0, 4, 3), ValueError, "in_channels=0"),
        (lambda: nn.Conv2d(3, 2.5, 3), TypeError, "out_channels=2.5"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels=3: allowed is a multiple of groups=2"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "out_channels=3: allowed is a multiple of groups=2"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ValueError, "kernel_size"),
        (lambda: nn.Conv2d(3, 4, 3, stride=0), ValueError, "stride=0"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), ValueError, "padding='full'"),
        (lambda: nn.Conv2d(3, 4, 3, layout="CHWN"), ValueError, "layout='CHWN'"),
        (lambda: nn.Conv2d(3, 4, 3, dtype=np.int32), TypeError, "dtype="),
        (lambda: nn.Conv2d(3, 4, 3, init="zero"), ValueError, "init='zero'"),
        (lambda: nn.MaxPool2d(0), ValueError, "kernel_size=0"),
        (lambda: nn.AvgPool1d((2, 2)), ValueError, "kernel_size"),
        (lambda: nn.SumPool3d(2, stride=-1), ValueError, "stride=-1"),
        (lambda: nn.Linear(3, 0), ValueError, "out_features=0"),
        (lambda: nn.Dropout(1), ValueError, "p=1"),
        (lambda: nn.BatchNorm(0), ValueError, "num_features=0"),
        (lambda: nn.BatchNorm(2, eps=0), ValueError, "eps=0"),
        (lambda: nn.BatchNorm(2, momentum=2), ValueError, "momentum=2"),
        (lambda: nn.BatchNorm(2, layout="CN"), ValueError, "layout='CN'"),
        (lambda: nn.BatchNorm(2)(np.ones((4, 3), np.float32)), ValueError, "2 channels on axis 1"),
        (lambda: nn.BatchNorm(2, layout="NLC")(np.ones((4, 2, 2, 2), np.float32)), ValueError, "NLC"),
        (lambda: nn.BatchNorm(2)(np.ones((4, 2))), TypeError, "x has dtype float64: allowed is float32"),
        (lambda: nn.BatchNorm(2).eval()(np.ones((4, 2))), TypeError, "x has dtype float64: allowed is float32"),
        (lambda: nn.Flatten()(np.float32(1)[()]), TypeError, "x is a float32"),
        (lambda: nn.Flatten()(np.ones(())), ValueError, r"x has shape \(\)"),
        (lambda: nn.Sigmoid()(np.arange(3)), TypeError, "x has dtype int64"),
        (lambda: nn.Tanh().eval()(np.arange(3)), TypeError, "x has dtype int64"),
        (lambda: nn.LeakyReLU()(np.arange(3)), TypeError, "x has dtype int64"),
        (lambda: nn.ReLU()([1.0, 2.0]), TypeError, "x is a list"),
        (lambda: nn.Softmax()(np.arange(3)), TypeError, "x has dtype int64"),
        (lambda: nn.Softmax(0)([1.0, 2.0]), TypeError, "x is a list"),
        (lambda: nn.Dropout()(np.ones(3, int)), TypeError, "x has dtype int64"),
        (lambda: nn.Parameter([1.0]), TypeError, "value is a list"),
        (lambda: nn.Parameter(np.ones(2, int)), TypeError, "value has dtype int64"),
        (lambda: nn.Parameter(np.broadcast_to(1.0, 2)), ValueError, "value is read-only"),
        (lambda: nn.add(np.ones(2)), ValueError, "length 1: allowed is 2 or more"),
        (lambda: nn.add(np.ones(2), np.ones((1, 2))), ValueError, r"arrays\[1\] has shape \(1, 2\)"),
        (lambda: nn.add(np.ones(2), np.ones(2, np.float32)), TypeError, r"arrays\[1\] has dtype float32"),
        (lambda: nn.add(np.ones(2), 1.0), TypeError, r"arrays\[1\] is a float"),
        (lambda: nn.concatenate([np.ones((2, 3)), np.ones((1, 3))]), ValueError, r"arrays\[1\] has shape"),
        (lambda: nn.concatenate([np.ones((2, 3)), np.ones((2, 3))], 2), ValueError, "axis=2"),
        (lambda: nn.BatchNorm(2)(np.ones((1, 2), np.float32)), ValueError, "more than one value"),
        (lambda: nn.Linear(2, 2)(np.ones((4, 2, 1), np.float32)), ValueError, "put a Flatten before it"),
        (lambda: nn.Linear(2, 2)(np.ones((4, 2))), TypeError, "float64"),
    ],
)
def test_wrong_arguments_are_named(build, error, message):
    with pytest.raises(error, match=message):
        build()
