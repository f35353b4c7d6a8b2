"""The tape: what is recorded, what backward computes, and what it refuses."""

import weakref

import numpy as np
import pytest
from networks import Net

from fastconv import nn


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
        lambda net: nn.SGD([net.weight], 0.1).step(),
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
        parameter.requires_grad = False
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

    def __init__(self, name, asked, requires_grad=True):
        self.name, self.asked = name, asked
        self.weight = nn.Parameter(np.float32([2]), requires_grad=requires_grad)

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
    net[2].weight.requires_grad = False
    asked.clear()
    net.backward(net(x), need_dx=False)
    assert asked == []
