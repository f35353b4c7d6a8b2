"""What every layer and network is: parameters with gradients, a forward and a backward call, a state to save."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from typing import Any, Self

import numpy as np

from ..arguments import shown
from ..spec import DTYPES, int_tuple
from .losses import as_numbers
from .parameter import Parameter
from .summary import Row, Summary
from .tape import Tape, current_tape, evaluating, is_evaluating

__all__ = ["CHANNEL_AXIS", "Module", "join"]


class Module:
    """A layer or a network.

    A subclass assigns ``Parameter`` and ``Module`` objects to attributes, also inside lists, tuples and dicts, lists in
    ``buffers`` the arrays that belong to its state without being learned, and defines ``forward`` as ordinary Python:
    it calls modules, in any order and as often as it likes, and ``nn.add`` and ``nn.concatenate`` where branches meet.
    A layer that computes something itself says so with ``nn.record``. There is no ``backward`` to write: in training
    mode a call is recorded, the gradients follow.

    >>> class Residual(nn.Module):
    ...     def __init__(self, channels):
    ...         self.convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
    ...         self.relu = nn.ReLU()
    ...     def forward(self, x):
    ...         return self.relu(nn.add(x, self.convs[1](self.relu(self.convs[0](x)))))

    What a recorded call computes, its result too, is read-only, since backward reads it. In evaluation mode nothing is
    recorded or written: several threads may call one network. Train it in one.
    """

    buffers: tuple[str, ...] = ()
    #: Names that torch has in a state beside these, and that are not read.
    ignored: tuple[str, ...] = ()

    #: Of the arrays that it takes and returns; "NCHW" and "NHWC" stand for any rank.
    layout = "NCHW"

    _training = True

    def __init_subclass__(cls) -> None:
        if "backward" in vars(cls):
            raise TypeError(f"{cls.__name__} defines backward: allowed is forward alone, with nn.record for gradients")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    # ---------------------------------------------------------------------------------- forward and backward

    def _undefined(self, *inputs: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    #: What a subclass defines, with as many inputs as it likes.
    forward: Callable[..., np.ndarray] = _undefined

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        if not self.training or current_tape() is not None:
            return self.forward(*inputs)
        tapes = self.__dict__.setdefault("_tapes", threading.local())
        tapes.last = None  # frees what the last call kept
        tape = Tape()
        y = tape.run(self.forward, inputs)
        tapes.last = tape
        return y

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> Any:
        """From the gradient of the last call's result to that of its input (a tuple of them for several inputs).

        Adds to ``grad`` of every parameter that ``requires_grad``; ``zero_grad`` and the step of an optimizer begin
        anew. With ``need_dx=False`` the gradient of the input is not computed and None is returned. The input must not
        have been changed since the call. Each call, of this very module in training mode, serves one backward call.

        RuntimeError without such a call, or if a parameter was changed after it, or the gradient cannot be known;
        TypeError or ValueError if dy is not like the result. Then no gradient was changed.
        """
        tapes = vars(self).get("_tapes")
        tape = getattr(tapes, "last", None)
        if tape is None:
            raise RuntimeError(f"{self!r}: backward needs a forward call in training mode before it")
        dy = tape.check(dy)
        lost = tape.trained().difference(self.parameters().values())
        if lost:
            raise RuntimeError(
                f"forward used {next(iter(lost))!r}, which is not among the parameters of the network: allowed are "
                "modules and parameters in its attributes, also in lists, tuples and dicts, or frozen ones"
            )
        tapes.last = None
        dx = tape.backward(dy, need_dx)
        return None if not need_dx else dx[0] if len(dx) == 1 else tuple(dx)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters().values():
            parameter.grad = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_tapes"}

    # ------------------------------------------------------------------------------------------- structure

    def children(self) -> dict[str, Module]:
        """The modules directly inside this one, by name: ``"conv"``, in lists, tuples and dicts ``"convs.0"``."""
        return {name: member for name, member in self._members().items() if isinstance(member, Module)}

    def modules(self) -> Iterator[tuple[str, Module]]:
        """This module and all inside it, with dotted names (its own is empty); a shared one under each of its names."""
        return ((path, module) for path, module, _ in self._walk(""))

    def _members(self) -> dict[str, Module | Parameter]:
        """The modules and parameters in the attributes, by name."""
        # A copy of the attributes: a call in another thread may add its tape.
        found = _inside("", vars(self).copy())
        members = dict(found)
        if len(members) < len(found):
            names = [name for name, _ in found]
            raise ValueError(f"two members of a module have the name {max(names, key=names.count)!r}")
        return members

    def _walk(self, path: str) -> Iterator[tuple[str, Module, dict[str, Parameter]]]:
        """This module and all inside it, each with its path and its own parameters."""
        members = self._members()
        yield path, self, {name: member for name, member in members.items() if isinstance(member, Parameter)}
        for name, member in members.items():
            if isinstance(member, Module):
                yield from member._walk(join(path, name))

    def parameters(self) -> dict[str, Parameter]:
        """Every learnable array with its gradient, by dotted name (``"0.weight"``); a shared one by its first."""
        seen: set[Parameter] = set()
        return {n: p for n, p in self._named_parameters().items() if not (p in seen or seen.add(p))}

    def _named_parameters(self) -> dict[str, Parameter]:
        return {join(path, name): p for path, _, own in self._walk("") for name, p in own.items()}

    @property
    def training(self) -> bool:
        """Whether this module is in training mode; assign to it to switch this one alone."""
        return self._training and not is_evaluating()

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = bool(mode)

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode (or with False to evaluation mode), with all inside; returns itself."""
        for _, module in self.modules():
            module.training = mode
            vars(module).pop("_tapes", None)
        return self

    def eval(self) -> Self:
        """Switch to evaluation mode; returns itself."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let every parameter be learned, or with False freeze them: as they are now, with all inside; returns itself.

        A frozen parameter gets no gradient (none is computed, nor any that only leads to it), and no optimizer moves
        it. The running statistics of batch normalisation are no parameters: ``eval()`` freezes those.
        """
        for parameter in self.parameters().values():
            parameter.requires_grad = requires_grad
        return self

    def seed(self, rng: np.random.Generator) -> None:
        """Make every random layer (dropout) draw from ``rng``."""
        for child in self.children().values():
            child.seed(rng)

    # ---------------------------------------------------------------------------------------------- shapes

    @property
    def channel_axis(self) -> int:
        """Where the layout has the channels, 1 or -1: for a ``forward`` that names an axis, as ``nn.concatenate``."""
        return CHANNEL_AXIS[self.layout]

    def to_layout(self, layout: str) -> Self:
        """Take and return arrays of ``layout``, "NCHW" or "NHWC" for any rank, with all inside; returns itself.

        The parameters stay, and so do the results, up to rounding and turned over like the input: ``Flatten`` keeps the
        order of its features. A ``forward`` that names the axis of the channels has to take it from ``channel_axis``.
        ValueError for a layout that a layer does not take, or a ``Softmax`` along an axis of its own; then nothing was
        changed.
        """
        modules = list(self.modules())
        for path, module in modules:
            try:
                module._check_layout(layout)
            except ValueError as error:
                raise ValueError(f"{path}: {error}" if path else str(error)) from None
        for _, module in modules:
            module.layout = layout
        return self

    def _set_layout(self, layout: str) -> None:
        """In the constructor of a layer."""
        self._check_layout(layout)
        self.layout = layout

    def _check_layout(self, layout: str) -> None:
        """ValueError unless the module can have the layout."""
        if not isinstance(layout, str) or layout not in CHANNEL_AXIS:
            raise ValueError(f"layout={shown(layout)}: allowed is {' or '.join(map(repr, CHANNEL_AXIS))}")

    def _dtype(self) -> np.dtype:
        return next((p.value.dtype for p in self.parameters().values()), np.dtype(np.float32))

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the result for an input of ``input_shape``, both without the batch. Computes nothing."""
        # An empty batch runs through every operator's shape rules and none of its arithmetic.
        shape = int_tuple(input_shape, len(tuple(input_shape)), "input_shape", 1)
        with evaluating():
            return self(np.empty((0, *shape), self._dtype())).shape[1:]

    def summary(self, input_shape: tuple[int, ...]) -> Summary:
        """Layers, output shapes and parameter counts for an input of ``input_shape`` (without the batch)."""
        return Summary(self._rows("", tuple(input_shape), set()))

    def _rows(self, path: str, shape: tuple[int, ...], counted: set[Parameter]) -> list[Row]:
        # What layers share counts where it comes first.
        new = set(self.parameters().values()) - counted
        counted |= new
        return [Row(path, repr(self), self.output_shape(shape), sum(p.value.size for p in new))]

    # ----------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of every parameter and buffer, by dotted name; shared ones under each of their names."""
        return {name: array.copy() for name, array in self._state().items()}

    def _state(self) -> dict[str, np.ndarray]:
        state = {name: p.value for name, p in self._named_parameters().items()}
        for path, module in self.modules():
            state |= {join(path, name): getattr(module, name) for name in module.buffers}
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy ``state`` into the parameters and buffers. A float64 array is rounded to a float32 one.

        Of a state that torch wrote, ``num_batches_tracked`` of batch normalisation is not used. Raises KeyError with
        the names that are missing or too many, ValueError with those of another shape, a number too large for the
        dtype, or two different arrays for one shared parameter, TypeError for what is not of a float dtype; then
        nothing was copied.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state is a {type(state).__name__}: allowed is a mapping of names to arrays")
        own = self._state()
        ignored = {join(path, name) for path, module in self.modules() for name in module.ignored}
        missing = sorted(own.keys() - state.keys())
        extra = sorted(map(str, state.keys() - own.keys() - ignored))
        if missing or extra:
            raise KeyError(f"state does not fit the network: missing {missing}, unknown {extra}")
        # All is read and converted before the first array is written.
        given = {name: as_numbers(f"state[{name!r}]", state[name]) for name in own}
        others = [name for name, array in own.items() if given[name].shape != array.shape]
        if others:
            raise ValueError(
                "; ".join(f"state[{n!r}] has shape {given[n].shape}: allowed is {own[n].shape}" for n in others)
            )
        given = {name: _fitting(name, given[name], array) for name, array in own.items()}
        first: dict[int, str] = {}
        for name, array in own.items():
            other = first.setdefault(id(array), name)
            if name != other and not np.array_equal(given[name], given[other], equal_nan=True):
                raise ValueError(
                    f"state[{other!r}] and state[{name!r}] differ: allowed is one, since the two are shared"
                )
        for name, array in own.items():
            array[...] = given[name]
        for parameter in self.parameters().values():
            parameter.version += 1

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


#: Where the layouts have the channels.
CHANNEL_AXIS = {"NCHW": 1, "NHWC": -1, "NCL": 1, "NLC": -1, "NCDHW": 1, "NDHWC": -1}


def _inside(prefix: str, values: dict[Any, Any] | list[Any] | tuple[Any, ...]) -> list[tuple[str, Any]]:
    """The modules and parameters among values, and in lists, tuples and dicts among them, with their names."""
    found = []
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(value, (Module, Parameter)):
            found.append((f"{prefix}{key}", value))
        elif isinstance(value, (list, tuple, dict)):
            found += _inside(f"{prefix}{key}.", value)
    return found


def _fitting(name: str, given: np.ndarray, own: np.ndarray) -> np.ndarray:
    """A copy of an array of a state, in the dtype of the network's own; raises if that is not possible."""
    if given.dtype.name not in DTYPES:
        raise TypeError(f"state[{name!r}] has dtype {given.dtype}: allowed is {' or '.join(DTYPES)}")
    if not own.flags.writeable:
        raise ValueError(f"{name} is read-only in the network: allowed is a writeable array")
    try:
        with np.errstate(over="raise"):
            return given.astype(own.dtype)
    except FloatingPointError:
        raise ValueError(f"state[{name!r}] has numbers beyond {own.dtype}") from None


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("saving and loading weights needs safetensors: pip install safetensors") from error
    return safetensors
