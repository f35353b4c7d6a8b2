"""The reach of Winograd's algorithms: their error is a part of the largest values of a tile, also in results whose
windows hold small ones alone. So the sizes of a call's values are looked at first, as ``csrc/conv/range.c`` does and
says; what is beyond the range is computed directly. This depends on the values alone."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np

from .....spec import ConvSpec
from ....reference.kernel import activated
from ...core import workers
from ...core.arrays import addresses_of
from ...core.compile import jit
from ...core.intrinsics import compact, data_of, fetch_add, pointer
from ..layer import STEPS, Layer, Triple
from .schemes import TURNS, Scheme, patch_at, place_of, tiles_of

__all__ = ["GradientRange", "ResultRange"]

#: As in ``csrc/conv/range.c``: how many times less of a tile than usual a window may hold; what part of the results
#: makes all of them be computed directly; what part of the filters the taps that any result sees hold; the results at
#: an end that are asked; the sums of a tile, and the largest of filters.
_RATIO, _MOST, _TAPS, _ENDS = 16, 4, 1024, 32
_LARGEST = {"float32": 2.0**48, "float64": 2.0**480}
_LIMITS = {"float32": (2.0**-64, 2.0**64), "float64": (2.0**-512, 2.0**512)}

#: Results that are computed directly at a time.
_TOGETHER = 256

#: Elements from which on a second thread is worth waking.
_SERIAL = 1 << 18

_i8 = np.int64

LOOK = np.dtype(
    [
        # Images times groups; the source, the results; rows and columns of tiles.
        ("images", _i8), ("depth", _i8), ("height", _i8), ("width", _i8),
        ("out_depth", _i8), ("out_height", _i8), ("out_width", _i8), ("high", _i8), ("wide", _i8),
        # Pixels of a patch, results of a tile, pixels from patch to patch; how far apart pixels and results are; where
        # the first patch begins; taps of a gradient; from result to result.
        ("patch_1", _i8), ("patch_2", _i8), ("side_1", _i8), ("side_2", _i8), ("hop_1", _i8), ("hop_2", _i8),
        ("apart_1", _i8), ("apart_2", _i8), ("low_1", _i8), ("low_2", _i8),
        ("taps_1", _i8), ("taps_2", _i8), ("stride_1", _i8), ("stride_2", _i8), ("first_1", _i8), ("first_2", _i8),
        ("slices", _i8), ("first_slice", _i8), ("slice_step", _i8), ("groups", _i8),
    ]
)  # fmt: skip


@jit
def add_up(counter, pieces, steps, size, channels, address, zero, sums):
    """Of each group's pixels the sum of the magnitudes of ``channels``; a piece is an image's row."""
    compact()
    step, src, to = steps[0], pointer(address[0], sums), data_of(sums)
    groups, depth, height, width = size[0], size[1], size[2], size[3]
    piece = fetch_add(counter)
    while piece < pieces:
        image = piece // (depth * height)
        base = step.base + image // groups * step.n + image % groups * channels * step.c
        base += piece // height % depth * step.s0 + piece % height * step.s1
        o = piece * width
        if step.c == 1:
            for x in range(width):
                at = base + x * step.s2
                a = b = c = d = zero[0]
                for k in range(0, channels - 3, 4):
                    a += abs(src[at + k])
                    b += abs(src[at + k + 1])
                    c += abs(src[at + k + 2])
                    d += abs(src[at + k + 3])
                for k in range(channels // 4 * 4, channels):
                    a += abs(src[at + k])
                to[o + x] = (a + b) + (c + d)
        else:
            for x in range(width):
                to[o + x] = 0
            for k in range(channels):
                at = base + k * step.c
                if step.s2 == 1:
                    for x in range(width):
                        to[o + x] += abs(src[at + x])
                else:
                    for x in range(width):
                        to[o + x] += abs(src[at + x * step.s2])
        piece = fetch_add(counter)


@jit
def look(looks, readers, limits, sums, flags):
    """Flag the results that are to be computed directly; return how many. ``readers``: of each row and column of a
    tile's results, the first pixel of its window and the one behind the last; ``limits``: low, high, ratio."""
    compact()
    job, count = looks[0], 0
    patch = np.empty((job.patch_1, job.patch_2), sums.dtype)
    for number in range(job.images * job.out_depth * job.high * job.wide):
        image, z, y0, x0, _ = place_of(job, number)
        h0, w0 = patch_at(job, y0, x0)
        patch[...] = 0
        inside = 0
        for k in range(job.slices):
            y = z + job.first_slice + k * job.slice_step
            if 0 <= y < job.depth:
                for i in range(job.patch_1):
                    h = h0 + i * job.apart_1
                    if 0 <= h < job.height:
                        at = ((image * job.depth + y) * job.height + h) * job.width
                        for j in range(job.patch_2):
                            w = w0 + j * job.apart_2
                            if 0 <= w < job.width:
                                patch[i, j] += sums[at + w]
                                inside += 1
        total, most = limits[0] * 0, limits[0] * 0
        for i in range(job.patch_1):
            for j in range(job.patch_2):
                total += patch[i, j]
                most = max(most, patch[i, j])
        if total == 0:
            continue
        known = limits[0] <= total <= limits[1] and (inside < 3 * job.slices or most * 1.125 <= total)
        high = min(job.side_1, -((y0 - job.out_height) // job.apart_1))
        wide = min(job.side_2, -((x0 - job.out_width) // job.apart_2))
        for r in range(high):
            for q in range(wide):
                if known:
                    # Most windows are large enough by one of their pixels alone.
                    i0, i1, j0, j1 = readers[0, r, 0], readers[0, r, 1], readers[1, q, 0], readers[1, q, 1]
                    if patch[(i0 + i1) // 2, (j0 + j1) // 2] * limits[2] >= total:
                        continue
                    part_ = limits[0] * 0
                    for i in range(i0, i1):
                        for j in range(j0, j1):
                            part_ += patch[i, j]
                    if part_ * limits[2] >= total:
                        continue
                h, w = y0 + r * job.apart_1, x0 + q * job.apart_2
                at = ((image // job.groups * job.out_depth + z) * job.out_height + h) * job.out_width + w
                count += 1 - flags[at]
                flags[at] = 1
    return count


@jit
def look_at_gradient(looks, limits, x, dy, group, slice_, taps):
    """Whether the tiles of a group can be trusted with the gradient of a slice of its filters. ``taps``: room for one
    number a tap."""
    compact()
    job, products = looks[0], 0.0
    taps[:] = 0
    for number in range(job.images // job.groups * job.out_depth * job.high * job.wide):
        n, z, y0, x0, _ = place_of(job, number)
        image, y = n * job.groups + group, z + job.first_slice + slice_ * job.slice_step
        if not 0 <= y < job.depth:
            continue
        h0, w0 = patch_at(job, y0, x0)
        pixels, gradients = limits[0] * 0, limits[0] * 0
        source = (image * job.depth + y) * job.height
        for i in range(job.patch_1):
            h = h0 + i * job.apart_1
            if 0 <= h < job.height:
                for j in range(job.patch_2):
                    w = w0 + j * job.apart_2
                    if 0 <= w < job.width:
                        pixels += x[(source + h) * job.width + w]
        for r in range(job.side_1):
            h = y0 + r * job.apart_1
            for q in range(job.side_2):
                w = x0 + q * job.apart_2
                if h < job.out_height and w < job.out_width:
                    value = dy[((image * job.out_depth + z) * job.out_height + h) * job.out_width + w]
                    gradients += value
                    for a in range(job.taps_1):
                        u = h * job.stride_1 + job.first_1 + a * job.apart_1
                        if 0 <= u < job.height:
                            for b in range(job.taps_2):
                                v = w * job.stride_2 + job.first_2 + b * job.apart_2
                                if 0 <= v < job.width:
                                    taps[a * job.taps_2 + b] += value * x[(source + u) * job.width + v]
        for value in (pixels, gradients):
            if value != 0 and not limits[0] <= value <= limits[1]:
                return False
        products += pixels * gradients
    for value in taps:  # noqa: SIM110
        if not products <= limits[2] * value:
            return False
    return True


class _Range:
    """``low``: where the first patch begins, by rows and by columns; ``sizes``: the first slice of the source that a
    result's is made of, from one to the next, how many."""

    def __init__(self, spec: ConvSpec, layer: Layer, scheme: Scheme, low: list[int], sizes: Triple) -> None:
        source, result = layer.sizes
        self.spec, self.layer, self.scheme = spec, layer, scheme
        self.source, self.result = source, result
        self.dtype = np.dtype(spec.dtype)
        images = spec.n * spec.groups
        first, step, slices = sizes
        stride = (1, 1) if layer.backward else layer.stride[1:]
        sides = zip(result[1:], layer.dilation[1:], scheme.side, strict=True)
        job = (
            images, *source, *result, *(tiles_of(*side) for side in sides),
            *scheme.patch, *scheme.side, *scheme.hop, *layer.dilation[1:], *low,
            *layer.kernel[1:], *stride, *(-lo for lo in layer.lo[1:]),
            slices, first, step, spec.groups,
        )  # fmt: skip
        self.job = np.array([job], LOOK)

    def limits(self, usual: float) -> np.ndarray:
        return np.array([*_LIMITS[self.spec.dtype], _RATIO * usual], self.dtype)

    def sums(self, a: np.ndarray, strides: np.void, size: Triple, channels: int, threads: int) -> np.ndarray:
        """Of each pixel of each group of each image."""
        shape = np.array([self.spec.groups, *size], _i8)
        pieces = self.spec.n * self.spec.groups * size[0] * size[1]
        sums, zero, counter = np.empty(pieces * size[2], self.dtype), np.zeros(1, self.dtype), np.zeros(1, _i8)
        steps, address = np.array([strides], STEPS), addresses_of(a)

        def work() -> None:
            add_up(counter, pieces, steps, shape, channels, address, zero, sums)

        workers.run(work, threads if a.size >= _SERIAL else 1)
        return sums


class ResultRange(_Range):
    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        layer, scheme = self.layer, self.scheme
        readers = np.zeros((2, max(scheme.side), 2), _i8)
        fewest = [1, 1]
        for i in range(2):
            taps, pad, read = layer.kernel[i + 1], layer.lo[i + 1], []
            for r in range(scheme.side[i]):
                if scheme.number == TURNS:
                    base = (pad - pad % 2) // 2 - (pad % 2 == 0)
                    of = [k for k in range(scheme.patch[i]) if 0 <= r + pad - 2 * (base + k) < taps]
                    read.append((of[0], of[-1] + 1))
                else:
                    stride = 1 if layer.backward else layer.stride[i + 1]
                    read.append((r * stride, r * stride + taps))
            readers[i, : len(read)] = read
            fewest[i] = min(b - a for a, b in read)
        self.readers = readers
        self.seen = [self._seen(i) for i in range(self.spec.ndim)]
        self.limited = self.limits(prod(scheme.patch) / prod(fewest))

    def trusts(self, w: np.ndarray) -> bool:
        """Whether the taps that any result sees, at the borders not all, hold enough of the filters."""
        spec = self.spec
        with np.errstate(over="ignore"):
            sizes = np.abs(w).reshape(spec.groups, -1, *spec.kernel).sum(axis=1, dtype=np.float64)
        for group in sizes:
            whole = group.sum()
            if whole == 0:
                continue
            if not _LIMITS[spec.dtype][0] <= whole <= _LARGEST[spec.dtype]:
                return False
            if not all(whole <= _TAPS * group[np.ix_(*seen)].sum() for seen in product(*self.seen)):
                return False
        return True

    def _seen(self, i: int) -> list[tuple[int, ...]]:
        """The sets of taps that results at either end of a dimension find outside the padding."""
        spec, back = self.spec, self.layer.backward
        size, limit = (spec.in_size[i], spec.out_size[i]) if back else (spec.out_size[i], spec.in_size[i])
        stride, sets = spec.stride[i], set()
        for r in {*range(min(size, _ENDS)), *range(max(0, size - _ENDS), size)}:
            reach = [t * spec.dilation[i] - spec.pads[i][0] for t in range(spec.kernel[i])]
            if back:
                sets.add(
                    tuple(t for t, o in enumerate(reach) if (r - o) % stride == 0 and 0 <= (r - o) // stride < limit)
                )
            else:
                sets.add(tuple(t for t, o in enumerate(reach) if 0 <= r * stride + o < limit))
        return sorted(sets - {()})

    def look(self, x: np.ndarray, strides: np.void, threads: int) -> np.ndarray | None:
        """Flags of the results (n, depth, height, width) that are to be computed directly; None if there are none."""
        sums = self.sums(x, strides, self.source, self.layer.channels[0], threads)
        flags = np.zeros(self.spec.n * prod(self.result), np.uint8)
        if not look(self.job, self.readers, self.limited, sums, flags):
            return None
        return flags.reshape(self.spec.n, *self.result)

    def too_many(self, flags: np.ndarray) -> bool:
        """Whether computing all of them directly costs less."""
        return np.count_nonzero(flags) * _MOST > flags.size

    def compute(
        self,
        flags: np.ndarray,
        source: np.ndarray,
        w: np.ndarray,
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """The flagged results, some at a time, in float64."""
        spec, layer = self.spec, self.layer
        groups, back = spec.groups, layer.backward
        source, out = (np.moveaxis(a, -1, 1) if spec.channels_last else a for a in (source, out))
        if residual is not None and spec.channels_last:
            residual = np.moveaxis(residual, -1, 1)
        axes = [layer.order[i] - (3 - spec.ndim) for i in range(3)]
        # (groups, results, channels, taps)
        w = w.reshape(groups, spec.oc // groups, spec.ic // groups, *spec.kernel).astype(np.float64)
        w = w.swapaxes(1, 2) if back else w
        where = np.nonzero(flags)
        for begin in range(0, len(where[0]), _TOGETHER):
            n, *places = (v[begin : begin + _TOGETHER] for v in where)
            # In the order of the arrays' own dimensions.
            at = [places[axes.index(i)] for i in range(spec.ndim)]
            result = np.zeros((len(n), groups, w.shape[1]))
            for tap in np.ndindex(*spec.kernel):
                reads, inside = [], np.ones(len(n), bool)
                for i, t in enumerate(tap):
                    stride, pad, size = spec.stride[i], spec.pads[i][0], source.shape[2 + i]
                    reach = t * spec.dilation[i] - pad
                    read = at[i] - reach if back else at[i] * stride + reach
                    if back:
                        inside &= read % stride == 0
                        read = read // stride
                    inside &= (read >= 0) & (read < size)
                    reads.append(read)
                if inside.any():
                    pixels = source[(n[inside], slice(None), *(r[inside] for r in reads))]
                    pixels = pixels.reshape(len(pixels), groups, -1).astype(np.float64)
                    # Not by a library of products, whose order of adding up is its own.
                    result[inside] += np.einsum("pgc,grc->pgr", pixels, w[(..., *tap)])
            result = result.reshape(len(n), -1)
            index = (n, slice(None), *at)
            if bias is not None:
                result += bias
            if residual is not None:
                result += residual[index]
            out[index] = activated(result, spec.activation)


class GradientRange(_Range):
    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.limited = self.limits(float(prod(self.scheme.patch)))

    def trusts(self, x: np.ndarray, dy: np.ndarray, strides: np.ndarray, threads: int) -> bool:
        """Whether the gradient can be computed by tiles."""
        if not (self._spread(x) and self._spread(dy)):
            return False
        spec = self.spec
        of_x = self.sums(x, strides[0], self.source, spec.ic // spec.groups, threads)
        of_dy = self.sums(dy, strides[1], self.result, spec.oc // spec.groups, threads)
        taps = np.empty(prod(self.layer.kernel[1:]))
        return all(
            look_at_gradient(self.job, self.limited, of_x, of_dy, g, k, taps)
            for g in range(spec.groups)
            for k in range(self.layer.kernel[0])
        )

    def _spread(self, a: np.ndarray) -> bool:
        """Channels' gradients are their own: no channel has one value far beyond its others and those of the rest."""
        axes = tuple(i for i in range(a.ndim) if i != (a.ndim - 1 if self.spec.channels_last else 1))
        with np.errstate(all="ignore"):
            sizes = np.abs(a)
            most = sizes.max(axis=axes).astype(np.float64)
            rest = sizes.sum(axis=axes, dtype=np.float64) - most
            usual = rest.sum() / a.size
        return not bool(np.any((most > 36 * rest) & (most > 1000 * usual)))
