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


@pytest.mark.parametrize(
    ("kind", "function", "remembered", "options"),
    [
        ("SGD", "sgd_step", (), {"lr": 0.1, "weight_decay": 0.1}),
        ("SGD", "sgd_step", ("momentum_buffer",), {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("Adam", "adam_step", ("exp_avg", "exp_avg_sq"), {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.1}),
        ("AdamW", "adamw_step", ("exp_avg", "exp_avg_sq"), {"lr": 0.1}),
        ("RMSprop", "rmsprop_step", ("square_avg",), {"alpha": 0.8}),
        ("RMSprop", "rmsprop_step", ("square_avg", "grad_avg", "momentum_buffer"), {"momentum": 0.5, "lr": 0.1}),
    ],
)  # fmt: skip
def test_steps_of_optimizers(kind: str, function: str, remembered: tuple[str, ...], options: dict[str, Any]) -> None:
    """With torch's defaults for what is not said; what is remembered has its names there, too."""
    rng = np.random.default_rng(38)
    w, memory = rng.standard_normal((5, 7)), {name: np.zeros((5, 7)) for name in remembered}
    theirs = torch.from_numpy(w.copy()).requires_grad_()
    centered = {"centered": True} if "grad_avg" in remembered else {}
    optimizer = getattr(torch.optim, kind)([theirs], **options, **centered)
    for step in range(1, 5):
        g = rng.standard_normal((5, 7))
        theirs.grad = torch.from_numpy(g)
        optimizer.step()
        getattr(fc, function)(w, g, **memory, **({"step": step} if "exp_avg" in memory else {}), **options)
        testing.assert_close(w, theirs.detach().numpy(), 1e-12, "param")
        for name, array in memory.items():
            testing.assert_close(array, optimizer.state[theirs][name].numpy(), 1e-12, name)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)], ids=str)
def test_linear(batch: tuple[int, ...]) -> None:
    rng = np.random.default_rng(27)
    x, w, b = rng.standard_normal((*batch, 7)), rng.standard_normal((5, 7)), rng.standard_normal(5)
    _close(fc.linear(x, w, b), F.linear(*map(torch.from_numpy, (x, w, b))), "y")
    dy = rng.standard_normal((*batch, 5))
    for got, want in zip(fc.linear_backward(dy, x, w, b), _gradients(F.linear, dy, x, w, b), strict=True):
        _close(got, want, "gradient")


# ------------------------------------------------------------------------- reductions, normalizations and losses


def _alike(ours: Any, theirs: Callable[..., Any], backward: Any, *arrays: np.ndarray) -> None:
    """A function of arrays, and its gradients in the first of them, or in as many as come back."""
    dy = np.asarray(np.random.default_rng(30).standard_normal(np.shape(ours)))
    _close(np.asarray(ours), theirs(*map(torch.from_numpy, arrays)).detach(), "y")
    found = backward(dy)
    found = [a for a in (found if isinstance(found, tuple) else (found,)) if a is not None]
    for i, (got, want) in enumerate(zip(found, _gradients(theirs, dy, *arrays), strict=False)):
        _close(got, want, f"gradient {i}")


@pytest.mark.parametrize("dim", [None, 0, -1, (0, 2)], ids=str)
@pytest.mark.parametrize("keepdim", [False, True])
def test_reductions(dim: Any, keepdim: bool) -> None:
    x = np.random.default_rng(31).integers(-3, 4, (4, 3, 5)).astype("f8")
    t, options = torch.from_numpy(x), {"keepdim": keepdim}
    for name in ("sum", "mean", "var", "amax", "amin"):
        theirs = getattr(torch, name)
        more = {"correction": 2} if name == "var" else {}
        everything = {"dim": (0, 1, 2) if dim is None else dim, **options, **more}

        def of(x: Any, theirs: Any = theirs, everything: dict[str, Any] = everything) -> Any:
            return theirs(x, **everything)

        y = getattr(fc, name)(x, dim, **options, **more)
        backward = getattr(fc, f"{name}_backward")
        _alike(y, of, lambda dy, b=backward, m=more: b(dy, x, dim, **options, **m), x)
    if not isinstance(dim, tuple):
        # torch promises no order among equal ones.
        x = np.random.default_rng(32).permutation(60).reshape(4, 3, 5).astype("f8")
        t = torch.from_numpy(x)
        testing.assert_exact(fc.argmax(x, dim, keepdim), torch.argmax(t, dim, keepdim).numpy())
        testing.assert_exact(fc.argmin(x, dim, keepdim), torch.argmin(t, dim, keepdim).numpy())


@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 6), (2, 4, 3, 5), (2, 4, 3, 2, 2)], ids=str)
def test_normalizations(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(33)
    x, w, b = rng.standard_normal(shape), rng.standard_normal(4), rng.standard_normal(4)
    rows = [rng.standard_normal(shape[1:]) for _ in range(2)]
    m, v = rng.standard_normal(4), rng.random(4) + 0.1
    tm, tv = torch.from_numpy(m.copy()), torch.from_numpy(v.copy())
    y = fc.batch_norm(x, m, v, w, b, True, 0.3)
    _close(y, F.batch_norm(torch.from_numpy(x), tm, tv, torch.from_numpy(w), torch.from_numpy(b), True, 0.3), "y")
    _close(m, tm, "running mean")
    _close(v, tv, "running variance")
    for training in (True, False):
        _alike(
            fc.batch_norm(x, m.copy(), v.copy(), w, b, training),
            lambda x, w, b, t=training: F.batch_norm(x, tm.clone(), tv.clone(), w, b, t),
            lambda dy, t=training: fc.batch_norm_backward(dy, x, m, v, w, b, t), x, w, b,
        )  # fmt: skip
    _alike(
        fc.layer_norm(x, shape[1:], *rows),
        lambda x, w, b: F.layer_norm(x, shape[1:], w, b),
        lambda dy: fc.layer_norm_backward(dy, x, shape[1:], *rows), x, *rows,
    )  # fmt: skip
    _alike(
        fc.rms_norm(x, shape[1:], rows[0]),
        lambda x, w: F.rms_norm(x, shape[1:], w),
        lambda dy: fc.rms_norm_backward(dy, x, shape[1:], rows[0]), x, rows[0],
    )  # fmt: skip
    _alike(
        fc.group_norm(x, 2, w, b),
        lambda x, w, b: F.group_norm(x, 2, w, b),
        lambda dy: fc.group_norm_backward(dy, x, 2, w, b), x, w, b,
    )  # fmt: skip
    for p in (1, 2.0, 3.5, np.inf):
        _alike(
            fc.normalize(x, p),
            lambda x, p=p: F.normalize(x, p),
            lambda dy, p=p: fc.normalize_backward(dy, x, p), x,
        )  # fmt: skip
    if len(shape) > 2:
        running = [rng.standard_normal(4), rng.random(4)]
        theirs = [torch.from_numpy(r.copy()) for r in running]
        fc.instance_norm(x, *running)
        F.instance_norm(torch.from_numpy(x), *theirs)
        for got, want in zip(running, theirs, strict=True):
            _close(got, want, "running")
        _alike(
            fc.instance_norm(x, None, None, w, b),
            lambda x, w, b: F.instance_norm(x, None, None, w, b),
            lambda dy: fc.instance_norm_backward(dy, x, None, None, w, b), x, w, b,
        )  # fmt: skip
        for size in (1, 2, 3, 5):
            _alike(
                fc.local_response_norm(x, size, 0.5, 0.6, 2),
                lambda x, s=size: F.local_response_norm(x, s, 0.5, 0.6, 2),
                lambda dy, s=size: fc.local_response_norm_backward(dy, x, s, 0.5, 0.6, 2), x,
            )  # fmt: skip


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax(dim: int) -> None:
    x = np.random.default_rng(34).standard_normal((4, 5, 6)) * 3
    for name in ("softmax", "log_softmax"):
        backward, theirs = getattr(fc, f"{name}_backward"), getattr(F, name)
        _alike(getattr(fc, name)(x, dim), lambda x, f=theirs: f(x, dim), lambda dy, b=backward: b(dy, x, dim), x)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [(), (3, 4)], ids=str)
def test_losses_of_classes(size: tuple[int, ...], weighted: bool, smoothing: float, reduction: str) -> None:
    rng = np.random.default_rng(35)
    x, weight = rng.standard_normal((6, 5, *size)), rng.random(5) if weighted else None
    classes = rng.integers(0, 5, (6, *size))
    shares = np.moveaxis(rng.dirichlet(np.ones(5), (6, *size)), -1, 1).copy()
    w = None if weight is None else torch.from_numpy(weight)
    for target, ignored in ((classes, -100), (classes, 2), (shares, -100)):
        options = {"ignore_index": ignored, "reduction": reduction, "label_smoothing": smoothing}
        t = torch.from_numpy(target)
        _alike(
            fc.cross_entropy(x, target, weight, **options),
            lambda x, t=t, o=options: F.cross_entropy(x, t, w, **o),
            lambda dy, t=target, o=options: fc.cross_entropy_backward(dy, x, t, weight, **o), x,
        )  # fmt: skip
    options = {"ignore_index": 1, "reduction": reduction}
    _alike(
        fc.nll_loss(x, classes, weight, **options),
        lambda x: F.nll_loss(x, torch.from_numpy(classes), w, **options),
        lambda dy: fc.nll_loss_backward(dy, x, classes, weight, **options), x,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # torch's own advice about kl_div
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_losses_of_elements(reduction: str) -> None:
    rng = np.random.default_rng(36)
    x, t, p, q, w = *rng.standard_normal((2, 4, 5)), *rng.random((2, 4, 5)), rng.random(5)
    for name, a, target, options in (
        ("mse_loss", x, t, {}), ("l1_loss", x, t, {}), ("huber_loss", x, t, {"delta": 0.7}),
        ("smooth_l1_loss", x, t, {"beta": 0.3}), ("smooth_l1_loss", x, t, {"beta": 0.0}),
        ("binary_cross_entropy", p, q, {"weight": w}), ("binary_cross_entropy_with_logits", x, q, {}),
        ("binary_cross_entropy_with_logits", x, q, {"weight": w, "pos_weight": w + 1}),
        ("kl_div", np.log(p), q, {}), ("kl_div", np.log(p), np.log(q), {"log_target": True}),
    ):  # fmt: skip
        theirs = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        backward, other = getattr(fc, f"{name}_backward"), getattr(F, name)
        _alike(
            getattr(fc, name)(a, target, reduction=reduction, **options),
            lambda a, f=other, t=target, o=theirs: f(a, torch.from_numpy(t), reduction=reduction, **o),
            lambda dy, b=backward, a=a, t=target, o=options: b(dy, a, t, reduction=reduction, **o), a,
        )  # fmt: skip
    options = {"reduction": "batchmean"}
    _close(fc.kl_div(np.log(p), q, **options), F.kl_div(*map(torch.from_numpy, (np.log(p), q)), **options), "batchmean")


def test_what_is_timed_beside_torch_is_the_same_function() -> None:
    """Of ``fastconv bench --suite maps``: what ours and theirs compute of the same arrays."""
    from fastconv.bench import layers, maps
    from fastconv.bench.peers import ours
    from fastconv.bench.peers import torch as theirs

    grad_enabled = torch.is_grad_enabled()
    try:
        peers = ours.Peer(fc.get_num_threads()), theirs.Peer(torch.get_num_threads())
        for name in maps.ENTRIES:
            problem = layers.Problem(maps.Map("cached", name, (8, 64, 2, 4)), 8)
            a, b = (v.array(v.run()) for peer in peers for v in peer.prepare(problem).values())
            testing.assert_close(a, b.astype(np.float64), 1e-5 * np.maximum(np.abs(b), 1), name)
    finally:
        torch.set_grad_enabled(grad_enabled)


# ------------------------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding(mode: str) -> None:
    rng = np.random.default_rng(37)
    for shape, pad in (
        ((2, 3, 7), (3, 2)), ((2, 3, 7), (6, 0)), ((2, 3, 7), (-2, 3)), ((2, 3, 7), (2, -1)), ((2, 3, 7), (-1, -2)),
        ((2, 3, 6, 5), (1, 4, 5, 0)), ((2, 3, 6, 5), (-1, -1, 2, 2)), ((1, 2, 4, 5, 6), (2, 3, 1, 1, 3, 0)),
    ):  # fmt: skip
        x = rng.standard_normal(shape)
        _alike(
            fc.pad(x, pad, mode), lambda x, p=pad: F.pad(x, p, mode),
            lambda dy, x=x, p=pad: fc.pad_backward(dy, x, p, mode), x,
        )  # fmt: skip
    if mode == "constant":
        pad = (1, 0, 0, 2, 1, 1, -1, 2)
        x = rng.standard_normal((2, 3, 4, 5))
        _alike(fc.pad(x, pad, value=1.5), lambda x: F.pad(x, pad, value=1.5), lambda dy: fc.pad_backward(dy, x, pad), x)
    for pad in ((7, 0), (0, 8), (-8, 0)):
        refused = []
        for function, argument in ((fc.pad, np.ones((2, 3, 7))), (F.pad, torch.ones(2, 3, 7))):
            try:
                function(argument, pad, mode)
            except (ValueError, RuntimeError):
                refused.append(function)
        assert len(refused) in (0, 2), (pad, refused)


def test_shuffles() -> None:
    rng = np.random.default_rng(38)
    x, large, few = (rng.standard_normal(shape) for shape in ((2, 18, 4, 5), (2, 3, 8, 6), (2, 12, 3, 4)))
    _alike(fc.pixel_shuffle(x, 3), lambda x: F.pixel_shuffle(x, 3), lambda dy: fc.pixel_shuffle_backward(dy, x, 3), x)
    _alike(
        fc.pixel_unshuffle(large, 2), lambda x: F.pixel_unshuffle(x, 2),
        lambda dy: fc.pixel_unshuffle_backward(dy, large, 2), large,
    )  # fmt: skip
    # (torch has no gradient of it.)
    _close(fc.channel_shuffle(few, 3), F.channel_shuffle(torch.from_numpy(few), 3), "channel_shuffle")
    _alike(
        fc.concat((few, few), 1), lambda x: torch.concat((x, x), 1),
        lambda dy: np.sum(fc.concat_backward(dy, (few, few), 1), 0), few,
    )  # fmt: skip
    for sections in (5, [3, 0, 9]):
        parts, theirs = fc.split(few, sections, 1), torch.split(torch.from_numpy(few), sections, 1)
        for ours, other in zip(parts, theirs, strict=True):
            _close(ours, other, "split")


#: Of images, sizes or scales. (Such that positions in float32, as those of torch's nearest, are right.)
_SIZES = [
    ((2, 3, 7), {"size": 12}), ((2, 3, 9), {"scale_factor": 0.6}), ((2, 3, 5, 8), {"size": (11, 3)}),
    ((1, 4, 6, 5), {"scale_factor": (2.0, 3.4)}), ((1, 2, 9, 7), {"scale_factor": 0.7, "recompute_scale_factor": True}),
    ((2, 2, 1, 4), {"size": (5, 1)}), ((1, 2, 3, 4, 5), {"size": (7, 2, 9)}), ((1, 2, 3, 4, 5), {"scale_factor": 2.5}),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "options"), _SIZES, ids=str)
def test_interpolation(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    x = np.random.default_rng(40).standard_normal(shape)
    smooth = {3: ["linear"], 4: ["bilinear", "bicubic"], 5: ["trilinear"]}[x.ndim]
    ways: list[dict[str, Any]] = [{"mode": mode} for mode in ("nearest", "nearest-exact", *smooth)]
    ways += [{"mode": mode, "align_corners": aligned} for mode in smooth for aligned in (True, False)]
    ways += [{"mode": mode, "antialias": True} for mode in smooth if x.ndim == 4]
    for way in ways:
        kw = {**options, **way}
        _alike(
            fc.interpolate(x, **kw), lambda x, kw=kw: F.interpolate(x, **kw),
            lambda dy, kw=kw: fc.interpolate_backward(dy, x, **kw), x,
        )  # fmt: skip
