"""What networks compute between convolutions: ``fastconv bench --suite maps``. A line of ``_ALL`` adds a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import prod
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arrays import empty

__all__ = ["ACTIVATIONS", "ENTRIES", "SIZES", "Fused", "Map", "arrays_of"]

#: (n, c, h, w) of the arrays: those that lie in a cache, and those that do not.
SIZES = {"cached": (8, 64, 28, 28), "memory": (16, 64, 112, 112)}

#: Columns of the same arrays as rows, for what goes along those.
COLUMNS = 1024

Run = Callable[[], Any]


class Entry(NamedTuple):
    """A function: of which arrays, how many of their size it reads and writes, and what runs it, in fastconv and torch.

    ``operands``: ``x``, ``y``, ``dy`` of the whole size, ``s`` (n, c, 1, 1), ``w`` and ``v`` (c,); numbers from
    -0.5 to 0.5. Both are given the package and the arrays: these, ``out`` for a result, what ``rows`` makes of an array
    with rows of 1024, and ``classes``, a number for each row.
    """

    family: str
    name: str
    operands: str
    moved: float
    ours: Callable[[Any, Any], Run]
    theirs: Callable[[Any, Any], Run]


def _activation(name: str, *numbers: float) -> Entry:
    return Entry(
        "activations", name, "x", 2,
        lambda fc, a: partial(getattr(fc, name), a.x, out=a.out),
        lambda torch, a: partial(getattr(torch.ops.aten, name).out, a.x, *numbers, out=a.out),
    )  # fmt: skip


def _slope(name: str, theirs: Callable[[Any, Any], Run]) -> Entry:
    return Entry(
        "slopes", f"{name}_backward", "x dy", 3,
        lambda fc, a: partial(getattr(fc, f"{name}_backward"), a.dy, a.x, out=a.out), theirs,
    )  # fmt: skip


def _reduction(name: str, theirs: str, *dim: Any) -> Entry:
    """Over all axes, or of the rows."""
    return Entry(
        "reductions", f"{name} of rows" if dim else f"{name} of all", "x", 1,
        lambda fc, a: partial(getattr(fc, name), a.rows(a.x), *dim),
        lambda torch, a: partial(getattr(torch, theirs), a.rows(a.x), *dim),
    )  # fmt: skip


def _loss(name: str) -> Entry:
    return Entry(
        "losses", name, "x y", 2,
        lambda fc, a: partial(getattr(fc, name), a.x, a.y),
        lambda torch, a: partial(getattr(torch.nn.functional, name), a.x, a.y),
    )  # fmt: skip


def _slope_of_loss(name: str, *options: float) -> Entry:
    """Of the mean, which is 1 in torch's numbers of reductions."""
    return Entry(
        "losses", f"{name}_backward", "x y", 3,
        lambda fc, a: partial(getattr(fc, f"{name}_backward"), np.ones((), a.x.dtype), a.x, a.y, out=a.out),
        lambda torch, a: partial(
            getattr(torch.ops.aten, f"{name}_backward").grad_input, torch.ones(()), a.x, a.y, 1, *options,
            grad_input=a.out,
        ),
    )  # fmt: skip


def _moved(function: Callable[..., None], param: Any, *others: Any) -> Run:
    """What changes ``param`` in place, which is the result."""

    def run() -> Any:
        function(param, *others)
        return param

    return run


def _step(name: str, remembered: str, kind: str, **options: Any) -> Entry:
    """A step of an optimizer, by torch's own in one pass where it has that."""

    def ours(fc: Any, a: Any) -> Run:
        memory, numbers = [np.zeros_like(a.x) for _ in remembered.split()], count(1)

        def step(param: Any, *others: Any) -> None:
            number = {"step": next(numbers)} if "adam" in name else {}
            getattr(fc, name)(param, *others, **number, **options)

        return _moved(step, a.x, a.dy, *memory)

    def theirs(torch: Any, a: Any) -> Run:
        parameter = torch.nn.Parameter(a.x)
        parameter.grad = a.dy
        fused = {"fused": True} if kind != "RMSprop" else {}
        optimizer = getattr(torch.optim, kind)([parameter], **options, **fused)
        return _moved(lambda _: optimizer.step(), parameter.detach())

    return Entry("updates", name, "x dy", 3 + 2 * len(remembered.split()), ours, theirs)


def _norm(name: str, backward: bool, ours: Callable[[Any, Any], Run], theirs: Callable[[Any, Any], Run]) -> Entry:
    if backward:
        return Entry("norms", f"{name}_backward", "x dy", 3, ours, theirs)
    return Entry("norms", name, "x", 2, ours, theirs)


def _norm_of_images(backward: bool) -> Entry:
    def ours(fc: Any, a: Any) -> Run:
        if not backward:
            return partial(fc.batch_norm, a.x, None, None, a.w, a.v, True, out=a.out)
        _, *statistics = fc.batch_norm(a.x, None, None, a.w, a.v, True, return_statistics=True)
        return partial(fc.batch_norm_backward, a.dy, a.x, None, None, a.w, a.v, True, statistics=statistics)

    def theirs(torch: Any, a: Any) -> Run:
        aten = torch.ops.aten
        forward = partial(aten.native_batch_norm, a.x, a.w, a.v, None, None, True, 0.1, 1e-5)
        if not backward:
            return forward
        _, *saved = forward()
        return partial(
            aten.native_batch_norm_backward, a.dy, a.x, a.w, None, None, *saved, True, 1e-5, [True, True, True]
        )

    return _norm("batch_norm", backward, ours, theirs)


def _norm_of_rows(backward: bool) -> Entry:
    def ours(fc: Any, a: Any) -> Run:
        x, dy, w = a.rows(a.x), a.rows(a.dy if backward else a.x), a.row
        if not backward:
            return partial(fc.layer_norm, x, COLUMNS, w, w, out=a.rows(a.out))
        return partial(fc.layer_norm_backward, dy, x, COLUMNS, w, w)

    def theirs(torch: Any, a: Any) -> Run:
        aten, x, w = torch.ops.aten, a.rows(a.x), a.row
        if not backward:
            return partial(aten.native_layer_norm, x, [COLUMNS], w, w, 1e-5)
        _, *saved = aten.native_layer_norm(x, [COLUMNS], w, w, 1e-5)
        return partial(aten.native_layer_norm_backward, a.rows(a.dy), x, [COLUMNS], *saved, w, w, [True, True, True])

    return _norm("layer_norm", backward, ours, theirs)


def _softmax(name: str, aten: str) -> Entry:
    return Entry(
        "softmax", name, "x", 2,
        lambda fc, a: partial(getattr(fc, name), a.rows(a.x), 1, out=a.rows(a.out)),
        lambda torch, a: partial(getattr(torch.ops.aten, aten).out, a.rows(a.x), 1, False, out=a.rows(a.out)),
    )  # fmt: skip


def _softmax_gradient(torch: Any, a: Any) -> Run:
    y = a.rows(a.x).softmax(1)
    out = a.rows(a.out)
    return partial(torch.ops.aten._softmax_backward_data.out, a.rows(a.dy), y, 1, y.dtype, grad_input=out)


def _cross_entropy(torch: Any, a: Any) -> Run:
    return partial(torch.nn.functional.cross_entropy, a.rows(a.x), a.classes)


def _broadcast(name: str, b: str) -> Entry:
    return Entry(
        "broadcasts", f"{name} by {'channels' if b == 's' else 'all'}", f"x {b}", 2 if b == "s" else 3,
        lambda fc, a: partial(getattr(fc, name), a.x, getattr(a, b), out=a.out),
        lambda torch, a: partial(getattr(torch, name), a.x, getattr(a, b), out=a.out),
    )  # fmt: skip


def _turned(name: str, source: tuple[int, int, int], order: tuple[int, int, int]) -> Entry:
    """Images into another layout: axes after the batch, of (c, h, w) those of the source, and which goes where."""
    letters = ["CHW"[axis] for axis in source]
    words = "N" + "".join(letters), "N" + "".join([letters[axis] for axis in order])

    def shapes(a: Any) -> tuple[list[int], list[int]]:
        n, *size = a.x.shape
        shape = [size[axis] for axis in source]
        return [n, *shape], [n, *[shape[axis] for axis in order]]

    def ours(fc: Any, a: Any) -> Run:
        given, made = shapes(a)
        return partial(fc.to_layout, a.x.reshape(given), *words, out=a.out.reshape(made))

    def theirs(torch: Any, a: Any) -> Run:
        given, made = shapes(a)
        return partial(a.out.reshape(made).copy_, a.x.reshape(given).permute(0, *[1 + axis for axis in order]))

    return Entry("copies", name, "x", 2, ours, theirs)


def _flipped(fc: Any, a: Any) -> Run:
    return partial(fc.to_layout, a.x[..., ::-1], "NCHW", "NCHW", out=a.out)


def _resized(mode: str, layout: str, backward: bool) -> Entry:
    """Of half the size to the whole one; the smaller images are a part of x, and its gradient a part of out."""

    def views(a: Any) -> tuple[Any, Any, Any]:
        n, c, h, w = a.x.shape
        small, large = (n, c, h // 2, w // 2), (n, c, h // 2 * 2, w // 2 * 2)
        if layout == "NHWC":
            small, large = (n, h // 2, w // 2, c), (n, h // 2 * 2, w // 2 * 2, c)
        parts = (a.x, small), (a.dy if backward else a.out, large), (a.out, small)
        return tuple([whole.reshape(-1)[: prod(shape)].reshape(shape) for whole, shape in parts])

    def ours(fc: Any, a: Any) -> Run:
        x, y, dx = views(a)
        kw = {"scale_factor": 2, "mode": mode, "layout": layout}
        return (
            partial(fc.interpolate_backward, y, x, **kw, out=dx)
            if backward
            else partial(fc.interpolate, x, **kw, out=y)
        )

    def theirs(torch: Any, a: Any) -> Run:
        x, y, dx = (v.permute(0, 3, 1, 2) if layout == "NHWC" else v for v in views(a))
        aten, how = torch.ops.aten, () if mode == "nearest" else (False,)
        run = partial(getattr(aten, f"upsample_{mode}2d").out, x, y.shape[2:], *how, out=y)
        if backward:
            function = getattr(aten, f"upsample_{mode}2d_backward").grad_input
            run = partial(function, y, y.shape[2:], x.shape, *how, grad_input=dx)
        return run if layout == "NCHW" else lambda: run().permute(0, 2, 3, 1)

    name = f"{mode}{'_backward' if backward else ''} {layout}"
    return Entry("resizing", name, "x dy" if backward else "x", 1.25, ours, theirs)


_ALL = (
    _activation("relu"), _activation("silu"), _activation("gelu"), _activation("sigmoid"), _activation("tanh"),
    _activation("mish"), _activation("hardswish"), _activation("softplus"), _activation("elu"), _activation("exp"),
    _slope("relu", lambda t, a: partial(t.ops.aten.threshold_backward.grad_input, a.dy, a.x, 0, grad_input=a.out)),
    _slope("silu", lambda t, a: partial(t.ops.aten.silu_backward.grad_input, a.dy, a.x, grad_input=a.out)),
    _slope("gelu", lambda t, a: partial(t.ops.aten.gelu_backward.grad_input, a.dy, a.x, grad_input=a.out)),
    _slope("sigmoid", lambda t, a: partial(
        t.ops.aten.sigmoid_backward.grad_input, a.dy, a.x.sigmoid(), grad_input=a.out)),
    _slope("tanh", lambda t, a: partial(t.ops.aten.tanh_backward.grad_input, a.dy, a.x.tanh(), grad_input=a.out)),
    _slope("hardswish", lambda t, a: partial(t.ops.aten.hardswish_backward.out, a.dy, a.x, out=a.out)),
    _broadcast("add", "y"), _broadcast("multiply", "y"), _broadcast("multiply", "s"), _broadcast("maximum", "y"),
    _reduction("sum", "sum"), _reduction("mean", "mean"), _reduction("amax", "amax"), _reduction("sum", "sum", 1),
    _reduction("var", "var", 1), _reduction("amax", "amax", 1), _reduction("argmax", "argmax", 1),
    _norm_of_images(False), _norm_of_images(True), _norm_of_rows(False), _norm_of_rows(True),
    _softmax("softmax", "_softmax"), _softmax("log_softmax", "_log_softmax"),
    Entry("softmax", "softmax_backward", "x dy", 3, lambda fc, a: partial(
        fc.softmax_backward, a.rows(a.dy), a.rows(a.x), 1, y=fc.softmax(a.rows(a.x), 1), out=a.rows(a.out)),
        _softmax_gradient),
    Entry("losses", "cross_entropy", "x", 1,
          lambda fc, a: partial(fc.cross_entropy, a.rows(a.x), a.classes), _cross_entropy),
    _loss("mse_loss"), _loss("l1_loss"), _loss("smooth_l1_loss"), _loss("binary_cross_entropy_with_logits"),
    _slope_of_loss("mse_loss"), _slope_of_loss("smooth_l1_loss", 1.0),
    _step("sgd_step", "momentum_buffer", "SGD", lr=0.1, momentum=0.9),
    _step("adam_step", "exp_avg exp_avg_sq", "Adam", lr=0.1),
    _step("adamw_step", "exp_avg exp_avg_sq", "AdamW", lr=0.1),
    _step("rmsprop_step", "square_avg", "RMSprop", lr=0.1),
    _turned("NCHW to NHWC", (0, 1, 2), (1, 2, 0)), _turned("NHWC to NCHW", (1, 2, 0), (2, 0, 1)),
    Entry("copies", "flip", "x", 2, _flipped, lambda torch, a: partial(torch.flip, a.x, (3,))),
    *[_resized(mode, layout, backward) for mode in ("nearest", "bilinear") for layout in ("NCHW", "NHWC")
      for backward in (False, True)],
)  # fmt: skip

ENTRIES = {entry.name: entry for entry in _ALL}

#: Those that are fused into 1x1 layers; the first is what the others are compared with.
ACTIVATIONS = ("relu", "silu", "sigmoid", "gelu", "tanh")


@dataclass(frozen=True)
class Map:
    """A function of ``ENTRIES`` on arrays of a size, as a layer: its operations are the bytes that it moves."""

    network: str
    layer: str
    shape: tuple[int, ...]
    count: int = 1
    op: ClassVar[str] = "map"

    @property
    def kind(self) -> str:
        return f"{ENTRIES[self.layer].family}, {self.network}"

    def operations(self, n: int) -> int:
        return int(4 * prod(self.shape) * ENTRIES[self.layer].moved)

    def arrays(self, n: int) -> dict[str, tuple[int, ...]]:
        small = {"s": (*self.shape[:2], 1, 1)}
        return {name: small.get(name, self.shape) for name in ENTRIES[self.layer].operands.split()}

    def __str__(self) -> str:
        return "x".join(map(str, self.shape))


@dataclass(frozen=True)
class Fused:
    """A 1x1 layer with as many channels on both sides, and an activation that is the contender's option."""

    channels: int
    size: tuple[int, int] = (112, 112)
    network: str = "1x1"
    count: int = 1
    op: ClassVar[str] = "fused"

    @property
    def layer(self) -> str:
        return f"{self.channels} channels"

    kind = layer

    def operations(self, n: int) -> int:
        return 2 * n * self.channels**2 * prod(self.size)

    def arrays(self, n: int) -> dict[str, tuple[int, ...]]:
        return {"x": (n, self.channels, *self.size), "w": (self.channels, self.channels, 1, 1)}

    def __str__(self) -> str:
        return f"{self.channels}->{self.channels} 1x1 @{self.size[0]}x{self.size[1]}"


def arrays_of(problem: Any, own: Callable[[np.ndarray], Any] = lambda array: array) -> SimpleNamespace:
    """What an ``Entry`` is given of a problem, each array made one of the contender's ``own``."""
    arrays = problem.operands()
    shape, dtype = problem.layer.shape, problem.dtype
    rng = np.random.default_rng(1)
    more = {
        "out": empty(shape, dtype),
        "w": np.asarray(rng.random(shape[1]), dtype),
        "v": np.asarray(rng.random(shape[1]), dtype),
        "row": np.asarray(rng.random(COLUMNS), dtype),
        "classes": rng.integers(0, COLUMNS, prod(shape) // COLUMNS),
    }
    made = {name: own(array) for name, array in (arrays | more).items()}
    return SimpleNamespace(**made, rows=lambda array: array.reshape(-1, COLUMNS))
