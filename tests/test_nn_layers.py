"""Layers and networks: gradients against finite differences, shapes, modes, what is recorded, errors."""

import copy
import pickle
import weakref

import numpy as np
import pytest

import fastconv
from fastconv import nn

D = {"dtype": np.float64, "rng": 5}


def distinct(shape, seed=0):
    """Values that all differ by far more than a finite-difference step, so that no maximum changes hands."""
    n = int(np.prod(shape))
    return (np.random.default_rng(seed).permutation(n).reshape(shape) - n / 2 + 0.25) * (4 / n)


def numerical(f, array, step=1e-5):
    gradient = np.empty_like(array)
    for i in np.ndindex(array.shape):
        value = array[i]
        array[i] = value + step
        above = f()
        array[i] = value - step
        below = f()
        array[i] = value
        gradient[i] = (above - below) / (2 * step)
    return gradient


class Net(nn.Module):
    """A network from its forward function and the members that it uses, by name."""

    def __init__(self, function, **members):
        self.function = function
        vars(self).update(members)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def frozen_batch_norm():
    layer = nn.BatchNorm(3, dtype=np.float64)
    layer.running_mean[:], layer.running_var[:] = [1, -2, 0.5], [0.5, 2, 4]
    return nn.Sequential(layer.eval())


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
    "softmax": (nn.Softmax(), (3, 5)),
    "softmax over channels": (nn.Softmax(axis=1), (2, 3, 4)),
    "flatten": (nn.Flatten(), (2, 3, 2)),
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
    for key, parameter in layer.parameters().items():
        np.testing.assert_allclose(gradients[key], numerical(loss, parameter.value), rtol=1e-6, atol=1e-7)
    # Without the gradient of the input, those of the parameters are the same bits.
    layer.zero_grad()
    loss()
    assert layer.backward(dy, need_dx=False) is None
    for key, parameter in layer.parameters().items():
        np.testing.assert_array_equal(parameter.grad, gradients[key])


# ----------------------------------------------------------------------------------------------- the tape


def test_branches_and_a_layer_used_twice_by_hand():
    layer = nn.Linear(1, 1, dtype=np.float64)
    layer.weight.value[:], layer.bias.value[:] = 3, 1
    net = Net(lambda net, x: nn.add(net.layer(net.layer(x)), net.layer(x)), layer=layer)
    x = np.array([[2.0]])
    # y = w (w x + b) + b + w x + b
    assert net(x) == [[3 * 7 + 1 + 7]]
    assert net.backward(np.array([[1.0]])) == [[9 + 3]]
    assert layer.weight.grad == [[7 + 3 * 2 + 2]]
    assert layer.bias.grad == [3 + 2]
    assert list(net.parameters()) == ["layer.weight", "layer.bias"]


def test_several_inputs_have_a_gradient_each():
    net = Net(lambda net, a, b, c: nn.add(net.double(a), b), double=nn.SumPool1d(2, 2))
    a, b, c = np.ones((1, 1, 4)), np.ones((1, 1, 2)), np.ones(3)
    dy = np.array([[[1.0, 2]]])
    net(a, b, c)
    for gradient, expected in zip(net.backward(dy), ([[[1, 1, 2, 2]]], dy, [0, 0, 0]), strict=True):
        np.testing.assert_array_equal(gradient, expected)


def test_gradients_add_up_until_they_are_cleared():
    layer = nn.Linear(2, 1, rng=0)
    x, dy = np.float32([[1, 2]]), np.float32([[1]])
    for times in (1, 2, 3):
        layer(x)
        layer.backward(dy)
        np.testing.assert_array_equal(layer.weight.grad, times * x)
        np.testing.assert_array_equal(layer.bias.grad, [times])
    layer.zero_grad()
    assert layer.weight.grad is layer.bias.grad is None


def test_members_are_found_in_lists_tuples_and_dicts():
    net = nn.Module()
    linear, drop = nn.Linear(1, 1, rng=0), nn.Dropout()
    net.blocks = [linear, (nn.ReLU(), {"head": nn.Linear(1, 1, rng=0), "drop": drop})]
    net.scales = [nn.Parameter(np.ones(1)), nn.Parameter(np.ones(2))]
    net.tied = linear
    assert list(net.parameters()) == [
        "scales.0", "scales.1", "blocks.0.weight", "blocks.0.bias", "blocks.1.1.head.weight", "blocks.1.1.head.bias",
    ]  # fmt: skip
    assert set(net.state_dict()) == {*net.parameters(), "tied.weight", "tied.bias"}
    assert not net.eval().blocks[1][1]["head"].training
    rng = np.random.default_rng(0)
    net.seed(rng)
    assert drop.rng is rng
    net.clash = {1: nn.ReLU(), "1": nn.ReLU()}
    with pytest.raises(ValueError, match=r"name 'clash\.1'"):
        list(net.modules())


def test_a_shared_layer_counts_once_in_a_summary():
    layer = nn.Linear(2, 2, rng=0)
    summary = nn.Sequential(layer, nn.ReLU(), layer).summary((2,))
    assert [row.parameters for row in summary] == [6, 0, 0]
    assert summary.parameters == 6


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: net.relu(x + 1),
        lambda net, x: net.relu(x) * 2,
        lambda net, x: nn.add(net.relu(x), np.abs(x)),
        lambda net, x: net.relu(x.T),
        lambda net, x: (net.relu(x),),
    ],
)
def test_arithmetic_that_was_not_recorded_is_refused(function):
    net = Net(function, relu=nn.ReLU())
    net(np.ones((2, 2)))
    with pytest.raises(RuntimeError, match=r"nn\.record"):
        net.backward(np.ones((2, 2)))


@pytest.mark.parametrize("change", [lambda h: h.__iadd__(1), lambda h: h.fill(0), lambda h: np.exp(h, out=h)])
@pytest.mark.parametrize("where", [lambda net, x: net.relu(x), lambda net, x: x])
def test_recorded_arrays_cannot_be_changed(change, where):
    def forward(net, x):
        change(where(net, x))
        return net.relu(x)

    x = np.ones(3)
    with pytest.raises(ValueError, match="read-only"):
        Net(forward, relu=nn.ReLU())(x)
    x[0] = 2  # the caller's own array stays as it was


def test_a_layer_may_change_gradients_alone():
    def forward(net, x):
        reversed_x = nn.record(x, (x, lambda dy: -2 * dy))
        return nn.add(net.relu(x), net.relu(reversed_x), net.relu(nn.constant(x)))

    net = Net(forward, relu=nn.ReLU())
    np.testing.assert_array_equal(net(np.array([1.0, 3])), [3, 9])
    np.testing.assert_array_equal(net.backward(np.array([1.0, 10])), [-1, -10])


def test_a_call_that_failed_is_over():
    def forward(net, x):
        if x.size > 1:
            raise KeyError("no")
        return net.relu(x)

    net = Net(forward, relu=nn.ReLU())
    net(np.ones(1))
    with pytest.raises(KeyError):
        net(np.ones(2))
    with pytest.raises(RuntimeError, match="backward needs"):
        net.backward(np.ones(1))
    net.relu(np.ones(2))
    np.testing.assert_array_equal(net.relu.backward(np.ones(2)), [1, 1])


def test_a_part_of_a_network_is_in_its_mode():
    net = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
    assert net[:1].training
    assert not net.eval()[:1].training
    net[:1](np.ones(2))[0] = 5  # nothing is recorded


def test_constants_are_taken_by_word():
    net = Net(lambda net, x: nn.add(net.relu(x), nn.constant(np.full(2, 5.0))), relu=nn.ReLU())
    np.testing.assert_array_equal(net(np.array([-1.0, 1])), [5, 6])
    np.testing.assert_array_equal(net.backward(np.array([3.0, 4])), [0, 4])


def test_an_array_is_not_taken_for_a_dead_one_at_its_address():
    def forward(net, x):
        address = id(nn.record(x * 2, (x, lambda dy: dy * 2)))  # dead at once
        others = []
        while not others or id(others[-1]) != address:
            others.append(np.ones(3))
            assert len(others) < 10_000
        return nn.add(x, others[-1])

    net = Net(forward)
    net(np.ones(3))
    with pytest.raises(RuntimeError, match="unknown origin"):
        net.backward(np.ones(3))


def test_only_what_gradients_need_is_kept():
    kept = {}

    def forward(net, x):
        assert not kept or kept["dropout"]() is None  # of the call before
        for name in ("flatten", "dropout", "linear"):
            x = getattr(net, name)(x)
            kept[name] = weakref.ref(x)
        return x

    net = Net(forward, flatten=nn.Flatten(), dropout=nn.Dropout(0.5, rng=0), linear=nn.Linear(4, 1, rng=0))
    y = net(np.ones((2, 2, 2), np.float32))
    assert [name for name, array in kept.items() if array() is None] == ["flatten"]
    net.backward(y)
    assert kept["dropout"]() is None
    for _ in range(2):
        net(np.ones((2, 2, 2), np.float32))
    net.eval()
    assert kept["dropout"]() is None


@pytest.mark.parametrize(
    "change",
    [
        lambda net: nn.SGD(0.1).step({"w": net.weight}),
        lambda net: net.load_state_dict(net.state_dict()),
        lambda net: setattr(net.weight, "value", net.weight.value + 1),
        lambda net: setattr(net.weight, "value", net.weight.value.__imul__(2)),
    ],
)
def test_weights_that_changed_after_the_forward_call_are_noticed(change):
    net = nn.Linear(2, 2, rng=0)
    net.weight.grad = np.ones((2, 2), np.float32)
    net(np.ones((1, 2), np.float32))
    change(net)
    with pytest.raises(RuntimeError, match="changed after the forward call"):
        net.backward(np.ones((1, 2), np.float32))


def test_a_layer_that_the_network_does_not_hold_is_noticed():
    hidden = nn.Linear(2, 2, rng=0)
    net = Net(lambda net, x: net.last(hidden(x)), last=nn.Linear(2, 2, rng=0), lost={hidden})
    x = np.ones((1, 2), np.float32)
    net(x)
    with pytest.raises(RuntimeError, match="not among the parameters of the network"):
        net.backward(x)
    for parameter in hidden.parameters().values():
        parameter.trainable = False
    net(x)
    net.backward(x)
    assert hidden.weight.grad is None


def test_a_failing_gradient_changes_none():
    def fail(dy):
        raise ValueError("no gradient here")

    net = Net(lambda net, x: net.linear(nn.record(x * 1, (x, fail))), linear=nn.Linear(1, 1, rng=0))
    x = np.ones((1, 1), np.float32)
    net(x)
    with pytest.raises(ValueError, match="no gradient here"):
        net.backward(x)
    assert net.linear.weight.grad is None


@pytest.mark.parametrize(
    ("dy", "error", "message"),
    [
        (np.ones((1, 2), np.float32), ValueError, r"dy has shape \(1, 2\): allowed is \(3, 2\)"),
        (np.ones((3, 2)), TypeError, "dy has dtype float64: allowed is float32"),
        ([[1.0, 1], [1, 1], [1, 1]], TypeError, "dy is a list"),
    ],
)
@pytest.mark.parametrize(
    "layer", [nn.ReLU(), nn.Softmax(), nn.Dropout(0), nn.BatchNorm(2), nn.BatchNorm(2, affine=False), nn.Linear(2, 2)]
)
def test_backward_names_a_gradient_that_does_not_fit(layer, dy, error, message):
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    layer(x)
    with pytest.raises(error, match=message):
        layer.backward(dy)
    assert layer.backward(x).shape == (3, 2)


def test_backward_is_not_overridden():
    with pytest.raises(TypeError, match="Mine defines backward"):

        class Mine(nn.Conv2d):
            def backward(self, dy, *, need_dx=True):
                return dy


@pytest.mark.parametrize("gradient", [lambda dy: dy[:1], lambda dy: dy.astype(np.float32), lambda dy: 1.0])
def test_a_recorded_gradient_has_the_form_of_its_operand(gradient):
    net = Net(lambda net, x: nn.record(x * 2, (x, gradient)))
    net(np.ones(2))
    with pytest.raises(RuntimeError, match=r"allowed is what its operand is, \(2,\) float64"):
        net.backward(np.ones(2))


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


def test_sums_of_many_rows_keep_their_digits():
    x = np.full((300_000, 2), 0.1, np.float32)
    exact = 300_000 * float(x[0, 0])
    net = nn.Sequential(nn.Linear(2, 2, rng=0), nn.BatchNorm(2))
    for layer, name in ((net[0], "bias"), (net[1], "bias")):
        layer(x + np.float32([[0, 1]]))
        layer.backward(x, need_dx=False)
        np.testing.assert_allclose(getattr(layer, name).grad, exact, rtol=1e-7)


# -------------------------------------------------------------------------------------------- single layers


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


def test_shapes_of_the_image_walk():
    """32x32x3, twelve filters, ReLU, 2x2 max-pooling, fully connected, softmax: the textbook's numbers."""
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding="same", layout="NHWC", rng=0),
        nn.ReLU(),
        nn.MaxPool2d(2, stride=2, layout="NHWC"),
        nn.Flatten(),
        nn.Linear(3072, 10, rng=0),
        nn.Softmax(),
    )
    summary = net.summary((32, 32, 3))
    expected = [(32, 32, 12), (32, 32, 12), (16, 16, 12), (3072,), (10,), (10,)]
    assert [row.output_shape for row in summary] == expected
    assert [row.parameters for row in summary] == [12 * (3 * 3 * 3 + 1), 0, 0, 0, 3072 * 10 + 10, 0]
    assert summary.parameters == 336 + 30730
    assert "31,066" in str(summary)
    x = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    for layer, shape in zip(net, expected, strict=True):
        x = layer(x)
        assert x.shape == (2, *shape)
    np.testing.assert_allclose(x.sum(1), 1, rtol=1e-6)


def test_a_network_of_the_textbook():
    """Three convolutions and two poolings for 28x28 digits, with the head that its loss needs: the known sizes."""
    c = {"layout": "NHWC", "rng": 0}
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, **c), nn.ReLU(), nn.MaxPool2d(2, layout="NHWC"),
        nn.Conv2d(32, 64, 3, **c), nn.ReLU(), nn.MaxPool2d(2, layout="NHWC"),
        nn.Conv2d(64, 64, 3, **c), nn.ReLU(),
        nn.Flatten(), nn.Linear(576, 64, rng=0), nn.ReLU(), nn.Linear(64, 10, rng=0),
    )  # fmt: skip
    summary = net.summary((28, 28, 1))
    shapes = [row.output_shape for row in summary if not row.layer.startswith("ReLU")]
    assert shapes == [(26, 26, 32), (13, 13, 32), (11, 11, 64), (5, 5, 64), (3, 3, 64), (576,), (64,), (10,)]
    assert summary.parameters == 93_322
    x, t = np.random.default_rng(0).random((8, 28, 28, 1), np.float32), np.arange(8)
    history = nn.fit(net, x, t, optimizer=nn.Adam(3e-3), epochs=5, progress=False)
    assert history.loss[-1] < history.loss[0]


@pytest.mark.parametrize("filter_size", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_shapes_of_strided_filters(filter_size, stride):
    size = (34 - filter_size) // stride + 1
    assert nn.Conv2d(3, 6, filter_size, stride).output_shape((3, 34, 34)) == (6, size, size)


def test_summary_names_nested_layers_and_leaves_the_mode():
    inner = nn.Sequential(nn.Linear(4, 3, rng=0), nn.ReLU())
    net = nn.Sequential(inner, nn.Dropout(0.5), nn.Linear(3, 2, rng=0))
    inner.eval()
    assert [row.name for row in net.summary((4,))] == ["0.0", "0.1", "1", "2"]
    assert [module.training for _, module in net.modules()] == [True, False, False, False, True, True]
    assert list(net.parameters()) == ["0.0.weight", "0.0.bias", "2.weight", "2.bias"]
    with pytest.raises(ValueError, match=r"\(0, 5\)"):
        net.summary((5,))


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


def test_backward_needs_a_forward_call_in_training_mode():
    layer = nn.Linear(2, 2, rng=0)
    x = np.ones((1, 2), np.float32)
    with pytest.raises(RuntimeError, match=r"Linear\(2, 2\): backward needs a forward call"):
        layer.backward(x)
    layer(x)
    layer.backward(x)
    with pytest.raises(RuntimeError, match="backward needs"):
        layer.backward(x)
    layer.eval()(x)
    with pytest.raises(RuntimeError, match="backward needs"):
        layer.backward(x)


class Spy(nn.Module):
    """``x * w`` that notes which gradients are computed: "x", "w"."""

    def __init__(self, name, asked, trainable=True):
        self.name, self.asked = name, asked
        self.weight = nn.Parameter(np.float32([2]), trainable=trainable)

    def forward(self, x):
        def noted(what, gradient):
            def call(dy):
                self.asked.append(self.name + what)
                return gradient(dy)

            return call

        w = self.weight.value
        return nn.record(
            x * w, (x, noted("x", lambda dy: dy * w)), (self.weight, noted("w", lambda dy: (dy * x).sum(keepdims=True)))
        )


def test_no_gradient_is_computed_that_nobody_needs():
    asked = []
    net = nn.Sequential(nn.ReLU(), Spy("a", asked, False), Spy("b", asked), nn.Tanh(), Spy("c", asked, False))
    x = np.ones(1, np.float32)
    assert net.backward(net(x), need_dx=False) is None
    assert asked == ["cx", "bw"]
    asked.clear()
    assert net.backward(net(x)).shape == x.shape
    assert asked == ["cx", "bx", "bw", "ax"]
    assert [p.grad is None for p in net.parameters().values()] == [True, False, True]
    net[2].weight.trainable = False
    asked.clear()
    net.backward(net(x), need_dx=False)
    assert asked == []


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


def test_a_network_can_be_copied_and_pickled():
    net = nn.Sequential(nn.Conv1d(1, 2, 3, rng=0), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 2, rng=0))
    x = np.random.default_rng(0).random((2, 1, 6), np.float32)
    y = net(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with pytest.raises(RuntimeError, match="forward call"):
            other.backward(y)
        np.testing.assert_array_equal(other(x), y)
        assert other[0].weight is not net[0].weight


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
        (lambda: nn.softmax([1.0, 2.0]), TypeError, "x is a list"),
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
        (lambda: nn.Sequential(nn.ReLU(), np.tanh), TypeError, r"layers\[1\]"),
    ],
)
def test_wrong_arguments_are_named(build, error, message):
    with pytest.raises(error, match=message):
        build()
