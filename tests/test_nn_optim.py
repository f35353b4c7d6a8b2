"""Optimizers against their formulas, parameter groups, what they remember."""

import copy
import pickle

import numpy as np
import pytest
from networks import noisy, small_network, two_classes, without

from fastconv import nn


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda p: nn.SGD(p, 0.5), [0.5, -0.5, -0.5]),
        (lambda p: nn.SGD(p, 0.5, weight_decay=0.5), [0.25, -0.8125, -0.609375]),
        # v = 1, 2.5, 1.25
        (lambda p: nn.SGD(p, 0.5, momentum=0.5), [0.5, -0.75, -1.375]),
        # g + v / 2 = 1.5, 3.25, 0.625
        (lambda p: nn.SGD(p, 0.5, momentum=0.5, nesterov=True), [0.25, -1.375, -1.6875]),
        # Bias-corrected m: 1, 5/3, 5/7; v: 1, 1/4 + 2 over 3/4 = 3, 9/8 over 7/8 = 9/7.
        (
            lambda p: nn.Adam(p, 0.5, (0.5, 0.5), 0),
            [0.5, 0.5 - 5 / 6 / 3**0.5, 0.5 - 5 / 6 / 3**0.5 - 5 / 14 / (9 / 7) ** 0.5],
        ),
    ],
)
def test_three_steps_by_hand(build, expected):
    parameter = nn.Parameter(np.array([1.0]))
    optimizer = build([parameter])
    for gradient, value in zip([1.0, 2.0, 0.0], expected, strict=True):
        parameter.grad = np.array([gradient])
        optimizer.step()
        np.testing.assert_allclose(parameter.value, [value], rtol=1e-14)


def _parameter(shape, dtype, turned):
    """A parameter, of more elements than are moved at a time; its memory may be that of its transpose."""
    value = np.random.default_rng(0).standard_normal(shape[::-1] if turned else shape).astype(dtype)
    return nn.Parameter(value.T if turned else value)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0, False), (0.9, False), (0.9, True)])
def test_sgd_is_its_formula(decay, momentum, nesterov, turned, dtype):
    rng = np.random.default_rng(0)
    p = _parameter((90, 101), dtype, turned)
    w, v = p.value.astype(np.float64), 0
    optimizer = nn.SGD([p], 0.1, momentum, decay, nesterov)
    for _ in range(3):
        p.grad = rng.standard_normal((90, 101)).astype(dtype)
        g = p.grad + decay * w
        v = momentum * v + g
        w = w - 0.1 * (g + momentum * v if nesterov else v)
        optimizer.step()
        assert p.value.dtype == dtype
        np.testing.assert_allclose(p.value, w, rtol=0, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("kind", [nn.Adam, nn.AdamW])
def test_adam_is_its_formula(kind, decay, turned, dtype):
    rng = np.random.default_rng(0)
    p = _parameter((90, 101), dtype, turned)
    w, m, v = p.value.astype(np.float64), 0, 0
    optimizer = kind([p], 0.1, (0.8, 0.95), 1e-3, decay)
    for t in range(1, 4):
        p.grad = rng.standard_normal((90, 101)).astype(dtype)
        g = p.grad + decay * w if kind is nn.Adam else p.grad.astype(np.float64)
        w = w - 0.1 * decay * w if kind is nn.AdamW else w
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        w = w - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-3)
        optimizer.step()
        np.testing.assert_allclose(p.value, w, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("momentum", [0, 0.5])
@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop_is_its_formula(centered, momentum, decay, dtype):
    rng = np.random.default_rng(0)
    p = _parameter((90, 101), dtype, False)
    w, s, mean, b = p.value.astype(np.float64), 0, 0, 0
    optimizer = nn.RMSprop([p], 0.1, 0.8, 1e-2, decay, momentum, centered)
    for _ in range(3):
        p.grad = rng.standard_normal((90, 101)).astype(dtype)
        g = p.grad + decay * w
        s, mean = 0.8 * s + 0.2 * g**2, 0.8 * mean + 0.2 * g
        b = momentum * b + g / (np.sqrt(s - mean**2 if centered else s) + 1e-2)
        w = w - 0.1 * b
        optimizer.step()
        np.testing.assert_allclose(p.value, w, rtol=0, atol=1000 * np.finfo(dtype).eps)


def test_what_is_no_longer_remembered_does_not_count():
    """A group that is not centered any more moves as if it had never been."""
    p, plain = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    optimizer, other = nn.RMSprop([p], 0.1, 0.5, centered=True), nn.RMSprop([plain], 0.1, 0.5)
    for _ in range(2):
        p.grad, plain.grad = np.array([1.0, 2, 3]), np.array([1.0, 2, 3])
        p.value[:] = plain.value
        optimizer.step()
        other.step()
        optimizer.param_groups[0]["centered"] = False
    np.testing.assert_array_equal(p.value, plain.value)


def test_a_centered_variance_is_not_negative():
    p = nn.Parameter(np.ones(64, np.float32))
    optimizer = nn.RMSprop([p], 1e-3, alpha=0.5, eps=0.1, centered=True)
    for _ in range(50):
        p.grad = np.linspace(1, 1.1, 64, dtype=np.float32)
        optimizer.step()
    assert np.isfinite(p.value).all()


def test_a_step_moves_each_parameter_that_is_not_frozen_once_and_uses_gradients_up():
    shared, frozen = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2), requires_grad=False)
    shared.grad = np.ones(2)
    optimizer = nn.SGD({"a": shared, "b": shared, "c": frozen}, 0.5, weight_decay=0.5)
    optimizer.step()
    np.testing.assert_array_equal(shared.value, [0.25, 0.25])
    np.testing.assert_array_equal(frozen.value, [1, 1])
    assert shared.grad is None
    with pytest.raises(RuntimeError, match="'a' has no gradient"):
        optimizer.step()
    shared.grad = np.ones(2)
    optimizer.zero_grad()
    assert shared.grad is None


@pytest.mark.parametrize(
    ("gradient", "error"),
    [(np.ones((1, 2), np.float32), ValueError), (np.ones(2), TypeError), (None, RuntimeError)],
)
def test_a_gradient_that_does_not_fit_moves_nothing(gradient, error):
    first, second = nn.Parameter(np.ones(2, np.float32)), nn.Parameter(np.ones(2, np.float32))
    first.grad, second.grad = np.ones(2, np.float32), gradient
    with pytest.raises(error, match="'b'"):
        nn.SGD([{"params": {"a": first}}, {"params": {"b": second}}], 0.5).step()
    np.testing.assert_array_equal(first.value, [1, 1])


def test_a_replaced_value_does_not_meet_the_old_memory():
    p = nn.Parameter(np.ones((3, 2)))
    optimizer = nn.SGD({"w": p}, 0.5, momentum=0.5)
    p.grad = np.ones((3, 2))
    optimizer.step()
    p.value, p.grad = np.ones(2), np.ones(2)
    with pytest.raises(ValueError, match="the momentum_buffer of 'w' in the optimizer has shape"):
        optimizer.step()


# ------------------------------------------------------------------------------------------------- groups


def test_each_group_has_its_options():
    a, b, c = (nn.Parameter(np.array([1.0])) for _ in range(3))
    groups = [
        {"params": {"a": a}, "lr": 0.5},
        {"params": [b], "weight_decay": 0.0},
        {"params": {"c": c}, "momentum": 0.5},
    ]
    optimizer = nn.SGD(iter(groups), 0.25, weight_decay=1)
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.25, 0.25]
    assert "weight_decay" not in groups[0]
    for _ in range(2):
        for p in (a, b, c):
            p.grad = np.array([1.0])
        optimizer.step()
    # a: 1 - (1 + 1) / 2 = 0, 0 - 1 / 2; b: 1 - 2 / 4; c: 1 - 2 / 4, then v = 1 + 1.5, and 1/2 - v / 4
    assert (a.value, b.value, c.value) == (-0.5, 0.5, -0.125)
    optimizer.param_groups[1]["lr"] = -1
    for p in (a, b, c):
        p.grad = np.array([1.0])
    with pytest.raises(ValueError, match="lr=-1"):
        optimizer.step()
    assert a.value == -0.5


def test_groups_without_weight_decay_of_norms_and_biases():
    net = small_network()
    net.scale = nn.Parameter(np.ones((), np.float32))
    decayed, others = nn.weight_decay_groups(net, 0.5)
    assert (list(decayed["params"]), decayed["weight_decay"]) == (["0.weight", "6.weight"], 0.5)
    assert list(others["params"]) == ["scale", "0.bias", "1.weight", "1.bias", "6.bias"]
    optimizer, before = nn.SGD([decayed, others], lr=1), net.state_dict()
    for parameter in net.parameters().values():
        parameter.grad = np.zeros_like(parameter.value)
    optimizer.step()
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name] * (0.5 if name in decayed["params"] else 1))


def test_fit_moves_the_groups_alone_and_scales_the_rate_of_each():
    seen = []

    class Recording(nn.SGD):
        def step(self):
            seen.append([group["lr"] for group in self.param_groups])
            super().step()

    net, (x, t) = small_network(), two_classes(8)
    before = net.state_dict()
    optimizer = Recording([{"params": net[0].parameters()}, {"params": net[6].parameters(), "lr": 4}], lr=1)
    nn.fit(net, x, t, optimizer=optimizer, epochs=2, schedule=lambda progress: 0.25 * (1 - progress), progress=False)
    assert seen == [[0.25, 1], [0.125, 0.5]]
    assert [group["lr"] for group in optimizer.param_groups] == [1, 4]
    moved = {name for name, value in net.state_dict().items() if (value != before[name]).any()}
    assert moved == {"0.weight", "0.bias", "1.running_mean", "1.running_var", "6.weight", "6.bias"}
    with pytest.raises(ValueError, match="has no parameter of the network"):
        nn.fit(small_network(), x, t, optimizer=optimizer, epochs=1, progress=False)


# ------------------------------------------------------------------------------------------------- memory


OPTIMIZERS = {
    "sgd": lambda params=None: nn.SGD(params, 0.1),
    "momentum": lambda params=None: nn.SGD(params, 0.1, 0.9, 0.01, nesterov=True),
    "adam": lambda params=None: nn.Adam(params, 0.01, weight_decay=0.01),
    "adamw": lambda params=None: nn.AdamW(params, 0.01),
    "rmsprop": lambda params=None: nn.RMSprop(params, 0.01, momentum=0.5, centered=True),
}


def _train(net, optimizer, rng, epochs):
    x, t = two_classes(24)
    nn.fit(net, x, t, optimizer=optimizer, epochs=epochs, batch_size=10, augment=noisy, seed=rng, progress=False)


def _by_state(net, optimizer, rng):
    other, memory = small_network(7), copy.deepcopy(optimizer.state_dict())
    other.load_state_dict(net.state_dict())
    fresh = type(optimizer)(other.parameters(), lr=5)
    fresh.load_state_dict(memory)
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
    net, optimizer, rng = small_network(), OPTIMIZERS[name](), np.random.default_rng(5)
    _train(net, optimizer, rng, 2)
    copies = continued(net, optimizer, rng)
    _train(*copies, 2)
    if net is not copies[0]:
        _train(net, optimizer, rng, 2)  # what was copied is not disturbed
    whole, same = small_network(), OPTIMIZERS[name]()
    _train(whole, same, np.random.default_rng(5), 4)
    for network in (net, copies[0]):
        for key, value in whole.state_dict().items():
            np.testing.assert_array_equal(network.state_dict()[key], value)
    expected = same.state_dict()
    remembered = {key for key in expected if key.count(".") > 1}
    assert (
        len(remembered)
        == len(whole.parameters()) * {"sgd": 0, "momentum": 1, "adam": 3, "adamw": 3, "rmsprop": 3}[name]
    )
    state = copies[1].state_dict()
    assert state.keys() == expected.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_without_dimensions(name):
    class Scale(nn.Module):
        def __init__(self):
            self.factor = nn.Parameter(np.array(2.0))

        def forward(self, x):
            return nn.record(x * self.factor.value, (self.factor, lambda dy: (dy * x).sum()))

    net = Scale()
    optimizer = OPTIMIZERS[name](net.parameters())
    for _ in range(2):
        for _ in range(2):
            net(np.ones(3))
            net.backward(np.ones(3), need_dx=False)
        assert net.factor.grad == 6
        before = net.factor.value.copy()
        optimizer.step()
        assert net.factor.value < before
    assert net.factor.value.shape == ()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_remembers_is_its_own(name):
    net, optimizer = small_network(), OPTIMIZERS[name]()
    _train(net, optimizer, 0, 1)
    before = optimizer.state_dict()
    other, loaded = copy.copy(optimizer), OPTIMIZERS[name](net.parameters())
    other.param_groups[0]["lr"] = 0.5
    state = copy.deepcopy(before)
    loaded.load_state_dict(state)
    for another in (other, loaded):
        _train(net, another, 0, 1)
    for key, value in before.items():
        np.testing.assert_array_equal(state[key], value)
        np.testing.assert_array_equal(optimizer.state_dict()[key], value)
        if key.count(".") > 1 or key == "group0.lr":
            assert (other.state_dict()[key] != value).any()


@pytest.mark.parametrize("alone", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_an_optimizer_copied_without_its_network_says_so(alone):
    net, optimizer = small_network(), nn.Adam()
    _train(net, optimizer, 0, 1)
    orphan = alone(optimizer)
    with pytest.raises(ValueError, match=r"copy.deepcopy\(\(net, optimizer\)\)"):
        _train(net, orphan, 0, 1)
    fresh = nn.Adam(net.parameters())
    fresh.load_state_dict(orphan.state_dict())
    _train(net, fresh, 0, 1)
    _train(small_network(), alone(nn.Adam()), 0, 1)  # one that has no parameters yet is as good as new


AVERAGE = "group0.bias.exp_avg_sq"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: without(s, "group0.bias.exp_avg"), KeyError, r"missing \['group0.bias.exp_avg'\], unknown \[\]"),
        (lambda s: without(s, "group0.eps"), KeyError, r"missing \['group0.eps'\]"),
        (lambda s: s | {"group0.bias.x": s["group0.lr"]}, KeyError, r"missing \[\], unknown \['group0.bias.x'\]"),
        (lambda s: s | {"group1.lr": s["group0.lr"]}, KeyError, r"unknown \['group1.lr'\]"),
        (lambda s: {}, KeyError, "missing"),
        (lambda s: s | {AVERAGE: np.ones(3, np.float32)}, ValueError, rf"state\['{AVERAGE}'\] has shape \(3,\)"),
        (lambda s: s | {AVERAGE: np.ones(2)}, TypeError, "has dtype float64: allowed is float32"),
        (
            lambda s: s | {"group0.bias.step": np.array(1.0)},
            TypeError,
            r"state\['group0.bias.step'\] has dtype float64",
        ),
        (lambda s: s | {"group0.bias.step": np.array(-1)}, ValueError, r"state\['group0.bias.step'\]=-1"),
        (lambda s: s | {"group0.betas": np.array([0.5, 1])}, ValueError, r"betas=\[0.5, 1.0\]"),
        (lambda s: s | {AVERAGE: np.ma.ones(2, np.float32)}, TypeError, "masked array"),
        (lambda s: list(s), TypeError, "state is a list"),
    ],
)
def test_an_optimizer_state_that_does_not_fit_changes_nothing(change, error, message):
    net = nn.Linear(3, 2, rng=0)
    optimizer = nn.Adam(net.parameters(), lr=0.5)
    net.backward(net(np.ones((1, 3), np.float32)))
    optimizer.step()
    before = optimizer.state_dict()
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(
            change({name: value / 2 if value.dtype.kind == "f" else value + 1 for name, value in before.items()})
        )
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


P = nn.Parameter(np.ones(1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.SGD(lr=-1), ValueError, "lr=-1"),
        (lambda: nn.SGD(momentum=1), ValueError, "momentum=1"),
        (lambda: nn.SGD(nesterov=True), ValueError, "nesterov=True"),
        (lambda: nn.Adam(betas=(0.9, 1)), ValueError, r"betas=\(0.9, 1\)"),
        (lambda: nn.RMSprop(alpha=1), ValueError, "alpha=1"),
        (lambda: nn.RMSprop(momentum=-1), ValueError, "momentum=-1"),
        (lambda: nn.Adam(lr=float("nan")), ValueError, "lr=nan"),
        (lambda: nn.SGD(lr="fast"), TypeError, "lr='fast'"),
        (lambda: nn.Adam(weight_decay=float("inf")), ValueError, "weight_decay=inf"),
        (lambda: nn.SGD(0.1), TypeError, r"params is a float: .* \(the learning rate is lr="),
        (lambda: nn.SGD(nn.Linear(1, 1)), TypeError, "params is a Linear"),
        (lambda: nn.SGD([nn.Linear(1, 1)]), TypeError, r"params\[0\] is a Linear"),
        (lambda: nn.SGD([{"params": [P]}, P]), TypeError, r"params\[0\] is a dict"),
        (lambda: nn.SGD([{"params": [P]}, {"params": {"w": P}}]), ValueError, "'w' is in two groups"),
        (lambda: nn.SGD([{"params": [P], "eps": 1}]), ValueError, r"\['eps', 'params'\]: allowed is params, with lr"),
        (lambda: nn.SGD([{"lr": 1}]), ValueError, r"\['lr'\]: allowed is params"),
        (lambda: nn.SGD([{"params": [P], "lr": -1}]), ValueError, "lr=-1"),
        (lambda: nn.SGD().step(), RuntimeError, r"nothing to move: allowed is SGD\(net.parameters\(\)"),
        (lambda: nn.SGD(nn.Linear(1, 1, rng=0).parameters()).step(), RuntimeError, "'weight' has no gradient"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
