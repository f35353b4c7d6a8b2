"""The same as torch.nn.functional, in float64, with every argument that both have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases.conv import CONVS, TRANSPOSED, Conv
from cases.pool import POOLS, Pool

import fastconv as fc
from fastconv import nn, testing

torch = pytest.importorskip("torch")
F = torch.nn.functional


def _gradients(function: Callable[..., Any], dy: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """torch's gradients of ``function`` in its arrays."""
    tensors = [torch.from_numpy(a).requires_grad_() for a in arrays]
    function(*tensors).backward(torch.from_numpy(dy))
    return [t.grad.numpy() for t in tensors]


def _close(actual: np.ndarray, expected: Any, what: str) -> None:
    expected = expected if isinstance(expected, np.ndarray) else expected.numpy()
    testing.assert_close(actual, expected, 1e-11, what)


def _same_padding(case: Conv | Pool) -> bool:
    """Whether torch can be asked for the padding: a number, or one a dimension."""
    padding = case.arguments.get("padding", 0)
    return isinstance(padding, int) or all(isinstance(p, int) for p in padding)


def _ids(cases: list[Any]) -> dict[str, Any]:
    return {"argvalues": [case for case in cases if _same_padding(case)], "ids": str}


def _normal(case: Conv, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(list(case.name.encode()))
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("case", **_ids(CONVS))
def test_convolution(case: Conv) -> None:
    name, kw = f"conv{case.ndim}d", case.arguments
    x, w, b = _normal(case, case.x_shape, case.w_shape, (case.oc,))
    y = getattr(fc, name)(x, w, b, **kw)

    def theirs(*tensors: Any) -> Any:
        return getattr(F, name)(*tensors, **kw)

    _close(y, theirs(*map(torch.from_numpy, (x, w, b))), "y")
    (dy,) = _normal(case, y.shape)
    ours = getattr(fc, f"{name}_backward")(dy, x, w, b, **kw)
    for what, got, want in zip(("dx", "dw", "db"), ours[:3], _gradients(theirs, dy, x, w, b), strict=True):
        _close(got, want, what)


@pytest.mark.parametrize("case", **_ids(TRANSPOSED))
def test_transposed_convolution(case: Conv) -> None:
    name, kw = f"conv_transpose{case.ndim}d", case.arguments
    x, w, b = _normal(case, case.x_shape, case.transposed_w_shape, (case.oc,))

    def theirs(*tensors: Any) -> Any:
        return getattr(F, name)(*tensors, **kw)

    y = getattr(fc, name)(x, w, b, **kw)
    _close(y, theirs(*map(torch.from_numpy, (x, w, b))), "y")
    (dy,) = _normal(case, y.shape)
    ours = getattr(fc, f"{name}_backward")(dy, x, w, b, **kw)
    for what, got, want in zip(("dx", "dw", "db"), ours, _gradients(theirs, dy, x, w, b), strict=True):
        _close(got, want, what)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch copies its input where the pads are uneven
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_without_stride(kernel: int, dilation: int) -> None:
    rng = np.random.default_rng(22)
    x, w = rng.standard_normal((1, 2, 9, 10)), rng.standard_normal((3, 2, kernel, kernel))
    expected = F.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding="same", dilation=dilation)
    _close(fc.conv2d(x, w, padding="same", dilation=dilation), expected, "y")


def _is_theirs(case: Pool) -> bool:
    """Whether it slides a window that torch takes: it bounds the padding by the kernel without dilation."""
    kernel, padding = (np.atleast_1d(case.arguments.get(k, 0)) for k in ("kernel_size", "padding"))
    return bool(kernel.all() and _same_padding(case) and (padding <= kernel // 2).all())


_WINDOWS = [case for case in POOLS if _is_theirs(case)]


@pytest.mark.parametrize("case", _WINDOWS, ids=str)
def test_pooling(case: Pool) -> None:
    rng = np.random.default_rng(23)
    x = rng.integers(-3, 4, case.x_shape).astype("float64")
    for kind in case.kinds:
        if kind == "sum":
            continue
        name, kw = f"{kind}_pool{case.ndim}d", case.arguments
        extra = {"return_indices": True} if kind == "max" else {}
        ours, theirs = getattr(fc, name)(x, **kw, **extra), getattr(F, name)(torch.from_numpy(x), **kw, **extra)
        if kind == "max":
            testing.assert_exact(ours[1], theirs[1].numpy(), "indices")
            ours, theirs = ours[0], theirs[0]
        _close(ours, theirs, name)
        dy = rng.standard_normal(ours.shape)
        (dx,) = _gradients(lambda t, name=name, kw=kw: getattr(F, name)(t, **kw), dy, x)
        _close(getattr(fc, f"{name}_backward")(dy, x, **kw), dx, f"{name} backward")


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_sizes_and_divisors_of_windows(kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
    if padding > kernel // 2:
        with pytest.raises(ValueError, match="padding"):
            fc.max_pool1d(np.ones((1, 1, 9)), kernel, stride, padding)
        return
    for size in range(kernel, 14):
        x = np.random.default_rng(size).standard_normal((1, 2, size))
        for counted in (False, True):
            expected = F.avg_pool1d(torch.from_numpy(x), kernel, stride, padding, ceil_mode, counted)
            _close(fc.avg_pool1d(x, kernel, stride, padding, ceil_mode, counted), expected, f"size {size}")


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_dilated_maxima(dilation: int, ceil_mode: bool) -> None:
    x = np.random.default_rng(24).integers(-2, 3, (2, 3, 13, 14)).astype("float64")
    for kernel, stride, padding in [(2, 1, 0), (2, 3, 1), (3, 2, 1), (3, 4, 0)]:
        arguments = (kernel, stride, padding, dilation, ceil_mode, True)
        y, indices = fc.max_pool2d(x, *arguments)
        theirs = F.max_pool2d(torch.from_numpy(x), *arguments)
        testing.assert_exact(y, theirs[0].numpy())
        testing.assert_exact(indices, theirs[1].numpy())


@pytest.mark.parametrize("case", [case for case in POOLS if "adaptive" in case.name], ids=str)
def test_adaptive_pooling(case: Pool) -> None:
    x = np.random.default_rng(25).standard_normal(case.x_shape)
    size = case.arguments["output_size"]
    t = torch.from_numpy(x)
    n = case.ndim
    _close(getattr(fc, f"adaptive_avg_pool{n}d")(x, size), getattr(F, f"adaptive_avg_pool{n}d")(t, size), "average")
    y, indices = getattr(fc, f"adaptive_max_pool{n}d")(x, size, return_indices=True)
    theirs = getattr(F, f"adaptive_max_pool{n}d")(t, size, return_indices=True)
    testing.assert_exact(y, theirs[0].numpy())
    testing.assert_exact(indices, theirs[1].numpy())
    for kind in ("avg", "max"):
        name = f"adaptive_{kind}_pool{n}d"
        (dx,) = _gradients(lambda t, name=name: getattr(F, name)(t, size), y, x)
        _close(getattr(fc, f"{name}_backward")(y, x, size), dx, name)


def test_maxima_of_nan() -> None:
    x = np.random.default_rng(26).choice([np.nan, -np.inf, 0, 1], (2, 3, 11, 12))
    y, indices = fc.max_pool2d(x, 3, 2, 1, return_indices=True)
    theirs = F.max_pool2d(torch.from_numpy(x), 3, 2, 1, return_indices=True)
    testing.assert_exact(y, theirs[0].numpy())
    testing.assert_exact(indices, theirs[1].numpy())


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish", "gelu"])
def test_activations_and_their_gradients(name: str) -> None:
    function = torch.tanh if name == "tanh" else torch.sigmoid if name == "sigmoid" else getattr(F, name)
    x = np.concatenate([np.linspace(-9, 9, 100), [-3.0, 0.0, 3.0, 6.0]])
    dy = np.linspace(1, 2, x.size)
    _close(fc.activate(x, name), function(torch.from_numpy(x)), name)
    (dx,) = _gradients(function, dy, x)
    _close(fc.activate_backward(dy, x, name), dx, f"{name} backward")


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [(), (3,), (3, 4)], ids=str)
def test_cross_entropy(size: tuple[int, ...], weighted: bool, smoothing: float) -> None:
    rng = np.random.default_rng(28)
    logits = rng.standard_normal((6, 5, *size))
    weight = rng.random(5) if weighted else None
    theirs = {"weight": torch.from_numpy(weight) if weighted else None, "label_smoothing": smoothing}
    classes = rng.integers(0, 5, (6, *size))
    shares = np.moveaxis(rng.dirichlet(np.ones(5), (6, *size)), -1, 1).copy()
    for targets, ignored in ((classes, -100), (classes, 2), (shares, -100)):
        loss, gradient = nn.cross_entropy(
            logits, targets, weight=weight, ignore_index=ignored, label_smoothing=smoothing
        )
        t = torch.from_numpy(logits).requires_grad_()
        expected = F.cross_entropy(t, torch.from_numpy(targets), ignore_index=ignored, **theirs)
        expected.backward()
        _close(np.array(loss), expected.detach(), "loss")
        _close(gradient, t.grad, "gradient")


def _network() -> tuple[Any, nn.Sequential]:
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(36, 3),
    ).double()  # fmt: skip
    c = {"dtype": np.float64}
    ours = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, **c), nn.BatchNorm(4, **c), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(36, 3, **c),
    )  # fmt: skip
    ours.load_state_dict({name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
    return theirs, ours


def _their_groups(theirs: Any, decay: float) -> list[dict[str, Any]]:
    parameters = list(theirs.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay, "lr": 0.02},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0},
    ]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("grouped", [False, True], ids=["", "groups"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
        ("Adam", {"lr": 0.01, "weight_decay": 0.01}),
        ("AdamW", {"lr": 0.01}),
        ("RMSprop", {"lr": 0.01, "weight_decay": 0.01, "momentum": 0.5, "centered": True}),
    ],
    ids=["SGD", "Adam", "AdamW", "RMSprop"],
)
def test_a_network_with_the_weights_of_theirs_trains_alike(
    kind: str, options: dict[str, Any], grouped: bool, layout: str
) -> None:
    theirs, ours = _network()
    ours.to_layout(layout)
    rng = np.random.default_rng(29)
    x, t = rng.standard_normal((5, 2, 6, 6)), rng.integers(0, 3, 5)
    groups = nn.weight_decay_groups(ours, 0.02) if grouped else ours.parameters()
    if grouped:
        groups[0]["lr"] = 0.02
    optimizer = getattr(nn, kind)(groups, **options)
    other = getattr(torch.optim, kind)(_their_groups(theirs, 0.02) if grouped else theirs.parameters(), **options)
    for _ in range(3):
        y = ours(x if layout == "NCHW" else np.moveaxis(x, 1, -1))
        _, gradient = nn.cross_entropy(y, t)
        dx = ours.backward(gradient)
        optimizer.step()
        other.zero_grad()
        tx = torch.from_numpy(x).requires_grad_()
        F.cross_entropy(theirs(tx), torch.from_numpy(t)).backward()
        other.step()
        _close(dx if layout == "NCHW" else np.moveaxis(dx, -1, 1), tx.grad, "dx")
    for name, array in ours.state_dict().items():
        testing.assert_close(array, theirs.state_dict()[name].numpy(), 1e-8, name)
    x = x if layout == "NCHW" else np.moveaxis(x, 1, -1)
    testing.assert_close(nn.predict(ours, x), theirs.eval()(tx).detach().numpy(), 1e-8, "y")


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)], ids=str)
def test_linear(batch: tuple[int, ...]) -> None:
    rng = np.random.default_rng(27)
    x, w, b = rng.standard_normal((*batch, 7)), rng.standard_normal((5, 7)), rng.standard_normal(5)
    _close(fc.linear(x, w, b), F.linear(*map(torch.from_numpy, (x, w, b))), "y")
    dy = rng.standard_normal((*batch, 5))
    for got, want in zip(fc.linear_backward(dy, x, w, b), _gradients(F.linear, dy, x, w, b), strict=True):
        _close(got, want, "gradient")
