"""Training, evaluation and prediction, also in several threads."""

import builtins
import re
import threading
from functools import partial

import numpy as np
import pytest
from networks import Watched, noisy, small_network, two_classes

import fastconv
from fastconv import nn, testing


def inverted(x, rng):
    x *= -1  # in place: it is a copy
    return noisy(x, rng)


def test_fit_learns_and_keeps_a_history():
    net = small_network()
    x, t = two_classes()
    history = nn.fit(
        net,
        x,
        t,
        optimizer=nn.Adam(lr=0.01),
        epochs=5,
        batch_size=16,
        validation_data=two_classes(50, 1),
        progress=False,
    )
    assert [len(v) for v in (history.loss, history.accuracy, history.val_loss, history.val_accuracy)] == [5] * 4
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert history.val_accuracy[-1] > 0.95
    measured = nn.evaluate(net, *two_classes(50, 1), batch_size=16)
    assert measured == {"loss": history.val_loss[-1], "accuracy": history.val_accuracy[-1]}
    assert net.training


def test_the_same_seed_gives_the_same_bits():
    x, t = two_classes()

    def run(seed):
        net = small_network()
        history = nn.fit(
            net, x, t, optimizer=nn.SGD(lr=0.05, momentum=0.9), epochs=2, augment=noisy, seed=seed, progress=False
        )
        return net.state_dict(), history

    (a, history), (b, again), (c, _) = run(3), run(3), run(4)
    assert history == again
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name])
    assert (a["0.weight"] != c["0.weight"]).any()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_threads_do_not_change_the_bits(layout, dtype):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((16, 4, 20, 20)).astype(dtype), rng.integers(0, 3, 16)
    x = x if layout == "NCHW" else np.moveaxis(x, 1, -1)

    def trained(threads):
        c = {"dtype": dtype, "rng": np.random.default_rng(1)}
        net = nn.Sequential(
            nn.Conv2d(4, 8, 3, **c), nn.BatchNorm(8, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, **c),
            nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(72, 3, **c),
        ).to_layout(layout)  # fmt: skip
        with fastconv.threads(threads):
            nn.fit(net, x, t, optimizer=nn.Adam(), epochs=1, batch_size=8, progress=False)
        return net.state_dict()

    first = trained(1)
    for threads in (2, 5):
        for name, value in trained(threads).items():
            np.testing.assert_array_equal(value, first[name], err_msg=f"{name}, {threads} threads")


def test_every_backend_trains_alike(target, dtype):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((12, 2, 7, 7)).astype(dtype), rng.integers(0, 3, 12)

    def trained():
        c = {"dtype": dtype, "rng": np.random.default_rng(1)}
        net = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, **c), nn.Tanh(), nn.Conv2d(4, 4, 3, groups=2, **c), nn.Sigmoid(),
            nn.Flatten(), nn.Linear(16, 3, **c),
        )  # fmt: skip
        nn.fit(net, x, t, optimizer=nn.SGD(lr=0.1, momentum=0.9), epochs=2, batch_size=4, progress=False)
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
    history = nn.fit(
        net, x, t, optimizer=nn.SGD(lr=0.1), epochs=12, loss=nn.mse, validation_data=(x, t), progress=False
    )
    assert history.val_loss[-1] < 1e-6
    assert history.accuracy == history.val_accuracy == []
    np.testing.assert_allclose(net[0].weight.value, [[1, -2, 0.5]], atol=1e-3)
    np.testing.assert_allclose(net[0].bias.value, [3], atol=1e-3)


def test_predict_in_pieces_leaves_the_mode():
    net = small_network()
    x, _ = two_classes(10)
    whole = nn.predict(net, x)
    np.testing.assert_allclose(nn.predict(net, x, batch_size=3), whole, rtol=1e-5, atol=1e-6)
    assert nn.predict(net, x[:0]).shape == (0, 2)
    assert all(module.training for _, module in net.modules())


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
    net, (x, t) = small_network(), two_classes(7)
    assert nn.evaluate(net, x, t, batch_size=4) == pytest.approx(nn.evaluate(net, x, t), rel=1e-6)


@pytest.mark.parametrize("function", [lambda *a, **k: nn.evaluate(*a, np.zeros(4, int), **k), nn.predict])
def test_batch_sizes_are_checked(function):
    with pytest.raises(ValueError, match="batch_size=0"):
        function(small_network(), two_classes(4)[0], batch_size=0)


def test_threads_may_share_a_network_in_evaluation_mode():
    net = small_network().eval()
    x, _ = two_classes(64)
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
    x, t = two_classes(8)
    given = {"model": small_network(), "x": x, "t": t, "epochs": 1, "optimizer": nn.SGD(lr=0.1), "progress": False}
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
    x, t = two_classes(7)
    # Its planes have more than one value a channel.
    nn.fit(nn.Sequential(watch, small_network()), x, t, optimizer=nn.SGD(), epochs=1, batch_size=3, progress=False)
    assert sizes == [1, 3, 3, 1]
    sizes.clear()
    net = nn.Sequential(watch, nn.Flatten(), nn.BatchNorm(36), nn.Linear(36, 2, rng=0))
    arguments = {"optimizer": nn.SGD(), "epochs": 2, "batch_size": 3, "progress": False, "drop_last": True}
    history = nn.fit(net, x, t, **arguments)
    assert sizes == [3] * 4
    assert len(history.loss) == 2


def test_the_trial_of_a_batch_of_one_leaves_no_trace(monkeypatch):
    x, t = two_classes(7)
    nets = [small_network(), small_network()]
    for net in nets:
        nn.fit(net, x, t, optimizer=nn.SGD(), epochs=1, batch_size=3, augment=inverted, progress=False)
        np.testing.assert_array_equal(x, two_classes(7)[0])
        monkeypatch.setattr("fastconv.nn.training._try_one", lambda *_: None)
    for name, value in nets[0].state_dict().items():
        np.testing.assert_array_equal(value, nets[1].state_dict()[name])


def test_fit_leaves_what_was_frozen():
    net = small_network()
    net[0].weight.requires_grad = False
    net[1].eval()
    before = net.state_dict()
    x, t = two_classes(8)
    nn.fit(net, x, t, optimizer=nn.Adam(lr=0.1, weight_decay=0.1), epochs=1, progress=False)
    for name, value in net.state_dict().items():
        assert (value == before[name]).all() == (name in ("0.weight", "1.running_mean", "1.running_var")), name
    nn.fit(net.eval(), x, t, optimizer=nn.Adam(lr=0.1), epochs=1, progress=False)
    assert all(module.training for _, module in net.modules())
    assert (net[1].running_mean != before["1.running_mean"]).all()


def test_parameters_that_are_no_longer_finite_are_noticed():
    x = np.full((2, 1), 1e20, np.float32)
    net = nn.Sequential(nn.Linear(1, 1, rng=0))
    net[0].weight.value[:] = 1e-20
    not_finite = pytest.raises(FloatingPointError, match=r"0\.weight is not finite after epoch 1")
    with not_finite, np.errstate(over="ignore"):
        nn.fit(net, x, np.zeros((2, 1)), optimizer=nn.SGD(lr=1e30), epochs=1, loss=nn.mse, progress=False)


def test_gradients_from_before_do_not_reach_the_first_step():
    x, t = two_classes(8)
    nets = [small_network(), small_network()]
    nets[1].backward(nets[1](x))
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        nn.fit(net, x, t, optimizer=nn.SGD(lr=0.1), epochs=1, progress=False)
    for name, value in nets[0].state_dict().items():
        np.testing.assert_array_equal(value, nets[1].state_dict()[name])


def test_progress_without_rich_is_one_line_an_epoch(monkeypatch, capsys):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] == "rich":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    x, t = two_classes(8)
    nn.fit(small_network(), x, t, optimizer=nn.SGD(lr=0.1), epochs=2, validation_data=(x, t))
    printed = capsys.readouterr()
    assert printed.out == ""
    first, second = printed.err.splitlines()
    assert first.startswith("epoch 1/2  loss ")
    assert second.startswith("epoch 2/2  loss ")
    assert re.fullmatch(r"epoch 2/2  loss \d\.\d{4} \(val \d\.\d{4}\)  acc \d+\.\d% \(val \d+\.\d%\)", second)


def test_progress_with_rich_and_silence(capsys):
    pytest.importorskip("rich")
    x, t = two_classes(8)
    nn.fit(small_network(), x, t, optimizer=nn.SGD(lr=0.1), epochs=2)
    assert "2/2" in capsys.readouterr().err
    nn.fit(small_network(), x, t, optimizer=nn.SGD(lr=0.1), epochs=2, progress=False)
    assert capsys.readouterr().err == ""
