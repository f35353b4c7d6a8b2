"""Winograd's algorithms for arrays of given steps: the problem, its pieces and work space, the packed filters."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from ....._threads import get_num_threads
from .....spec import ConvSpec
from ....heuristics import HEURISTICS
from ...core import workers
from ...core.activations import activation_number
from ...core.arrays import Packed, addresses_of, aligned, up
from ...core.target import KC, MR, NV, PITCH, lanes
from ...gemm.product import together
from ..layer import STEPS, Layer
from .line import matrices
from .multiply import APART, PROBLEM, multiply, multiply_weights, pack
from .range import GradientRange, ResultRange
from .schemes import LINE, TURNS, layer_of, scheme_of, tiles_of

__all__ = ["Winograd", "WinogradWeights"]

#: Transformed patches and products of a piece stay within this, where that leaves enough tiles to reuse filters.
_BYTES, _FEWEST = 1024 * 1024, 36

#: Channels of a block of filters' gradients, at most, those of a line's fewer values; what is transformed for it at a
#: time stays within the bytes.
_BLOCK, _LINE_BLOCK, _WEIGHT_BYTES = 128, 256, 1536 * 1024


class _Plan:
    """What both directions share. ``strides``: of two images, or three, as ``layer.STEPS``."""

    def __init__(self, spec: ConvSpec, name: str, strides: list[tuple[int, ...]]) -> None:
        layer = layer_of(spec)
        self.spec = spec
        self.dtype = np.dtype(spec.dtype)
        self.lanes = lanes(spec.dtype)
        self.nr = NV * self.lanes
        self.channels, self.results = layer.channels
        self.scheme = scheme = scheme_of(name, layer)
        source, result = layer.sizes
        self.kernel = layer.kernel
        self.taps = prod(layer.kernel[1:])
        self.slices = layer.kernel[0]
        sides = tuple(zip(result[1:], layer.dilation[1:], scheme.side, strict=True))
        self.high, self.wide = (tiles_of(*side) for side in sides)
        self.tiles = spec.n * result[0] * self.high * self.wide
        first, step = -layer.lo[0], layer.dilation[0]
        if layer.backward:
            # The taps are turned, here as within a slice.
            first = layer.lo[0] - (self.slices - 1) * step
        even = [int(lo % 2 == 0) for lo in layer.lo[1:]]
        self.sizes = (
            self.channels, self.results, *source, *result,
            scheme.number, scheme.values, layer.axis == 2, self.taps, *even,
            *scheme.patch, *scheme.side, *scheme.hop, *layer.dilation[1:], *self._first_patch(layer),
            self.slices, first, step,
            self.high, self.wide, self.tiles,
        )  # fmt: skip
        self.all_values = scheme.all_values
        self.blocks = np.array(scheme.blocks, np.int64)
        table = matrices(scheme.values, self.taps) if scheme.number == LINE else np.zeros(1)
        self.matrix = table.ravel().astype(self.dtype)
        n, c, *rest = zip(*strides, strict=True)
        base = rest.pop()
        self.strides = np.array(list(zip(n, c, *(rest[i] for i in layer.order), base, strict=True)), STEPS)
        kind = GradientRange if spec.direction == "bwd_weight" else ResultRange
        self.range = kind(spec, layer, scheme, self._first_patch(layer), (first, step, self.slices))
        # The tiles of the longest remainder adjoin.
        size, apart, side = sides[1]
        self.run_tiles = -(-size // (apart * side))
        self.schedule = lru_cache(maxsize=8)(self._schedule)

    def _first_patch(self, layer: Layer) -> list[int]:
        """Where in the source the patch of the first tile begins, by rows and by columns."""
        if self.scheme.number == TURNS:
            return [(lo - lo % 2) // 2 - (lo % 2 == 0) for lo in layer.lo[1:]]
        if layer.backward:
            return [layer.lo[i] - (layer.kernel[i] - 1) * layer.dilation[i] for i in (1, 2)]
        return [-lo for lo in layer.lo[1:]]

    def strip(self, tiles: int) -> int:
        """Elements that patches or results of a run of at most so many tiles take, as vectors of channels."""
        run = min(self.run_tiles, tiles)
        (rows, columns), (high, wide), hop = self.scheme.patch, self.scheme.side, self.scheme.hop[1]
        # Results are there twice: by pixels, and a row of them turned.
        return max(rows * (hop * (run - 1) + columns), (high + 1) * wide * run + 3 * self.lanes) * self.lanes

    def threads(self) -> int:
        return get_num_threads() if self.spec.macs >= workers.WORK_FLOOR else 1

    def _schedule(self, threads: int) -> tuple[np.ndarray, int, int]:
        """(the problem, its pieces, elements of a thread's work space) for a number of threads."""
        raise NotImplementedError

    @property
    def workspace_bytes(self) -> int:
        threads = self.threads()
        _, pieces, work = self.schedule(threads)
        return min(threads, pieces) * work * self.dtype.itemsize


class Winograd(_Plan):
    """A convolution, forward or backward-input, for one set of strides: of source, result and residual."""

    def __init__(
        self, spec: ConvSpec, name: str, strides: list[tuple[int, ...]], bias_step: int | None, residual: bool
    ) -> None:
        super().__init__(spec, name, strides)
        self.panels = -(-self.results // self.nr)
        self.terms = self.channels if self.slices == 1 else up(self.channels, self.lanes) * self.slices
        self.filters = self.panels * self.nr * self.terms + APART
        number, *parameters = activation_number(spec.activation)
        self.epilogue = (bias_step is not None, bias_step or 0, residual, number)
        self.scalars = np.array(parameters, self.dtype)

    def _schedule(self, threads: int) -> tuple[np.ndarray, int, int]:
        columns = self.panels * self.nr
        fitting = _BYTES // (self.all_values * (self.terms + columns) * self.dtype.itemsize)
        share = -(-self.tiles * self.spec.groups // (3 * threads if threads > 1 else 1))
        piece = max(MR, min(max(fitting // MR * MR, up(_FEWEST, MR)), up(share, MR)))
        blocks = len(self.blocks)
        job = (*self.sizes, piece, blocks, self.all_values, self.filters, 0, 0, 0, *self.epilogue)
        strip = max(self.strip(piece), prod(self.scheme.side) * columns)
        patches = piece * up(self.terms, KC) // KC * PITCH
        work = self.all_values * (patches + piece * columns + APART) + strip
        return np.array([job], PROBLEM), self.spec.groups * -(-self.tiles // piece), work

    @property
    def workspace_bytes(self) -> int:
        return super().workspace_bytes + self.spec.groups * len(self.blocks) * self.filters * self.dtype.itemsize

    def pack(self, w: np.ndarray) -> Packed:
        """The filters, transformed."""
        w = np.ascontiguousarray(w)
        inputs = self.taps * self.slices
        outputs = inputs * w.shape[1]
        group = self.spec.oc // self.spec.groups * outputs
        forward = self.spec.direction == "fwd"
        # Backward the filters are turned by half: the last tap comes first.
        order = [group, outputs, inputs, 1, 0] if forward else [group, inputs, outputs, -1, inputs - 1]
        threads = self.threads()
        job, _, _ = self.schedule(threads)
        packed = aligned(self.spec.groups * len(self.blocks) * self.filters, self.dtype)
        steps, addresses = np.array(order, np.int64), addresses_of(w)
        counter = np.zeros(1, np.int64)

        def work() -> None:
            buffer = np.empty(inputs * self.lanes * self.nr, self.dtype)
            pack(counter, self.spec.groups * self.panels, job, steps, addresses, self.matrix, packed, buffer)

        workers.run(work, threads)
        return Packed(packed)

    def run(
        self,
        source: np.ndarray,
        out: np.ndarray,
        residual: np.ndarray | None,
        bias: np.ndarray | None,
        packed: Packed,
    ) -> None:
        threads = self.threads()
        job, pieces, size = self.schedule(threads)
        addresses = addresses_of(source, out, residual, bias)
        counter = np.zeros(1, np.int64)

        def work() -> None:
            space = aligned(size, self.dtype)
            multiply(
                counter, pieces, job, self.strides, self.blocks, addresses, self.matrix, packed.data,
                self.scalars, space,
            )  # fmt: skip

        workers.run(work, min(threads, pieces))


class WinogradWeights(_Plan):
    """The gradient of the filters, for one set of strides: of x and dy."""

    def _schedule(self, threads: int) -> tuple[np.ndarray, int, int]:
        most = _LINE_BLOCK if self.scheme.number == LINE else _BLOCK
        rows, columns = (min(up(c, t), up(most, t)) for c, t in ((self.results, MR), (self.channels, self.nr)))
        # Tiles at a time follow from the layer alone, as they decide on rounding.
        tiles = max(32, _WEIGHT_BYTES // (self.all_values * (rows + columns) * self.dtype.itemsize) // 8 * 8)
        tiles = -(-self.tiles // -(-self.tiles // tiles))

        def pieces() -> int:
            return self.spec.groups * self.slices * -(-self.results // rows) * -(-self.channels // columns)

        while threads > 1 and pieces() < 2 * threads and max(rows, columns) >= 4 * HEURISTICS.WINOGRAD_CHANNELS:
            if rows > columns:
                rows = up(rows // 2, MR)
            else:
                columns = up(columns // 2, self.nr)
        blocks = len(self.blocks)
        some = together(-(-self.tiles // tiles))
        job = (*self.sizes, tiles, blocks, self.all_values, 0, rows, columns, some, 0, 0, 0, 0)
        patches = tiles * (up(columns, self.nr) + APART) + APART
        gradients = tiles * (up(rows, self.nr) + MR) + APART
        strip = max(self.strip(tiles), self.taps * self.lanes)
        sums = blocks * (rows * up(columns, self.nr) + APART) * (1 + (self.tiles > tiles * some))
        work = self.all_values * (patches + gradients) + sums + strip
        return np.array([job], PROBLEM), pieces(), work

    def run(self, x: np.ndarray, dy: np.ndarray, out: np.ndarray) -> None:
        threads = self.threads()
        job, pieces, size = self.schedule(threads)
        dw = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        addresses = addresses_of(x, dy, dw)
        counter = np.zeros(1, np.int64)

        def work() -> None:
            multiply_weights(
                counter, pieces, job, self.strides, self.blocks, addresses, self.matrix,
                aligned(size, self.dtype),
            )  # fmt: skip

        workers.run(work, min(threads, pieces))
        if dw is not out:
            out[...] = dw
