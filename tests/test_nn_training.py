"""Losses, optimizers, training, saved weights, LeNet."""

import builtins
import copy
import math
import pickle
import re
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest
from test_nn_layers import numerical

from fastconv import nn, testing
from fastconv.models import lenet5

# ------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize(
    ("loss", "targets"),
    [(nn.cross_entropy, np.array([2, 0, 3])), (nn.mse, np.random.default_rng(1).standard_normal((3, 4)))],
)
def test_loss_gradients_are_those_of_finite_differences(loss, targets):
    y = np.random.default_rng(0).standard_normal((3, 4))
    _, gradient = loss(y, targets)
    np.testing.assert_allclose(gradient, numerical(lambda: loss(y, targets)[0], y), rtol=1e-7, atol=1e-9)


def test_loss_values():
    loss, gradient = nn.cross_entropy(np.log([[1.0, 3.0], [1.0, 1.0]]), np.array([1, 0]))
    assert loss == pytest.approx((np.log(4 / 3) + np.log(2)) / 2, rel=1e-14)
    np.testing.assert_allclose(gradient, [[0.125, -0.125], [-0.25, 0.25]], rtol=1e-14)
    loss, gradient = nn.mse(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]]))
    assert loss == 2.5
    np.testing.assert_array_equal(gradient, [[1, -2]])


def _cross_entropy(logits, targets, weight=None, ignore_index=-100, label_smoothing=0.0):
    """The formula of the documentation of torch, one position after the other."""
    n, classes, *size = logits.shape
    targets = targets.astype(np.float64) if targets.dtype.kind == "f" else targets
    weight = np.ones(classes) if weight is None else weight
    loss, divisor = 0.0, 0.0
    for i in np.ndindex(n, *size):
        z = logits[i[0], :, *i[1:]]
        logs = z - math.log(sum(math.exp(v) for v in z))
        if targets.dtype.kind == "f":
            probabilities, count = targets[i[0], :, *i[1:]], 1.0
        elif targets[i] == ignore_index:
            continue
        else:
            probabilities, count = np.arange(classes) == targets[i], weight[targets[i]]
        for c in range(classes):
            loss -= weight[c] * ((1 - label_smoothing) * probabilities[c] + label_smoothing / classes) * logs[c]
        divisor += count
    return loss / divisor


_CLASSES = np.array([[[1, -100, 0], [2, 2, -100]], [[0, 1, 1], [-100, 2, 0]]])
_SHARES = np.random.default_rng(3).dirichlet([1, 1, 1], (2, 2, 3)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("smoothing", [0, 0.25, 1])
@pytest.mark.parametrize("weight", [None, np.array([0.5, 3, 0])], ids=["", "weight"])
@pytest.mark.parametrize(
    ("targets", "ignore_index"),
    [
        (_CLASSES, -100),
        (np.where(_CLASSES < 0, 1, _CLASSES), 1),
        (np.where(_CLASSES < 0, 255, _CLASSES).astype(np.uint8), 255),
        (np.abs(_CLASSES % 3).astype(np.uint8), -100),
        (_CLASSES[:, 0], -100),
        (np.array([1, 0]), -100),
        (_SHARES, -100),
        (_SHARES[..., 0, 0], -1),
        (_SHARES.astype(np.float32), -100),
    ],
    ids=["image", "in range", "uint8", "all", "n c l", "n c", "shares", "n c shares", "float32 shares"],
)
def test_cross_entropy_is_that_of_torch(targets, ignore_index, weight, smoothing):
    rng = np.random.default_rng(2)
    size = targets.shape[1:] if targets.dtype.kind != "f" else targets.shape[2:]
    logits = 3 * rng.standard_normal((2, 3, *size))
    options = {"weight": weight, "ignore_index": ignore_index, "label_smoothing": smoothing}
    loss, gradient = nn.cross_entropy(logits, targets, **options)
    assert loss == pytest.approx(_cross_entropy(logits, targets, **options), rel=1e-12)
    expected = numerical(lambda: nn.cross_entropy(logits, targets, **options)[0], logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-9)
    single = nn.cross_entropy(
        logits.astype("f"), targets, **(options | {"weight": None if weight is None else weight.astype("f")})
    )
    assert single[0] == pytest.approx(loss, rel=1e-6)
    assert single[1].dtype == np.float32


def test_cross_entropy_of_a_class_that_cannot_be():
    loss, gradient = nn.cross_entropy(np.array([[0, 0, -np.inf]]), np.array([[0.25, 0.75, 0]]))
    assert loss == pytest.approx(np.log(2))
    np.testing.assert_allclose(gradient, [[0.25, -0.25, 0]])


def test_cross_entropy_neither_overflows_nor_vanishes():
    with np.errstate(all="raise", under="ignore"):
        loss, gradient = nn.cross_entropy(np.float32([[1e30, 0], [-500, 500]]), np.array([0, 0]))
    assert loss == 500
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, [[0, 0], [-0.5, 0.5]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.array([0.0, 1.0])), TypeError, "dtype float64"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.array([0, 3])), ValueError, "0 to 3: allowed is 0 to 2"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.array([-1, 0])), ValueError, "-1 to 0"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.array([0])), ValueError, r"shape \(1,\)"),
        (lambda: nn.cross_entropy(np.ones((0, 3)), np.array([], int)), ValueError, "not empty"),
        (lambda: nn.cross_entropy([[1.0, 2]], np.array([0])), TypeError, "logits is a list"),
        (lambda: nn.cross_entropy(np.ones((2, 3), int), np.array([0, 1])), TypeError, "logits has dtype int64"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.ones((2, 3), int)), TypeError, "dtype int64: allowed are floats"),
        (lambda: nn.cross_entropy(np.ones((1, 2)), np.full((1, 2), 0.5), ignore_index=0), ValueError, "ignore_index=0"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.full((2, 3), 1.5)), ValueError, "1.5: allowed are prob"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.full((2, 3), np.nan)), ValueError, "allowed are probabilities"),
        (lambda: nn.cross_entropy(np.ones((2, 3, 4)), np.zeros((2, 5), int)), ValueError, r"allowed is \(2, 4\)"),
        (lambda: nn.cross_entropy(np.ones((2, 3)), np.full(2, -100)), ValueError, "no target counts"),
        (lambda: nn.cross_entropy(np.ones((1, 3)), np.zeros(1, int), ignore_index=0), ValueError, "ignore_index=0"),
        (
            lambda: nn.cross_entropy(np.ones((1, 2)), np.zeros(1, int), weight=np.ones(3)),
            ValueError,
            "weight has shape",
        ),
        (lambda: nn.cross_entropy(np.ones((1, 2)), np.zeros(1, int), weight=[1.0, 1]), TypeError, "weight is a list"),
        (lambda: nn.cross_entropy(np.ones((1, 2)), np.zeros(1, int), weight=-np.ones(2)), ValueError, "negative"),
        (lambda: nn.cross_entropy(np.ones((1, 2)), np.zeros(1, int), label_smoothing=2), ValueError, "smoothing=2"),
        (lambda: nn.cross_entropy(np.ones((1, 2)), np.ma.zeros(1, int)), TypeError, "targets is a masked array"),
        (lambda: nn.mse(np.ones((2, 1)), np.ma.ones((2, 1))), TypeError, "targets is a masked array"),
        (lambda: nn.mse([1.0], [1.0]), TypeError, "y is a list"),
        (lambda: nn.mse(np.ones(1), np.ones(1) * 1j), TypeError, "targets has dtype complex128"),
        (lambda: nn.mse(np.ones((2, 1)), np.ones(2)), ValueError, r"targets \(2,\)"),
        (lambda: nn.SGD(-1), ValueError, "lr=-1"),
        (lambda: nn.SGD(0.1, momentum=1), ValueError, "momentum=1"),
        (lambda: nn.SGD(0.1, nesterov=True), ValueError, "nesterov=True"),
        (lambda: nn.Adam(betas=(0.9, 1)), ValueError, r"betas\[1\]=1"),
        (lambda: nn.Adam(float("nan")), ValueError, "lr=nan"),
        (lambda: nn.SGD("fast"), TypeError, "lr='fast'"),
        (lambda: setattr(nn.SGD(), "lr", -1), ValueError, "lr=-1"),
        (lambda: setattr(nn.SGD(), "momentum", 1), ValueError, "momentum=1"),
        (lambda: setattr(nn.Adam(), "weight_decay", float("inf")), ValueError, "weight_decay=inf"),
        (lambda: nn.SGD().step(nn.Linear(1, 1)), TypeError, "parameters is a Linear"),
        (lambda: nn.SGD().step(nn.Linear(1, 1, rng=0).parameters()), RuntimeError, "'weight' has no gradient"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --------------------------------------------------------------------------------------------- optimizers


def _steps(optimizer, gradients, start=1.0):
    parameter = nn.Parameter(np.array([start]))
    values = []
    for gradient in gradients:
        parameter.grad = np.array([float(gradient)])
        optimizer.step({"w": parameter})
        values.append(parameter.value[0])
    return values


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (nn.SGD(0.5), [0.5, -0.5, -0.5]),
        (nn.SGD(0.5, weight_decay=0.5), [0.25, -0.8125, -0.609375]),
        # v = 1, 2.5, 1.25
        (nn.SGD(0.5, momentum=0.5), [0.5, -0.75, -1.375]),
        # g + v / 2 = 1.5, 3.25, 0.625
        (nn.SGD(0.5, momentum=0.5, nesterov=True), [0.25, -1.375, -1.6875]),
        # Bias-corrected m: 1, 5/3, 5/7; v: 1, 1/4 + 2 over 3/4 = 3, 9/8 over 7/8 = 9/7.
        (nn.Adam(0.5, (0.5, 0.5), 0), [0.5, 0.5 - 5 / 6 / 3**0.5, 0.5 - 5 / 6 / 3**0.5 - 5 / 14 / (9 / 7) ** 0.5]),
    ],
)
def test_three_steps_by_hand(optimizer, expected):
    np.testing.assert_allclose(_steps(optimizer, [1, 2, 0]), expected, rtol=1e-14)


def test_an_optimizer_serves_two_networks():
    optimizer = nn.SGD(0.5, momentum=0.5)
    first = _steps(optimizer, [1, 2, 0])
    assert _steps(optimizer, [1, 2, 0]) == first


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0, False), (0.9, False), (0.9, True)])
def test_sgd_is_its_formula(decay, momentum, nesterov):
    rng = np.random.default_rng(0)
    p = nn.Parameter(rng.standard_normal((2, 3)))
    w, v = p.value.copy(), 0
    optimizer = nn.SGD(0.1, momentum, decay, nesterov)
    for _ in range(5):
        p.grad = rng.standard_normal((2, 3))
        g = p.grad + decay * w
        v = momentum * v + g
        w = w - 0.1 * (g + momentum * v if nesterov else v)
        optimizer.step({"w": p})
        np.testing.assert_allclose(p.value, w, rtol=1e-14)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam_is_its_formula(decay):
    rng = np.random.default_rng(0)
    p = nn.Parameter(rng.standard_normal((2, 3)))
    w, m, v = p.value.copy(), 0, 0
    optimizer = nn.Adam(0.1, (0.8, 0.95), 1e-3, decay)
    for t in range(1, 6):
        p.grad = rng.standard_normal((2, 3))
        g = p.grad + decay * w
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        w = w - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-3)
        optimizer.step({"w": p})
        np.testing.assert_allclose(p.value, w, rtol=1e-13)


def test_a_step_moves_each_trainable_parameter_once_and_uses_gradients_up():
    shared, frozen = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2), trainable=False)
    shared.grad = np.ones(2)
    nn.SGD(0.5).step({"a": shared, "b": shared, "c": frozen})
    np.testing.assert_array_equal(shared.value, [0.5, 0.5])
    np.testing.assert_array_equal(frozen.value, [1, 1])
    assert shared.grad is None
    with pytest.raises(RuntimeError, match="'a' has no gradient"):
        nn.SGD(0.5).step({"a": shared})


@pytest.mark.parametrize(
    ("gradient", "error"),
    [(np.ones((1, 2), np.float32), ValueError), (np.ones(2), TypeError), (None, RuntimeError)],
)
def test_a_gradient_that_does_not_fit_moves_nothing(gradient, error):
    first, second = nn.Parameter(np.ones(2, np.float32)), nn.Parameter(np.ones(2, np.float32))
    first.grad, second.grad = np.ones(2, np.float32), gradient
    with pytest.raises(error, match="'b'"):
        nn.SGD(0.5).step({"a": first, "b": second})
    np.testing.assert_array_equal(first.value, [1, 1])


def test_a_replaced_value_does_not_meet_the_old_memory():
    p = nn.Parameter(np.ones((3, 2)))
    optimizer = nn.SGD(0.5, momentum=0.5)
    p.grad = np.ones((3, 2))
    optimizer.step({"w": p})
    p.value, p.grad = np.ones(2), np.ones(2)
    with pytest.raises(ValueError, match="the velocity of 'w' in the optimizer has shape"):
        optimizer.step({"w": p})


OPTIMIZERS = {
    "sgd": lambda: nn.SGD(0.1),
    "momentum": lambda: nn.SGD(0.1, 0.9, 0.01, nesterov=True),
    "adam": lambda: nn.Adam(0.01, weight_decay=0.01),
}


def _train(net, optimizer, rng, epochs):
    x, t = _two_classes(24)
    nn.fit(net, x, t, optimizer=optimizer, epochs=epochs, batch_size=10, augment=_noisy, seed=rng, progress=False)


def _by_state(net, optimizer, rng):
    other, memory = _small_network(7), copy.deepcopy(optimizer.state_dict(net.parameters()))
    other.load_state_dict(net.state_dict())
    fresh = type(optimizer)(**{k: v for k, v in vars(optimizer).items() if not k.startswith("_")})
    fresh.load_state_dict(memory, other.parameters())
    return other, fresh, copy.deepcopy(rng)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    "continued",
    [
        lambda *all: all,
        lambda *all: copy.deepcopy(all),
        lambda *all: copy.deepcopy(all[::-1])[::-1],
        lambda *all: pickle.loads(pickle.dumps(all)),
        lambda *all: pickle.loads(pickle.dumps(copy.deepcopy(all))),
        lambda net, optimizer, rng: (net, copy.copy(optimizer), rng),
        _by_state,
    ],
    ids=["itself", "deepcopy", "deepcopy backwards", "pickle", "both", "copy", "state"],
)
def test_training_goes_on_bit_for_bit(name, continued):
    net, optimizer, rng = _small_network(), OPTIMIZERS[name](), np.random.default_rng(5)
    _train(net, optimizer, rng, 2)
    copies = continued(net, optimizer, rng)
    _train(*copies, 2)
    if net is not copies[0]:
        _train(net, optimizer, rng, 2)  # what was copied is not disturbed
    whole, same = _small_network(), OPTIMIZERS[name]()
    _train(whole, same, np.random.default_rng(5), 4)
    for network in (net, copies[0]):
        for key, value in whole.state_dict().items():
            np.testing.assert_array_equal(network.state_dict()[key], value)
    expected = same.state_dict(whole.parameters())
    assert len(expected) == len(whole.parameters()) * {"sgd": 0, "momentum": 1, "adam": 3}[name]
    for key, value in copies[1].state_dict(copies[0].parameters()).items():
        np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_without_dimensions(name):
    class Scale(nn.Module):
        def __init__(self):
            self.factor = nn.Parameter(np.array(2.0))

        def forward(self, x):
            return nn.record(x * self.factor.value, (self.factor, lambda dy: (dy * x).sum()))

    net, optimizer = Scale(), OPTIMIZERS[name]()
    for _ in range(2):
        for _ in range(2):
            net(np.ones(3))
            net.backward(np.ones(3), need_dx=False)
        assert net.factor.grad == 6
        before = net.factor.value.copy()
        optimizer.step(net.parameters())
        assert net.factor.value < before
    assert net.factor.value.shape == ()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_remembers_is_its_own(name):
    net, optimizer = _small_network(), OPTIMIZERS[name]()
    _train(net, optimizer, 0, 1)
    before = optimizer.state_dict(net.parameters())
    other, loaded = copy.copy(optimizer), OPTIMIZERS[name]()
    state = copy.deepcopy(before)
    loaded.load_state_dict(state, net.parameters())
    for another in (other, loaded):
        _train(net, another, 0, 1)
    for key, value in before.items():
        np.testing.assert_array_equal(state[key], value)
        np.testing.assert_array_equal(optimizer.state_dict(net.parameters())[key], value)
        assert (other.state_dict(net.parameters())[key] != value).any()


@pytest.mark.parametrize("alone", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_an_optimizer_copied_without_its_network_says_so(alone):
    net, optimizer = _small_network(), nn.Adam()
    _train(net, optimizer, 0, 1)
    orphan = alone(optimizer)
    with pytest.raises(RuntimeError, match=r"copy.deepcopy\(\(net, optimizer\)\)"):
        _train(net, orphan, 0, 1)
    with pytest.raises(RuntimeError, match="load_state_dict"):
        orphan.state_dict(net.parameters())
    orphan.load_state_dict(optimizer.state_dict(net.parameters()), net.parameters())
    _train(net, orphan, 0, 1)
    _train(_small_network(), alone(nn.Adam()), 0, 1)  # one that remembers nothing is as good as new


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: _without(s, "bias.m"), KeyError, r"missing \['bias.m'\], unknown \[\]"),
        (lambda s: s | {"bias.velocity": s["bias.m"]}, KeyError, r"unknown \['bias.velocity'\]"),
        (lambda s: {}, KeyError, "missing"),
        (lambda s: s | {"bias.v": np.ones(3, np.float32)}, ValueError, r"state\['bias.v'\] has shape \(3,\)"),
        (lambda s: s | {"bias.v": np.ones(2)}, TypeError, r"state\['bias.v'\] has dtype float64: allowed is float32"),
        (lambda s: s | {"bias.count": np.array(1.0)}, TypeError, r"state\['bias.count'\] has dtype float64"),
        (lambda s: s | {"bias.count": np.array(-1)}, ValueError, r"state\['bias.count'\]=-1"),
        (lambda s: s | {"bias.m": np.ma.ones(2, np.float32)}, TypeError, "masked array"),
        (lambda s: list(s), TypeError, "state is a list"),
    ],
)
def test_an_optimizer_state_that_does_not_fit_changes_nothing(change, error, message):
    net, optimizer = nn.Linear(3, 2, rng=0), nn.Adam()
    net.backward(net(np.ones((1, 3), np.float32)))
    optimizer.step(net.parameters())
    before = optimizer.state_dict(net.parameters())
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(change({name: value + 1 for name, value in before.items()}), net.parameters())
    for name, value in optimizer.state_dict(net.parameters()).items():
        np.testing.assert_array_equal(value, before[name])


# ----------------------------------------------------------------------------------------------- training


def _two_classes(n=200, seed=0):
    """Images with a bright upper or lower half, in noise."""
    rng = np.random.default_rng(seed)
    t = rng.integers(0, 2, n)
    x = rng.random((n, 1, 6, 6), np.float32)
    x[t == 0, :, :3] += 0.5
    x[t == 1, :, 3:] += 0.5
    return x, t


def _small_network(rng=0):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, rng=rng), nn.BatchNorm(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(16, 2, rng=rng),
    )  # fmt: skip


def _noisy(x, rng):
    return x + rng.standard_normal(x.shape, np.float32) * np.float32(0.01)


def _inverted(x, rng):
    x *= -1  # in place: it is a copy
    return _noisy(x, rng)


def test_fit_learns_and_keeps_a_history():
    net = _small_network()
    x, t = _two_classes()
    history = nn.fit(
        net, x, t, optimizer=nn.Adam(0.01), epochs=5, batch_size=16, validation_data=_two_classes(50, 1), progress=False
    )
    assert [len(v) for v in (history.loss, history.accuracy, history.val_loss, history.val_accuracy)] == [5] * 4
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert history.val_accuracy[-1] > 0.95
    measured = nn.evaluate(net, *_two_classes(50, 1), batch_size=16)
    assert measured == {"loss": history.val_loss[-1], "accuracy": history.val_accuracy[-1]}
    assert net.training


def test_the_same_seed_gives_the_same_bits():
    x, t = _two_classes()

    def run(seed):
        net = _small_network()
        history = nn.fit(net, x, t, optimizer=nn.SGD(0.05, 0.9), epochs=2, augment=_noisy, seed=seed, progress=False)
        return net.state_dict(), history

    (a, history), (b, again), (c, _) = run(3), run(3), run(4)
    assert history == again
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name])
    assert (a["0.weight"] != c["0.weight"]).any()


def test_every_backend_trains_alike(target, dtype):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((12, 2, 7, 7)).astype(dtype), rng.integers(0, 3, 12)

    def trained():
        c = {"dtype": dtype, "rng": np.random.default_rng(1)}
        net = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, **c), nn.Tanh(), nn.Conv2d(4, 4, 3, groups=2, **c), nn.Sigmoid(),
            nn.Flatten(), nn.Linear(16, 3, **c),
        )  # fmt: skip
        nn.fit(net, x, t, optimizer=nn.SGD(0.1, 0.9), epochs=2, batch_size=4, progress=False)
        return net.state_dict()

    with testing.on(testing.Target("reference")):
        expected = trained()
    with testing.on(target):
        results = trained()
    # Six steps on sums of at most 150 products.
    bound = 1000 * np.finfo(dtype).eps
    for name, array in results.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=bound, err_msg=name)


def test_regression_with_mse():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 3))
    t = x @ [[1.0], [-2.0], [0.5]] + 3
    net = nn.Sequential(nn.Linear(3, 1, dtype=np.float64, rng=0))
    history = nn.fit(net, x, t, optimizer=nn.SGD(0.1), epochs=12, loss=nn.mse, validation_data=(x, t), progress=False)
    assert history.val_loss[-1] < 1e-6
    assert history.accuracy == history.val_accuracy == []
    np.testing.assert_allclose(net[0].weight.value, [[1, -2, 0.5]], atol=1e-3)
    np.testing.assert_allclose(net[0].bias.value, [3], atol=1e-3)


def test_a_schedule_scales_the_learning_rate_and_gives_it_back():
    seen = []

    class Recording(nn.SGD):
        def step(self, parameters):
            seen.append(self.lr)

    x, t = _two_classes(8)
    optimizer = Recording(0.5)
    nn.fit(_small_network(), x, t, optimizer=optimizer, epochs=4, schedule=nn.cosine, progress=False)
    np.testing.assert_allclose(seen, [0.5, 0.25 + 0.25 * 0.5**0.5, 0.25, 0.25 - 0.25 * 0.5**0.5], rtol=1e-12)
    assert optimizer.lr == 0.5


def test_predict_in_pieces_leaves_the_mode():
    net = _small_network()
    x, _ = _two_classes(10)
    whole = nn.predict(net, x)
    np.testing.assert_allclose(nn.predict(net, x, batch_size=3), whole, rtol=1e-5, atol=1e-6)
    assert nn.predict(net, x[:0]).shape == (0, 2)
    assert all(module.training for _, module in net.modules())


class Watched(nn.Module):
    """The identity, which calls a function before it returns."""

    def __init__(self, function):
        self.function = function

    def forward(self, x):
        self.function(self)
        return x


def test_one_thread_may_evaluate_while_another_does_and_a_third_trains():
    modes = {}
    steps = {name: threading.Event() for name in ("first is inside", "second is inside", "first is done")}

    def watch(module):
        name = threading.current_thread().name
        if name == "first":
            steps["first is inside"].set()
            assert steps["second is inside"].wait(60)
        elif name == "second":
            assert steps["first is inside"].wait(60)
            steps["second is inside"].set()
            assert steps["first is done"].wait(60)
        modes[name] = module.training

    net = nn.Sequential(Watched(watch), nn.Dropout(0.5, rng=0))
    x = np.ones((4, 100), np.float32)
    results = {}
    threads = [
        threading.Thread(target=lambda name=name: results.update({name: nn.predict(net, x)}), name=name)
        for name in ("first", "second")
    ]
    for thread in threads:
        thread.start()
    assert steps["second is inside"].wait(60)
    assert (net(x) == 0).any()
    threads[0].join()
    steps["first is done"].set()
    threads[1].join()
    assert modes == {"MainThread": True, "first": False, "second": False}
    for result in results.values():
        np.testing.assert_array_equal(result, x)
    assert all(module.training for _, module in net.modules())


def test_an_evaluation_in_between_does_not_disturb_a_backward_call():
    net = nn.Linear(2, 1, rng=0)
    x = np.float32([[1, 2]])
    net(x)
    nn.predict(net, 5 * x)
    net.summary((2,))
    net.backward(np.float32([[1]]))
    np.testing.assert_array_equal(net.weight.grad, x)


def test_predict_leaves_the_mode_after_an_error():
    def fail(_):
        raise KeyError("no")

    net = nn.Sequential(nn.Dropout(0.5), Watched(fail))
    with pytest.raises(KeyError):
        nn.predict(net, np.ones((1, 2)))
    assert all(module.training for _, module in net.modules())


def test_each_thread_runs_its_own_call_backward():
    net = nn.Linear(1, 1, dtype=np.float64, rng=0)
    both, failed = threading.Barrier(2, timeout=60), []

    def work(value):
        for _ in range(20):
            net(np.array([[value]]))
            both.wait()
            net.backward(np.array([[1.0]]), need_dx=False)
            both.wait()
            if net.weight.grad != 3 or net.bias.grad != 2:
                failed.append(value)
            if both.wait() == 0:
                net.zero_grad()
            both.wait()

    threads = [threading.Thread(target=work, args=(value,)) for value in (1.0, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_accuracy_of_images_leaves_out_what_is_no_class():
    y = np.zeros((2, 3, 1, 2))
    y[0, 1], y[1, 2] = 1, 1
    t = np.array([[[1, 0]], [[-100, 2]]])
    measured = nn.evaluate(nn.Sequential(), y, t)
    assert measured["accuracy"] == pytest.approx(2 / 3)
    assert measured["loss"] == pytest.approx(nn.cross_entropy(y, t)[0])


def test_every_sample_counts_in_batches_of_any_size():
    net, (x, t) = _small_network(), _two_classes(7)
    assert nn.evaluate(net, x, t, batch_size=4) == pytest.approx(nn.evaluate(net, x, t), rel=1e-6)


@pytest.mark.parametrize("function", [lambda *a, **k: nn.evaluate(*a, np.zeros(4, int), **k), nn.predict])
def test_batch_sizes_are_checked(function):
    with pytest.raises(ValueError, match="batch_size=0"):
        function(_small_network(), _two_classes(4)[0], batch_size=0)


def test_threads_may_share_a_network_in_evaluation_mode():
    net = _small_network().eval()
    x, _ = _two_classes(64)
    expected = net(x)
    results = [None] * 4

    def work(i):
        results[i] = net(x)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"t": np.zeros(3, int)}, ValueError, r"shapes \(8, 1, 6, 6\) and \(3,\)"),
        ({"epochs": -1}, ValueError, "epochs=-1"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"validation_data": (np.ones((2, 1, 6, 6)), np.ones(3, int))}, ValueError, "validation_data"),
        ({"t": np.full(8, 2)}, ValueError, "allowed is 0 to 1"),
        ({"x": np.full((8, 1, 6, 6), np.nan, np.float32)}, FloatingPointError, "smaller learning rate"),
        ({"t": np.ma.zeros(8, int)}, TypeError, "t is a masked array"),
        ({"x": np.ma.zeros((8, 1, 6, 6))}, TypeError, "x is a masked array"),
        ({"validation_data": np.ones((3, 2))}, ValueError, "validation_data has length 3"),
        ({"optimizer": nn.SGD}, TypeError, "optimizer is <class"),
        ({"model": nn.ReLU}, TypeError, "model is <class"),
        ({"batch_size": 9, "drop_last": True}, ValueError, "drop_last=True leaves nothing of 8 samples"),
        ({"schedule": lambda progress: -1}, ValueError, "lr=-0.1"),
    ],
)
def test_fit_names_what_does_not_fit(arguments, error, message):
    x, t = _two_classes(8)
    given = {"model": _small_network(), "x": x, "t": t, "epochs": 1, "optimizer": nn.SGD(0.1), "progress": False}
    with pytest.raises(error, match=message):
        nn.fit(**(given | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"t": np.array([0] * 9 + [2])}, "0 to 2: allowed is 0 to 1"),
        ({"t": np.array([0] * 9 + [-1])}, "-1 to 0: allowed is 0 to 1"),
        ({"t": np.array([0] * 9 + [-1]), "loss": partial(nn.cross_entropy, ignore_index=-2)}, "-1 to 0"),
        ({"validation_data": (np.ones((1, 2), np.float32), np.array([7]))}, "7 to 7"),
        ({"batch_size": 3}, "10 samples in batches of 3 leave a last batch of one.*drop_last=True"),
    ],
)
def test_fit_refuses_before_it_moves_anything(arguments, message):
    net = nn.Sequential(nn.Linear(2, 2, rng=0), nn.BatchNorm(2), nn.Linear(2, 2, rng=1))
    before = net.state_dict()
    given = {"t": np.zeros(10, int), "batch_size": 2} | arguments
    with pytest.raises(ValueError, match=message):
        nn.fit(net, np.ones((10, 2), np.float32), optimizer=nn.SGD(), epochs=1, progress=False, **given)
    for name, value in net.state_dict().items():
        if "running" not in name or "batch_size" in arguments:
            np.testing.assert_array_equal(value, before[name])


def test_a_last_batch_of_one_where_it_can_be_had_and_dropped():
    sizes = []
    watch = Watched(lambda _: None)
    watch.forward = lambda x: sizes.append(len(x)) or x
    x, t = _two_classes(7)
    # Its planes have more than one value a channel.
    nn.fit(nn.Sequential(watch, _small_network()), x, t, optimizer=nn.SGD(), epochs=1, batch_size=3, progress=False)
    assert sizes == [1, 3, 3, 1]
    sizes.clear()
    net = nn.Sequential(watch, nn.Flatten(), nn.BatchNorm(36), nn.Linear(36, 2, rng=0))
    arguments = {"optimizer": nn.SGD(), "epochs": 2, "batch_size": 3, "progress": False, "drop_last": True}
    history = nn.fit(net, x, t, **arguments)
    assert sizes == [3] * 4
    assert len(history.loss) == 2


def test_the_trial_of_a_batch_of_one_leaves_no_trace(monkeypatch):
    x, t = _two_classes(7)
    nets = [_small_network(), _small_network()]
    for net in nets:
        nn.fit(net, x, t, optimizer=nn.SGD(), epochs=1, batch_size=3, augment=_inverted, progress=False)
        np.testing.assert_array_equal(x, _two_classes(7)[0])
        monkeypatch.setattr("fastconv.nn.training._try_one", lambda *_: None)
    for name, value in nets[0].state_dict().items():
        np.testing.assert_array_equal(value, nets[1].state_dict()[name])


def test_fit_leaves_what_was_frozen():
    net = _small_network()
    net[0].weight.trainable = False
    net[1].eval()
    before = net.state_dict()
    x, t = _two_classes(8)
    nn.fit(net, x, t, optimizer=nn.Adam(0.1, weight_decay=0.1), epochs=1, progress=False)
    for name, value in net.state_dict().items():
        assert (value == before[name]).all() == (name in ("0.weight", "1.running_mean", "1.running_var")), name
    nn.fit(net.eval(), x, t, optimizer=nn.Adam(0.1), epochs=1, progress=False)
    assert all(module.training for _, module in net.modules())
    assert (net[1].running_mean != before["1.running_mean"]).all()


def test_parameters_that_are_no_longer_finite_are_noticed():
    x = np.full((2, 1), 1e20, np.float32)
    net = nn.Sequential(nn.Linear(1, 1, rng=0))
    net[0].weight.value[:] = 1e-20
    not_finite = pytest.raises(FloatingPointError, match=r"0\.weight is not finite after epoch 1")
    with not_finite, np.errstate(over="ignore"):
        nn.fit(net, x, np.zeros((2, 1)), optimizer=nn.SGD(1e30), epochs=1, loss=nn.mse, progress=False)


def test_gradients_from_before_do_not_reach_the_first_step():
    x, t = _two_classes(8)
    nets = [_small_network(), _small_network()]
    nets[1].backward(nets[1](x))
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        nn.fit(net, x, t, optimizer=nn.SGD(0.1), epochs=1, progress=False)
    for name, value in nets[0].state_dict().items():
        np.testing.assert_array_equal(value, nets[1].state_dict()[name])


def test_progress_without_rich_is_one_line_an_epoch(monkeypatch, capsys):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] == "rich":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    x, t = _two_classes(8)
    nn.fit(_small_network(), x, t, optimizer=nn.SGD(0.1), epochs=2, validation_data=(x, t))
    printed = capsys.readouterr()
    assert printed.out == ""
    first, second = printed.err.splitlines()
    assert first.startswith("epoch 1/2  loss ")
    assert second.startswith("epoch 2/2  loss ")
    assert re.fullmatch(r"epoch 2/2  loss \d\.\d{4} \(val \d\.\d{4}\)  acc \d+\.\d% \(val \d+\.\d%\)", second)


def test_progress_with_rich_and_silence(capsys):
    pytest.importorskip("rich")
    x, t = _two_classes(8)
    nn.fit(_small_network(), x, t, optimizer=nn.SGD(0.1), epochs=2)
    assert "2/2" in capsys.readouterr().err
    nn.fit(_small_network(), x, t, optimizer=nn.SGD(0.1), epochs=2, progress=False)
    assert capsys.readouterr().err == ""


def test_importing_the_layers_imports_no_extra():
    code = (
        "import sys, fastconv.nn, fastconv.models;"
        "extras = {'rich', 'safetensors', 'sklearn', 'matplotlib', 'numba', 'scipy'} & set(sys.modules);"
        "sys.exit(', '.join(extras) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------------------ saved weights


def test_saved_weights_come_back(tmp_path):
    x, t = _two_classes(32)
    net, other = _small_network(0), _small_network(1)
    nn.fit(net, x, t, optimizer=nn.SGD(0.1), epochs=1, progress=False)
    assert (nn.predict(net, x) != nn.predict(other, x)).any()
    net.save(tmp_path / "weights.safetensors")
    other.load(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(nn.predict(net, x), nn.predict(other, x))
    assert set(net.state_dict()) == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "6.weight", "6.bias",
    }  # fmt: skip


def _without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: _without(s, "6.bias"), KeyError, r"missing \['6.bias'\], unknown \[\]"),
        (lambda s: s | {"7.bias": s["6.bias"]}, KeyError, r"unknown \['7.bias'\]"),
        (lambda s: s | {"6.bias": np.ones(3, np.float32)}, ValueError, r"state\['6.bias'\] has shape \(3,\)"),
        (lambda s: s | {"0.num_batches_tracked": np.array(1)}, KeyError, r"unknown \['0.num_batches_tracked'\]"),
        (lambda s: s | {"6.bias": np.array([1e300, 0])}, ValueError, r"state\['6.bias'\] has numbers beyond float32"),
        (lambda s: s | {"6.bias": np.ma.ones(2, np.float32)}, TypeError, r"state\['6.bias'\] is a masked array"),
        (lambda s: list(s), TypeError, "state is a list"),
        (lambda s: s | {"6.bias": np.ones(2, int)}, TypeError, r"state\['6.bias'\] has dtype int64"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, error, message):
    net = _small_network()
    before = net.state_dict()
    other = {name: value + 1 for name, value in before.items()}
    with pytest.raises(error, match=message):
        net.load_state_dict(change(other))
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_state_of_torch_has_the_number_of_batches():
    net = _small_network()
    other = {name: value + 1 for name, value in net.state_dict().items()}
    net.load_state_dict(other | {"1.num_batches_tracked": np.array(3)})
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, other[name])


def test_the_state_of_shared_parameters_has_both_names(tmp_path):
    layer = nn.Linear(2, 2, rng=0)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    state = net.state_dict()
    assert set(state) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    net.save(tmp_path / "weights")
    layer.weight.value[:] = 0
    net.load(tmp_path / "weights")
    np.testing.assert_array_equal(layer.weight.value, state["0.weight"])
    with pytest.raises(ValueError, match=r"state\['0.weight'\] and state\['2.weight'\] differ"):
        net.load_state_dict(state | {"2.weight": state["2.weight"] + 1})


def test_a_state_may_be_the_networks_own_arrays():
    net = nn.Sequential(nn.Linear(1, 1, rng=0), nn.Linear(1, 1, rng=1))
    first, second = net[0].weight.value, net[1].weight.value
    a, b = float(first[0, 0]), float(second[0, 0])
    net.load_state_dict(net.state_dict() | {"0.weight": second, "1.weight": first})
    assert (net[0].weight.value, net[1].weight.value) == (b, a)


def test_loading_what_is_no_weights_file(tmp_path, monkeypatch):
    net = _small_network()
    with pytest.raises(FileNotFoundError):
        net.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(ValueError, match="not a safetensors file"):
        net.load(tmp_path / "text")
    with pytest.raises(OSError, match="cannot be written"):
        net.save(tmp_path / "no directory" / "weights")
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        net.save(tmp_path / "weights")


# -------------------------------------------------------------------------------------------------- LeNet


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
