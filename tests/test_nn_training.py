"""Losses, optimizers, training, saved weights, LeNet."""

import builtins
import re
import subprocess
import sys
import threading

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
        (lambda: nn.mse(np.ones((2, 1)), np.ones(2)), ValueError, r"targets \(2,\)"),
        (lambda: nn.SGD(-1), ValueError, "lr=-1"),
        (lambda: nn.SGD(0.1, momentum=1), ValueError, "momentum=1"),
        (lambda: nn.SGD(0.1, nesterov=True), ValueError, "nesterov=True"),
        (lambda: nn.Adam(betas=(0.9, 1)), ValueError, r"betas\[1\]=1"),
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
    ],
)
def test_fit_names_what_does_not_fit(arguments, error, message):
    x, t = _two_classes(8)
    given = {"x": x, "t": t, "epochs": 1, "optimizer": nn.SGD(0.1), "progress": False} | arguments
    with pytest.raises(error, match=message):
        nn.fit(_small_network(), **given)


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
    ("shape", "flat"), [((1, 28, 28), 400), ((1, 32, 32), 400), ((3, 32, 32), 400), ((1, 8, 8), 64), ((1, 4, 4), 16)]
)
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
