"""Networks: their parts and names, modes, layouts, frozen parts, summaries, copies, saved weights."""

import copy
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from networks import distinct, small_network, two_classes, without

from fastconv import nn


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


def test_summary_names_nested_layers_and_leaves_the_mode():
    inner = nn.Sequential(nn.Linear(4, 3, rng=0), nn.ReLU())
    net = nn.Sequential(inner, nn.Dropout(0.5), nn.Linear(3, 2, rng=0))
    inner.eval()
    assert [row.name for row in net.summary((4,))] == ["0.0", "0.1", "1", "2"]
    assert [module.training for _, module in net.modules()] == [True, False, False, False, True, True]
    assert list(net.parameters()) == ["0.0.weight", "0.0.bias", "2.weight", "2.bias"]
    with pytest.raises(ValueError, match=r"\(0, 5\)"):
        net.summary((5,))


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
    history = nn.fit(net, x, t, optimizer=nn.Adam(lr=3e-3), epochs=5, progress=False)
    assert history.loss[-1] < history.loss[0]


def test_a_part_of_a_network_is_in_its_mode():
    net = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
    assert net[:1].training
    assert not net.eval()[:1].training
    net[:1](np.ones(2))[0] = 5  # nothing is recorded


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ((nn.ReLU(), nn.Linear(1, 1, rng=0)), ["0", "1"]),
        (({"act": nn.ReLU(), "fc": nn.Linear(1, 1, rng=0)},), ["act", "fc"]),
    ],
    ids=["row", "dict"],
)
def test_the_layers_of_a_row_by_name_number_and_slice(layers, names):
    net = nn.Sequential(*layers)
    assert (len(net), [type(layer) for layer in net]) == (2, [nn.ReLU, nn.Linear])
    assert net[1] is net[-1] is net[names[1]]
    assert list(net.children()) == names
    assert list(net[1:].state_dict()) == [f"{names[1]}.weight", f"{names[1]}.bias"]
    np.testing.assert_array_equal(net(np.float32([[-1]])), net[1:](np.float32([[0]])))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: nn.Sequential(nn.ReLU(), np.tanh), TypeError, r"layers\[1\] is a ufunc"),
        (lambda: nn.Sequential({"a": np.tanh}), TypeError, r"layers\[a\] is a ufunc"),
        (lambda: nn.Sequential({"a.b": nn.ReLU()}), ValueError, r"named 'a\.b': allowed is text without dots"),
        (lambda: nn.Sequential({0: nn.ReLU()}), ValueError, "named 0: allowed is text"),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 1, 1)).to_layout("NLC"),
            ValueError,
            "0: layout='NLC': allowed is 'NCHW' or",
        ),
        (lambda: nn.Sequential(nn.ReLU()).to_layout(3), ValueError, "layout=3: allowed is"),
        (lambda: nn.Flatten(layout="CN"), ValueError, "layout='CN'"),
    ],
)
def test_wrong_arguments_are_named(build, error, message):
    with pytest.raises(error, match=message):
        build()


# ------------------------------------------------------------------------------------------------- layouts


class Block(nn.Module):
    """Everything that knows a layout, for images of 1 to 3 dimensions."""

    def __init__(self, n):
        c = {"dtype": np.float64, "rng": 0}
        conv, maximum, mean = (getattr(nn, f"{kind}{n}d") for kind in ("Conv", "MaxPool", "AvgPool"))
        self.convs = [conv(2, 4, 3, padding=1, **c), nn.Sequential(conv(2, 4, 1, groups=2, **c), nn.Tanh())]
        self.norm = nn.BatchNorm(8, dtype=np.float64)
        self.pools = nn.Sequential({"max": maximum(2), "mean": mean(2, stride=1, padding=1)})
        self.head = (nn.Softmax(), nn.Flatten(), nn.Linear(8 * 3**n, 3, **c))

    def forward(self, x):
        x = self.norm(nn.concatenate([conv(x) for conv in self.convs], self.channel_axis))
        x = self.pools(x)
        for layer in self.head:
            x = layer(x)
        return x


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_network_in_another_layout_computes_the_same(n):
    first = Block(n)
    state = {name: value + 0.1 for name, value in first.state_dict().items()}
    first.load_state_dict(state)
    last = copy.deepcopy(first)
    assert last.to_layout("NHWC") is last
    assert {module.layout for _, module in last.modules()} == {"NHWC"}
    x = distinct((2, 2, *[4] * n))
    y, turned = first(x), last(np.moveaxis(x, 1, -1))
    np.testing.assert_allclose(turned, y, rtol=1e-12, atol=1e-12)
    assert last.output_shape((*[4] * n, 2)) == (3,)
    dy = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(np.moveaxis(last.backward(dy), -1, 1), first.backward(dy), rtol=1e-11, atol=1e-12)
    for (name, p), q in zip(first.parameters().items(), last.parameters().values(), strict=True):
        np.testing.assert_allclose(q.grad, p.grad, rtol=1e-10, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(last.to_layout("NCHW")(x), y)


def test_a_call_goes_backward_in_the_layout_that_it_had():
    net = nn.Sequential(nn.Conv2d(1, 1, 1, rng=0), nn.MaxPool2d(2), nn.BatchNorm(1), nn.Flatten())
    x = np.arange(32, dtype=np.float32).reshape(2, 1, 4, 4)
    expected = net.backward(net(x))
    y = net(x)
    net.to_layout("NHWC")
    np.testing.assert_array_equal(net.backward(y), expected)


def test_an_axis_of_its_own_does_not_follow_a_layout():
    net = nn.Sequential(nn.Conv2d(1, 2, 1, rng=0), nn.Sequential(nn.Softmax(axis=1)))
    with pytest.raises(ValueError, match=r"1\.0: Softmax\(axis 1\) has an axis of its own"):
        net.to_layout("NHWC")
    assert {module.layout for _, module in net.modules()} == {"NCHW"}
    net.to_layout("NCHW")


# -------------------------------------------------------------------------------------------- frozen parts


def test_the_gradients_of_a_frozen_part_are_not_computed(monkeypatch):
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, rng=0), nn.BatchNorm(2), nn.ReLU(), nn.Conv2d(2, 2, 1, rng=0), nn.Flatten(),
        nn.Linear(8, 2, rng=0),
    )  # fmt: skip
    called = []
    for name in ("_backward_input", "_backward_weight"):
        function = getattr(nn.Conv2d, name)

        def noted(*arguments, function=function, name=name, **options):
            called.append(name.removeprefix("_backward_"))
            return function(*arguments, **options)

        monkeypatch.setattr(nn.Conv2d, name, staticmethod(noted))

    def backward(**options):
        called.clear()
        net.backward(net(x), **options)
        return called

    x = np.ones((3, 1, 4, 4), np.float32)
    # The second convolution, then the first, whose input needs none.
    assert backward(need_dx=False) == ["input", "weight", "weight"]
    assert net[0].requires_grad_(False) is net[0]
    assert backward(need_dx=False) == ["input", "weight"]
    net[1].requires_grad_(False)
    assert backward(need_dx=False) == ["weight"]
    net[:4].requires_grad_(False)
    assert backward(need_dx=False) == []
    assert net[5].weight.grad is not None
    assert backward() == ["input", "input"]
    assert repr(net[0].weight) == "Parameter((2, 1, 3, 3), float32, frozen)"
    net.requires_grad_()
    assert all(p.requires_grad for p in net.parameters().values())


def test_frozen_batch_norm():
    net = nn.Sequential(nn.BatchNorm(2), nn.Linear(2, 2, rng=0))
    x = np.random.default_rng(0).random((8, 2), np.float32)
    fit = partial(nn.fit, net, x, np.zeros(8, int), epochs=1, progress=False)
    before = net.state_dict()
    net[0].requires_grad_(False)
    fit(optimizer=nn.SGD(lr=0.1, weight_decay=0.1))

    def moved():
        return {name for name, value in net.state_dict().items() if (value != before[name]).any()}

    # Frozen are its parameters; the running statistics are those of the batches that it meets, until eval().
    assert moved() == {"0.running_mean", "0.running_var", "1.weight", "1.bias"}
    net[0].eval()
    before = net.state_dict()
    fit(optimizer=nn.SGD(lr=0.1, weight_decay=0.1))
    assert moved() == {"1.weight", "1.bias"}


# ------------------------------------------------------------------------------- copies and saved weights


def test_a_network_can_be_copied_and_pickled():
    net = nn.Sequential(nn.Conv1d(1, 2, 3, rng=0), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 2, rng=0))
    x = np.random.default_rng(0).random((2, 1, 6), np.float32)
    y = net(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with pytest.raises(RuntimeError, match="forward call"):
            other.backward(y)
        np.testing.assert_array_equal(other(x), y)
        assert other[0].weight is not net[0].weight


_SPAWNED = """
import pickle, sys
from fastconv import nn
net, optimizer, rng, (x, t) = pickle.load(sys.stdin.buffer)
nn.fit(net, x, t, optimizer=optimizer, epochs=1, batch_size=10, seed=rng, progress=False)
pickle.dump((net, optimizer, net.state_dict()), sys.stdout.buffer)
"""


def test_training_goes_on_in_another_process():
    net, optimizer, rng, (x, t) = (
        small_network().to_layout("NHWC"),
        nn.Adam(),
        np.random.default_rng(5),
        two_classes(24),
    )
    net[0].requires_grad_(False)
    x = np.moveaxis(x, 1, -1)
    fit = partial(nn.fit, net, x, t, optimizer=optimizer, epochs=1, batch_size=10, seed=rng, progress=False)
    fit()
    ran = subprocess.run(
        [sys.executable, "-c", _SPAWNED],
        input=pickle.dumps((net, optimizer, rng, (x, t))),
        check=True,
        capture_output=True,
    )
    fit()
    there, other, state = pickle.loads(ran.stdout)
    for got in (state, there.state_dict()):
        for name, value in net.state_dict().items():
            np.testing.assert_array_equal(got[name], value)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], value)
    assert there[0].weight in other.param_groups[0]["params"].values()


def test_importing_the_layers_imports_no_extra():
    code = (
        "import sys, fastconv.nn, fastconv.models;"
        "extras = {'rich', 'safetensors', 'sklearn', 'matplotlib', 'numba', 'scipy'} & set(sys.modules);"
        "sys.exit(', '.join(extras) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_saved_weights_come_back(tmp_path):
    x, t = two_classes(32)
    net, other = small_network(0), small_network(1)
    nn.fit(net, x, t, optimizer=nn.SGD(lr=0.1), epochs=1, progress=False)
    assert (nn.predict(net, x) != nn.predict(other, x)).any()
    net.save(tmp_path / "weights.safetensors")
    other.load(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(nn.predict(net, x), nn.predict(other, x))
    assert set(net.state_dict()) == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "6.weight", "6.bias",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: without(s, "6.bias"), KeyError, r"missing \['6.bias'\], unknown \[\]"),
        (lambda s: s | {"7.bias": s["6.bias"]}, KeyError, r"unknown \['7.bias'\]"),
        (lambda s: s | {"6.bias": np.ones(3, np.float32)}, ValueError, r"state\['6.bias'\] has shape \(3,\)"),
        (
            lambda s: {n: v[:1] for n, v in s.items()},
            ValueError,
            r"'0.bias'\] has .* \(4,\); .*'6.bias'\].* is \(2,\); ",
        ),
        (lambda s: s | {"0.num_batches_tracked": np.array(1)}, KeyError, r"unknown \['0.num_batches_tracked'\]"),
        (lambda s: s | {"6.bias": np.array([1e300, 0])}, ValueError, r"state\['6.bias'\] has numbers beyond float32"),
        (lambda s: s | {"6.bias": np.ma.ones(2, np.float32)}, TypeError, r"state\['6.bias'\] is a masked array"),
        (lambda s: list(s), TypeError, "state is a list"),
        (lambda s: s | {"6.bias": np.ones(2, int)}, TypeError, r"state\['6.bias'\] has dtype int64"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, error, message):
    net = small_network()
    before = net.state_dict()
    other = {name: value + 1 for name, value in before.items()}
    with pytest.raises(error, match=message):
        net.load_state_dict(change(other))
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_state_of_torch_has_the_number_of_batches():
    net = small_network()
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
    net = small_network()
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
