"""What every layer and network is: parameters with gradients, a forward and a backward call, a state to save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from ..spec import DTYPES, int_tuple

__all__ = ["Module", "Parameter", "Row", "Sequential", "Summary", "evaluating"]


class Parameter:
    """A learnable array, ``value``, and the gradient of the last backward call, ``grad`` (None before)."""

    __slots__ = ("__weakref__", "grad", "value")

    def __init__(self, value: np.ndarray) -> None:
        self.value = value
        self.grad: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"Parameter({self.value.shape}, {self.value.dtype})"


class Row(NamedTuple):
    """One layer in a summary."""

    name: str
    layer: str
    output_shape: tuple[int, ...]
    parameters: int


class Summary(tuple[Row, ...]):
    """The layers of a network with output shapes (without the batch) and parameter counts; print it."""

    __slots__ = ()

    @property
    def parameters(self) -> int:
        """Number of learnable elements."""
        return sum(row.parameters for row in self)

    def __str__(self) -> str:
        head = ("", "layer", "output shape", "parameters")
        lines = [head, *((r.name, r.layer, str(r.output_shape), f"{r.parameters:,}") for r in self)]
        lines.append(("", "total", "", f"{self.parameters:,}"))
        a, b, c, d = (max(map(len, column)) for column in zip(*lines, strict=True))
        return "\n".join(f"{n:<{a}}  {layer:<{b}}  {shape:<{c}}  {count:>{d}}" for n, layer, shape, count in lines)


class Module:
    """A layer or a network. A subclass holds parameters and calls fastconv's operators.

    It assigns ``Parameter`` and ``Module`` objects to attributes (found by name), lists in ``buffers`` the arrays
    that belong to its state without being learned, and defines ``forward`` and ``backward``. A forward call in
    training mode keeps what backward needs in ``_saved``; in evaluation mode nothing is kept or written, so that
    several threads may call one network.
    """

    buffers: tuple[str, ...] = ()

    training: bool = True
    _saved: Any = None

    def forward(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """From the gradient of the last forward call's result to that of its input.

        Sets ``grad`` of every parameter (a second call replaces, it does not add). With ``need_dx=False`` the
        gradient of the input is not computed and None is returned. RuntimeError without a forward call in
        training mode; each forward call serves one backward call.
        """
        raise NotImplementedError

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x)

    def _keep(self, saved: Any) -> None:
        self._saved = saved if self.training else None

    def _take(self) -> Any:
        saved, self._saved = self._saved, None
        if saved is None:
            raise RuntimeError(f"{self!r}: backward needs a forward call in training mode before it")
        return saved

    # ------------------------------------------------------------------------------------------- structure

    def children(self) -> dict[str, Module]:
        """The modules directly inside this one, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Module)}

    def modules(self) -> Iterator[tuple[str, Module]]:
        """This module and all inside it, with dotted names (its own is empty)."""
        yield "", self
        for name, child in self.children().items():
            for inner, module in child.modules():
                yield f"{name}.{inner}" if inner else name, module

    def parameters(self) -> dict[str, Parameter]:
        """Every learnable array with its gradient, by dotted name (``"0.weight"``)."""
        return {
            _join(path, name): value
            for path, module in self.modules()
            for name, value in vars(module).items()
            if isinstance(value, Parameter)
        }

    def train(self, mode: bool = True) -> Module:
        """Switch to training mode (or with False to evaluation mode); returns itself."""
        for _, module in self.modules():
            module.training = mode
            module._saved = None
        return self

    def eval(self) -> Module:
        """Switch to evaluation mode; returns itself."""
        return self.train(False)

    def seed(self, rng: np.random.Generator) -> None:
        """Make every random layer (dropout) draw from ``rng``."""
        for child in self.children().values():
            child.seed(rng)

    # ---------------------------------------------------------------------------------------------- shapes

    def _dtype(self) -> np.dtype:
        return next((p.value.dtype for p in self.parameters().values()), np.dtype(np.float32))

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the result for an input of ``input_shape``, both without the batch. Computes nothing."""
        # An empty batch runs through every operator's shape rules and none of its arithmetic.
        shape = int_tuple(input_shape, len(tuple(input_shape)), "input_shape", 1)
        with evaluating(self):
            return self(np.empty((0, *shape), self._dtype())).shape[1:]

    def summary(self, input_shape: tuple[int, ...]) -> Summary:
        """Layers, output shapes and parameter counts for an input of ``input_shape`` (without the batch)."""
        return Summary(self._rows("", tuple(input_shape)))

    def _rows(self, path: str, shape: tuple[int, ...]) -> list[Row]:
        count = sum(p.value.size for p in self.parameters().values())
        return [Row(path, repr(self), self.output_shape(shape), count)]

    # ----------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of every parameter and buffer, by dotted name."""
        return {name: array.copy() for name, array in self._state().items()}

    def _state(self) -> dict[str, np.ndarray]:
        state = {name: p.value for name, p in self.parameters().items()}
        for path, module in self.modules():
            state |= {_join(path, name): getattr(module, name) for name in module.buffers}
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy ``state`` into the parameters and buffers.

        Raises KeyError if a name is missing or too many, ValueError for another shape, TypeError for an array that
        is not of a float dtype; then nothing was copied.
        """
        own = self._state()
        missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or extra:
            raise KeyError(f"state does not fit the network: missing {missing}, unknown {extra}")
        for name, array in own.items():
            given = np.asarray(state[name])
            if given.shape != array.shape:
                raise ValueError(f"state[{name!r}] has shape {given.shape}: allowed is {array.shape}")
            if given.dtype.name not in DTYPES:
                raise TypeError(f"state[{name!r}] has dtype {given.dtype}: allowed is {' or '.join(DTYPES)}")
        for name, array in own.items():
            array[...] = state[name]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to a safetensors file. ImportError without that package, OSError if it cannot be written."""
        safetensors = _safetensors()
        arrays = {name: np.ascontiguousarray(array) for name, array in self._state().items()}
        try:
            safetensors.numpy.save_file(arrays, path)
        except safetensors.SafetensorError as error:
            raise OSError(f"path={str(path)!r} cannot be written: {error}") from error

    def load(self, path: str | PathLike[str]) -> None:
        """Read the state from a safetensors file; errors as in ``load_state_dict``, OSError if it cannot be read."""
        safetensors = _safetensors()
        try:
            state = safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"path={str(path)!r} is not a safetensors file: {error}") from error
        self.load_state_dict(state)


class Sequential(Module):
    """Modules one after the other: ``Sequential(Conv2d(1, 8, 3), ReLU(), Flatten())``. Index and iterate it."""

    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"layers[{i}] is a {type(layer).__name__}: allowed is a Module")
        self.layers = layers

    def children(self) -> dict[str, Module]:
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Module:
        """A layer, or for a slice a ``Sequential`` that shares those layers."""
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def forward(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer(x)
        return x

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        # Below the first layer that learns, only the gradient of the input is left to compute.
        first = 0 if need_dx else next((i for i, m in enumerate(self.layers) if m.parameters()), len(self.layers))
        gradient: np.ndarray | None = dy
        for i in range(len(self.layers) - 1, first - 1, -1):
            gradient = self.layers[i].backward(gradient, need_dx=need_dx or i > first)
        return gradient if need_dx else None

    def _rows(self, path: str, shape: tuple[int, ...]) -> list[Row]:
        rows = []
        for name, layer in self.children().items():
            rows += layer._rows(_join(path, name), shape)
            shape = rows[-1].output_shape
        return rows


@contextmanager
def evaluating(model: Module) -> Iterator[Module]:
    """Evaluation mode inside a with statement; afterwards each module is in its former mode."""
    modes = [(module, module.training) for _, module in model.modules()]
    try:
        yield model.eval()
    finally:
        for module, mode in modes:
            module.training = mode


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("saving and loading weights needs safetensors: pip install safetensors") from error
    return safetensors
